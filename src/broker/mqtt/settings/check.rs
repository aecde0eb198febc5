//! What is wrong with settings, all of it, in words. Texts that could be secret stay out of them: they are for logs.

use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use super::{LastWill, MqttSettings, Protocol, TlsSettings};
use crate::{Error, Message};

/// Longest text that MQTT carries, in bytes: its length stands in 16 bits.
pub(super) const LONGEST: usize = 65_535;

impl MqttSettings {
    /// Checks every setting against its bounds, and against the others. Whether files are there is seen by each
    /// session: they may be mounted later, and change.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong, in words.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = self.mistakes();
        if wrong.is_empty() { Ok(()) } else { Err(Error::Settings(wrong)) }
    }

    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.is_host() {
            wrong.push(
                "host is not a host name or IP address; the port, user and password have settings of their own"
                    .to_owned(),
            );
        }
        if self.port == Some(0) {
            wrong.push("port is 0; 1 to 65535 are allowed".to_owned());
        }
        self.check_credentials(&mut wrong);
        if let Some(tls) = &self.tls {
            self.check_tls(tls, &mut wrong);
        }
        if let Some(will) = &self.last_will {
            check_will(will, &mut wrong);
        }
        let mut time = |name: &str, value: Duration, low: Duration, high: Duration| {
            if value < low || value > high {
                wrong.push(format!("{name} is {value:?}; {low:?} to {high:?} are allowed"));
            }
        };
        time("keep_alive", self.keep_alive, Duration::from_secs(5), Duration::from_secs(18 * 3600));
        time("connect_timeout", self.connect_timeout, Duration::from_millis(100), Duration::from_secs(100));
        if !(1..=10_000).contains(&self.window) {
            wrong.push(format!("window is {}; 1 to 10000 are allowed", self.window));
        }
        wrong
    }

    fn is_host(&self) -> bool {
        let (host, bare) = (self.host.as_str(), self.bare_host());
        if host.contains([':', '[', ']']) {
            // the zone of a link-local address, as in fe80::1%eth0, is the resolver's to read
            let address = bare.split_once('%').map_or(bare, |(address, _)| address);
            return address.parse::<Ipv6Addr>().is_ok();
        }
        !host.is_empty() && host.len() <= 255 && !host.contains(|c: char| c.is_whitespace() || "/@?#\0".contains(c))
    }

    fn check_credentials(&self, wrong: &mut Vec<String>) {
        for (name, text) in [("client_id", &self.client_id), ("user", &self.user), ("password", &self.password)] {
            if let Some(text) = text {
                if text.is_empty() || text.len() > LONGEST || text.contains('\0') {
                    wrong.push(format!(
                        "{name} is {} bytes long; 1 to {LONGEST} without NUL are allowed, or none at all",
                        text.len()
                    ));
                }
            }
        }
        let both = [("user", &self.user, &self.user_file), ("password", &self.password, &self.password_file)];
        for (name, text, file) in both {
            check_path(&format!("{name}_file"), file.as_deref(), wrong);
            if text.is_some() && file.is_some() {
                wrong.push(format!("{name} and {name}_file are both set: keep one of them"));
            }
        }
        let has_user = self.user.is_some() || self.user_file.is_some();
        let has_password = self.password.is_some() || self.password_file.is_some();
        if has_password && !has_user && self.protocol == Protocol::V311 {
            wrong.push("a password is set without a user, which MQTT 3.1.1 forbids: set user or user_file".to_owned());
        }
    }

    fn check_tls(&self, tls: &TlsSettings, wrong: &mut Vec<String>) {
        if cfg!(not(feature = "tls")) {
            wrong.push("tls is set, but this build of edge-outbox is without the feature `tls`".to_owned());
        }
        check_path("tls.ca_file", tls.ca_file.as_deref(), wrong);
        check_path("tls.certificate_file", tls.certificate_file.as_deref(), wrong);
        check_path("tls.key_file", tls.key_file.as_deref(), wrong);
        match (&tls.certificate_file, &tls.key_file) {
            (Some(_), None) => wrong.push(
                "tls.certificate_file is set, but tls.key_file is not: a client certificate needs both".to_owned(),
            ),
            (None, Some(_)) => wrong.push(
                "tls.key_file is set, but tls.certificate_file is not: a client certificate needs both".to_owned(),
            ),
            _ => {}
        }
        #[cfg(feature = "tls")]
        match &tls.server_name {
            Some(name) if !is_server_name(name) => wrong.push(
                "tls.server_name is neither a DNS name nor an IP address; it goes without brackets, scheme and port"
                    .to_owned(),
            ),
            None if self.is_host() && !is_server_name(self.bare_host()) => wrong.push(
                "host is not a name that a certificate can be for: say in tls.server_name which one is".to_owned(),
            ),
            _ => {}
        }
    }
}

#[cfg(feature = "tls")]
fn is_server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}

fn check_path(name: &str, path: Option<&Path>, wrong: &mut Vec<String>) {
    if path.is_some_and(|path| path.as_os_str().is_empty()) {
        wrong.push(format!("{name} is empty; a path is allowed, or none at all"));
    }
}

fn check_will(will: &LastWill, wrong: &mut Vec<String>) {
    // its topic is one like every message's
    if let Err(Error::Invalid { field, why }) = Message::new(will.topic.as_str(), []).check(0) {
        wrong.push(format!("last_will.{field} {why}"));
    }
    if will.payload.len() > LONGEST {
        wrong.push(format!("last_will.payload is {} bytes long; at most {LONGEST} are allowed", will.payload.len()));
    }
}
