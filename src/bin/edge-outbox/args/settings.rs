//! Settings from the command line and from a file: what is said on the command line counts.

use std::path::PathBuf;

use edge_outbox::Settings;

use crate::args::Database;
use crate::failure::Failure;

/// What limits writing.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct WriteSettings {
    /// A TOML file with settings; what is said on the command line counts more
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl WriteSettings {
    /// The settings of an outbox that writes.
    pub fn settings(&self, database: &Database) -> Result<Settings, Failure> {
        Ok(Settings { busy_timeout: database.busy_timeout(), ..Settings::default() })
    }
}

/// How messages are forwarded.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct ForwardSettings {
    #[command(flatten)]
    pub write: WriteSettings,
}

/// Where messages go.
#[derive(clap::Args)]
#[command(next_help_heading = "Broker")]
pub struct BrokerArgs {
    /// The broker: mqtt://host:port, or mqtts:// for TLS
    #[arg(long, value_name = "URL", env = "EDGE_OUTBOX_TO", hide_env_values = true)]
    pub to: Option<String>,
}
