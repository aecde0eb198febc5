//! What goes wrong in a run.

use std::thread;
use std::time::Duration;

use edge_outbox::broker::Protocol;

use crate::chance::Chance;
use crate::mosquitto::Mosquitto;
use crate::plan::{KEYS, topic};
use crate::proxy::{Proxy, Traffic};
use crate::within;

/// How long a fault waits for its cue before it goes on without it.
const CUE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends; so do the next ones, as soon as they stand.
    Kill { times: usize },
    /// The connection ends, and for so long there is no other.
    Cut(Duration),
    /// Nothing is carried for so long, and nobody is told.
    Silence(Duration),
    /// The connection never carries anything again, and nobody is told.
    Strand,
    /// So many acknowledgements get lost, or those that come in two seconds; then the connection ends, or it does not.
    SwallowAcks { count: usize, then_kill: bool },
    /// No acknowledgement comes for so long; then the connection ends with all of them.
    WithholdAcks(Duration),
    /// So many messages get lost, or those that come in two seconds; and then the connection.
    LosePublishes(usize),
    /// So many messages of a key are refused for this reason.
    Refuse { key: usize, reason: u8, times: usize },
    /// The broker is killed, and comes back with what is on its disk.
    KillBroker,
    /// The broker stands still for so long, and its kernel goes on taking what we send.
    StopBroker(Duration),
}

impl Fault {
    /// One of each kind that the protocol has, in any order.
    pub fn deck(chance: &mut Chance, protocol: Protocol) -> Vec<Fault> {
        let mut deck = vec![
            Fault::Kill { times: 1 },
            Fault::Kill { times: chance.of(2..=4) },
            Fault::Cut(chance.ms(10..=300)),
            // from a hiccup to beyond what our side bears
            Fault::Silence(chance.ms(10..=2_000)),
            Fault::Strand,
            Fault::SwallowAcks { count: chance.of(1..=30), then_kill: false },
            Fault::SwallowAcks { count: chance.of(1..=30), then_kill: true },
            Fault::WithholdAcks(chance.ms(5..=300)),
            Fault::LosePublishes(chance.of(1..=20)),
            Fault::KillBroker,
            Fault::StopBroker(chance.ms(10..=500)),
        ];
        if protocol == Protocol::V5 {
            // none of these reasons parks a message: it is tried again, or its topic is
            for reason in [0x80, 0x83, 0x87, 0x97] {
                deck.push(Fault::Refuse { key: chance.of(0..=KEYS - 1), reason, times: chance.of(1..=10) });
            }
        }
        chance.shuffle(&mut deck);
        deck
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Kill { .. } => "kill",
            Fault::Cut(_) => "cut",
            Fault::Silence(_) => "silence",
            Fault::Strand => "strand",
            Fault::SwallowAcks { .. } => "swallow",
            Fault::WithholdAcks(_) => "withhold",
            Fault::LosePublishes(_) => "lose",
            Fault::Refuse { .. } => "refuse",
            Fault::KillBroker => "broker kill",
            Fault::StopBroker(_) => "broker stop",
        }
    }

    /// Brings it about, and looks at its height where it takes a while.
    pub fn happen(&self, proxy: &Proxy, broker: &mut Mosquitto, mut look: impl FnMut()) {
        let mut last = |time| {
            thread::sleep(time);
            look();
        };
        match *self {
            Fault::Kill { times } => {
                for time in 0..times {
                    let connection = proxy.look(|traffic| traffic.connections);
                    proxy.hiccup();
                    let next = |traffic: &Traffic| traffic.published.last().is_some_and(|p| p.connection > connection);
                    if time + 1 < times {
                        within(CUE, || proxy.look(next));
                    }
                }
            }
            Fault::Cut(time) => {
                proxy.cut();
                last(time);
                proxy.heal();
            }
            Fault::Silence(time) => {
                proxy.fall_silent();
                last(time);
                proxy.heal();
            }
            Fault::Strand => proxy.strand(),
            Fault::SwallowAcks { count, then_kill } => {
                proxy.lose_acks(count);
                within(CUE, || proxy.losses_left() == 0);
                // those of a few that were in flight: the others may be a minute away
                proxy.lose_acks(0);
                if then_kill {
                    proxy.hiccup();
                }
            }
            Fault::WithholdAcks(time) => {
                proxy.hold_acks();
                last(time);
                proxy.hiccup();
                proxy.pass_acks();
            }
            Fault::LosePublishes(count) => {
                proxy.lose_publishes(count);
                if !within(CUE, || proxy.losses_left() == 0) {
                    proxy.lose_publishes(0);
                    proxy.hiccup();
                }
            }
            Fault::Refuse { key, reason, times } => {
                proxy.refuse(&topic(key), reason, times);
            }
            // mosquitto acknowledges before it writes down: so no acknowledgement gets through from before it has saved
            // what it acknowledged, to when it is dead
            Fault::KillBroker => {
                proxy.hold_acks();
                broker.save();
                broker.kill();
                broker.restart();
                proxy.pass_acks();
            }
            Fault::StopBroker(time) => {
                broker.signal("STOP");
                last(time);
                broker.signal("CONT");
            }
        }
    }
}
