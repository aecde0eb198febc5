//! Other processes are told how a forwarder stands whose disk is in trouble.

use edge_outbox::inspector::Forwarder;
use edge_outbox::{Inspector, LinkState, Outbox, Role};

use crate::card::Card;
use crate::device::{Device, SOON, broker, enqueue, next, numbered, quick, take, wait_for_status};

const MB: u64 = 1 << 20;

#[test]
fn a_forwarder_that_hangs_on_a_stalled_disk_still_says_how_it_stands() {
    let Some(card) = Card::ext4(64 * MB) else { return };
    let device = Device::at(card.folder());
    let (broker, everything) = broker();
    let outbox = device.open(broker.clone());
    enqueue(&outbox, numbered("t", 0..5));
    let held: Vec<_> = (0..5).map(|_| next(&everything)).collect();
    wait_for_status(&outbox, "up", |status| status.role == Role::Active && status.link == LinkState::Up);
    let inspector = Inspector::open(device.database(), SOON).unwrap();
    let frozen = card.freeze();
    held.into_iter().for_each(|arrival| arrival.acknowledge());
    assert!(broker.wait_until(SOON, |counts| counts.acknowledged == 5));
    for _ in 0..20 {
        match inspector.forwarder() {
            Forwarder::Active(live) => assert_eq!((live.process, live.sent), (std::process::id(), 0)),
            other => panic!("{other:?}"),
        }
    }
    drop(frozen);
    outbox.flush(SOON).unwrap();
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_keeps_nobody_from_forwarding_or_asking() {
    for card in [Card::ext4(64 * MB), Card::tmpfs(64 * MB)] {
        let Some(card) = card else { continue };
        let device = Device::at(card.folder());
        let writer = device.open_writer();
        enqueue(&writer, numbered("t", 0..5));
        drop(writer);
        let _others = card.fill();
        let (broker, everything) = broker();
        let outbox = Outbox::builder(device.database()).settings(quick()).broker(broker).open().unwrap();
        (0..5).for_each(|number| assert_eq!(take(&everything), number.to_string()));
        wait_for_status(&outbox, "up", |status| status.role == Role::Active && status.link == LinkState::Up);
        let told = Inspector::open(device.database(), SOON).unwrap().forwarder();
        // Where there was no place for a socket either, that is said.
        match told {
            Forwarder::Active(live) => assert_eq!(live.process, std::process::id()),
            Forwarder::Silent(why) => assert!(why.contains("could not make one"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
