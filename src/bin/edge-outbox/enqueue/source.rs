//! Where a payload comes from.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use crate::failure::{self, Failure};
use crate::output;

pub enum Source {
    Argument(OsString),
    File(PathBuf, File),
    StandardInput,
}

impl Source {
    pub fn of(argument: Option<&OsStr>, file: Option<&Path>) -> Result<Self, Failure> {
        match (argument, file) {
            (Some(argument), _) if argument != "-" => Ok(Source::Argument(argument.to_owned())),
            (_, Some(path)) if path.as_os_str() != "-" => match File::open(path) {
                Ok(file) => Ok(Source::File(path.to_owned(), file)),
                Err(error) => Err(Failure::usage(format_args!("--file {}: {error}", output::path(path)))),
            },
            _ => Ok(Source::StandardInput),
        }
    }

    /// Its bytes as they are. Of what is too long no more is read than shows it.
    pub fn read(self, max_payload: usize) -> Result<Vec<u8>, Failure> {
        let (name, read) = match self {
            Source::Argument(argument) => ("the PAYLOAD".to_owned(), Ok(argument.into_encoded_bytes())),
            Source::File(path, file) => (output::path(&path), bounded(file, max_payload)),
            Source::StandardInput => {
                tell_a_person("reading the message");
                ("standard input".to_owned(), bounded(io::stdin().lock(), max_payload))
            }
        };
        let payload = read.map_err(|error| Failure::no(format_args!("{name}: {error}")))?;
        if payload.len() > max_payload {
            return Err(Failure::no(format_args!("{name} {}", too_long(max_payload))));
        }
        Ok(payload)
    }
}

fn bounded(source: impl Read, max_payload: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take((max_payload as u64).saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whoever typed the command without a payload would otherwise wait for what it does.
pub fn tell_a_person(reading: &str) {
    if io::stdin().is_terminal() {
        failure::say(format_args!("{reading} from the terminal, until Ctrl-D at the beginning of a line"));
    }
}

pub fn too_long(max_payload: usize) -> String {
    let allowed = output::count(max_payload as u64);
    format!("is longer than {allowed} bytes, which the setting max_payload allows: split it, or raise the setting")
}
