//! Commands that somebody is told to type.

use std::path::Path;

/// A path as one word of a command for a POSIX shell, quoted where it has to be.
pub(crate) fn word(path: &Path) -> String {
    let shown = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if shown.starts_with('-') {
        word(&Path::new(".").join(path)) // no option of the command's
    } else if !shown.is_empty() && shown.chars().all(is_plain) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_takes_a_path_as_one_word() {
        for name in ["/var/lib/a-b_c/x.db", "my file.db", "it's $HOME;`ls` *.db", "-x y.db", "Grüße & so.db", "a\\b\"c"]
        {
            let command = format!("printf %s {}", word(Path::new(name)));
            let said = Command::new("sh").args(["-c", &command]).output().expect("a shell").stdout;
            let said = String::from_utf8(said).expect("text");
            assert_eq!(said.strip_prefix("./").unwrap_or(&said), name, "{command}");
        }
        assert_eq!(word(Path::new("/var/lib/a-b_c/x.db")), "/var/lib/a-b_c/x.db");
        assert_eq!(word(Path::new("my file.db")), "'my file.db'");
    }
}
