//! Many calls in bad weather: whatever is lost, doubled or late, every call comes to an end on both sides and nothing
//! is left behind.

use std::time::Duration;

use iqra_sip::event::{Body, Event, Reliability, Reply};
use iqra_sip::{DialogId, Engine, EngineConfig, HeaderName, Headers, Message, Method, StatusCode, Transport};

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

/// Plays one call with early dialogs, PRACK and UPDATE either way: who offers what and when is the seed's.
fn play_early(seed: u64) -> Network {
    let config =
        EngineConfig { reliability: Reliability::IfSupported, glare_retries: 2, ..Default::default() };
    let mut net = Network::of(seed, STORM, Transport::Udp, config);
    let mut random = fastrand::Rng::with_seed(seed);
    let (refuse, cancel, late) = (random.u8(..6) == 0, random.u8(..5) == 0, random.bool());
    let call = net.invite();
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let (mut final_told, mut asked, mut told) = (0, 0, 0);
    for round in 0..2_000 {
        net.run(Duration::from_millis(100));
        for node in [CALLER, CALLEE] {
            for event in std::mem::take(&mut net.nodes[node].events) {
                let (engine, now) = net.engine(node);
                let body = random.bool().then(|| Body::sdp("v=0\r\n"));
                let mut ask = |engine: &mut Engine, dialog: &DialogId, method: Method| {
                    let sent = engine.dialog_request(now, dialog, method, &Headers::new(), body.clone());
                    asked += usize::from(sent.is_ok());
                };
                match event {
                    Event::Invite { tx, .. } => {
                        let progress =
                            Reply { body: body.clone(), ..Reply::new(StatusCode::SESSION_PROGRESS) };
                        engine.respond(now, tx, progress).unwrap();
                        engine.respond(now, tx, Reply::new(StatusCode::RINGING)).unwrap();
                        match (refuse, late) {
                            (true, _) => engine.respond(now, tx, Reply::new(StatusCode::DECLINE)).unwrap(),
                            (false, true) => {}
                            (false, false) => {
                                drop(engine.accept(now, tx, Reply::new(StatusCode::OK)).unwrap());
                            }
                        }
                    }
                    Event::Acknowledged { tx, .. } => {
                        if let Some(early) = engine.early_dialog(tx) {
                            ask(engine, &early, Method::Update);
                        }
                        if random.bool() {
                            let _ = engine.accept(now, tx, Reply::new(StatusCode::OK));
                        }
                    }
                    Event::Response { early: Some(early), .. } => ask(engine, &early, Method::Update),
                    Event::Response { tx, response, .. } if response.status.is_final() => {
                        final_told += usize::from(tx == ours);
                        told += usize::from(tx != ours);
                    }
                    Event::Answered { dialog, .. } => {
                        final_told += 1;
                        ask(engine, &dialog, Method::Invite);
                    }
                    Event::Confirmed { dialog, .. } => ask(engine, &dialog, Method::Invite),
                    Event::DialogRequest { tx, .. } => {
                        let _ = engine.respond(now, tx, Reply::new(StatusCode::OK));
                    }
                    Event::Failed { tx, .. } => {
                        final_told += usize::from(tx == ours);
                        told += usize::from(tx != ours);
                    }
                    _ => {}
                }
            }
        }
        let (engine, now) = net.engine(CALLER);
        if (cancel && round == 3) || round == 600 {
            let _ = engine.cancel(now, ours, Headers::new());
        }
        if round == 900 {
            hang_up_all(&mut net);
        }
    }
    assert_eq!(final_told, 1, "seed {seed}: the INVITE has one final event");
    assert_eq!(told, asked, "seed {seed}: each request has one final event");
    net
}

fn hang_up_all(net: &mut Network) {
    let texts: Vec<_> =
        net.sent.iter().filter(|(_, text)| crate::network::is(text, "200")).cloned().collect();
    let ids = texts.iter().filter_map(|(_, text)| {
        let Ok(Message::Response(response)) = Message::parse(text.clone().into()) else { return None };
        let tag = |name| Some(response.headers.get(name)?.split_once(";tag=")?.1.to_owned());
        let call_id = response.headers.get(HeaderName::CALL_ID)?.into_owned();
        Some(DialogId::new(&call_id, &tag(HeaderName::FROM)?, &tag(HeaderName::TO)?))
    });
    for id in ids {
        let (engine, now) = net.engine(CALLER);
        let _ = engine.bye(now, &id, Headers::new());
    }
}

#[test]
fn every_early_dialog_prack_and_update_ends_in_a_storm() {
    for seed in 0..400 {
        let mut net = play_early(seed);
        net.settle();
    }
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
