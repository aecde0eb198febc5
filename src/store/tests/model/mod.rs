//! An outbox in a file, and a model of it in a `Vec` of rows, to which the same happens at random: messages come, in
//! transactions that are rolled back too, and by plain SQL; a forwarder settles them, moves its position and purges;
//! people retry, discard, edit and delete; clocks jump, connections are closed, processes are killed in the middle of
//! what they write. After each of it everything that the store can be asked, it has to answer as the model does.
//!
//! ```console
//! $ cargo test --lib store::tests::model
//! ```
//!
//! plays 30 lists of actions of a new seed, and first those of `failing-seeds.txt`: what went wrong once is written down
//! there, made short, and belongs into the repository. `PROPTEST_RNG_SEED` sets another seed, `PROPTEST_CASES` another
//! number of lists, and with `EDGE_OUTBOX_MODEL_SECONDS` one seed follows the other until so much time has passed.

mod actions;
mod judge;
mod people;
mod play;
mod rows;

use std::env;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner};

use self::actions::{Action, actions};
use self::judge::judge;
use self::play::World;

/// Some messages are above it.
const MAX_PAYLOAD: usize = 20_050;

/// Lists of actions that are played, by default.
const LISTS: u32 = 30;

const FAILING_SEEDS: FileFailurePersistence =
    FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/tests/model/failing-seeds.txt"));

/// Says what differs.
fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, and the model says {expected:?}"))
}

fn play(actions: &[Action]) -> Result<(), String> {
    let mut world = World::new();
    for (step, action) in actions.iter().enumerate() {
        let differs = |what| format!("action {} of {}, {action:?}: {what}", step + 1, actions.len());
        world.play(action).map_err(differs)?;
        judge(&mut world, step).map_err(differs)?;
    }
    world.finish().and_then(|()| judge(&mut world, 0)).map_err(|what| format!("at the end: {what}"))
}

/// A number of the environment's.
fn wanted<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok().map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is no number")))
}

fn play_lists(seed: u64, lists: u32) {
    let config = Config {
        cases: lists,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: Some(Box::new(FAILING_SEEDS)),
        source_file: Some(file!()),
        max_shrink_iters: 5_000,
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&actions(), |actions| play(&actions).map_err(TestCaseError::fail));
    if let Err(error) = played {
        let why = match error {
            TestError::Fail(why, actions) => format!("{why}\nThe shortest such list: {actions:#?}"),
            TestError::Abort(why) => why.to_string(),
        };
        let again = "cargo test --lib store::tests::model";
        panic!("{why}\nSeed {seed}; again: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={lists} {again}");
    }
}

#[test]
fn whatever_happens_the_store_answers_as_the_model_does() {
    let lists = wanted("PROPTEST_CASES").unwrap_or(LISTS);
    let first: u64 = wanted("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let begun = Instant::now();
    let time = wanted("EDGE_OUTBOX_MODEL_SECONDS").map_or(Duration::ZERO, Duration::from_secs);
    let mut seed = first;
    loop {
        play_lists(seed, lists);
        seed += 1;
        if begun.elapsed() >= time {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} lists of actions in {seconds:.1} s, of the seeds {first} to {}",
        u64::from(lists) * (seed - first),
        seed - 1
    );
}
