//! Many calls in bad weather: whatever is lost, doubled or late, every call comes to an end on both sides and nothing
//! is left behind.

use std::time::Duration;

use iqra_sip::event::{Event, Reply};
use iqra_sip::{Headers, Method, StatusCode};

use crate::network::{CALLEE, CALLER, Network, Weather};

const STORM: Weather = Weather { loss: 0.2, duplicate: 0.1, jitter: Duration::from_millis(700) };

/// Plays one call to its end: the seed decides whether it is answered, refused or cancelled, and who hangs up.
fn play(seed: u64, weather: Weather) -> Network {
    let mut net = Network::new(seed, weather);
    let mut random = fastrand::Rng::with_seed(seed);
    let (refuse, cancel, caller_hangs_up) = (random.u8(..8) == 0, random.u8(..4) == 0, random.bool());
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let mut final_told = 0;
    for round in 0..2_000 {
        net.run(Duration::from_millis(100));
        for node in [CALLER, CALLEE] {
            for event in std::mem::take(&mut net.nodes[node].events) {
                let (engine, now) = net.engine(node);
                match event {
                    Event::Invite { tx, .. } if refuse => {
                        engine.respond(now, tx, Reply::new(StatusCode::BUSY_HERE)).unwrap();
                    }
                    Event::Invite { tx, .. } => {
                        engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
                        engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap();
                    }
                    Event::Answered { dialog, .. } => {
                        final_told += 1;
                        engine.dialog_request(now, &dialog, Method::Info, &Headers::new(), None).unwrap();
                        if caller_hangs_up {
                            engine.bye(now, &dialog, Headers::new()).unwrap();
                        }
                    }
                    Event::Confirmed { dialog, .. } if !caller_hangs_up => {
                        let _ = engine.bye(now, &dialog, Headers::new());
                    }
                    Event::DialogRequest { tx, .. } => {
                        let _ = engine.respond(now, tx, Reply::new(StatusCode::OK));
                    }
                    Event::Response { tx, response, .. } if tx == ours && response.status.is_final() => {
                        final_told += 1;
                    }
                    Event::Failed { tx, .. } if tx == ours => final_told += 1,
                    _ => {}
                }
            }
        }
        if cancel && round == 3 {
            let (engine, now) = net.engine(CALLER);
            let _ = engine.cancel(now, ours, Headers::new());
        }
    }
    assert_eq!(final_told, 1, "seed {seed}: the INVITE has one final event");
    net
}

#[test]
fn every_call_ends_in_a_storm_and_leaves_nothing() {
    for seed in 0..500 {
        let mut net = play(seed, STORM);
        net.settle();
    }
}

#[test]
fn the_same_seed_plays_the_same_call() {
    for seed in [7, 8, 9] {
        assert_eq!(play(seed, STORM).sent, play(seed, STORM).sent);
    }
}
