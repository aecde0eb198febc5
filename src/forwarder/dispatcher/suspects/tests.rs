//! Sessions that end on one message or another, and what is concluded from them.

use std::sync::Arc;

use super::*;
use crate::store::Row;

fn item(id: i64) -> Item {
    let wait = Duration::ZERO;
    let row = Row { id, topic: Arc::from("t"), key: None, size: 1, attempts: 0, wait, synced: true, lane_held: false };
    Item::new(row, true)
}

/// A session comes up at `at`, lives for `life` and ends with `oldest` in flight since it came up.
fn session(suspects: &mut Suspects, at: Duration, life: Duration, oldest: Option<i64>) -> Judgement {
    suspects.session_up(at);
    let judgement = suspects.session_ended(at + life, End::Broken, oldest.map(|id| (id, at)), 4, |_| false);
    if let Judgement::Suspect(id) = judgement {
        suspects.set_aside(item(id));
    }
    judgement
}

const MOMENT: Duration = Duration::from_millis(5);

#[test]
fn two_messages_that_brokers_hang_up_on_are_both_set_aside() {
    let mut suspects = Suspects::default();
    for id in [7, 9] {
        for _ in 1..STRIKES {
            assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(id)), Judgement::Nothing);
        }
        assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(id)), Judgement::Suspect(id));
    }
    assert!(suspects.contains(7) && suspects.contains(9));
}

/// Two suspects that end every session that they are sent in.
fn two_deadly_suspects() -> Suspects {
    let mut suspects = Suspects::default();
    for id in [7, 9] {
        (0..STRIKES).for_each(|_| drop(session(&mut suspects, Duration::ZERO, MOMENT, Some(id))));
    }
    for id in [7, 9].repeat(usize::from(DEATHS_ALONE) * 3) {
        assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(id)), Judgement::Nothing);
    }
    suspects
}

#[test]
fn messages_that_end_every_session_are_not_to_blame_while_the_broker_answers_no_other() {
    let mut suspects = two_deadly_suspects();
    assert!(suspects.want_witness());
    suspects.answered(MOMENT, 8);
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(7)), Judgement::Guilty(7));
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(9)), Judgement::Guilty(9));
}

#[test]
fn a_suspect_that_is_answered_after_all_takes_back_the_deaths_of_the_others() {
    let mut suspects = two_deadly_suspects();
    suspects.answered(MOMENT, 7);
    suspects.forget(MOMENT, 7);
    for _ in 1..DEATHS_ALONE {
        assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(9)), Judgement::Nothing);
    }
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(9)), Judgement::Guilty(9));
}

#[test]
fn what_only_lacks_a_witness_is_tried_less_and_less_often() {
    let suspect = |deaths| {
        Suspect { item: item(7), deaths, exposure: MOMENT, witnessed: false, put_back: false, deaf: false }
            .control(true)
    };
    assert_eq!([4, 5, 6].map(suspect), [4, 8, 16].map(Duration::from_secs));
    assert_eq!(suspect(u8::MAX), LONGEST_WAIT);
}

#[test]
fn answers_since_it_was_set_aside_are_witnesses_too() {
    let mut suspects = Suspects::default();
    for id in [7, 9] {
        (0..STRIKES).for_each(|_| drop(session(&mut suspects, Duration::ZERO, MOMENT, Some(id))));
    }
    suspects.answered(MOMENT, 8);
    let verdicts: Vec<_> = [7, 9]
        .repeat(usize::from(DEATHS_ALONE))
        .into_iter()
        .map(|id| session(&mut suspects, Duration::ZERO, MOMENT, Some(id)))
        .filter(|judgement| *judgement != Judgement::Nothing)
        .collect();
    assert_eq!(verdicts, [Judgement::Guilty(7), Judgement::Guilty(9)]);
}

/// A broker that lets everybody in and hangs up on every message: one message after the other is the only one.
#[test]
fn while_the_broker_answers_nothing_one_message_is_parked_and_more_only_after_hours() {
    let mut suspects = Suspects::default();
    let mut now = Duration::ZERO;
    let mut parked = Vec::new();
    for id in 1..=4 {
        (0..STRIKES).for_each(|_| drop(session(&mut suspects, now, MOMENT, Some(id))));
        while session(&mut suspects, now, MOMENT, Some(id)) != Judgement::Guilty(id) {
            now += Duration::from_secs(60);
        }
        suspects.forget(now, id);
        parked.push(now.as_secs() / 3600);
    }
    assert_eq!(parked, [0, 1, 5, 29]);
    suspects.answered(now, 100);
    assert!(suspects.may_do_without_witness(now));
}

#[test]
fn a_suspect_that_others_wait_for_is_judged_without_a_witness() {
    for (others_wait, judgement) in [(true, Judgement::Guilty(7)), (false, Judgement::Nothing)] {
        let mut suspects = two_deadly_suspects();
        suspects.session_up(Duration::ZERO);
        assert_eq!(
            suspects.session_ended(MOMENT, End::Broken, Some((7, Duration::ZERO)), 4, |_| others_wait),
            judgement
        );
    }
}

#[test]
fn a_session_that_ends_too_soon_with_nothing_in_flight_clears_every_suspect() {
    let mut suspects = Suspects::default();
    (0..=STRIKES).for_each(|_| drop(session(&mut suspects, Duration::ZERO, MOMENT, Some(7))));
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, None), Judgement::Cleared(vec![item(7)]));
    assert_eq!(suspects.len(), 0);
}

#[test]
fn sessions_that_end_on_this_message_and_on_that_clear_every_suspect() {
    let mut suspects = Suspects::default();
    (0..STRIKES).for_each(|_| drop(session(&mut suspects, Duration::ZERO, MOMENT, Some(7))));
    // By turns: the suspect alone, and a control that ends on another message each time.
    let turns = (8..20).flat_map(|other| [7, other]);
    let judgements: Vec<_> = turns.map(|id| session(&mut suspects, Duration::ZERO, MOMENT, Some(id))).collect();
    assert!(judgements.contains(&Judgement::Cleared(vec![item(7)])), "{judgements:?}");
}

#[test]
fn a_death_of_the_control_takes_back_the_deaths_before_it() {
    let mut suspects = Suspects::default();
    (0..STRIKES).for_each(|_| drop(session(&mut suspects, Duration::ZERO, MOMENT, Some(7))));
    for _ in 1..DEATHS_ALONE {
        assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(7)), Judgement::Nothing);
    }
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(8)), Judgement::Nothing);
    assert_eq!(session(&mut suspects, Duration::ZERO, MOMENT, Some(7)), Judgement::Nothing);
}

const ACK_TIMEOUT: Duration = Duration::from_secs(20);

/// A session begins now, the message `answered` is answered in it, if any, and then `id` is not, until it is given up.
fn mute(suspects: &mut Suspects, now: &mut Duration, answered: Option<i64>, id: i64) -> Judgement {
    suspects.session_begun(*now);
    if let Some(answered) = answered {
        suspects.answered(*now, answered);
    }
    let sent = *now;
    *now += ACK_TIMEOUT;
    let judgement = suspects.session_ended(*now, End::GivenUp, Some((id, sent)), 4, |_| false);
    if let Judgement::Suspect(id) = judgement {
        suspects.set_aside(item(id));
    }
    judgement
}

#[test]
fn what_came_under_suspicion_while_the_broker_was_mute_is_sent_with_its_first_answer() {
    let (mut suspects, mut now) = (Suspects::default(), Duration::ZERO);
    (0..STRIKES + DEATHS_ALONE).for_each(|_| drop(mute(&mut suspects, &mut now, None, 7)));
    assert!(suspects.contains(7));
    suspects.session_begun(now);
    assert_eq!(suspects.trial(now), None);
    suspects.answered(now, 8);
    assert_eq!(suspects.trial(now), Some(7));
}

#[test]
fn what_the_broker_does_not_answer_while_it_answers_others_is_parked_for_that_alone() {
    let (mut suspects, mut now) = (Suspects::default(), Duration::ZERO);
    (0..STRIKES + DEATHS_ALONE - 1).for_each(|_| drop(mute(&mut suspects, &mut now, None, 7)));
    for _ in 1..DEATHS_ALONE {
        assert_eq!(mute(&mut suspects, &mut now, Some(8), 7), Judgement::Nothing);
        // And a mute session in between proves nothing.
        assert_eq!(mute(&mut suspects, &mut now, None, 7), Judgement::Nothing);
    }
    assert_eq!(mute(&mut suspects, &mut now, Some(8), 7), Judgement::Guilty(7));
}
