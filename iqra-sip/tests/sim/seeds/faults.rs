//! The search is proved: each fault that can be planted makes some seed fail.

use iqra_sip::fault::Fault;

use super::play;

/// The first seed that finds a fault, and what is wrong with it.
fn finds(fault: Fault) -> Option<(u64, String)> {
    (0..super::SEEDS).find_map(|seed| {
        let plant = |world: &mut super::World| {
            world.net.nodes.iter_mut().for_each(|node| node.engine.plant(fault));
        };
        play(seed, plant).1.into_iter().next().map(|wrong| (seed, wrong))
    })
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
