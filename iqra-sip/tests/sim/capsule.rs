//! Capsules: a recorded call replays, an altered one is found out, and no secret is in it.

use std::time::{Duration, Instant};

use iqra_sip::event::{Event, OutgoingInvite, Reply};
use iqra_sip::observe::capsule::{Capsule, Command, Done, Recorder};
use iqra_sip::{EngineConfig, Flow, HeaderName, Headers, Listener, StatusCode, Transport};

use crate::network::Network;

/// Our call is refused; theirs is never answered until its caller gives up.
fn recorded() -> Capsule {
    let start = Instant::now();
    let flow = Flow {
        transport: Transport::Udp,
        local: "10.0.0.1:5060".parse().unwrap(),
        remote: "10.0.0.2:5060".parse().unwrap(),
        connection: None,
    };
    let listener = Listener::new(Transport::Udp, flow.local, None);
    let mut recorder = Recorder::new(EngineConfig::default(), 7, vec![listener], start);
    let mut headers = Headers::new();
    headers.push(HeaderName::AUTHORIZATION, "Digest response=\"secret\"");
    let call = OutgoingInvite { headers, ..Network::calm().invite() };
    let Ok(Done::Asked(tx)) = recorder.command(start, Command::Invite(Box::new(call))) else { panic!() };
    while let Some(due) = recorder.poll_timeout().filter(|due| *due < start + Duration::from_secs(2)) {
        recorder.handle_timeout(due);
    }
    let now = start + Duration::from_secs(2);
    assert!(recorder.command(now, Command::Cancel(tx, Headers::new())).is_ok());
    let info = "INVITE sip:a@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK9\r\nMax-Forwards: 70\r\n\
                From: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\nCall-ID: theirs\r\nCSeq: 1 INVITE\r\n\
                Contact: <sip:b@10.0.0.2>\r\nContent-Type: application/sdp\r\nContent-Length: 26\r\n\r\n\
                a=crypto:1 x inline:secret";
    recorder.handle_message(now, &flow, info.into());
    let event = std::iter::from_fn(|| recorder.poll_event()).last();
    let Some(Event::Invite { tx, .. }) = event else { panic!("{event:?}") };
    recorder.command(now, Command::Respond(tx, Reply::new(StatusCode::BUSY_HERE).reason("No"))).unwrap();
    assert!(recorder.command(now, Command::Forget(tx)).is_ok());
    assert!(recorder.command(now, Command::Accept(tx, Reply::new(StatusCode::OK))).is_err(), "refused alike");
    while let Some(due) = recorder.poll_timeout() {
        recorder.handle_timeout(due);
    }
    recorder.into_capsule()
}

#[test]
fn a_capsule_that_was_written_and_read_replays() {
    let capsule = recorded();
    let text = capsule.to_string();
    assert!(text.contains(" sent UDP ") && text.contains("\n| SIP/2.0 486 No\n"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let read = Capsule::parse(&text).unwrap();
    assert_eq!(read.to_string(), text);
    read.replay(EngineConfig::default()).unwrap();
}

#[test]
fn what_was_altered_is_found_out() {
    let text = recorded().to_string();
    for (from, to) in [
        ("| SIP/2.0 486 No\n", "| SIP/2.0 487 No\n"),
        ("seed 7", "seed 8"),
        ("0.500000000 timeout", "0.400000000 timeout"),
        ("CSeq: 1 INVITE", "CSeq: 2 INVITE"),
        (" event Invite\n", " event Request\n"),
    ] {
        assert!(text.contains(from), "{from}");
        let altered = Capsule::parse(&text.replacen(from, to, 1)).unwrap();
        assert!(altered.replay(EngineConfig::default()).is_err(), "{from}");
    }
    for nonsense in ["", "iqra-capsule 2\n", "iqra-capsule 1\n| x\n", "iqra-capsule 1\nnow timeout -\n"] {
        assert!(nonsense.is_empty() || Capsule::parse(nonsense).is_err(), "{nonsense}");
    }
}
