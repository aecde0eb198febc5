//! The store beside its model, for as long as one likes. It is one of the library's own tests, since the store is nothing
//! public: see src/store/tests/model/, where the story stands. Here it is run again and again, one seed after the other.
//! A list of actions that went wrong is made short there, and its seed is written into `failing-seeds.txt`.

use std::process::Stdio;

use crate::args::Args;
use crate::{Campaign, Verdict};

const TEST: &str = "store::tests::model::whatever_happens_the_store_answers_as_the_model_does";

pub const CAMPAIGN: Campaign = Campaign {
    name: "store",
    about: "random actions on the store, and on a model of it that answers the same",
    counts: ("seconds", 15, 3_600),
    run,
};

fn run(args: &Args) -> Verdict {
    let mut test = crate::cargo::cargo();
    test.args(["test", "--locked", "--release", "--lib", TEST, "--", "--exact", "--nocapture"])
        .env("PROPTEST_RNG_SEED", args.seed.to_string())
        .env("EDGE_OUTBOX_MODEL_SECONDS", args.count.to_string())
        .stderr(Stdio::inherit());
    let done = match test.output() {
        Ok(done) => done,
        Err(why) => return Verdict::Broken(vec![format!("cargo cannot be run: {why}")]),
    };
    let said = String::from_utf8_lossy(&done.stdout);
    // A name that is no longer right runs no test, and goes well.
    match said.lines().find(|line| line.contains("lists of actions in")) {
        Some(played) if done.status.success() => Verdict::Kept(played.to_owned()),
        _ => Verdict::Broken(vec![format!("{}; what it said stands above", done.status)]),
    }
}
