//! As whom to log in: from the settings, or from files that are read anew for each session.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::MqttSettings;
use super::check::LONGEST;

/// User name and password of one session.
#[derive(Clone, Default, PartialEq, Eq)]
pub(in crate::broker::mqtt) struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Shows neither.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl MqttSettings {
    /// As whom to log in now. What is wrong is told in words, which name the setting and its path, never what the file
    /// holds.
    pub(in crate::broker::mqtt) fn credentials(&self) -> Result<Credentials, String> {
        let either = |text: &Option<String>, name, file: &Option<PathBuf>| match file {
            Some(path) => read(name, path).map(Some),
            None => Ok(text.clone()),
        };
        Ok(Credentials {
            user: either(&self.user, "user_file", &self.user_file)?,
            password: either(&self.password, "password_file", &self.password_file)?,
        })
    }
}

fn read(name: &str, path: &Path) -> Result<String, String> {
    let shown = path.display();
    let unreadable = |error: io::Error| format!("{name} {shown} cannot be read: {}", error.kind());
    // a named pipe would hold up the session until somebody writes to it
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{name} {shown} is not a file; it is to hold one line of text"));
    }
    // room for a newline of two bytes, and for one byte more that tells of too many
    let most = LONGEST as u64 + 3;
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err(format!("{name} {shown} is empty; 1 to {LONGEST} bytes are allowed"));
    }
    if bytes.len() > LONGEST {
        return Err(format!("{name} {shown} is too long; 1 to {LONGEST} bytes are allowed"));
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("{name} {shown} is not UTF-8 text without NUL, which is all that can be sent")),
    }
}

/// What serde says of a value that is not text repeats the value, which here may be a secret: `password = 1234`.
pub(super) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found {
        Text(String),
        Nothing(()),
        Other(IgnoredAny),
    }
    match Found::deserialize(input)? {
        Found::Text(text) => Ok(Some(text)),
        Found::Nothing(()) => Ok(None),
        Found::Other(_) => Err(D::Error::custom("user and password are text: put them in quotes")),
    }
}
