//! `mqtt://user:password@host:port?name=value&…`, read by hand: of all that a URL can be, this is little.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{MqttSettings, Protocol, TlsSettings};

/// The settings that could be read, and in words what could not. No word repeats user, password or host: a stray `@`
/// moves one into the other.
pub(super) fn parse(url: &str) -> (MqttSettings, Vec<String>) {
    let mut settings = MqttSettings::default();
    let mut wrong = Vec::new();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    match scheme {
        "mqtt" => {}
        "mqtts" => settings.tls = Some(TlsSettings::new()),
        "tcp" => wrong.push("the URL begins with tcp://; write mqtt://, or mqtts:// for TLS".to_owned()),
        "ssl" | "tls" => {
            wrong.push(format!("the URL begins with {scheme}://; write mqtts://"));
            settings.tls = Some(TlsSettings::new());
        }
        "ws" | "wss" => {
            wrong.push(format!(
                "the URL begins with {scheme}://, but WebSockets are not spoken; mqtt:// and mqtts:// are allowed"
            ));
            settings.tls = Some(TlsSettings::new()); // what is set for it is no second mistake
        }
        _ => return (settings, vec!["the URL begins neither with mqtt:// nor with mqtts://".to_owned()]),
    }

    let behind_authority = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
    if behind_authority.contains('@') {
        // perhaps the end of a password, so nothing of it is read, and nothing repeated
        wrong.push(
            "the URL has an @ behind a /, ? or #: in user and password write %2F, %3F and %23 for those, \
             and elsewhere %40 for the @"
                .to_owned(),
        );
        return (settings, wrong);
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() || behind_authority.contains('#') {
        wrong.push("the URL has a path or a fragment, which mean nothing here; in a value write %23 for #".to_owned());
    }
    let authority = authority.split_once('#').map_or(authority, |(authority, _)| authority);
    read_authority(authority, &mut settings, &mut wrong);
    read_query(query, &mut settings, &mut wrong);
    (settings, wrong)
}

fn read_authority(authority: &str, settings: &mut MqttSettings, wrong: &mut Vec<String>) {
    let (credentials, address) = authority.rsplit_once('@').map_or((None, authority), |(c, a)| (Some(c), a));
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
        if !user.is_empty() {
            settings.user = Some(decode("user", user, wrong));
        }
        settings.password = password.map(|password| decode("password", password, wrong));
    }
    // the brackets of an IPv6 address hold colons of their own
    let colon = address.rfind(':').filter(|at| address.rfind(']').is_none_or(|bracket| bracket < *at));
    let (host, port) = colon.map_or((address, None), |at| (&address[..at], Some(&address[at + 1..])));
    settings.host = host.to_owned();
    if let Some(port) = port {
        match port.parse() {
            Ok(port) => settings.port = Some(port),
            Err(_) => wrong.push("the URL's port is not a number of 1 to 65535".to_owned()),
        }
    }
}

fn read_query(query: &str, settings: &mut MqttSettings, wrong: &mut Vec<String>) {
    let mut names = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if names.contains(&name) {
            let words = format!("the URL sets {name:?} more than once");
            if !wrong.contains(&words) {
                wrong.push(words);
            }
            continue;
        }
        names.push(name);
        let value = decode(name, value, wrong);
        match name {
            "client_id" => settings.client_id = Some(value),
            "protocol" => match value.as_str() {
                "5" => settings.protocol = Protocol::V5,
                "3.1.1" => settings.protocol = Protocol::V311,
                _ => wrong.push(format!("protocol is {value:?}; 5 and 3.1.1 are allowed")),
            },
            "keep_alive" => duration(name, &value, &mut settings.keep_alive, wrong),
            "connect_timeout" => duration(name, &value, &mut settings.connect_timeout, wrong),
            "window" => match value.parse() {
                Ok(window) => settings.window = window,
                Err(_) => wrong.push(format!("window is {value:?}; a number of 1 to 10000 is allowed")),
            },
            "user_file" => settings.user_file = Some(value.into()),
            "password_file" => settings.password_file = Some(value.into()),
            "ca_file" | "certificate_file" | "key_file" | "server_name" => match &mut settings.tls {
                Some(tls) => set_tls(tls, name, value),
                None => wrong.push(format!("the URL sets {name}, but is without TLS: begin it with mqtts://")),
            },
            _ if name.contains("will") => {
                wrong.push(format!("the URL sets {name:?}; a last will can be set by serde and MqttSettings alone"));
            }
            _ => wrong.push(format!(
                "the URL sets {name:?}; client_id, protocol, keep_alive, connect_timeout, window, user_file and \
                 password_file can be set there, and with mqtts:// ca_file, certificate_file, key_file and server_name"
            )),
        }
    }
}

fn set_tls(tls: &mut TlsSettings, name: &str, value: String) {
    match name {
        "ca_file" => tls.ca_file = Some(value.into()),
        "certificate_file" => tls.certificate_file = Some(value.into()),
        "key_file" => tls.key_file = Some(value.into()),
        _ => tls.server_name = Some(value),
    }
}

/// What could not be decoded is told, and stands in for itself, so that nothing else seems to be missing.
fn decode(name: &str, text: &str, wrong: &mut Vec<String>) -> String {
    let decoded = percent_decode_str(text);
    decoded.decode_utf8().map_or_else(
        |_| {
            wrong.push(format!("{name} is not UTF-8 once its %xx are decoded"));
            text.to_owned()
        },
        |text| text.into_owned(),
    )
}

fn duration(name: &str, value: &str, setting: &mut Duration, wrong: &mut Vec<String>) {
    match humantime_serde::re::humantime::parse_duration(value) {
        Ok(duration) => *setting = duration,
        Err(_) => wrong.push(format!("{name} is {value:?}; a number with its unit is allowed, for example 30s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn told(url: &str) -> Vec<String> {
        match MqttSettings::from_url(url) {
            Err(Error::Settings(wrong)) => wrong,
            other => panic!("{url}: {other:?}"),
        }
    }

    /// One mistake, and these words in it.
    fn assert_told(url: &str, parts: &[&str]) {
        let wrong = told(url);
        assert!(wrong.len() == 1 && parts.iter().all(|part| wrong[0].contains(part)), "{parts:?}: {url}: {wrong:#?}");
    }

    fn assert_reads(url: &str, expected: &MqttSettings) {
        let settings = MqttSettings::from_url(url).unwrap();
        assert!(settings == *expected, "{url}: {settings:?}");
    }

    #[test]
    fn a_url_says_it_all() {
        let expected = MqttSettings::new("broker.example")
            .with_port(1884)
            .with_client_id("roof 1")
            .with_protocol(Protocol::V311)
            .with_user("gate@way")
            .with_password("p:a/ss")
            .with_keep_alive(Duration::from_secs(15))
            .with_connect_timeout(Duration::from_secs(2))
            .with_window(20);
        assert_reads(
            "mqtt://gate%40way:p%3Aa%2Fss@broker.example:1884?client_id=roof%201&protocol=3.1.1&keep_alive=15s\
             &connect_timeout=2s&window=20",
            &expected,
        );
        assert_reads(
            "mqtt://b?user_file=/run/user&password_file=/run/p%20w&protocol=5",
            &MqttSettings::new("b").with_user_file("/run/user").with_password_file("/run/p w"),
        );
        assert_reads("mqtt://localhost", &MqttSettings::default());
        assert_reads("mqtt://[::1]:1884/", &MqttSettings::new("[::1]").with_port(1884));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn mqtts_speaks_tls() {
        let tls = MqttSettings::new("b").with_tls(TlsSettings::new());
        assert_eq!(tls.port(), 8883);
        assert_reads("mqtts://b", &tls);
        assert_reads("mqtts://b:443", &tls.with_port(443));
        let tls = TlsSettings::new()
            .with_ca_file("/etc/c a.pem")
            .with_client_certificate("/etc/roof.pem", "/etc/roof.key")
            .with_server_name("inside");
        assert_reads(
            "mqtts://b?ca_file=/etc/c%20a.pem&certificate_file=/etc/roof.pem&key_file=/etc/roof.key&server_name=inside",
            &MqttSettings::new("b").with_tls(tls),
        );
        assert_told("mqtts://b?certificate_file=/etc/roof.pem", &["key_file", "both"]);
    }

    #[test]
    fn what_belongs_to_tls_is_refused_without_it() {
        for name in ["ca_file", "certificate_file", "key_file", "server_name"] {
            assert_told(&format!("mqtt://b?{name}=x"), &[name, "mqtts://"]);
        }
    }

    #[test]
    fn reserved_characters_of_credentials_are_percent_encoded() {
        let credentials = |user: &str, password: &str| MqttSettings::new("b").with_user(user).with_password(password);
        assert_reads("mqtt://a:%21%3A%40%2F%3F%23%26%25@b", &credentials("a", "!:@/?#&%"));
        assert_reads("mqtt://a:b:c@b", &credentials("a", "b:c"));
        assert_reads("mqtt://a:b@c@b", &credentials("a", "b@c"));
        assert_reads("mqtt://%C3%A4:%e2%82%ac+@b", &credentials("ä", "€+"));
        assert_reads("mqtt://a@b", &MqttSettings::new("b").with_user("a"));
        assert_reads("mqtt://:t@b", &MqttSettings::new("b").with_password("t"));
        assert_told("mqtt://a:%ff@b?protocol=3.1.1", &["password is not UTF-8"]);
        assert_told("mqtt://%ff:p@b?protocol=3.1.1", &["user is not UTF-8"]);
    }

    #[test]
    fn a_password_that_was_not_encoded_is_not_repeated() {
        for stray in ['/', '?', '#'] {
            assert_told(&format!("mqtt://a:b{stray}s3cret&s3cret=s3cret@b:1883"), &["%2F, %3F and %23"]);
        }
        for url in ["s3cret@b", "s3cret://b", "a:s3cret@b:1883", "mqtt://a:b@c:s3cret", "mqtt://a:b@s 3cret"] {
            let words = told(url).join("\n");
            assert!(!words.contains("3cret"), "{words}");
        }
    }

    #[test]
    fn other_schemes_are_told_what_is_allowed() {
        assert_told("tcp://b", &["tcp://", "mqtt://", "mqtts://"]);
        assert_told("b:1883", &["mqtt://", "mqtts://"]);
        assert_told("http://b", &["mqtt://", "mqtts://"]);
        if cfg!(feature = "tls") {
            assert_told("ssl://b?ca_file=/ca", &["ssl://", "write mqtts://"]);
            assert_told("wss://b", &["WebSockets", "mqtts://"]);
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_no_secret_with_them() {
        let wrong =
            told("tcp://anna:s3cret@host:99999/path?window=many&keep_alive=5&nonsense=1&protocol=4&will=x&client_id=");
        let parts =
            ["tcp", "path", "port", "window", "keep_alive", "nonsense", "protocol", "last will", "client_id is 0"];
        assert_eq!(wrong.len(), parts.len(), "{wrong:#?}");
        for (words, part) in wrong.iter().zip(parts) {
            assert!(words.contains(part), "{part} is missing in: {words}");
        }
        let url = "mqtt://:s3cret@?protocol=3.1.1&window=0&keep_alive=4s&keep_alive=5s&connect_timeout=1h&client_id=";
        let wrong = told(url);
        let parts = ["keep_alive\" more than once", "host", "client_id", "a user", "keep_alive", "connect_", "window"];
        assert_eq!(wrong.len(), parts.len(), "{wrong:#?}");
        for (words, part) in wrong.iter().zip(parts) {
            assert!(words.contains(part) && !words.contains("s3cret"), "{part} is missing in: {words}");
        }
    }
}
