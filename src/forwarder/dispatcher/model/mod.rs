//! Every course that the dispatcher can take in small worlds, by a model checker.
//!
//! A few rows of two keys and of none, committed at any time; a window of two; a table, a line and a broker that do what
//! such things may do, in every order: sessions that cannot be had, break and fall silent, answers that overtake one
//! another, are lost, or come when their session is over, refusals of every kind, receipts that are dropped, writes that
//! fail or say so, the process or the device dying between any two steps. Each kind may happen so many times in a
//! [configuration](configuration), and all that can come of it is explored. What is explored is the dispatcher itself,
//! not a description of it. Time jumps to where the dispatcher waits for it.
//!
//! In every state the promises of `docs/design.md` hold, and from every state everything is settled if nothing more goes
//! wrong.
//!
//! The environment variable `EDGE_OUTBOX_MODEL` says how much is explored: `small` (with every `cargo test`), `large`
//! (`scripts/prove model`), `full` (`scripts/prove model --full`). `EDGE_OUTBOX_CONFIGURATION` takes one configuration
//! of them. What breaks a promise is told event by event, with the command that shows it again.

mod calm;
mod clockless;
mod configuration;
mod events;
mod facts;
mod faults;
mod world;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use calm::Settling;
use configuration::{Configuration, Size, configurations};
use events::Event;
use facts::Promise;
use world::World;

struct Explored {
    configuration: Configuration,
    settling: Settling,
}

impl Explored {
    fn new(configuration: Configuration) -> Self {
        Explored { configuration, settling: Settling::default() }
    }
}

impl Model for Explored {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin(&self.configuration)]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        world.events(&self.configuration, events);
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        world.after(event, &self.configuration)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = Property::<Self>::always;
        let sometimes = Property::<Self>::sometimes;
        vec![
            always("what is SENT was acknowledged", |_, w| w.keeps(Promise::Acknowledged)),
            always("what is FAILED, or charged, was refused", |_, w| w.keeps(Promise::Refused)),
            always("messages of a key are first sent in the order of their commits", |_, w| {
                w.keeps(Promise::CommitOrder)
            }),
            always("in strict order one message of a key is unsettled", |_, w| w.keeps(Promise::Strict)),
            always("the window is anchored at the oldest that is unsettled", |_, w| w.keeps(Promise::Window)),
            always("what is sent is durable", |_, w| w.keeps(Promise::Durable)),
            always("the position passes nothing", |_, w| w.keeps(Promise::Position)),
            always("nothing is sent or settled twice at a time", |_, w| w.keeps(Promise::SettledOnce)),
            always("repetitions are few and marked", |_, w| w.keeps(Promise::Duplicates)),
            always("everything in memory is bounded", |_, w| w.keeps(Promise::Bounded)),
            always("a polite stop leaves nothing untold", |_, w| w.keeps(Promise::Stopped)),
            always("time goes on", |_, w| w.keeps(Promise::Settles)),
            always("if nothing more goes wrong, everything is settled", |model, w| {
                model.settling.leads_there(w, &model.configuration).is_ok()
            }),
            sometimes("everything was committed and settled, and all that may go wrong did", |model, w| {
                w.is_settled() && w.table.newest() == model.configuration.rows.len() as i64 && w.faults.are_spent()
            }),
        ]
    }
}

/// What came of a configuration.
struct Account {
    name: &'static str,
    states: usize,
    depth: usize,
    seconds: f64,
    broken: Option<String>,
}

/// So many states the large worlds have, or something that was to happen does not.
const LARGE: usize = 5_000_000;

/// States in which a shorter course to what is broken is looked for.
const SHORTER: usize = 400_000;

fn explore(configuration: &Configuration) -> Account {
    let begun = Instant::now();
    let checker = |configuration: &Configuration| {
        Explored::new(configuration.clone()).checker().finish_when(HasDiscoveries::AnyFailures)
    };
    let all = checker(configuration).spawn_dfs().join();
    let mut broken = None;
    for property in all.model().properties() {
        let found = all.discovery(property.name);
        if found.is_some() == property.expectation.discovery_is_failure() {
            broken = Some((property.name, found));
            break;
        }
    }
    let broken = broken.map(|(promise, course)| {
        let shorter = checker(configuration).target_state_count(SHORTER).spawn_bfs().join();
        let course = shorter.discovery(promise).filter(|_| course.is_some()).or(course);
        tell(configuration, promise, course)
    });
    Account {
        name: configuration.name,
        states: all.unique_state_count(),
        depth: all.max_depth(),
        seconds: begun.elapsed().as_secs_f64(),
        broken,
    }
}

/// What happened, event by event, what it broke, and how to see it again.
fn tell(configuration: &Configuration, promise: &str, course: Option<Path<World, Event>>) -> String {
    let mut text = format!("{}: broken, or never seen: {promise}\n", configuration.name);
    let mut last = World::begin(configuration);
    for (world, event) in course.map(Path::into_vec).unwrap_or_default() {
        if let Some(event) = event {
            let _ = writeln!(text, "  {}", world.in_words(event));
        }
        last = world;
    }
    if let Some(broken) = &last.broken {
        let _ = writeln!(text, "  and so: {}", broken.1);
    } else if let Err((why, events)) = Settling::default().leads_there(&last, configuration) {
        let _ = writeln!(text, "  and nothing more goes wrong:");
        for event in events.iter().take(40) {
            let _ = writeln!(text, "  {}", last.in_words(*event));
            last = last.after(*event, configuration).unwrap_or(last);
        }
        let _ = writeln!(text, "  and so: {why}; {:?}", last.dispatcher);
    }
    let size = std::env::var("EDGE_OUTBOX_MODEL").unwrap_or("small".to_owned());
    let again = format!("EDGE_OUTBOX_MODEL={size} EDGE_OUTBOX_CONFIGURATION='{}'", configuration.name);
    let _ = writeln!(text, "  again: {again} cargo test --release --lib dispatcher::model:: -- --nocapture");
    text
}

fn size() -> Size {
    match std::env::var("EDGE_OUTBOX_MODEL").as_deref() {
        Ok("large") => Size::Large,
        Ok("full") => Size::Full,
        Ok("small") | Err(_) => Size::Small,
        Ok(other) => panic!("EDGE_OUTBOX_MODEL is {other:?}; small, large or full is wanted"),
    }
}

#[test]
fn no_course_of_events_breaks_a_promise() {
    let only = std::env::var("EDGE_OUTBOX_CONFIGURATION").ok();
    let mut all = configurations(size());
    all.retain(|configuration| only.as_deref().is_none_or(|only| only == configuration.name));
    assert!(!all.is_empty(), "there is no configuration of that name");
    let begun = Instant::now();
    // Each on a thread of its own: what worlds share, they share with no other thread.
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut accounts = Vec::new();
        while let Some(configuration) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let account = explore(configuration);
            let Account { name, states, depth, seconds, .. } = &account;
            println!("{name}: {states} states, {depth} deep, {seconds:.1} s");
            accounts.push(account);
        }
        accounts
    };
    let threads = thread::available_parallelism().map_or(2, |n| n.get());
    let accounts: Vec<Account> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it only looks")).collect()
    });
    let states: usize = accounts.iter().map(|account| account.states).sum();
    let depth = accounts.iter().map(|account| account.depth).max().unwrap_or(0);
    let seconds = begun.elapsed().as_secs_f64();
    println!("model: {} configurations, {states} states, {depth} deep, {seconds:.1} s", accounts.len());
    let broken: Vec<String> = accounts.into_iter().filter_map(|account| account.broken).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let enough = only.is_some() || size() != Size::Large || states >= LARGE;
    assert!(enough, "{states} states are too few to prove anything");
}
