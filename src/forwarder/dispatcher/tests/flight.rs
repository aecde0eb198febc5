//! The window, its bytes and its deadlines.

use std::time::Duration;

use super::row;
use crate::forwarder::dispatcher::flight::{Flight, Item};
use crate::store::Row;

const ACK_TIMEOUT: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::from_secs(100);

fn item(id: i64, size: usize) -> Item {
    Item::new(Row { size, ..row(id, None, "t") }, true)
}

fn in_flight(flight: &Flight) -> Vec<i64> {
    flight.items().map(|item| item.row.id).collect()
}

#[test]
fn the_window_begins_at_the_oldest_delivery_that_is_not_settled() {
    let mut flight = Flight::default();
    let tickets: Vec<_> = (1..=3).map(|id| flight.push(NOW, item(id, 1), ACK_TIMEOUT)).collect();
    assert!(!flight.has_room(3) && flight.has_room(4));
    assert!(flight.settle(tickets[1]).is_some() && flight.settle(tickets[2]).is_some());
    assert_eq!((flight.open(), in_flight(&flight)), (1, vec![1]));
    assert!(!flight.has_room(3), "what was sent behind the oldest stands in its way until that one is settled");
    assert!(flight.settle(tickets[0]).is_some());
    assert!(flight.has_room(1));
    assert_eq!((flight.open(), flight.oldest(), flight.deadline()), (0, None, None));
}

#[test]
fn a_ticket_names_one_sending_and_settles_it_once() {
    let mut flight = Flight::default();
    let first = flight.push(NOW, item(1, 1), ACK_TIMEOUT);
    let second = flight.push(NOW + ACK_TIMEOUT, item(2, 1), ACK_TIMEOUT);
    assert_eq!(flight.settle(first).map(|item| item.row.id), Some(1));
    assert_eq!((flight.settle(first), flight.sent(first)), (None, None));
    assert_eq!(flight.sent(second), Some(NOW + ACK_TIMEOUT));
    assert_eq!(flight.settle(second).map(|item| item.row.id), Some(2));
}

#[test]
fn a_ticket_of_an_earlier_session_settles_nothing_of_this_one() {
    let mut flight = Flight::default();
    let mut earlier = Vec::new();
    for _ in 0..3 {
        let tickets = [1, 2].map(|id| flight.push(NOW, item(id, 1), ACK_TIMEOUT));
        assert!(tickets.iter().all(|ticket| !earlier.contains(ticket)), "{tickets:?} after {earlier:?}");
        assert!(earlier.iter().all(|ticket| flight.settle(*ticket).is_none()));
        assert!(flight.settle(tickets[1]).is_some());
        assert_eq!(flight.end().map(|item| item.row.id).collect::<Vec<_>>(), [1], "what was not settled by then");
        assert_eq!((flight.open(), flight.oldest()), (0, None));
        earlier.extend(tickets);
    }
}

#[test]
fn a_row_is_taken_out_by_whichever_sending_of_it_is_unsettled() {
    let mut flight = Flight::default();
    flight.push(NOW, item(9, 1), ACK_TIMEOUT);
    let earlier = flight.push(NOW, item(1, 1), ACK_TIMEOUT);
    flight.settle(earlier);
    let later = flight.push(NOW, item(1, 1), ACK_TIMEOUT);
    assert!(flight.contains(1) && flight.contains(9) && !flight.contains(7));
    assert_eq!(flight.remove(7), None);
    assert_eq!(flight.remove(1).map(|item| item.row.id), Some(1));
    assert!(!flight.contains(1));
    assert_eq!((flight.settle(later), flight.remove(1)), (None, None));
    assert_eq!(in_flight(&flight), [9]);
}

#[test]
fn bytes_in_flight_keep_to_their_limit_and_what_is_larger_goes_alone() {
    let mut flight = Flight::default();
    assert!(flight.fits(500, 100), "nothing else is in flight");
    let first = flight.push(NOW, item(1, 60), ACK_TIMEOUT);
    assert!(flight.fits(40, 100) && !flight.fits(41, 100));
    let second = flight.push(NOW, item(2, 40), ACK_TIMEOUT);
    assert!(!flight.fits(1, 100));
    flight.settle(second);
    assert!(flight.fits(40, 100) && !flight.fits(41, 100));
    flight.settle(first);
    assert!(flight.fits(500, 100));
}

#[test]
fn one_that_wants_no_company_has_none_while_it_is_the_one_unsettled() {
    let mut flight = Flight::default();
    assert!(!flight.is_alone());
    let other = flight.push(NOW, item(1, 1), ACK_TIMEOUT);
    assert!(!flight.is_alone());
    let alone = flight.push(NOW, Item { alone: true, ..item(2, 1) }, ACK_TIMEOUT);
    assert!(!flight.is_alone(), "it was sent in company");
    flight.settle(other);
    assert!(flight.is_alone());
    flight.settle(alone);
    assert!(!flight.is_alone());
}

/// At 1024 bytes per second, the slowest link that is promised to work.
#[test]
fn an_answer_is_awaited_until_a_slow_link_has_carried_all_that_is_ahead_of_it() {
    let mut flight = Flight::default();
    let first = flight.push(NOW, item(1, 2048), ACK_TIMEOUT);
    flight.push(NOW + Duration::from_secs(1), item(2, 1024), ACK_TIMEOUT);
    assert_eq!(flight.deadline(), Some(NOW + ACK_TIMEOUT + Duration::from_secs(2)));
    assert_eq!(flight.oldest(), Some((first.sending, 1, NOW)));
    flight.settle(first);
    // Its own second, and the two of what was ahead of it.
    assert_eq!(flight.deadline(), Some(NOW + Duration::from_secs(1) + ACK_TIMEOUT + Duration::from_secs(3)));
    assert_eq!(flight.oldest().map(|(_, row, sent)| (row, sent)), Some((2, NOW + Duration::from_secs(1))));
    // And what is settled is not ahead of anything.
    flight.end().for_each(drop);
    flight.push(NOW, item(3, 1024), ACK_TIMEOUT);
    assert_eq!(flight.deadline(), Some(NOW + ACK_TIMEOUT + Duration::from_secs(1)));
}
