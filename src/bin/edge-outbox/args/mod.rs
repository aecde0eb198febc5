//! What can be asked of the tool. The words here are its help.

mod broker;
#[cfg(test)]
mod manual;
mod settings;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use edge_outbox::{MessageState, QoS};

pub use broker::BrokerArgs;
pub use settings::{ForwardSettings, WriteSettings};
pub use values::{Header, RowId};

/// Operates a transactional outbox: messages in a SQLite database, on their way to an MQTT broker.
///
/// Exit codes: 0 done; 1 the outbox, the disk or the broker says no; 2 wrong usage; 3 not done within --timeout.
#[derive(Parser)]
#[command(name = "edge-outbox", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Creates the outbox, or brings it up to this version and puts back what is missing
    Init(Init),
    /// Writes a message, or one for each line of standard input
    Enqueue(Enqueue),
    /// Forwards messages to a broker until it is told to stop
    Forward(Forward),
    /// Tells how the outbox and its forwarder stand
    Status(Status),
    /// Lists messages, oldest or newest first
    List(List),
    /// Shows one message
    Show(Show),
    /// Makes failed messages pending again
    Retry(Retry),
    /// Deletes failed messages for good
    Discard(Discard),
    /// Deletes sent messages
    Purge(Purge),
    /// Looks for damage and for rows that break a rule
    Check(Check),
    /// Prints a script by which a shell completes this tool's arguments
    Completions(Completions),
}

/// Behind the options of the command itself.
const LAST: usize = 500;

/// The database, for each command.
#[derive(Clone, clap::Args)]
pub struct Database {
    /// The SQLite database
    #[arg(value_name = "DB")]
    pub path: PathBuf,
    /// How long to wait while another program keeps the database locked, with its unit [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration, display_order = LAST)]
    pub busy_timeout: Option<Duration>,
}

#[derive(clap::Args)]
pub struct Init {
    #[command(flatten)]
    pub database: Database,
}

#[derive(clap::Args)]
pub struct Enqueue {
    #[command(flatten)]
    pub database: Database,
    /// What the message says; `-` or nothing for standard input
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true, conflicts_with_all = ["file", "lines"])]
    pub payload: Option<OsString>,
    /// Takes the payload from a file, as it is
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    pub file: Option<PathBuf>,
    /// Where it is to go: an MQTT topic name
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,
    /// Messages of one key are sent in their order
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// MQTT's quality of service: 0, 1 or 2
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::qos)]
    pub qos: QoS,
    /// The broker is to keep it as the topic's last message
    #[arg(long)]
    pub retain: bool,
    /// A header; as many as there are
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    pub headers: Vec<Header>,
    /// The payload's media type
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// How long the message is of use; then it is not sent, but parked
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub expiry: Option<Duration>,
    /// Where an answer is expected
    #[arg(long, value_name = "TOPIC")]
    pub response_topic: Option<String>,
    /// What the answer is recognised by
    #[arg(long, value_name = "TEXT")]
    pub correlation_data: Option<String>,
    /// One message for each line of standard input
    #[arg(long)]
    pub lines: bool,
    /// Most lines per transaction; fewer where no further one comes for 0.2 s, or 1 s after the first
    #[arg(long, value_name = "N", default_value_t = 1, requires = "lines", value_parser = values::batch)]
    pub batch: usize,
    /// Prints the number of the last committed line after each commit
    #[arg(long, requires = "lines")]
    pub progress: bool,
    /// Creates the database, and the outbox in it, where there is none
    #[arg(long)]
    pub create: bool,
    #[command(flatten)]
    pub settings: WriteSettings,
}

#[derive(clap::Args)]
pub struct Forward {
    #[command(flatten)]
    pub database: Database,
    /// Ends once nothing is pending
    #[arg(long)]
    pub drain: bool,
    /// With --drain: how long it may take at most (seconds, or with a unit as in 5min)
    #[arg(long, value_name = "S", requires = "drain", value_parser = values::seconds)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    pub settings: ForwardSettings,
}

#[derive(clap::Args)]
pub struct Status {
    #[command(flatten)]
    pub database: Database,
    /// One JSON object in one line
    #[arg(long)]
    pub json: bool,
    /// Shows it again and again, until it is interrupted
    #[arg(long)]
    pub watch: bool,
}

#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    pub database: Database,
    /// Only those of this status: pending, sent, failed or damaged
    #[arg(long, value_name = "STATUS", value_parser = values::state)]
    pub status: Option<MessageState>,
    /// Only those to topics that this MQTT topic filter matches
    #[arg(long, value_name = "FILTER")]
    pub topic: Option<String>,
    /// Only those of this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The newest first
    #[arg(long)]
    pub newest: bool,
    /// Only those with a greater row id
    #[arg(long, value_name = "ID", default_value = "0", value_parser = values::bound, conflicts_with = "newest")]
    pub after: i64,
    /// With --newest: only those with a smaller row id
    #[arg(long, value_name = "ID", requires = "newest", value_parser = values::bound)]
    pub before: Option<i64>,
    /// How many at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct Show {
    #[command(flatten)]
    pub database: Database,
    /// Its row id, or its whole id
    #[arg(value_name = "ID", value_parser = values::row_id)]
    pub id: RowId,
    /// The payload's bytes and nothing else
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// One JSON object in one line
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Retry {
    #[command(flatten)]
    pub database: Database,
    /// Row ids, or whole ids
    #[arg(value_name = "ID", value_parser = values::row_id, group = "which")]
    pub ids: Vec<RowId>,
    /// All failed messages
    #[arg(long, group = "which")]
    pub all: bool,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct Discard {
    #[command(flatten)]
    pub database: Database,
    /// Row ids, or whole ids
    #[arg(value_name = "ID", value_parser = values::row_id, group = "which")]
    pub ids: Vec<RowId>,
    /// All failed messages
    #[arg(long, group = "which")]
    pub all_failed: bool,
    /// Does not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(clap::Args)]
pub struct Purge {
    #[command(flatten)]
    pub database: Database,
    /// Only those that were sent longer ago, by the wall clock
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = values::duration)]
    pub older_than: Duration,
}

#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    pub database: Database,
}

#[derive(clap::Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
