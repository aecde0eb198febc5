//! What happens to an outbox, in one word each. A row is picked as a share of those that stand, so that every list of
//! actions makes sense whatever is taken out of it: that is how a list that went wrong is made short.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::store::Status;

#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Messages in one transaction.
    Enqueue(Vec<Sample>, End),
    /// So many messages, that purging has something to do.
    Many(u8),
    /// One message by somebody who knows nothing of this crate.
    PlainSql(Sample, Expiry),
    /// One message, where no more of what is pending is allowed than there is, and that much.
    Tight {
        sample: Sample,
        messages: Option<i8>,
        bytes: Option<i8>,
        position_known: bool,
    },
    /// What a forwarder writes.
    Settle {
        fates: Vec<(Pick, Outcome)>,
        position: Option<Pick>,
        synced: bool,
        purge: bool,
    },
    /// The same for every row up to that one which is still to be sent.
    SendUpTo {
        upto: Pick,
        position: bool,
        purge: bool,
    },
    Retry(Pick),
    RetryAll,
    Discard(Pick),
    DiscardAll,
    SetStatus(Pick, Status),
    /// Takes it out of its lane by hand.
    Release(Pick),
    /// Takes its attempts away by hand.
    Uncount(Pick),
    Delete(Pick),
    DeleteAll,
    Change(Vec<(Pick, Part)>, Change),
    /// Of what was sent that many hours ago, or before.
    Purge {
        hours: u8,
    },
    /// The wall clock jumps by so many hours; meanwhile the device runs for so many.
    Time {
        jump: i8,
        hours: u8,
    },
    /// The device's uptime begins anew.
    Reboot {
        known: bool,
    },
    Reopen,
    /// The process is killed in the middle of a transaction that had written these.
    Kill(Vec<Sample>),
    /// Another program opens the database, and brings it up to its version.
    OpenAgain,
    /// Whether the application's commits are synced from now on.
    Sync(bool),
}

/// One of the rows that stand: a share of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick(u16);

impl Pick {
    pub const LAST: Pick = Pick(u16::MAX);

    pub fn of(self, rows: usize) -> usize {
        usize::from(self.0) * rows / (usize::from(u16::MAX) + 1)
    }

    /// One of these ids, ends included.
    pub fn between(self, from: i64, to: i64) -> i64 {
        from + (to - from).max(0) * i64::from(self.0) / i64::from(u16::MAX)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Commit,
    RollBack,
    /// Rolled back to a savepoint before the last of them, and committed.
    HalfWay,
}

/// A message, but for what makes it different from all others.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub topic: u8,
    pub key: Option<u8>,
    pub size: usize,
    pub is_text: bool,
    pub header: bool,
    pub content_type: bool,
    pub response_topic: bool,
    pub correlation_data: bool,
    pub expires: bool,
    pub qos: u8,
    pub retain: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    None,
    Over,
    Later,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Sent,
    Failed,
    Waiting { wait: Duration, lane: Option<Behind> },
    Held(Behind),
}

/// What a row waits behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behind {
    /// If it has one, else its topic.
    Key,
    Topic,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Topic,
    Key,
    Headers,
    Payload,
    QoS,
    Retain,
    ContentType,
    ResponseTopic,
    CorrelationData,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// By somebody who wants it otherwise.
    Edit,
    /// By a card: the checksum stays.
    Damage,
}

pub(super) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let purged = prop_oneof![2 => Just(Vec::new()), 1 => many_are_sent()];
    (purged, vec(action(), 1..36)).prop_map(|(first, then)| [first, then].concat())
}

/// Enough of them to be purged in bites, and some that stay among them.
fn many_are_sent() -> impl Strategy<Value = Vec<Action>> {
    (120_u8..250, vec((pick(), outcome()), 0..12), 0_u8..3).prop_map(|(count, fates, hours)| {
        vec![
            Action::Many(count),
            Action::Settle { fates, position: None, synced: false, purge: true },
            Action::SendUpTo { upto: Pick::LAST, position: true, purge: true },
            Action::Time { jump: 0, hours },
        ]
    })
}

fn action() -> impl Strategy<Value = Action> {
    let end = prop_oneof![6 => Just(End::Commit), 1 => Just(End::RollBack), 1 => Just(End::HalfWay)];
    let status = prop_oneof![Just(Status::Pending), Just(Status::Sent), Just(Status::Failed)];
    let expiry = prop_oneof![2 => Just(Expiry::None), 1 => Just(Expiry::Over), 1 => Just(Expiry::Later)];
    let part = prop_oneof![
        Just(Part::Topic),
        Just(Part::Key),
        Just(Part::Headers),
        Just(Part::Payload),
        Just(Part::QoS),
        Just(Part::Retain),
        Just(Part::ContentType),
        Just(Part::ResponseTopic),
        Just(Part::CorrelationData),
    ];
    let change = prop_oneof![Just(Change::Edit), Just(Change::Damage)];
    let more = || option::of(-2_i8..4);
    prop_oneof![
        12 => (vec(sample(), 1..8), end).prop_map(|(samples, end)| Action::Enqueue(samples, end)),
        3 => (100_u8..250).prop_map(Action::Many),
        4 => (sample(), expiry).prop_map(|(sample, expiry)| Action::PlainSql(sample, expiry)),
        4 => (sample(), more(), more(), any::<bool>()).prop_map(|(sample, messages, bytes, position_known)| {
            Action::Tight { sample, messages, bytes, position_known }
        }),
        16 => (vec((pick(), outcome()), 0..12), option::of(pick()), any::<bool>(), any::<bool>()).prop_map(
            |(fates, position, synced, purge)| Action::Settle { fates, position, synced, purge }
        ),
        6 => (pick(), any::<bool>(), any::<bool>())
            .prop_map(|(upto, position, purge)| Action::SendUpTo { upto, position, purge }),
        3 => pick().prop_map(Action::Retry),
        1 => Just(Action::RetryAll),
        3 => pick().prop_map(Action::Discard),
        1 => Just(Action::DiscardAll),
        4 => (pick(), status).prop_map(|(pick, status)| Action::SetStatus(pick, status)),
        2 => pick().prop_map(Action::Release),
        1 => pick().prop_map(Action::Uncount),
        3 => pick().prop_map(Action::Delete),
        1 => Just(Action::DeleteAll),
        5 => (vec((pick(), part), 1..8), change).prop_map(|(parts, how)| Action::Change(parts, how)),
        2 => (0_u8..5).prop_map(|hours| Action::Purge { hours }),
        5 => (-3_i8..6, 0_u8..4).prop_map(|(jump, hours)| Action::Time { jump, hours }),
        1 => any::<bool>().prop_map(|known| Action::Reboot { known }),
        2 => Just(Action::Reopen),
        2 => vec(sample(), 0..8).prop_map(Action::Kill),
        1 => Just(Action::OpenAgain),
        1 => any::<bool>().prop_map(Action::Sync),
    ]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![5 => any::<u16>().prop_map(Pick), 1 => Just(Pick::LAST)]
}

fn sample() -> impl Strategy<Value = Sample> {
    let size = prop_oneof![8 => 0..40_usize, 3 => 100..400_usize, 2 => 5_000..13_000_usize, 1 => 20_000..20_100_usize];
    let rich = || prop_oneof![2 => Just(false), 1 => Just(true)];
    (0..3_u8, option::of(0..3_u8), size, (any::<bool>(), rich(), rich()), (rich(), rich(), rich()), 0..3_u8, rich())
        .prop_map(
            |(
                topic,
                key,
                size,
                (is_text, header, content_type),
                (response_topic, correlation_data, expires),
                qos,
                retain,
            )| {
                Sample {
                    topic,
                    key,
                    size,
                    is_text,
                    header,
                    content_type,
                    response_topic,
                    correlation_data,
                    expires,
                    qos,
                    retain,
                }
            },
        )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let behind = || prop_oneof![2 => Just(Behind::Key), 1 => Just(Behind::Topic)];
    prop_oneof![
        5 => Just(Outcome::Sent),
        3 => Just(Outcome::Failed),
        3 => (0..5_000_u64, option::of(behind()))
            .prop_map(|(ms, lane)| Outcome::Waiting { wait: Duration::from_millis(ms), lane }),
        3 => behind().prop_map(Outcome::Held),
    ]
}
