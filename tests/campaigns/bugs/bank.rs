//! The patches, and what their heads say.

use std::fs;
use std::path::{Path, PathBuf};

use super::check::Check;

pub struct Bug {
    /// What switches it on: the file's name without its number.
    pub name: String,
    pub patch: PathBuf,
    /// The first line of its head.
    pub title: String,
    /// None where only the full form finds it.
    pub found_by: Vec<Check>,
}

/// In the order of the files' names, which is the order in which the patches go on top of each other.
/// `full`: with the checks that take minutes.
pub fn read(folder: &Path, full: bool) -> Result<Vec<Bug>, String> {
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    let mut patches: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    let bugs = patches.into_iter().map(|patch| bug(patch, full)).collect::<Result<Vec<_>, _>>()?;
    for (index, bug) in bugs.iter().enumerate() {
        if bugs[..index].iter().any(|other| other.name == bug.name) {
            return Err(format!("two bugs are called {}", bug.name));
        }
    }
    Ok(bugs)
}

fn bug(patch: PathBuf, full: bool) -> Result<Bug, String> {
    let file = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let wrong =
        |what: &str| format!("tests/bugs/{file}.patch {what}; tests/campaigns/bugs/mod.rs says how one is written");
    let name = file.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('-').to_owned();
    let text = fs::read_to_string(&patch).map_err(|why| wrong(&format!("cannot be read: {why}")))?;
    let (head, diff) = text.split_once("\ndiff --git ").ok_or_else(|| wrong("has no diff behind its head"))?;
    if !diff.contains(&format!("planted(\"{name}\")")) {
        return Err(wrong(&format!("does not ask for crate::planted({name:?})")));
    }
    if diff.lines().any(|line| line.starts_with("+++ ") && !line.starts_with("+++ b/src/")) {
        return Err(wrong("changes something else than src/"));
    }
    let check = |line: &str| {
        let in_full = line.strip_prefix("Found-in-full-by: ").filter(|_| full);
        line.strip_prefix("Found-by: ").or(in_full).map(Check::parse)
    };
    let found_by = head.lines().filter_map(check);
    let found_by = found_by.collect::<Result<Vec<_>, _>>().map_err(|why| wrong(&why))?;
    let title = head.lines().next().unwrap_or_default().trim().to_owned();
    if title.is_empty() || !head.contains("\nFrom: ") || !head.contains("\nFound-") {
        return Err(wrong("does not say what is wrong, `From:` where it comes, and what it is `Found-by:`"));
    }
    Ok(Bug { name, patch, title, found_by })
}
