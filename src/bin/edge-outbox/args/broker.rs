//! Where messages go, and as whom. Clap never holds a password: what it is given it may repeat, and everybody on the
//! device sees a command line.

use std::env;
use std::path::PathBuf;

use edge_outbox::broker::MqttSettings;

use crate::config::Config;
use crate::failure::Failure;

const TO: &str = "EDGE_OUTBOX_TO";
const USER: &str = "EDGE_OUTBOX_USER";
const PASSWORD: &str = "EDGE_OUTBOX_PASSWORD";

/// Where messages go. The environment is read by hand, so that it is known which of the two said it.
#[derive(clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerArgs {
    /// The broker: mqtt://host:port, or mqtts:// for TLS; without a password [env: EDGE_OUTBOX_TO, there with one]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// The user name [env: EDGE_OUTBOX_USER, and EDGE_OUTBOX_PASSWORD for the password]
    #[arg(long, value_name = "USER", conflicts_with = "user_file")]
    pub user: Option<String>,
    /// A file that holds the user name
    #[arg(long, value_name = "FILE")]
    pub user_file: Option<PathBuf>,
    /// A file that holds the password; read anew for each session
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The name under which the broker knows this client [default: a new one for each start]
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// The authorities that the broker's certificate must come from, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    pub key_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// The broker that the command line, or else the environment, or else the file says. Whoever says where to go puts
    /// aside all that the next one says of a broker: a password is for the one that it was given for.
    pub fn mqtt(self, config: Config) -> Result<MqttSettings, Failure> {
        let mut mqtt = match (self.to.as_deref(), from_environment(TO)?, config.to, config.mqtt) {
            (Some(url), ..) => from_command_line(url)?,
            (_, Some(url), ..) => {
                MqttSettings::from_url(&url).map_err(|e| Failure::usage(format_args!("{TO}: {e}")))?
            }
            (_, _, Some(url), _) => MqttSettings::from_url(&url)
                .map_err(|e| Failure::usage(format_args!("`to` in the --config file: {e}")))?,
            (_, _, _, Some(mqtt)) => mqtt,
            (None, None, None, None) => {
                return Err(Failure::usage(format_args!(
                    "where to? Say --to mqtt://HOST, or set {TO}, or give a --config file with `to` or [mqtt]"
                )));
            }
        };
        self.log_in(&mut mqtt)?;
        if let Some(id) = self.client_id {
            mqtt.client_id = Some(id);
        }
        match &mut mqtt.tls {
            Some(tls) => {
                tls.ca_file = self.ca_file.or(tls.ca_file.take());
                tls.certificate_file = self.certificate_file.or(tls.certificate_file.take());
                tls.key_file = self.key_file.or(tls.key_file.take());
            }
            None if self.ca_file.is_some() || self.certificate_file.is_some() => {
                return Err(Failure::usage(
                    "--ca-file, --certificate-file and --key-file are for TLS: begin the URL with mqtts://",
                ));
            }
            None => {}
        }
        Ok(mqtt)
    }

    fn log_in(&self, mqtt: &mut MqttSettings) -> Result<(), Failure> {
        let (user, password) = (from_environment(USER)?, from_environment(PASSWORD)?);
        if self.user.is_some() || self.user_file.is_some() {
            (mqtt.user, mqtt.user_file) = (self.user.clone(), self.user_file.clone());
        } else if user.is_some() {
            (mqtt.user, mqtt.user_file) = (user, None);
        }
        if self.password_file.is_some() {
            (mqtt.password, mqtt.password_file) = (None, self.password_file.clone());
        } else if password.is_some() {
            (mqtt.password, mqtt.password_file) = (password, None);
        }
        Ok(())
    }
}

fn from_command_line(url: &str) -> Result<MqttSettings, Failure> {
    let seen = format!(
        "everybody on this device sees a command line: give a password by --password-file, or in {PASSWORD}, \
         or the whole URL in {TO} or in a --config file"
    );
    match MqttSettings::from_url(url) {
        Ok(mqtt) if mqtt.password.is_none() => Ok(mqtt),
        Ok(_) => Err(Failure::usage(format_args!("--to holds a password, and {seen}"))),
        Err(error) if url.contains('@') => Err(Failure::usage(format_args!("--to: {error}\nBesides, {seen}"))),
        Err(error) => Err(Failure::usage(format_args!("--to: {error}"))),
    }
}

/// One that is empty is none.
fn from_environment(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::usage(format_args!("{name} is not UTF-8 text"))),
    }
}
