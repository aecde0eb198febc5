//! Settings from the command line and from a file: what is said on the command line counts.

use std::path::PathBuf;
use std::time::Duration;

use edge_outbox::{ClosedTopics, Ordering, Settings};

use super::values;
use crate::args::Database;
use crate::config::Config;
use crate::failure::Failure;

/// What limits writing. Defaults are told in words: clap's own would hide whether a flag was given.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct WriteSettings {
    /// A TOML file with [settings], and `to` or [mqtt]; flags and the environment count more
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Largest payload, in bytes [default: 262144]
    #[arg(long, hide_short_help = true, value_name = "BYTES")]
    pub max_payload: Option<usize>,
    /// Most messages that may be pending [default: no limit]
    #[arg(long, hide_short_help = true, value_name = "N")]
    pub max_pending: Option<u64>,
    /// Most bytes that pending messages may have together [default: no limit]
    #[arg(long, hide_short_help = true, value_name = "BYTES")]
    pub max_pending_bytes: Option<u64>,
    /// Bytes of the disk that are left to others [default: 16777216]
    #[arg(long, hide_short_help = true, value_name = "BYTES")]
    pub keep_free: Option<u64>,
    /// Bytes of a file beside the database that hold a place on the disk, or 0; the same for all who write [default: 4194304]
    #[arg(long, hide_short_help = true, value_name = "BYTES")]
    pub reserve: Option<u64>,
}

impl WriteSettings {
    /// The settings of an outbox that writes.
    pub fn settings(&self, database: &Database) -> Result<Settings, Failure> {
        let settings = self.over(self.config()?.settings, database);
        checked(settings)
    }

    /// What the file says; nothing where there is none.
    pub fn config(&self) -> Result<Config, Failure> {
        self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)
    }

    fn over(&self, mut settings: Settings, database: &Database) -> Settings {
        set(&mut settings.max_payload, self.max_payload);
        set(&mut settings.max_pending, self.max_pending.map(Some));
        set(&mut settings.max_pending_bytes, self.max_pending_bytes.map(Some));
        set(&mut settings.keep_free, self.keep_free);
        set(&mut settings.reserve, self.reserve);
        set(&mut settings.busy_timeout, database.busy_timeout.map(|_| database.busy_timeout()));
        settings
    }
}

/// How messages are forwarded.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct ForwardSettings {
    #[command(flatten)]
    pub write: WriteSettings,
    /// Messages in flight: sent and not yet acknowledged [default: 256]
    #[arg(long, hide_short_help = true, value_name = "N")]
    pub window: Option<usize>,
    /// Bytes in flight; a larger message goes alone [default: 65536]
    #[arg(long, hide_short_help = true, value_name = "BYTES")]
    pub window_bytes: Option<usize>,
    /// What may overtake within a key: per-key (only retries) or strict (nothing) [default: per-key]
    #[arg(long, hide_short_help = true, value_name = "ORDERING", value_parser = values::ordering)]
    pub ordering: Option<Ordering>,
    /// Refusals "for now" before a message is parked as failed [default: 10]
    #[arg(long, hide_short_help = true, value_name = "N")]
    pub max_attempts: Option<u32>,
    /// The first wait after such a refusal, with its unit; it doubles each time [default: 1s]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub retry_first: Option<Duration>,
    /// The longest wait after such a refusal, with its unit [default: 5m]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub retry_longest: Option<Duration>,
    /// The first wait before a new session, with its unit; it doubles each time [default: 250ms]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub reconnect_first: Option<Duration>,
    /// The longest wait before a new session, with its unit [default: 1m]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub reconnect_longest: Option<Duration>,
    /// How long a standing session may owe an acknowledgement, with its unit [default: 20s]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub ack_timeout: Option<Duration>,
    /// Messages of a topic that the broker closed: hold, or park them as failed [default: hold]
    #[arg(long, hide_short_help = true, value_name = "CHOICE", value_parser = values::closed_topics)]
    pub closed_topics: Option<ClosedTopics>,
    /// How long the table may lag behind acknowledgements, with its unit; shorter wears the card [default: 1s]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub settle_after: Option<Duration>,
    /// How long a sent message stays in the table, with its unit [default: 1h]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub retention: Option<Duration>,
    /// How often it is looked for commits of other programs, with its unit [default: 100ms]
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = values::duration)]
    pub poll_interval: Option<Duration>,
}

impl ForwardSettings {
    /// The settings of an outbox that forwards, and what the file says beside them: it is read once, for it may be a
    /// pipe.
    pub fn settings(&self, database: &Database) -> Result<(Settings, Config), Failure> {
        let config = self.write.config()?;
        let mut settings = self.write.over(config.settings.clone(), database);
        set(&mut settings.window, self.window);
        set(&mut settings.window_bytes, self.window_bytes);
        set(&mut settings.ordering, self.ordering);
        set(&mut settings.max_attempts, self.max_attempts);
        set(&mut settings.retry.first, self.retry_first);
        set(&mut settings.retry.longest, self.retry_longest);
        set(&mut settings.reconnect.first, self.reconnect_first);
        set(&mut settings.reconnect.longest, self.reconnect_longest);
        set(&mut settings.ack_timeout, self.ack_timeout);
        set(&mut settings.closed_topics, self.closed_topics);
        set(&mut settings.settle_after, self.settle_after);
        set(&mut settings.retention, self.retention);
        set(&mut settings.poll_interval, self.poll_interval);
        Ok((checked(settings)?, config))
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn checked(settings: Settings) -> Result<Settings, Failure> {
    settings.check().map_err(Failure::usage)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use edge_outbox::Settings;
    use serde_json::Value;

    use crate::args::Args;

    /// Names as flags have them, and defaults as the help says them.
    fn names_and_defaults() -> Vec<(String, String)> {
        let Value::Object(settings) = serde_json::to_value(Settings::default()).unwrap() else { panic!("not by name") };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut all = Vec::new();
        for (name, default) in settings {
            let name = name.replace('_', "-");
            match default {
                Value::Object(parts) => all.extend(parts.iter().map(|(part, v)| (format!("{name}-{part}"), text(v)))),
                Value::Null => all.push((name, "no limit".to_owned())),
                value => all.push((name, text(&value))),
            }
        }
        all
    }

    #[test]
    fn every_setting_has_its_flag_and_the_help_says_its_default() {
        let forward = Args::command().find_subcommand("forward").unwrap().clone();
        let all = names_and_defaults();
        assert!(all.len() >= 19, "{all:?}");
        for (name, default) in all {
            let flag = forward.get_arguments().find(|arg| arg.get_long() == Some(name.as_str()));
            let help = flag.unwrap_or_else(|| panic!("--{name} is missing")).get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {default}]")), "--{name}: {help}, but the default is {default}");
        }
    }

    #[test]
    fn who_writes_has_the_flags_that_limit_writing() {
        let enqueue = Args::command().find_subcommand("enqueue").unwrap().clone();
        for name in
            ["config", "max-payload", "max-pending", "max-pending-bytes", "keep-free", "reserve", "busy-timeout"]
        {
            assert!(enqueue.get_arguments().any(|arg| arg.get_long() == Some(name)), "--{name} is missing");
        }
    }
}
