//! The search is proved: each fault that can be planted makes some seed fail, and those that belong to one kind of play
//! are found by no other kind.

use iqra_sip::fault::Fault;

use super::script::{KINDS, Kind};
use super::{number, play};

/// Rounds through all kinds that are played to see that a fault is found by its own kind alone, unless `ROUNDS` says
/// otherwise.
const ROUNDS: u64 = 4;
/// What only one kind of play finds.
const OWN: [(Fault, Kind); 11] = [
    (Fault::AnswerLost, Kind::Delayed),
    (Fault::AnswerAwaitedForEver, Kind::Delayed),
    (Fault::SilenceNotTold, Kind::Message),
    (Fault::RefusalEndsCall, Kind::Message),
    (Fault::UnsentIgnored, Kind::Stream),
    (Fault::ReplyNotRedialled, Kind::Stream),
    (Fault::HopsForgotten, Kind::Hops),
    (Fault::DropNotCounted, Kind::Guarded),
    (Fault::WaitingKept, Kind::Guarded),
    (Fault::StrictUriKept, Kind::Strict),
    (Fault::StrictRouterIgnored, Kind::Strict),
];

/// What is wrong with a play whose engines have this fault.
fn faulty(fault: Fault, seed: u64) -> Vec<String> {
    let plant = |world: &mut super::World| {
        world.net.nodes.iter_mut().for_each(|node| node.engine.plant(fault));
    };
    play(seed, plant).1
}

/// The kind of a seed's play.
fn kind(seed: u64) -> Kind {
    KINDS[usize::try_from(seed).unwrap() % KINDS.len()]
}

/// The first seed that finds a fault, and what is wrong with it.
fn finds(fault: Fault) -> Option<(u64, String)> {
    let own = OWN.iter().find(|(one, _)| *one == fault).map(|(_, kind)| *kind);
    let mut seeds = (0..super::SEEDS).filter(|seed| own.is_none_or(|own| kind(*seed) == own));
    seeds.find_map(|seed| faulty(fault, seed).into_iter().next().map(|wrong| (seed, wrong)))
}

#[test]
#[allow(clippy::print_stdout)] // Which seed finds what is worth a look.
fn every_planted_fault_is_found() {
    let found: Vec<_> = Fault::ALL.into_iter().map(|fault| (fault, finds(fault))).collect();
    for (fault, seed) in &found {
        println!("{fault:?}: {seed:?}");
    }
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).map(|(fault, _)| fault).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn no_other_kind_of_play_finds_the_faults_of_one_kind() {
    let mut found = Vec::new();
    let rounds = number("ROUNDS").unwrap_or(ROUNDS);
    for (fault, own) in OWN {
        for seed in (0..rounds * KINDS.len() as u64).filter(|seed| kind(*seed) != own) {
            let wrongs = faulty(fault, seed);
            found.extend(
                wrongs.first().map(|wrong| format!("{fault:?} by {:?}, seed {seed}: {wrong}", kind(seed))),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
