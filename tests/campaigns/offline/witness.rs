//! What the kernel says of a process that should do next to nothing: /proc, and strace where it is installed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a process had done and was at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Bytes that it passed to write(2) and its like, pipes included.
    pub wchar: u64,
    /// Bytes that it made the kernel write to a disk some day.
    pub write_bytes: u64,
    /// Each file of the database: inode, length, blocks, and when it was last written, in nanoseconds.
    pub files: BTreeMap<PathBuf, (u64, u64, u64, i64)>,
    /// In KiB.
    pub memory: u64,
    pub peak: u64,
    /// Of user and kernel.
    pub cpu: Duration,
    pub threads: u64,
    /// How often its threads, those that live, went to sleep by themselves.
    pub sleeps: u64,
}

impl Sample {
    pub fn of(pid: u32, database: &Path) -> io::Result<Self> {
        let status = named(&fs::read_to_string(format!("/proc/{pid}/status"))?);
        let io = named(&fs::read_to_string(format!("/proc/{pid}/io"))?);
        let mut sleeps = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            // One that has just ended tells nothing any more.
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            sleeps += named(&status).get("voluntary_ctxt_switches").unwrap_or(&0);
        }
        Ok(Sample {
            wchar: io["wchar"],
            write_bytes: io["write_bytes"],
            files: files(database)?,
            memory: status["VmRSS"],
            peak: status["VmHWM"],
            cpu: cpu(pid)?,
            threads: status["Threads"],
            sleeps,
        })
    }
}

/// `Name:   1234 kB`, a line each; those of which the second word is a number.
fn named(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// All that begin with the database's name: the log, the reserve and the lock too.
fn files(database: &Path) -> io::Result<BTreeMap<PathBuf, (u64, u64, u64, i64)>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(database.parent().unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let told = fs::metadata(&path)?;
        let written = told.mtime() * 1_000_000_000 + told.mtime_nsec();
        files.insert(path, (told.ino(), told.len(), told.blocks(), written));
    }
    Ok(files)
}

/// The kernel counts it in hundredths of a second.
fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it may hold anything but this.
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let mut times = behind_name.split_whitespace().skip(11).map_while(|word| word.parse::<u64>().ok());
    let ticks = times.next().unwrap_or(0) + times.next().unwrap_or(0);
    Ok(Duration::from_millis(ticks * 10))
}

/// The calls of a process by which a file could change, over this time; None where there is no strace.
///
/// # Errors
/// What strace said instead.
pub fn writing_calls(pid: u32, over: Duration) -> Result<Option<Vec<String>>, String> {
    const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,\
                         truncate,fallocate,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat";
    let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-q", "-y", "-s", "64", "-e", CALLS, "-p", &pid.to_string(), "-o"]).arg(log.path());
    let started = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut process = match started {
        Ok(process) => process,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("strace: {error}")),
    };
    let attached = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        named(&status).get("TracerPid").is_some_and(|tracer| *tracer == u64::from(process.id()))
    };
    let until = Instant::now() + crate::SOON;
    while !attached() {
        if Instant::now() > until || !Path::new(&format!("/proc/{}/exe", process.id())).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let is_attached = attached();
    if is_attached {
        std::thread::sleep(over); // the stretch that is watched
    }
    // Upon this signal it lets go of the process; upon SIGKILL it would, too, but leaves its log unfinished.
    let _ = Command::new("sh").args(["-c", &format!("kill -INT {}", process.id())]).status();
    let _ = process.wait();
    if !is_attached {
        let mut said = String::new();
        let _ = io::Read::read_to_string(&mut process.stderr.take().expect("it was asked for"), &mut said);
        return Err(format!("strace could not attach: {}", said.trim()));
    }
    let told = fs::read_to_string(log.path()).map_err(|error| error.to_string())?;
    // Besides it tells of signals and of threads that end.
    let is_call = |line: &&str| !line.contains(" +++ ") && !line.contains(" --- ");
    Ok(Some(told.lines().filter(is_call).map(str::to_owned).collect()))
}
