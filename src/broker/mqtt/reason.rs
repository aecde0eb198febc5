//! What the broker's answers to a message mean for it, by
//! [reason code](https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Reason_Code).

use super::decode::{Answer, Step};
use crate::broker::{Refusal, Verdict};

/// What follows from PUBACK, PUBREC or PUBCOMP.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Accepted,
    Refused(Refusal),
    /// The packet id is in use, says the broker: it remembers what we do not, and only a fresh session helps.
    InUse,
}

pub(super) fn of(answer: &Answer) -> Meaning {
    let (verdict, meaning) = match answer.code {
        // codes below 0x80 say that it worked; 0x10 is "no matching subscribers"
        0..0x80 => return Meaning::Accepted,
        0x91 => return Meaning::InUse,
        0x80 => (Verdict::Later, "unspecified error (0x80)"),
        0x83 => (Verdict::Later, "the broker's own error (0x83)"),
        0x87 => (Verdict::Topic, "not authorised (0x87)"),
        0x90 => (Verdict::Never, "topic name invalid (0x90)"),
        // PUBREC had said that it has the message, and now it knows nothing of it: sent again, as often as is allowed
        0x92 if answer.step == Step::Pubcomp => {
            (Verdict::Later, "packet identifier not found (0x92), after the broker had received it")
        }
        // not for MQTT 5 to say here, but mosquitto does, for its `message_size_limit`
        0x95 => (Verdict::Never, "packet too large (0x95)"),
        0x97 => (Verdict::Topic, "quota exceeded (0x97)"),
        0x99 => (Verdict::Never, "payload format invalid (0x99)"),
        // what nobody can know the meaning of may pass, and is parked if it does not
        code => return refused(Verdict::Later, &format!("reason code {code:#04x}"), answer),
    };
    refused(verdict, meaning, answer)
}

fn refused(verdict: Verdict, meaning: &str, answer: &Answer) -> Meaning {
    let reason = answer.said.as_ref().map_or_else(|| meaning.to_owned(), |said| format!("{meaning}: {said}"));
    Meaning::Refused(Refusal::new(verdict, reason))
}
