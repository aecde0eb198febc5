//! What the fuzz targets in `fuzz/` do with their bytes, and the same for the corpus in a plain test.
//!
//! Each function takes any bytes, and panics where something promised does not hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target stops where a promise does not hold"
)]

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::broker::mqtt_fuzzing as mqtt;
use crate::broker::{LastWill, Mqtt, MqttSettings, Protocol, TlsSettings};
use crate::store::fuzzing::{Cell, read_values, sound_values, write_and_read};
use crate::store::{Content, headers_to_json};
use crate::{Backoff, Error, Message, Settings};

/// A word that seeds put where secrets stand. It must not come back in an error.
const SECRET: &str = "S3CR3T";
const MAX_PAYLOAD: usize = 4_096;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 5] =
    [("url", url), ("settings", settings), ("row", row), ("headers", headers), ("packet", packet)];

/// The text of a broker's URL.
pub fn url(bytes: &[u8]) {
    let Ok(url) = std::str::from_utf8(bytes) else { return };
    match MqttSettings::from_url(url) {
        Ok(settings) => {
            settings.check().expect("what is read from a URL is checked");
            assert_hidden(&settings);
            let written = mqtt::to_url(&settings);
            let again = MqttSettings::from_url(&written);
            assert!(again.is_ok_and(|again| again == settings), "read again from {written}: another");
            Mqtt::new(settings).expect("an adapter for checked settings");
        }
        Err(error) => {
            assert_told(&error);
            // Behind the last @ stands no secret.
            let is_secret = url.rfind('@').is_some_and(|at| url[..at].contains(SECRET) && !url[at..].contains(SECRET));
            assert!(!is_secret || !format!("{error} {error:?}").contains(SECRET), "{error}");
        }
    }
}

/// JSON, as what each struct of settings.
pub fn settings(bytes: &[u8]) {
    if let Ok(settings) = serde_json::from_slice::<Settings>(bytes) {
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&written).unwrap(), settings);
        if let Err(error) = settings.check() {
            assert_told(&error);
        }
    }
    let _ = serde_json::from_slice::<Backoff>(bytes);
    let _ = serde_json::from_slice::<TlsSettings>(bytes);
    let Ok(json) = serde_json::from_slice::<Json>(bytes) else { return };
    let other = with_other_secrets(json.clone());
    assert_same_words::<MqttSettings>(&json, &other);
    assert_same_words::<LastWill>(&json, &other);
    if let (Ok(settings), Ok(other)) = (read::<MqttSettings>(&json), read::<MqttSettings>(&other)) {
        assert_hidden(&settings);
        assert_eq!(format!("{settings:?}"), format!("{other:?}"));
        let (checked, other) = (settings.check(), other.check());
        assert_eq!(format!("{checked:?}"), format!("{other:?}"));
        match checked {
            Ok(()) => drop(Mqtt::new(settings).unwrap()),
            Err(error) => assert_told(&error),
        }
    }
}

/// Values of any type in the columns of one row.
pub fn row(bytes: &[u8]) {
    let mut bytes = bytes;
    let mut values = sound_values();
    for value in &mut values {
        if let Some(given) = take_value(&mut bytes) {
            *value = given;
        }
    }
    assert_decodes(&values);
}

/// The text of the column `headers`.
pub fn headers(bytes: &[u8]) {
    let mut values = sound_values();
    values[3] = Cell::Text(bytes.to_vec());
    if let Some(message) = assert_decodes(&values) {
        let written = headers_to_json(&message.headers).unwrap();
        let again: Vec<(String, String)> = written.map_or_else(Vec::new, |json| serde_json::from_str(&json).unwrap());
        assert_eq!(again, message.headers);
    }
}

/// Bytes from a broker: the first says which protocol is spoken and in pieces of which length they come.
pub fn packet(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let protocol = if how & 1 == 0 { Protocol::V5 } else { Protocol::V311 };
    let whole = mqtt::packets(protocol, [bytes]);
    let in_pieces = mqtt::packets(protocol, bytes.chunks(usize::from(how >> 1) + 1));
    assert_eq!(whole, in_pieces, "the same bytes in pieces are other packets");
    mqtt::assert_written_packets_are_read(protocol, &mut BytesMut::from(bytes));
}

fn read<T: DeserializeOwned>(json: &Json) -> Result<T, String> {
    T::deserialize(json).map_err(|error| error.to_string())
}

/// What is said of settings does not depend on what their secrets are.
fn assert_same_words<T: DeserializeOwned>(json: &Json, other: &Json) {
    assert_eq!(read::<T>(json).err(), read::<T>(other).err());
}

/// Other secrets of the same kinds and lengths: NUL stays, since it is not allowed.
fn with_other_secrets(mut json: Json) -> Json {
    fn change(secret: &mut Json) {
        match secret {
            Json::String(text) => *text = text.bytes().map(|byte| if byte == 0 { '\0' } else { 'x' }).collect(),
            Json::Number(number) if number.is_u64() => *number = 7_u64.into(),
            Json::Number(number) if number.is_i64() => *number = (-7_i64).into(),
            Json::Number(number) => *number = serde_json::Number::from_f64(7.5).unwrap(),
            Json::Array(_) => *secret = Json::Array(vec!["x".into()]),
            Json::Bool(flag) => *flag = !*flag,
            Json::Null | Json::Object(_) => (),
        }
    }
    for pointer in ["/user", "/password", "/last_will/payload", "/payload"] {
        if let Some(secret) = json.pointer_mut(pointer) {
            change(secret);
        }
    }
    json
}

/// What is shown of settings is the same whatever their secrets are.
fn assert_hidden(settings: &MqttSettings) {
    let other = |text: &Option<String>| text.as_ref().map(|_| "another".to_owned());
    let mut others = settings.clone();
    (others.user, others.password) = (other(&settings.user), other(&settings.password));
    assert_eq!(format!("{settings:?}"), format!("{others:?}"));
}

/// All mistakes, in words, each once.
fn assert_told(error: &Error) {
    let Error::Settings(wrong) = error else { panic!("{error:?}") };
    assert!(!wrong.is_empty() && wrong.iter().all(|words| words.len() > 10), "{wrong:#?}");
    assert!(wrong.iter().enumerate().all(|(nth, words)| !wrong[..nth].contains(words)), "{wrong:#?}");
}

/// A row is a message that can be sent, and is the same once it is written and read again; or there is a reason in
/// words.
fn assert_decodes(values: &[Cell]) -> Option<Message> {
    let (row, content) = read_values(values, MAX_PAYLOAD).unwrap();
    match content {
        Content::Message { message, created_at, .. } => {
            assert_eq!((*row.topic).to_owned(), message.topic);
            assert_eq!(row.key.as_deref(), message.key.as_deref());
            assert!(message.expiry.is_some() || created_at == 0);
            let message = Message { expiry: None, ..*message };
            let (row, content) = write_and_read(&message, MAX_PAYLOAD).unwrap();
            let Content::Message { message: again, .. } = content else { panic!("{content:?} of {message:?}") };
            assert!(message.headers.is_empty() == again.headers.is_empty() && row.size >= message.payload.len());
            // Text that is empty, or none, of headers is the same.
            assert_eq!(*again, message);
            Some(message)
        }
        Content::Spoiled(why) => {
            assert!(why.len() > 10 && why.len() < 300, "{why}");
            assert!(!why.contains(SECRET), "{why}");
            None
        }
    }
}

/// A value off the front of the bytes: what its first byte says.
fn take_value(bytes: &mut &[u8]) -> Option<Cell> {
    fn take<'b>(bytes: &mut &'b [u8], most: usize) -> &'b [u8] {
        let (taken, rest) = bytes.split_at(most.min(bytes.len()));
        *bytes = rest;
        taken
    }
    fn number(bytes: &mut &[u8]) -> i64 {
        let mut eight = [0; 8];
        let taken = take(bytes, 8);
        eight[..taken.len()].copy_from_slice(taken);
        i64::from_le_bytes(eight)
    }
    let kind = *take(bytes, 1).first()?;
    let length = |bytes: &mut &[u8]| take(bytes, 1).first().copied().map_or(0, usize::from);
    Some(match kind % 9 {
        0 => return None, // as it should be
        1 => Cell::Null,
        2 => Cell::Integer(number(bytes)),
        3 => Cell::Integer(take(bytes, 1).first().map_or(0, |byte| i64::from(i8::from_le_bytes([*byte])))),
        4 => Cell::Real(f64::from_bits(number(bytes) as u64)),
        5 => {
            let length = length(bytes);
            Cell::Text(take(bytes, length).to_vec())
        }
        6 => {
            let length = length(bytes);
            Cell::Blob(take(bytes, length).to_vec())
        }
        7 => Cell::Text(vec![b'x'; length(bytes) * 300]),
        _ => Cell::Blob(vec![0; length(bytes) * 300]),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// What the fuzz targets are begun with, and what they have found: here without a fuzzer.
    #[test]
    fn every_file_of_the_corpora_passes() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        if !corpora.exists() {
            return eprintln!("SKIPPED: the fuzz targets' corpora are in the repository, not in the package");
        }
        for (name, target) in TARGETS {
            let mut files: Vec<_> =
                fs::read_dir(corpora.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                eprintln!("{}", file.display());
                target(&fs::read(&file).unwrap());
            }
        }
    }
}
