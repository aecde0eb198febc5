//! The file of settings. It may hold a password: nothing that is said about it repeats a value.

use std::fs;
use std::path::Path;

use edge_outbox::Settings;
use edge_outbox::broker::MqttSettings;
use serde::Deserialize;

use crate::failure::Failure;
use crate::output;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The broker's URL.
    pub to: Option<String>,
    /// The broker, with all that can be set for one.
    pub mqtt: Option<MqttSettings>,
    pub settings: Settings,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let shown = output::path(path);
        let text = fs::read(path).map_err(|error| Failure::usage(format_args!("{shown} cannot be read: {error}")))?;
        let text = String::from_utf8(text)
            .map_err(|_| Failure::usage(format_args!("{shown} is not UTF-8 text; TOML is expected")))?;
        let config: Config =
            toml::from_str(&text).map_err(|error| Failure::usage(format_args!("{shown}{}", said(&text, error))))?;
        if config.to.is_some() && config.mqtt.is_some() {
            return Err(Failure::usage(format_args!(
                "{shown} says where to go both by `to` and by [mqtt]: keep one of them"
            )));
        }
        Ok(config)
    }
}

/// Line, name, and what is expected there.
fn said(text: &str, mut error: toml::de::Error) -> String {
    let line = error.span().map(|span| text.as_bytes().iter().take(span.start).filter(|b| **b == b'\n').count() + 1);
    let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
    let what = without_value(error.message());
    error.set_input(None); // what it displays would be the line itself
    let whole = error.to_string();
    let name = whole.rsplit_once("\nin `").map(|(_, name)| name.trim_end().trim_end_matches('`'));
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    format!("{line}: {name}{what}")
}

/// Serde's own words begin with what was found: `invalid type: string "…", expected u16`.
fn without_value(message: &str) -> String {
    let found = ["invalid type: ", "invalid value: ", "unknown variant "];
    if !found.iter().any(|found| message.starts_with(found)) {
        return message.to_owned();
    }
    let (_, expected) = message.rsplit_once(", expected ").unwrap_or(("", "something else"));
    format!("{expected} is expected")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Config, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forward.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    fn told(text: &str) -> String {
        match read(text) {
            Err(Failure::Told { words, code: 2 }) => words,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was read: {text}"),
        }
    }

    #[test]
    fn a_file_says_where_to_and_how() {
        let config =
            read("to = 'mqtt://b'\n[settings]\nwindow = 7\nretention = '2h'\nretry = { first = '2s', longest = '3s' }");
        let config = config.unwrap();
        assert_eq!(config.to.as_deref(), Some("mqtt://b"));
        assert_eq!((config.settings.window, config.settings.retention), (7, Duration::from_secs(7200)));
        assert_eq!(config.settings.max_attempts, Settings::default().max_attempts);
        let mqtt = read("[mqtt]\nhost = 'b'\nprotocol = '3.1.1'\nlast_will = { topic = 't' }").unwrap().mqtt.unwrap();
        assert_eq!(mqtt.host, "b");
        let nothing = read("").unwrap();
        assert!(nothing.to.is_none() && nothing.mqtt.is_none() && nothing.settings == Settings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_name() {
        for (text, parts) in [
            ("\n[settings]\nwindow = 'many'", &["forward.toml, line 3", "window", "usize is expected"][..]),
            ("[settings]\nretention = 5", &["line 2", "retention", "a duration"]),
            ("[settings]\nretention = 'long'", &["line 2", "retention", "a duration"]),
            ("[settings]\nordering = 'none'", &["line 2", "ordering", "per-key", "strict"]),
            ("[settings]\nwindows = 5", &["line 2", "windows", "window"]),
            ("[setting]\nwindow = 5", &["line 1", "setting", "settings"]),
            ("[mqtt]\nhots = 'b'", &["line 2", "hots", "host"]),
            ("window = 5", &["line 1", "window", "to", "mqtt", "settings"]),
            ("to = 'mqtt://b'\n[mqtt]\nhost = 'b'", &["`to`", "[mqtt]", "keep one"]),
            ("[settings\n", &["line 1"]),
        ] {
            let words = told(text);
            assert!(parts.iter().all(|part| words.contains(part)), "{text:?}: {words}");
        }
    }

    #[test]
    fn no_value_of_a_file_is_ever_repeated() {
        for text in [
            "to = 5\npassword = 's3cret'",
            "to = ['mqtt://u:s3cret@b']",
            "to = 'mqtt://u:s3cret@b",
            "to = mqtt://u:s3cret@b",
            "[mqtt]\npassword = s3cret",
            "[mqtt]\npassword = ['s3cret']",
            "[mqtt]\npassword = \"s3\\cret s3cret\"",
            "[mqtt]\npassword = \"\"\"\ns3cret = 1\\q\"\"\"",
            "[mqtt]\nport = 's3cret, expected s3cret'",
            "[mqtt]\nwindow = 's3cret'",
            "[mqtt]\nprotocol = 's3cret'",
            "[mqtt]\nkeep_alive = 's3cret'",
            "[mqtt]\nuser_file = ['s3cret']",
            "[mqtt]\nlast_will = { topic = 't', qos = 's3cret' }",
            "[mqtt]\nlast_will = { topic = 't', payload = ['s3cret'] }",
            "[settings]\nordering = 's3cret'",
            "[settings]\nwindow = 's3cret'",
            "mqtt = 's3cret'",
            "settings = ['s3cret']",
        ] {
            let words = told(text);
            assert!(!words.contains("s3cret") && !words.contains("cret"), "{text}\n{words}");
            assert!(words.contains("line "), "{words}");
        }
    }
}
