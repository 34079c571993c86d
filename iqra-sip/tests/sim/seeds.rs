//! A search: thousands of plays, each drawn from a seed, in bad weather. Whatever is lost, doubled or late, every call,
//! dialog, transfer and registration comes to its one end, everything is repeated as the RFCs say and no more, and
//! nothing is left behind on any node.
//!
//! `SEEDS=20000 cargo test -p iqra-sip --test sim seeds` looks further; `SEED=7` prints one play.

pub(crate) mod checks;
mod deadlines;
mod deeds;
#[cfg(feature = "faults")]
mod faults;
mod programs;
mod script;
mod world;

use script::Script;
use world::World;

/// Looked at unless `SEEDS` says otherwise.
const SEEDS: u64 = 2_000;

/// Plays a seed; what is wrong with it.
fn play(seed: u64, prepare: impl FnOnce(&mut World)) -> (World, Vec<String>) {
    let mut world = World::new(seed, Script::draw(seed));
    prepare(&mut world);
    world.play();
    let mut wrongs = std::mem::take(&mut world.wrongs);
    wrongs.extend(checks::wrongs(&world));
    wrongs.extend(deadlines::wrongs(&world));
    (world, wrongs)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn nothing_goes_wrong_and_nothing_is_left_behind() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let (one, mut failed) = (number("SEED").is_some(), Vec::new());
    for seed in seeds {
        let (world, wrongs) = play(seed, |_| {});
        if one {
            world.print();
        }
        if !wrongs.is_empty() {
            failed.push(format!("seed {seed} ({:?}): {wrongs:?}", world.script.kind));
        }
    }
    assert!(failed.is_empty(), "{} seeds fail:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn the_same_seed_plays_the_same_call() {
    for seed in 0..48 {
        let sent = |seed| play(seed, |_| {}).0.net.sent;
        assert_eq!(sent(seed), sent(seed), "seed {seed}");
    }
}
