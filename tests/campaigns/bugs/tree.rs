//! A copy of the tree with every bug in it, and what is built of it.
//!
//! It shares the folder of what is compiled with the real tree, so that only our own crate is compiled again. Cargo would
//! take the two for the same crate, whose path within its workspace is the same, and one's library for the other's: so the
//! copy has another version. And its example has another name, so that no campaign can take it for the real one.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bank::Bug;
use super::check::Programs;

pub const SWITCH: &str = "EDGE_OUTBOX_PLANTED";

/// What a build needs.
const PARTS: [&str; 10] =
    [".cargo", "Cargo.toml", "Cargo.lock", "README.md", "benches", "docs", "examples", "schema.sql", "src", "tests"];
const WORKLOAD: (&str, &str) = ("examples/workload", "examples/planted");

const PLANTED: &str = r#"
/// Whether this bug is switched on: see tests/campaigns/bugs.
pub(crate) fn planted(bug: &str) -> bool {
    static ON: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let split = |names: String| names.split(',').map(str::to_owned).collect();
    ON.get_or_init(|| std::env::var("EDGE_OUTBOX_PLANTED").map(split).unwrap_or_default()).iter().any(|on| on == bug)
}
"#;

/// Built in half the time, and the checks that find them take a second or two.
const PROFILE: &str = concat!("\n[profile.release.package.", env!("CARGO_PKG_NAME"), "]\nopt-level = 1\n");

/// Makes the copy and builds it.
pub fn build(root: &Path, bugs: &[Bug], seed: u64) -> Result<Programs, String> {
    let target = target()?;
    let folder = target.join("bugs");
    make_tree(root, bugs, &folder).map_err(|why| format!("{}: {why}", folder.display()))??;
    let tree = folder.join("tree");
    let example = cargo(&tree, &target, &["build", "--example", "planted"])?;
    let unit = cargo(&tree, &target, &["test", "--lib", "--no-run"])?;
    Ok(Programs { unit, workload: example, folder, seed })
}

/// The folder of what is compiled: this program stands in its `release/deps`.
fn target() -> Result<PathBuf, String> {
    let this = env::current_exe().map_err(|why| why.to_string())?;
    this.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| format!("{} is in no target folder", this.display()))
}

fn make_tree(root: &Path, bugs: &[Bug], folder: &Path) -> io::Result<Result<(), String>> {
    let next = folder.join("next");
    for old in [&next, &folder.join("said")] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
        fs::create_dir_all(old)?;
    }
    for part in PARTS {
        copy(&root.join(part), &next.join(part))?;
    }
    fs::rename(next.join(WORKLOAD.0), next.join(WORKLOAD.1))?;
    for bug in bugs {
        if let Err(why) = apply(&next, bug) {
            return Ok(Err(why));
        }
    }
    let lib = next.join("src/lib.rs");
    let book = fs::read_to_string(&lib)?;
    fs::write(&lib, book + PLANTED)?;
    for file in ["Cargo.toml", "Cargo.lock"] {
        let text = fs::read_to_string(next.join(file))?;
        let own = concat!("name = \"", env!("CARGO_PKG_NAME"), "\"\nversion = \"", env!("CARGO_PKG_VERSION"));
        if !text.contains(own) {
            return Ok(Err(format!("{file} does not say name and version of the crate one after the other")));
        }
        fs::write(next.join(file), text.replacen(own, &format!("{own}+planted"), 1))?;
    }
    let manifest = next.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text + PROFILE)?;
    // Only what is another than last time, so that nothing else is compiled again.
    sync(&next, &folder.join("tree"))?;
    fs::remove_dir_all(&next)?;
    Ok(Ok(()))
}

fn apply(tree: &Path, bug: &Bug) -> Result<(), String> {
    let mut git = Command::new("git");
    // Not as a part of our own repository, in whose ignored folders git would apply nothing and say nothing.
    git.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree)).env_remove("GIT_DIR").current_dir(tree);
    let done = git.args(["apply", "--whitespace=nowarn"]).arg(&bug.patch).output();
    let done = done.map_err(|why| format!("git, which applies the patches: {why}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
    Err(format!(
        "{} does not apply any more: {said}. What it changes has changed: plant the bug anew in the code as it is now, \
         on top of the patches in front of it, and write the difference into the patch, below its head (git diff)",
        bug.patch.display()
    ))
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Makes `to` say what `from` says, and leaves what says it already alone.
fn sync(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        if fs::read(from)? != fs::read(to).unwrap_or_default() {
            fs::copy(from, to)?;
        }
        return Ok(());
    }
    fs::create_dir_all(to)?;
    let names = |folder: &Path| -> io::Result<BTreeSet<_>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let wanted = names(from)?;
    for gone in names(to)?.difference(&wanted).map(|name| to.join(name)) {
        if gone.is_dir() { fs::remove_dir_all(gone)? } else { fs::remove_file(gone)? }
    }
    wanted.iter().try_for_each(|name| sync(&from.join(name), &to.join(name)))
}

/// Builds one program, and answers where it is.
fn cargo(tree: &Path, target: &Path, what: &[&str]) -> Result<PathBuf, String> {
    let mut cargo = crate::cargo::cargo();
    cargo.args(what).args(["--release", "--locked", "--quiet", "--message-format=json-render-diagnostics"]);
    let built = cargo.current_dir(tree).env("CARGO_TARGET_DIR", target).stderr(std::process::Stdio::inherit()).output();
    let built = built.map_err(|why| format!("cargo: {why}"))?;
    if !built.status.success() {
        return Err(format!("the tree with the bugs in it cannot be built: see above, and {}", tree.display()));
    }
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let program = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    program.ok_or_else(|| format!("cargo {} made no program", what.join(" ")))
}
