//! CANCEL on its way through, what crosses it, and calls that the proxy itself ends.

use iqra_sip::event::{Event, Reply};
use iqra_sip::roles::relay::RelayEvent;
use iqra_sip::{HeaderName, Headers, StatusCode};

use super::*;

/// A call that rings at backend one.
fn ring(net: &mut Network) -> (ClientTx, ServerTx, ServerTx) {
    let (ours, tx) = relay(net, &[ONE, TWO]);
    let theirs = invited(net, ONE);
    answer(net, ONE, theirs, 180);
    assert_eq!(heard(net), 180);
    assert!(matches!(step(net), RelayEvent::Provisional(_)));
    (ours, tx, theirs)
}

fn cancel(net: &mut Network, tx: ClientTx) {
    let mut why = Headers::new();
    why.push(HeaderName::REASON, "SIP;cause=487");
    let (engine, now) = net.engine(CALLER);
    engine.cancel(now, tx, why).unwrap();
}

#[test]
fn a_cancel_goes_on_with_its_reason_and_the_callee_s_487_comes_back() {
    let mut net = calm();
    let (ours, _, _) = ring(&mut net);
    cancel(&mut net, ours);
    assert!(matches!(net.event(ONE), Event::Cancelled { .. }));
    assert_eq!(heard(&mut net), 487);
    assert!(matches!(step(&mut net), RelayEvent::Cancelled(_)));
    assert!(matches!(step(&mut net), RelayEvent::Refused(_)));
    assert_eq!(header(&first(&net, A, "CANCEL"), "Reason"), ["SIP;cause=487"]);
    net.settle();
}

#[test]
fn a_program_that_says_so_answers_487_at_once() {
    let mut net = calm();
    let (ours, tx, _) = ring(&mut net);
    net.lose(|from, _| from == ONE);
    cancel(&mut net, ours);
    assert!(matches!(step(&mut net), RelayEvent::Cancelled(_)));
    let (engine, now) = net.engine(A);
    engine.give_up(now, tx, Reply::new(StatusCode::REQUEST_TERMINATED)).unwrap();
    assert_eq!(heard(&mut net), 487);
    assert!(matches!(net.event(ONE), Event::Cancelled { .. }));
    net.settle();
    assert!(net.nodes[A].events.is_empty());
}

#[test]
fn a_cancel_before_any_response_waits_for_the_first() {
    let mut net = calm();
    let (ours, _) = relay(&mut net, &[ONE]);
    invited(&mut net, ONE);
    cancel(&mut net, ours);
    net.run(Duration::from_millis(150));
    assert_eq!(net.count(A, "CANCEL"), 0);
    assert!(matches!(net.event(ONE), Event::Cancelled { .. }));
    assert_eq!(heard(&mut net), 487);
    net.settle();
}

#[test]
fn after_a_cancel_no_other_target_is_tried() {
    let mut net = calm();
    net.lose(|from, text| from == A && (is(text, "INVITE") || is(text, "100")));
    let (ours, _) = relay(&mut net, &[ONE, TWO]);
    net.run(Duration::from_millis(500));
    // The caller has heard nothing, so its CANCEL comes by hand.
    let invite = first(&net, CALLER, "INVITE");
    let text = invite.replace("INVITE sip", "CANCEL sip").replace(" INVITE\r\n", " CANCEL\r\n");
    let flow = iqra_sip::Flow {
        transport: Transport::Udp,
        local: POOL.parse().unwrap(),
        remote: net.nodes[CALLER].addr,
        connection: None,
    };
    let (engine, now) = net.engine(A);
    engine.handle_message(now, &flow, text.into());
    assert!(matches!(step(&mut net), RelayEvent::Cancelled(_)));
    assert!(matches!(step(&mut net), RelayEvent::Refused(response) if response.status.code() == 487));
    let event = net.event(CALLER);
    assert!(matches!(event, Event::Response { tx, .. } if tx == ours), "{event:?}");
    net.settle();
    assert!(net.nodes[TWO].events.is_empty());
}

#[test]
fn a_2xx_that_crosses_the_cancel_is_forwarded() {
    let mut net = calm();
    let (ours, _, theirs) = ring(&mut net);
    accept(&mut net, ONE, theirs);
    cancel(&mut net, ours);
    assert_eq!(heard(&mut net), 487, "the caller's engine hangs up what it cancelled");
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }));
    assert!(matches!(net.event(ONE), Event::Ended { .. }));
    net.settle();
    assert_eq!((net.count(A, "200"), net.count(A, "487")), (1, 0));
}

#[test]
fn a_2xx_after_our_own_487_is_forwarded_past_it() {
    let mut net = calm();
    let (_, tx, theirs) = ring(&mut net);
    let (engine, now) = net.engine(A);
    engine.give_up(now, tx, Reply::new(StatusCode::REQUEST_TERMINATED)).unwrap();
    accept(&mut net, ONE, theirs);
    assert_eq!(heard(&mut net), 487);
    assert!(matches!(net.event(ONE), Event::Confirmed { .. }), "the caller's engine answers it");
    assert!(matches!(net.event(ONE), Event::Ended { .. }), "and hangs up");
    assert_eq!((net.count(A, "487"), net.count(A, "200")), (1, 1), "{}", ladder(&net));
    net.settle();
}

#[test]
fn a_target_that_dies_while_it_rings_ends_the_call_with_503() {
    let mut net = calm();
    let (_, tx, _) = ring(&mut net);
    net.lose(|from, _| from == ONE);
    let (engine, now) = net.engine(A);
    engine.give_up(now, tx, Reply::new(StatusCode::SERVICE_UNAVAILABLE)).unwrap();
    assert_eq!(heard(&mut net), 503);
    net.settle();
}

#[test]
fn a_call_that_rings_for_too_long_is_cancelled_and_each_ringing_gives_it_more_time() {
    let mut net = calm();
    let (_, _, theirs) = ring(&mut net);
    net.run(Duration::from_secs(100));
    answer(&mut net, ONE, theirs, 180);
    net.run(Duration::from_secs(100));
    assert_eq!(net.count(A, "CANCEL"), 0, "Timer C began anew");
    net.run(Duration::from_secs(95));
    assert_eq!(net.count(A, "CANCEL"), 1);
    assert_eq!((heard(&mut net), heard(&mut net)), (180, 487));
    net.settle();
}
