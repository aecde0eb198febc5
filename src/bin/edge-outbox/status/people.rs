//! The table for people. What comes from anybody is escaped in one place: where a line is made.

use std::time::{Duration, Instant};

use edge_outbox::inspector::{Figures, Files, Forwarder, Live};
use edge_outbox::{FailedMessage, LinkState, Role};

use super::View;
use crate::output::{age, bytes, count, counted, duration, line};
use crate::words;

/// Closed topics that are named.
const NAMED: usize = 10;
/// For what a later version of the library may have added.
const UNKNOWN: &str = "in a state that this tool does not know";

pub fn lines(view: &View) -> Vec<String> {
    [database(view), forwarder(view)].concat()
}

/// As many as there is room for: where that is little, who forwards and what its link does stands first.
pub fn lines_within(view: &View, rows: usize) -> Vec<String> {
    let (database, forwarder) = (database(view), forwarder(view));
    if database.len() + forwarder.len() <= rows {
        return [database, forwarder].concat();
    }
    let (first, others) = forwarder.split_at(forwarder.len().min(2));
    [first, &database, others].concat().into_iter().take(rows).collect()
}

fn database(view: &View) -> Vec<String> {
    let mut table = Table::default();
    table.row("database", &view.database);
    match view.figures() {
        Some((_, figures)) => messages(&mut table, figures),
        None if view.count.is_none() => table.row("messages", "being counted"),
        None => table.row("messages", "cannot be counted"),
    }
    if let Some(unreadable @ 1..) = view.unreadable() {
        table.row("unreadable", &explained(unreadable, "passed over, the file is damaged there"));
    }
    if let Ok(files) = &view.files {
        table.row("files", &sizes(files));
    }
    if let Some(trouble) = view.trouble() {
        trouble.lines().enumerate().for_each(|(nth, words)| table.row(if nth == 0 { "trouble" } else { "" }, words));
    }
    table.0
}

fn forwarder(view: &View) -> Vec<String> {
    let mut table = Table::default();
    match &view.forwarder {
        Forwarder::Active(live) => active(&mut table, live),
        Forwarder::Silent(why) => table.row("forwarder", &format!("not known: {why}")),
        Forwarder::None => table.row("forwarder", "nobody forwards"),
        _ => table.row("forwarder", UNKNOWN),
    }
    table.0
}

#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn row(&mut self, label: &str, text: &str) {
        self.0.push(format!("{label:<15}{}", line(text)).trim_end().to_owned());
    }
}

fn messages(table: &mut Table, figures: &Figures) {
    let mut pending = counted(figures.pending, "message");
    if figures.pending > 0 {
        pending = format!("{pending}, {}", bytes(figures.pending_bytes));
    }
    if let Some(oldest) = figures.oldest_pending {
        pending = format!("{pending}, the oldest from {} ago", duration(oldest));
    }
    table.row("pending", &pending);
    table.row("  waiting", &explained(figures.waiting, "to be tried again"));
    table.row(
        "  held",
        &explained(figures.held, "with a message of their key that was refused for now, or for their topic"),
    );
    table.row("failed", &count(figures.failed));
    if let Some(failed) = &figures.last_failed {
        table.row("  last", &last(failed));
    }
    table.row("sent", &explained(figures.sent, "not purged yet"));
}

fn explained(number: u64, what: &str) -> String {
    if number == 0 { "0".to_owned() } else { format!("{}, {what}", count(number)) }
}

fn last(failed: &FailedMessage) -> String {
    let when = age(failed.failed_at).map_or_else(String::new, |age| format!(", {} ago", duration(age)));
    format!("row {} to {}{when}: {}", failed.id.row(), failed.topic, failed.reason)
}

fn sizes(files: &Files) -> String {
    let free = match files.free {
        u64::MAX => "free space not known".to_owned(),
        free => format!("{} free", bytes(free)),
    };
    format!("database {}, log {}, reserve {}; {free}", bytes(files.database), bytes(files.log), bytes(files.reserve))
}

fn active(table: &mut Table, live: &Live) {
    let status = &live.status;
    let role = match status.role {
        Role::Active => "",
        Role::Stopped => ", shut down",
        _ => ", not forwarding yet",
    };
    table.row("forwarder", &format!("process {}, active for {}{role}", live.process, duration(live.active_for)));
    table.row("  link", &link(&status.link));
    let figures = [
        format!("{} sent since it began", count(live.sent)),
        format!("{} in flight", count(live.in_flight)),
        counted(live.reconnects, "reconnect"),
    ];
    table.row("  figures", &figures.join(", "));
    if live.damaged > 0 {
        table.row("  damaged", &explained(live.damaged, "parked since it began"));
    }
    match words::storage(&status.storage) {
        ("ok", _) => {}
        (word, None) => table.row("  storage", word),
        (word, Some(why)) => table.row("  storage", &format!("{word}: {why}")),
    }
    if let Some(said) = &status.failed {
        table.row("  panicked", &format!("{said}; start it again, and please report it"));
    }
    if live.closed_topics > 0 {
        table.row("  closed", &counted(live.closed_topics, "topic"));
        let named = status.closed_topics.iter().take(NAMED);
        named.for_each(|closed| table.row("", &format!("{}: {}", closed.topic, closed.reason)));
        let more = live.closed_topics.saturating_sub(status.closed_topics.len().min(NAMED) as u64);
        if more > 0 {
            table.row("", &format!("and {} more", count(more)));
        }
    }
}

fn link(link: &LinkState) -> String {
    let since_and_next = |since: &Instant, next_try: &Instant| {
        let next = match next_try.saturating_duration_since(Instant::now()) {
            Duration::ZERO => "now".to_owned(),
            wait => format!("in {}", duration(wait)),
        };
        format!("for {}, next try {next}", duration(since.elapsed()))
    };
    match link {
        LinkState::Connecting => "connecting".to_owned(),
        LinkState::Up => "up".to_owned(),
        LinkState::Offline { since, next_try, why } => format!("offline {}: {why}", since_and_next(since, next_try)),
        LinkState::Refused { since, next_try, why } => format!("refused {}: {why}", since_and_next(since, next_try)),
        LinkState::TopicsClosed { since, next_try } => {
            format!("up; every topic that was tried is closed {}", since_and_next(since, next_try))
        }
        LinkState::Paused => "paused".to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}
