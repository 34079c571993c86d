//! Many relayed calls in bad weather: every one comes to an end and no proxy keeps anything.

use iqra_sip::Headers;
use iqra_sip::event::{Event, Reply};
use iqra_sip::roles::relay::RelayEvent;

use super::*;

const STORM: Weather = Weather { loss: 0.15, duplicate: 0.1, jitter: Duration::from_millis(400) };

/// Plays one call: the seed decides what each backend does and who gives up when; both proxies take requests.
fn play(seed: u64) -> Network {
    let mut net = pool(seed, STORM);
    let mut random = fastrand::Rng::with_seed(seed);
    let call = invite(&net);
    let (engine, now) = net.engine(CALLER);
    let ours = engine.invite(now, call).unwrap();
    let (mut ended, cancel_at) = (0, random.usize(0..80));
    for round in 0..1_500 {
        net.run(Duration::from_millis(100));
        for node in 0..net.nodes.len() {
            for event in std::mem::take(&mut net.nodes[node].events) {
                ended += usize::from(is_end(&event, node));
                react(&mut net, node, event, &mut random);
            }
        }
        if round == cancel_at {
            let (engine, now) = net.engine(CALLER);
            let _ = engine.cancel(now, ours, Headers::new());
        }
        if round == 20 {
            net.alias(POOL, B);
        }
        // A proxy that moved must not be asked to go on with what the other has under way.
        if round == 19 && net.nodes[A].engine.counts().server_transactions > 0 {
            net.alias(POOL, A);
        }
    }
    assert_eq!(ended, 1, "seed {seed}: the caller's INVITE has one end");
    net
}

fn is_end(event: &Event, node: usize) -> bool {
    let last = match event {
        Event::Response { response, .. } => response.status.is_final() && is_invite(response),
        Event::Answered { .. } => true,
        Event::Failed { .. } => true,
        _ => false,
    };
    last && node == CALLER
}

fn is_invite(response: &iqra_sip::Response) -> bool {
    response.headers.get(iqra_sip::HeaderName::CSEQ).is_some_and(|cseq| cseq.ends_with("INVITE"))
}

fn react(net: &mut Network, node: usize, event: Event, random: &mut fastrand::Rng) {
    let plan = plan(net, &[ONE, TWO]);
    let (engine, now) = net.engine(node);
    match event {
        Event::Invite { tx, .. } if node == A || node == B => engine.relay(now, tx, plan).unwrap(),
        Event::Relay { tx, event: RelayEvent::NextTarget { target: Some(target), .. } } => {
            let _ = engine.relay_to(now, tx, &target);
        }
        Event::Relay { tx, event: RelayEvent::NextTarget { target: None, .. } } => {
            let _ = engine.relay_best(now, tx);
        }
        Event::Relay { tx, event: RelayEvent::Cancelled(_) } if random.bool() => {
            let _ = engine.give_up(now, tx, Reply::new(StatusCode::REQUEST_TERMINATED));
        }
        Event::Invite { tx, .. } => match random.u8(0..6) {
            0 => {}
            1 => drop(engine.respond(now, tx, Reply::new(StatusCode::SERVICE_UNAVAILABLE))),
            2 => drop(engine.respond(now, tx, Reply::new(StatusCode::BUSY_HERE))),
            3 => drop(engine.respond(now, tx, Reply::new(StatusCode::RINGING))),
            _ => drop(engine.accept(now, tx, Reply::new(StatusCode::OK))),
        },
        Event::Answered { dialog, .. } => drop(engine.bye(now, &dialog, Headers::new())),
        Event::Confirmed { dialog, .. } if random.bool() => drop(engine.bye(now, &dialog, Headers::new())),
        _ => {}
    }
}

#[test]
fn every_relayed_call_ends_in_a_storm_and_leaves_nothing() {
    for seed in 0..300 {
        let mut net = play(seed);
        net.run(Duration::from_secs(600));
        for node in [A, B] {
            assert_eq!(net.nodes[node].engine.counts(), Default::default(), "seed {seed}, node {node}");
        }
    }
}
