//! `mqtt://user:password@host:port?name=value&…`, read by hand: of all that a URL can be, this is little.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::MqttSettings;

/// The settings that could be read, and in words what could not. No word repeats user, password or host: a stray `@`
/// moves one into the other.
pub(super) fn parse(url: &str) -> (MqttSettings, Vec<String>) {
    let mut settings = MqttSettings::default();
    let mut wrong = Vec::new();
    let rest = match url.split_once("://") {
        Some(("mqtt", rest)) => rest,
        Some((scheme @ ("mqtts" | "ssl" | "tcp" | "ws" | "wss"), rest)) => {
            wrong.push(format!("the URL begins with {scheme}://; mqtt:// is allowed"));
            rest
        }
        _ => return (settings, vec!["the URL does not begin with mqtt://".to_owned()]),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() || query.contains('#') || authority.contains('#') {
        wrong.push(
            "the URL has a path or a fragment, which mean nothing here; in a password write %2F and %23".to_owned(),
        );
    }

    let (credentials, address) = authority.rsplit_once('@').map_or((None, authority), |(c, a)| (Some(c), a));
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
        if !user.is_empty() {
            settings.user = decode("user", user, &mut wrong);
        }
        settings.password = password.and_then(|password| decode("password", password, &mut wrong));
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

    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "client_id" => settings.client_id = decode(name, value, &mut wrong),
            "keep_alive" => duration(name, value, &mut settings.keep_alive, &mut wrong),
            "connect_timeout" => duration(name, value, &mut settings.connect_timeout, &mut wrong),
            "window" => match value.parse() {
                Ok(window) => settings.window = window,
                Err(_) => wrong.push(format!("window is {value:?}; a number of 1 to 10000 is allowed")),
            },
            _ => wrong.push(format!(
                "the URL sets {name:?}; client_id, keep_alive, connect_timeout and window can be set there"
            )),
        }
    }
    (settings, wrong)
}

fn decode(name: &str, text: &str, wrong: &mut Vec<String>) -> Option<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Some(text.into_owned()),
        Err(_) => {
            wrong.push(format!("{name} is not UTF-8 once its %xx are decoded"));
            None
        }
    }
}

fn duration(name: &str, value: &str, setting: &mut Duration, wrong: &mut Vec<String>) {
    match humantime_serde::re::humantime::parse_duration(value) {
        Ok(duration) => *setting = duration,
        Err(_) => wrong.push(format!("{name} is {value:?}; a number with its unit is allowed, for example 30s")),
    }
}
