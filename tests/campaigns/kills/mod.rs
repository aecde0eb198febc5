//! What happened: a program writes rows and messages in transactions, of which one in ten rolls back, and forwards them;
//! it is killed at any moment from the eighth millisecond of its life on, again and again, while it creates its
//! database, while it recovers, in the middle of a commit, and begins anew on what is there. Meanwhile the network fails
//! in every way it knows. Behind the network is a broker of ours, which writes down what comes before it acknowledges it,
//! or a real mosquitto with a subscriber.
//!
//! What must hold, whenever the faults are healed: the process that is running then has sent everything within 12 s;
//! nothing that the application was told of is lost; every row has arrived, intact, and nothing that has no row; of each
//! key everything was first sent in the order of its commits, and first arrived so but for what the broker itself did
//! not take; no more came again than an interruption may repeat, and nothing of what was settled.
//!
//! Each lane has databases of its own, one after the other. The seed decides the plan: settings, lives, faults. The
//! timing is the machine's.

mod controls;
mod database;
mod evidence;
mod fault;
mod lane;
mod shore;
mod tally;

use std::sync::Mutex;
use std::thread;

use self::lane::Lane;
use self::tally::Tally;
use crate::args::Args;
use crate::{Campaign, Verdict};

pub const CAMPAIGN: Campaign = Campaign {
    name: "kills",
    about: "SIGKILL at random, with a network that fails, before a recording broker and mosquitto",
    counts: ("kills", 1_500, 100_000),
    run,
};

/// Databases at a time: more than two cores, since each often waits for its disk; and the same on every machine, since a
/// seed is to mean the same everywhere.
const LANES: u64 = 4;
/// From here on a run has seen enough to be held to the number of its faults.
const A_CAMPAIGN: u64 = 500;

fn run(args: &Args) -> Verdict {
    let only = args.only.as_deref().map(|lane| lane.parse::<u64>().ok().filter(|lane| *lane < LANES));
    if only == Some(None) {
        return Verdict::Broken(vec![format!("--only wants the number of a lane, 0 to {}", LANES - 1)]);
    }
    let only = only.flatten();
    let (sum, broken) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for number in (0..LANES).filter(|number| only.is_none_or(|only| only == *number)) {
            let kills = args.count / LANES + u64::from(number < args.count % LANES);
            let (sum, broken) = (&sum, &broken);
            scope.spawn(move || {
                let mut lane = Lane::new(args, number, kills);
                let found = lane.run(|kills| sum.lock().expect("nobody panics").progress(kills));
                sum.lock().expect("nobody panics").add(&lane.tally);
                broken.lock().expect("nobody panics").extend(found);
            });
        }
    });
    let (sum, mut broken) = (sum.into_inner().expect("nobody panics"), broken.into_inner().expect("nobody panics"));
    if broken.is_empty() && args.count >= A_CAMPAIGN && only.is_none() && !sum.is_enough() {
        broken.push(format!("too little happened to prove anything: {sum}"));
    }
    if broken.is_empty() {
        // Behind what it is for: they count on a program that keeps its promises.
        let sum = sum.to_string();
        return match controls::run(args) {
            Ok(lies) => Verdict::Kept(format!("{sum}; the judge found each of {lies} lies that were told to try it")),
            Err(why) => Verdict::Broken(vec![format!("the judge is blind: {why}")]),
        };
    }
    println!("kills: until then {sum}");
    Verdict::Broken(broken)
}
