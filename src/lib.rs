//! A transactional outbox for programs on edge devices: messages are written **in the same SQLite transaction as the
//! application's own data**, and a background thread forwards them to an MQTT broker. What was committed is sent until
//! the broker has acknowledged it, through cut links, restarts and power cuts; what was rolled back is never sent.
//!
//! - Atomic with your data: the transaction is yours, a [`rusqlite`] one, and the outbox is a table beside your own.
//! - At least once, in commit order for each key.
//! - Offline is free: an outage spends no message's attempts and writes nothing to the disk, for a minute or a month.
//! - Bounded: a backlog of a million messages takes no more memory than one of ten.
//! - Sparing with flash cards: no index on the hot path, acknowledgements written in batches.
//! - Synchronous: threads, no async runtime in the API, no daemon, no second database, no `unsafe` here.
//!
//! It is not:
//!
//! - exactly once: a cut or a crash can repeat messages. Each carries an [id](MessageId) to know a repetition by;
//! - a broker, or a client to subscribe with: it sends;
//! - a job queue: nobody claims messages but the one forwarder, and there are no schedules;
//! - for network file systems: SQLite's WAL mode needs shared memory between those who use the file.
//!
//! # A whole program
//!
//! ```
//! use std::time::Duration;
//!
//! use edge_outbox::broker::InProcess;
//! use edge_outbox::{Error, Message, Outbox};
//!
//! #[derive(serde::Serialize)]
//! struct Reading {
//!     celsius: f64,
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // A broker within this process; on a device: Mqtt::from_url("mqtt://broker.example:1883")?
//!     let broker = InProcess::new();
//!     let inbox = broker.subscribe("weather/#")?;
//!
//!     # let folder = tempfile::tempdir()?;
//!     # let database = folder.path().join("station.db");
//!     # #[cfg(any())]
//!     let database = "station.db";
//!     let outbox = Outbox::open(database, broker)?;
//!
//!     let reading = Reading { celsius: 21.5 };
//!     outbox.transaction(|tx| -> Result<(), Error> {
//!         tx.execute("CREATE TABLE IF NOT EXISTS reading (celsius REAL NOT NULL)", [])?;
//!         tx.execute("INSERT INTO reading (celsius) VALUES (?1)", [reading.celsius])?;
//!         outbox.enqueue(tx, &Message::json("weather/roof", &reading)?.with_key("roof"))?;
//!         Ok(()) // an error here, or a panic, rolls both back
//!     })?;
//!
//!     let arrival = inbox.recv_timeout(Duration::from_secs(5))?;
//!     assert_eq!(arrival.message.topic, "weather/roof");
//!     assert_eq!(arrival.message.payload.as_bytes(), br#"{"celsius":21.5}"#);
//!     arrival.acknowledge();
//!
//!     outbox.shutdown(Duration::from_secs(5))?; // what was not sent stays in the table
//!     Ok(())
//! }
//! ```
//!
//! `examples/station` shows the same on a link that breaks, and audits itself; `examples/own_adapter.rs` is a
//! [`Broker`](broker::Broker) of one's own. A connection of your own is as good as the outbox's: begin the transaction
//! as [IMMEDIATE](rusqlite::TransactionBehavior::Immediate), [`enqueue`](Outbox::enqueue) in it, and
//! [`commit`](Outbox::commit) it. From other languages: `INSERT INTO outbox (topic, payload) VALUES (…)`.
//!
//! # What is promised
//!
//! 1. *Atomic.* A message and the data it tells of commit together, or neither does.
//! 2. *At least once.* A committed message is sent until the broker has acknowledged that message, or it is parked as
//!    FAILED with its reason: [listed](Outbox::failed), [counted](Stats::failed), and
//!    [sent again](Outbox::retry) when somebody asks. At [`QoS::AtMostOnce`] there are no acknowledgements: a cut may
//!    lose the message.
//! 3. *In order.* Messages leave in commit order. For one [key](Message::key), first sendings are in commit order
//!    through reconnects and restarts, and a message that is refused for now is not overtaken by those that had not
//!    yet been sent. [`Ordering`] says what may overtake what.
//! 4. *Durable before sent.* What a broker has seen is still in the table after a power cut, as far as the disk tells
//!    the truth about syncing.
//! 5. *Offline is free.* Nothing is charged to any message, and nothing is written.
//! 6. *Bounded.* Every queue, window and batch has a limit; [`Settings`] holds those that can be chosen.
//! 7. *Clock-proof.* Order, waits and wake-up never look at the wall clock; it decides only when SENT rows are purged
//!    (and not alone: see [`Settings::retention`]), when a message that was [given an expiry](Message::with_expiry) is over (it is parked then), and, by TLS, whether
//!    a broker's certificate is valid.
//!
//! # How a message travels
//!
//! ```text
//! application ── enqueue(&tx, &message) ──► table `outbox`             PENDING, with your commit
//!                                               │ wake
//!                                       forwarder's thread ── Delivery ──► broker
//!                                               │ ◄──────── acknowledged ────┘
//!                                         table `outbox`               SENT, or FAILED with the reason
//! ```
//!
//! [`Outbox::enqueue`] is one INSERT, and checks everything that can be checked, so that your transaction fails and
//! not the forwarder an hour later. After the commit the forwarder is woken: at once by [`Outbox::transaction`],
//! [`Outbox::commit`] and [`Outbox::wake`], within [`Settings::poll_interval`] for commits of others. It hands out
//! messages ahead of their acknowledgements, up to [`Settings::window`]; acknowledgements are gathered for
//! [`Settings::settle_after`] and written down together; SENT rows are purged after [`Settings::retention`].
//!
//! When the link breaks, what was in flight is read and sent again, marked as
//! [possibly repeated](broker::Delivery::possible_duplicate). After a crash that holds for at most
//! [`Settings::window`] messages and 516 more, whose acknowledgements were not yet written down; after a power cut for
//! another 1,000, whose settlement was not yet synced.
//!
//! # Threads and processes
//!
//! An [`Outbox`] is `Send`, `Sync` and cheap to clone. Opened with a broker it has one thread that forwards, and one
//! that tells [other processes](Inspector::forwarder) how it stands; adapters have threads of their own. Calls block as
//! SQLite's do, [`Settings::busy_timeout`] at most; none waits for the network but [`flush`](Outbox::flush) and
//! [`shutdown`](Outbox::shutdown), which take a timeout.
//!
//! One forwarder per database: a second one, in this process or in another, is [`Role::Standby`] and takes over.
//! Opened without a broker an outbox only writes. Never carry one through `fork`, and never have two SQLite libraries
//! in one process; the README tells why, and what else to know when adding this to an existing program.
//!
//! [`Inspector`] looks at an outbox from any process, and asks whoever forwards how it stands
//! ([`Inspector::forwarder`]), at a socket beside the database, `-outbox-status`. The thread that answers there sleeps
//! until somebody asks. What we make beside the database (`-outbox-lock`, `-outbox-reserve`, `-outbox-probe`, the
//! socket) has its mode, and its owner if root makes it, as SQLite's own files have.
//!
//! # Errors and status
//!
//! What a call could not do is an [`Error`], whose variants say when they happen and what to do. What goes on in the
//! background is seen by [`Outbox::status`] (the link, closed topics, the disk) and [`Outbox::stats`] (figures); a
//! broken link is a [`LinkState`], not an error. [`Builder::on_failed`] is told of each message that is parked. If the
//! forwarder or an adapter panics, [`Status::failed`] says so, and writing or waiting answers [`Error::Panicked`], so
//! that nobody goes on for weeks with a link that is dead.
//!
//! From another process, to a tool or to monitoring, an [`Inspector`] tells what stands in the table. It changes nothing.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `bundled` | yes | compiles SQLite in; without it the system's is linked, which should be 3.51.3 or newer |
//! | `mqtt` | yes | the MQTT adapter, 5 and 3.1.1, with rumqttc's codecs |
//! | `tls` | yes | TLS for it, by rustls with *ring*; off for the smallest build |
//!
//! Without `mqtt` remain [`broker::InProcess`] and adapters of your own. [`rusqlite`], [`r2d2`] and [`r2d2_sqlite`] are
//! re-exported, for your connections must be of the same version.
//!
//! # Log
//!
//! By the [`log`](https://docs.rs/log) crate; all targets begin with `edge_outbox`, but for errors of the pool (`r2d2`). Topics and ids are shown, payloads
//! and credentials never.
//!
//! | level | what |
//! |---|---|
//! | error | the forwarder panicked: messages are kept and not sent; the database's files were deleted or moved |
//! | warn | the link broke, the broker closed a topic, a message was parked, the disk refuses or is full, the database is damaged: said when it begins, not at each new try |
//! | info | sessions that came up, who forwards, what is well again |
//! | debug | each try to connect, and maintenance of the table |
//!
//! # Minimum supported Rust version
//!
//! 1.85. Raising it is a minor version.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)
)]

pub mod broker;
mod disk;
mod error;
mod forwarder;
mod full;
/// For the fuzz targets; in no build but theirs.
#[cfg(all(fuzzing, feature = "tls"))]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing), feature = "tls"))]
mod fuzzing;
mod gate;
pub mod inspector;
mod live;
mod message;
mod outbox;
mod settings;
mod shell;
mod status;
mod store;
mod topic_filter;

pub use error::Error;
pub use full::{Full, Limit};
pub use inspector::Inspector;
pub use message::{
    DUPLICATE_HEADER, ID_HEADER, MAX_EXPIRY, MAX_HEADER, MAX_HEADERS, MAX_KEY, MAX_TOPIC, Message, MessageId, Payload,
    QoS, RESERVED_HEADERS,
};
pub use outbox::{Builder, InTransaction, Outbox};
pub use settings::{Backoff, ClosedTopics, Ordering, Settings};
pub use status::{ClosedTopic, FailedMessage, LinkState, MessageState, Role, Stats, Status, Storage, StoredMessage};
pub use {r2d2, r2d2_sqlite, rusqlite};

/// The README's code, compiled with the documentation's tests.
#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
