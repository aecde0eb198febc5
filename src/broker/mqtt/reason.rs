//! What the broker's answers to a message mean for it.

use rumqttc::v5::mqttbytes::v5::{
    PubAck, PubAckProperties, PubAckReason, PubComp, PubCompReason, PubRec, PubRecReason,
};

use crate::broker::{Refusal, Verdict};

/// What PUBACK, PUBREC or PUBCOMP said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused(Refusal),
    /// The packet id is in use, says the broker: it remembers what we do not, and only a fresh session helps.
    InUse,
}

pub(super) fn puback(ack: &PubAck) -> Answer {
    let said = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Answer::Accepted,
        PubAckReason::UnspecifiedError => refused(Verdict::Later, "unspecified error (0x80)", said),
        PubAckReason::ImplementationSpecificError => refused(Verdict::Later, "the broker's own error (0x83)", said),
        PubAckReason::NotAuthorized => refused(Verdict::Topic, "not authorised (0x87)", said),
        PubAckReason::TopicNameInvalid => refused(Verdict::Never, "topic name invalid (0x90)", said),
        PubAckReason::PacketIdentifierInUse => Answer::InUse,
        PubAckReason::QuotaExceeded => refused(Verdict::Topic, "quota exceeded (0x97)", said),
        PubAckReason::PayloadFormatInvalid => refused(Verdict::Never, "payload format invalid (0x99)", said),
    }
}

pub(super) fn pubrec(rec: PubRec) -> Answer {
    let reason = match rec.reason {
        PubRecReason::Success => PubAckReason::Success,
        PubRecReason::NoMatchingSubscribers => PubAckReason::NoMatchingSubscribers,
        PubRecReason::UnspecifiedError => PubAckReason::UnspecifiedError,
        PubRecReason::ImplementationSpecificError => PubAckReason::ImplementationSpecificError,
        PubRecReason::NotAuthorized => PubAckReason::NotAuthorized,
        PubRecReason::TopicNameInvalid => PubAckReason::TopicNameInvalid,
        PubRecReason::PacketIdentifierInUse => PubAckReason::PacketIdentifierInUse,
        PubRecReason::QuotaExceeded => PubAckReason::QuotaExceeded,
        PubRecReason::PayloadFormatInvalid => PubAckReason::PayloadFormatInvalid,
    };
    let properties = rec.properties.map(|properties| PubAckProperties {
        reason_string: properties.reason_string,
        user_properties: properties.user_properties,
    });
    puback(&PubAck { pkid: rec.pkid, reason, properties })
}

pub(super) fn pubcomp(comp: &PubComp) -> Answer {
    match comp.reason {
        PubCompReason::Success => Answer::Accepted,
        // PUBREC had said that it has the message, and now it knows nothing of it: sent again, as often as is allowed.
        PubCompReason::PacketIdentifierNotFound => {
            refused(Verdict::Later, "packet identifier not found (0x92), after the broker had received it", None)
        }
    }
}

/// PUBACK and PUBREC with 0x95, which MQTT 5 does not know there but mosquitto sends for its `message_size_limit`.
pub(super) fn too_large() -> Refusal {
    Refusal::new(Verdict::Never, "packet too large (0x95)")
}

fn refused(verdict: Verdict, meaning: &str, said: Option<&str>) -> Answer {
    let reason = said.map_or_else(|| meaning.to_owned(), |said| format!("{meaning}: {said}"));
    Answer::Refused(Refusal::new(verdict, reason))
}
