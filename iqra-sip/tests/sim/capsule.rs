//! Capsules: a call that is cut out of many replays, an altered one is found out, and no secret is in it. Every other
//! scenario on the simulated network replays its calls when it settles.

use std::sync::Arc;
use std::time::Duration;

use iqra_sip::event::{Event, OutgoingInvite, Reply};
use iqra_sip::guard::{Action, GuardConfig, Rate};
use iqra_sip::observe::capsule::{Capsule, CapsuleConfig};
use iqra_sip::{EngineConfig, HeaderName, Headers, StatusCode};

use crate::network::{CALLEE, CALLER, Network, Weather};

const CALLS: usize = 60;

/// Calls that cross each other on a bad network: some are answered, some refused, some given up.
fn busy() -> Network {
    let weather = Weather { loss: 0.1, duplicate: 0.05, jitter: Duration::from_millis(300) };
    let mut net = Network::new(7, weather);
    for index in 0..CALLS {
        let mut headers = Headers::new();
        headers.push(HeaderName::AUTHORIZATION, "Digest response=\"secret\"");
        headers.push(HeaderName::from("X-Caller"), format!("00493012345{index:02}"));
        let call = OutgoingInvite { call_id: Some(format!("call-{index}")), headers, ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        let tx = engine.invite(now, call).unwrap();
        net.run(Duration::from_millis(90));
        if index % 7 == 0 {
            let (engine, now) = net.engine(CALLER);
            let _ = engine.cancel(now, tx, Headers::new());
        }
        serve(&mut net, index);
    }
    for index in 0..200 {
        net.run(Duration::from_millis(400));
        serve(&mut net, index);
    }
    net
}

/// Both programs go on with what they hear.
fn serve(net: &mut Network, turn: usize) {
    for node in [CALLEE, CALLER] {
        for event in std::mem::take(&mut net.nodes[node].events) {
            let (engine, now) = net.engine(node);
            // A command may come too late: it is recorded all the same.
            let _ = match event {
                Event::Invite { tx, .. } if turn.is_multiple_of(5) => {
                    engine.respond(now, tx, Reply::new(StatusCode::BUSY_HERE).reason("No"))
                }
                Event::Invite { tx, .. } => {
                    let _ = engine.respond(now, tx, Reply::new(StatusCode::RINGING));
                    engine.accept(now, tx, Reply::new(StatusCode::OK)).map(drop)
                }
                Event::Answered { dialog, .. } => engine.bye(now, &dialog, Headers::new()),
                _ => Ok(()),
            };
        }
    }
}

/// The capsule of a call that was answered, at its callee.
fn answered() -> Capsule {
    let mut net = busy();
    net.settle();
    let engine = &mut net.nodes[CALLEE].engine;
    let mut capsules = (0..CALLS).filter_map(|index| engine.capsule(&format!("call-{index}")));
    capsules.find(|capsule| capsule.to_string().contains("event Confirmed")).unwrap()
}

#[test]
fn one_call_is_cut_out_of_many_and_replays() {
    let text = answered().to_string();
    let ids = text.lines().filter_map(|line| line.strip_prefix("| Call-ID: ")).collect::<Vec<_>>();
    assert!(ids.len() > 4 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(text.contains("\n| BYE ") && !text.contains("secret"), "{text}");
    Capsule::parse(&text).unwrap().replay(&EngineConfig::default()).unwrap();
}

#[test]
fn what_was_altered_is_found_out_and_named() {
    let text = answered().to_string();
    for (from, to, named) in [
        ("| CSeq: 1 INVITE", "| CSeq: 2 INVITE", "CSeq: 2 INVITE"),
        ("| SIP/2.0 180 Ringing", "| SIP/2.0 181 Ringing", "SIP/2.0 180 Ringing"),
        (" event Confirmed\n", " event Ended\n", "event Confirmed"),
        ("From: <sip:caller@", "From: <sip:cbller@", "cbller"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        let altered = Capsule::parse(&text.replacen(from, to, 1)).unwrap();
        let differs = altered.replay(&EngineConfig::default()).unwrap_err();
        assert!(differs.replayed.contains(named), "{from}: {differs}");
    }
    for nonsense in ["", "iqra-capsule 2\n", "iqra-capsule 1\n| x\n", "iqra-capsule 1\n= n1\n"] {
        assert!(nonsense.is_empty() || Capsule::parse(nonsense).is_err(), "{nonsense}");
    }
}

#[test]
fn masked_numbers_are_gone_and_the_call_replays() {
    let capsule = answered();
    assert!(capsule.to_string().contains("00493012345"));
    let masked = capsule.mask_numbers();
    assert!(!masked.to_string().contains("493012345"));
    masked.replay(&EngineConfig::default()).unwrap();
}

#[test]
fn the_last_calls_are_kept_those_that_are_picked_and_of_each_as_much_as_its_bounds() {
    let mut net = Network::calm();
    let picks = |id: &str, _: &[u8]| id.starts_with("kept");
    let config =
        CapsuleConfig { calls: 2, entries: 2, pick: Some(Arc::new(picks)), ..CapsuleConfig::default() };
    net.nodes[CALLER].engine.keep_capsules(config);
    for id in ["kept-1", "other", "kept-2", "kept-3"] {
        let call = OutgoingInvite { call_id: Some(id.into()), ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, call).unwrap();
    }
    net.run(Duration::from_secs(5));
    let engine = &mut net.nodes[CALLER].engine;
    let mut kept = engine.capsules();
    kept.sort();
    assert_eq!(kept, ["kept-2", "kept-3"]);
    let capsule = engine.capsule("kept-3").unwrap();
    assert!(capsule.left_out() > 0 && engine.capsule("other").is_none());
    capsule.replay(&EngineConfig::default()).unwrap();
}

#[test]
fn a_flood_that_the_guard_keeps_away_takes_no_capsules_and_its_verdicts_replay() {
    let rate = Rate { per_second: 1, burst: 3 };
    let guard = GuardConfig {
        new_requests: rate,
        above_rate: Action::Forbid,
        overload: None,
        ..GuardConfig::default()
    };
    let config = EngineConfig { guard: Some(guard), ..EngineConfig::default() };
    let mut net = Network::among(
        1,
        Weather::default(),
        iqra_sip::Transport::Udp,
        vec![EngineConfig::default(), config],
    );
    net.lose(|from, _| from == CALLEE);
    for index in 0..8 {
        let call = OutgoingInvite { call_id: Some(format!("call-{index}")), ..net.invite() };
        let (engine, now) = net.engine(CALLER);
        engine.invite(now, call).unwrap();
    }
    net.run(Duration::from_millis(700));
    let capsules = net.nodes[CALLEE].engine.capsules();
    assert_eq!(capsules.len(), 3, "{capsules:?}");
    // The repeats of the three are above the rate as well.
    net.replay();
    let first = net.nodes[CALLEE].engine.capsule(&capsules[0]).unwrap().to_string();
    assert!(first.contains("= gforbid rate_new") && first.contains(" dropped rate_new"), "{first}");
}
