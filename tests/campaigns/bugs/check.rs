//! One check: run, with a bug or without, and asked for its colour.

use std::env;
use std::fmt::{self, Display, Formatter};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Far more than any of them takes.
const DEADLINE: Duration = Duration::from_secs(300);
/// So much of what it said is told.
const WORDS: usize = 150;

/// What was built with every bug in it, none of them switched on.
pub struct Programs {
    pub unit: PathBuf,
    pub workload: PathBuf,
    /// Where it is built, and what the checks say is kept.
    pub folder: PathBuf,
    /// For campaigns that name none.
    pub seed: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    environment: Vec<(String, String)>,
    /// A campaign; None for the library's own tests.
    campaign: Option<String>,
    args: Vec<String>,
}

pub enum Colour {
    Green,
    Red(String),
    Skipped(String),
    /// It ended in another way than a check does.
    Neither(String),
}

impl Check {
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace().map(str::to_owned).peekable();
        let mut environment = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            environment.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let first = words.next().ok_or("names no check")?;
        let args: Vec<String> = words.collect();
        if first == "unit" && args.is_empty() {
            return Err("names no unit test".to_owned());
        }
        Ok(Check { environment, campaign: Some(first).filter(|first| first != "unit"), args })
    }

    /// What it came to, and after how many seconds.
    pub fn run(&self, programs: &Programs, bug: Option<&str>) -> (Colour, f64) {
        let begun = Instant::now();
        let colour = self.colour(programs, bug).unwrap_or_else(Colour::Neither);
        (colour, begun.elapsed().as_secs_f64())
    }

    fn colour(&self, programs: &Programs, bug: Option<&str>) -> Result<Colour, String> {
        let mut command = self.command(programs)?;
        match bug {
            Some(bug) => command.env(super::tree::SWITCH, bug),
            None => command.env_remove(super::tree::SWITCH),
        };
        let file: String = self.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = programs.folder.join(format!("said/{}.{}.txt", bug.unwrap_or("none"), file));
        let said = File::create(&path).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = said.map_err(|why| format!("{}: {why}", path.display()))?;
        let status = finish(command.stdin(Stdio::null()).stdout(out).stderr(err))?;
        let said = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        Ok(match &self.campaign {
            None => of_unit_tests(status, &said),
            Some(name) => of_campaign(name, status, &said),
        })
    }

    fn command(&self, programs: &Programs) -> Result<Command, String> {
        let mut command;
        if self.campaign.is_none() {
            command = Command::new(&programs.unit);
            command.args(&self.args).current_dir(programs.folder.join("tree"));
        } else {
            command = Command::new(env::current_exe().map_err(|why| why.to_string())?);
            command.args(&self.campaign).args(&self.args).arg("--workload").arg(&programs.workload);
            if !self.args.iter().any(|arg| arg == "--seed") {
                command.args(["--seed", &programs.seed.to_string()]);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}={value} ")?;
        }
        write!(f, "{}", self.campaign.as_deref().unwrap_or("unit"))?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg}"))
    }
}

/// Waits for its end; whatever it started ends with it where it takes too long.
fn finish(command: &mut Command) -> Result<ExitStatus, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut process = command.process_group(0).spawn().map_err(|why| format!("{program}: {why}"))?;
    let until = Instant::now() + DEADLINE;
    loop {
        match process.try_wait().map_err(|why| why.to_string())? {
            Some(status) => return Ok(status),
            None if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = Pid::from_raw(process.id() as i32).map(|group| kill_process_group(group, Signal::KILL));
                let _ = process.wait();
                return Err(format!("it came to no end within {} s", DEADLINE.as_secs()));
            }
        }
    }
}

fn of_unit_tests(status: ExitStatus, said: &str) -> Colour {
    let result = said.lines().find(|line| line.starts_with("test result: "));
    match (status.code(), result) {
        (Some(0), Some(result)) if !result.contains(" 0 passed") => Colour::Green,
        (Some(0), _) => Colour::Neither("no test has such a name".to_owned()),
        (Some(101), Some(result)) if result.contains("FAILED") => Colour::Red(why_a_test_failed(said)),
        _ => Colour::Neither(format!("{status}: {}", cut(said.lines().last().unwrap_or_default()))),
    }
}

/// The first test that failed, and what it said.
fn why_a_test_failed(said: &str) -> String {
    let failed = said.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    // The last panic on the way: the simulation and proptest make several before they tell what they found.
    let mut lines = said.lines();
    let mut words = "";
    while let Some(line) = lines.next() {
        if line.contains("panicked at ") {
            words = lines.next().unwrap_or_default();
        }
    }
    cut(&format!("{}: {words}", failed.and_then(|name| name.rsplit("::").next()).unwrap_or("a test")))
}

fn of_campaign(name: &str, status: ExitStatus, said: &str) -> Colour {
    let tells = |word: &str| {
        let begin = format!("{name}: {word}");
        said.lines().find_map(|line| line.strip_prefix(&begin)).map(|rest| cut(rest.trim_start_matches([':', ' '])))
    };
    match (status.code(), tells("BROKEN"), tells("SKIPPED")) {
        (Some(1), Some(why), _) => Colour::Red(why),
        (Some(0), None, Some(why)) => Colour::Skipped(why),
        (Some(0), None, None) if tells("KEPT").is_some() => Colour::Green,
        _ => Colour::Neither(format!("{status}: {}", cut(said.lines().last().unwrap_or_default()))),
    }
}

fn cut(words: &str) -> String {
    let mut short: String = words.chars().take(WORDS).collect();
    if short.len() < words.len() {
        short.push('…');
    }
    short
}

impl Colour {
    pub fn name(&self) -> &'static str {
        match self {
            Colour::Green => "green",
            Colour::Red(_) => "red",
            Colour::Skipped(_) => "SKIPPED",
            Colour::Neither(_) => "neither",
        }
    }

    pub fn why(&self) -> String {
        match self {
            Colour::Green => String::new(),
            Colour::Red(why) | Colour::Skipped(why) | Colour::Neither(why) => format!("\n           {why}"),
        }
    }
}
