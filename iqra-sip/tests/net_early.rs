//! What goes on in a call before its answer, between two endpoints on real sockets: reliable ringing, PRACK, UPDATE and
//! INFO either way, offers late and early, an early dialog given up.

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use iqra_sip::event::{Body, CallOptions, EndReason, OutgoingInvite, Reliability, Reply};
use iqra_sip::net::{
    Answer, CallEvent, Early, Endpoint, InDialogRequest, Incoming, IncomingInvite, OutgoingCall,
    OutgoingEvent,
};
use iqra_sip::{EngineConfig, HeaderName, Headers, Method, StatusCode, Transport};

#[path = "common/loopback.rs"]
mod loopback;
use loopback::{answered, call_to, closed, connect, end, invited};

const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// Two endpoints whose ringing is acknowledged.
async fn pair(transport: Transport) -> (Endpoint, Endpoint, Incoming) {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let (caller, _) = end(transport, config.clone()).await;
    let (callee, incoming) = end(transport, config).await;
    (caller, callee, incoming)
}

fn sdp(name: &str) -> Option<Body> {
    Some(Body::sdp(format!("v=0\r\ns={name}\r\n")))
}

/// The next ringing: its early dialog, its body, and whether that is an offer.
async fn ringing(call: &mut OutgoingCall) -> (Early, Vec<u8>, bool) {
    match call.next().await {
        Some(OutgoingEvent::Provisional { response, early: Some(early), offer }) => {
            (early, response.body.to_vec(), offer)
        }
        other => panic!("no ringing: {other:?}"),
    }
}

/// The PRACK of our ringing; its body.
async fn acknowledged(invite: &mut IncomingInvite) -> Vec<u8> {
    match invite.next().await {
        Some(CallEvent::Acknowledged(prack)) => prack.body.to_vec(),
        other => panic!("no PRACK: {other:?}"),
    }
}

fn agree(request: InDialogRequest, method: &Method, body: Option<Body>) {
    assert_eq!(request.request().method, *method);
    request.respond(Reply { body, ..Reply::new(StatusCode::OK) }).unwrap();
}

#[tokio::test]
async fn a_session_is_agreed_and_updated_both_ways_before_the_answer() {
    for transport in BOTH {
        let (caller, callee, mut incoming) = pair(transport).await;
        let mut call = caller.invite(call_to(&callee)).await.unwrap();
        let mut invite = invited(&mut incoming).await;
        assert!(invite.early().is_none());
        invite.provisional(StatusCode::SESSION_PROGRESS, Headers::new(), sdp("early")).await.unwrap();
        let (ours, body, offer) = ringing(&mut call).await;
        assert_eq!((&body[..], offer), (&b"v=0\r\ns=early\r\n"[..], false));
        assert_eq!(acknowledged(&mut invite).await, b"");
        let theirs = invite.early().unwrap();
        assert_eq!(ours.id().call_id(), theirs.id().call_id());

        let asking = ours.request(Method::Update, Headers::new(), sdp("ours"));
        let answering = async {
            let Some(CallEvent::Request(update)) = invite.next().await else { panic!("no UPDATE") };
            assert_eq!(&update.request().body[..], b"v=0\r\ns=ours\r\n");
            agree(update, &Method::Update, sdp("agreed"));
        };
        let (response, ()) = tokio::join!(asking, answering);
        assert_eq!(&response.unwrap().body[..], b"v=0\r\ns=agreed\r\n", "{transport:?}");

        let asking = theirs.request(Method::Update, Headers::new(), sdp("theirs"));
        let answering = async {
            let Some(OutgoingEvent::Request { request, early }) = call.next().await else {
                panic!("no UPDATE")
            };
            assert_eq!(early.id(), ours.id());
            agree(request, &Method::Update, sdp("agreed"));
        };
        let (response, ()) = tokio::join!(asking, answering);
        assert_eq!(response.unwrap().status, StatusCode::OK);

        let mut taken = invite.accept(Answer::default()).await.unwrap();
        let placed = answered(&mut call).await;
        assert_eq!(placed.id(), ours.id(), "the early dialog became the call");
        assert!(matches!(taken.next().await, Some(CallEvent::Confirmed(_))));
        placed.hangup(Headers::new()).await.unwrap();
        assert!(matches!(taken.next().await, Some(CallEvent::Ended(EndReason::Remote { .. }))));
        closed([caller, callee]).await;
    }
}

#[tokio::test]
async fn an_offer_of_the_callee_is_answered_in_the_prack() {
    for transport in BOTH {
        let (caller, callee, mut incoming) = pair(transport).await;
        let options = CallOptions { reliability: Some(Reliability::Required), delayed_offer: true };
        let call = OutgoingInvite { body: None, options, ..call_to(&callee) };
        let mut call = caller.invite(call).await.unwrap();
        let mut invite = invited(&mut incoming).await;
        assert!(invite.request().body.is_empty());
        invite.provisional(StatusCode::RINGING, Headers::new(), sdp("offer")).await.unwrap();
        let (early, body, offer) = ringing(&mut call).await;
        assert_eq!((&body[..], offer), (&b"v=0\r\ns=offer\r\n"[..], true));
        let acknowledging = early.prack(Headers::new(), sdp("answer"));
        let (response, told) = tokio::join!(acknowledging, acknowledged(&mut invite));
        assert_eq!((response.unwrap().status, &told[..]), (StatusCode::OK, &b"v=0\r\ns=answer\r\n"[..]));
        assert!(early.prack(Headers::new(), None).await.is_err(), "nothing waits any more");
        let taken = invite.accept(Answer::default()).await.unwrap();
        let mut placed = answered(&mut call).await;
        taken.hangup(Headers::new()).await.unwrap();
        assert!(matches!(placed.next().await, Some(CallEvent::Ended(_))), "{transport:?}");
        closed([caller, callee]).await;
    }
}

#[tokio::test]
async fn ringing_rings_again_and_each_is_acknowledged_in_order() {
    for transport in BOTH {
        let (caller, callee, mut incoming) = pair(transport).await;
        let mut call = caller.invite(call_to(&callee)).await.unwrap();
        let mut invite = invited(&mut incoming).await;
        for status in [StatusCode::RINGING, StatusCode::SESSION_PROGRESS, StatusCode::RINGING] {
            invite.provisional(status, Headers::new(), None).await.unwrap();
        }
        let mut rung = Vec::new();
        for _ in 0..3 {
            let Some(OutgoingEvent::Provisional { response, .. }) = call.next().await else { panic!() };
            rung.push(response.status.code());
            acknowledged(&mut invite).await;
        }
        assert_eq!(rung, [180, 183, 180], "{transport:?}");
        assert!(invite.reject(Reply::new(StatusCode::BUSY_HERE)));
        let Some(OutgoingEvent::Failed(response)) = call.next().await else { panic!("not refused") };
        assert_eq!(response.status, StatusCode::BUSY_HERE);
        closed([caller, callee]).await;
    }
}

#[tokio::test]
async fn what_is_left_unread_before_the_answer_comes_in_the_call() {
    for transport in BOTH {
        let (caller, callee, mut incoming) = pair(transport).await;
        let mut call = caller.invite(call_to(&callee)).await.unwrap();
        let mut invite = invited(&mut incoming).await;
        invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        let (early, ..) = ringing(&mut call).await;
        acknowledged(&mut invite).await;
        let key = Body { content_type: "application/dtmf-relay".into(), bytes: "Signal=5\r\n".into() };
        let asking = early.request(Method::Info, Headers::new(), Some(key));
        let answering = async {
            // Both arrive by one socket in their order, so the INFO is there when the call is taken.
            let mut taken = invite.accept(Answer::default()).await.unwrap();
            loop {
                match taken.next().await {
                    Some(CallEvent::Request(info)) => {
                        agree(info, &Method::Info, None);
                        return taken;
                    }
                    Some(CallEvent::Confirmed(_)) => {}
                    other => panic!("no INFO: {other:?}"),
                }
            }
        };
        let (response, taken) = tokio::join!(asking, answering);
        assert_eq!(response.unwrap().status, StatusCode::OK, "{transport:?}");
        let placed = answered(&mut call).await;
        placed.hangup(Headers::new()).await.unwrap();
        drop(taken);
        closed([caller, callee]).await;
    }
}

#[tokio::test]
async fn an_early_dialog_is_given_up_by_bye_with_its_reason() {
    for transport in BOTH {
        let (caller, callee, mut incoming) = pair(transport).await;
        let mut call = caller.invite(call_to(&callee)).await.unwrap();
        let mut invite = invited(&mut incoming).await;
        invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        let (early, ..) = ringing(&mut call).await;
        acknowledged(&mut invite).await;
        let mut headers = Headers::new();
        headers.push(HeaderName::REASON, "Q.850;cause=16");
        early.hangup(headers).unwrap();
        assert!(invite.next().await.is_none(), "the caller gave up");
        let bye = invite.cancel_request().unwrap();
        assert_eq!(bye.method, Method::Bye);
        assert_eq!(bye.headers.get(HeaderName::REASON).unwrap(), "Q.850;cause=16");
        let Some(OutgoingEvent::Failed(response)) = call.next().await else { panic!("not ended") };
        assert_eq!(response.status, StatusCode::REQUEST_TERMINATED, "{transport:?}");
        assert!(early.request(Method::Info, Headers::new(), None).await.is_err(), "it is over");
        closed([caller, callee]).await;
    }
}

#[tokio::test]
async fn an_info_package_that_nobody_asked_for_is_refused() {
    let (caller, callee, mut incoming) = pair(Transport::Udp).await;
    let (ours, mut theirs) = connect(&caller, &callee, &mut incoming).await;
    for (package, status) in
        [(true, StatusCode::BAD_INFO_PACKAGE), (false, StatusCode::UNSUPPORTED_MEDIA_TYPE)]
    {
        let mut headers = Headers::new();
        if package {
            headers.push("Info-Package", "conference");
        }
        let body = Body { content_type: "application/x".into(), bytes: "1".into() };
        let (response, event) = tokio::join!(ours.request(Method::Info, headers, Some(body)), async {
            matches!(theirs.next().await, Some(CallEvent::Request(_)))
        });
        let response = response.unwrap();
        assert!(event);
        assert_eq!((response.status, response.headers.contains("Recv-Info")), (status, package));
        let accept = response.headers.get(HeaderName::ACCEPT);
        assert_eq!(accept.as_deref(), (!package).then_some(""), "what is taken instead: nothing");
    }
    ours.hangup(Headers::new()).await.unwrap();
    theirs.next().await;
    closed([caller, callee]).await;
}

/// A response of a peer that writes its messages itself: the headers of the request that it has to repeat, and more.
fn worded(request: &str, status: &str, more: &str, body: &str) -> String {
    let names = ["Via", "From", "Call-ID", "CSeq"];
    let repeated = request.lines().filter(|line| names.contains(&line.split(':').next().unwrap()));
    let repeated: String = repeated.map(|line| format!("{line}\r\n")).collect();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "SIP/2.0 {status}\r\n{repeated}To: <sip:callee@127.0.0.1>;tag=theirs\r\n{more}{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The next message that begins so, and whence it came.
async fn heard(peer: &tokio::net::UdpSocket, what: &str) -> (String, std::net::SocketAddr) {
    let mut octets = vec![0; 65_536];
    loop {
        let (length, from) = peer.recv_from(&mut octets).await.unwrap();
        let text = String::from_utf8_lossy(&octets[..length]).into_owned();
        if text.starts_with(what) {
            return (text, from);
        }
    }
}

#[tokio::test]
async fn an_offer_in_a_provisional_response_to_a_reinvite_is_told_and_answered_in_the_prack() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let (caller, _) = end(Transport::Udp, config.clone()).await;
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = peer.local_addr().unwrap();
    let contact = format!("Contact: <sip:callee@{addr}>\r\n");
    let hear = async |what: &str| heard(&peer, what).await;
    let uri: iqra_sip::Uri = format!("sip:callee@{addr}").parse().unwrap();
    let call = OutgoingInvite { to: iqra_sip::message::NameAddr::new(uri.clone()), uri, ..call_to(&caller) };
    let mut call = caller.invite(call).await.unwrap();
    let (invite, from) = hear("INVITE ").await;
    peer.send_to(worded(&invite, "200 OK", &contact, "v=0\r\n").as_bytes(), from).await.unwrap();
    let mut placed = answered(&mut call).await;
    hear("ACK ").await;

    let handle = placed.handle();
    let asking = tokio::spawn(async move { handle.request(Method::Invite, Headers::new(), None).await });
    let (again, _) = hear("INVITE ").await;
    let reliable = format!("{contact}Require: 100rel\r\nRSeq: 7\r\n");
    let ringing = worded(&again, "183 Session Progress", &reliable, "v=0\r\ns=offer\r\n");
    peer.send_to(ringing.as_bytes(), from).await.unwrap();
    let Some(CallEvent::Offered(response)) = placed.next().await else { panic!("no offer") };
    assert_eq!(&*response.body, b"v=0\r\ns=offer\r\n");
    let taking = async {
        let (prack, _) = hear("PRACK ").await;
        peer.send_to(worded(&prack, "200 OK", "", "").as_bytes(), from).await.unwrap();
        prack
    };
    let (settled, prack) = tokio::join!(placed.prack(Headers::new(), sdp("answer")), taking);
    assert_eq!(settled.unwrap().status, StatusCode::OK);
    assert!(prack.contains("RAck: 7 2 INVITE\r\n") && prack.ends_with("v=0\r\ns=answer\r\n"), "{prack}");
    assert!(placed.prack(Headers::new(), None).await.is_err(), "nothing waits any more");
    peer.send_to(worded(&again, "200 OK", &contact, "").as_bytes(), from).await.unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status, StatusCode::OK);
    hear("ACK ").await;
    placed.hangup(Headers::new()).await.unwrap();
    let (bye, _) = hear("BYE ").await;
    peer.send_to(worded(&bye, "200 OK", "", "").as_bytes(), from).await.unwrap();
    closed([caller]).await;
}

#[tokio::test]
async fn the_answer_to_a_reinvite_that_was_cancelled_meanwhile_is_an_error() {
    let (caller, _) = end(Transport::Udp, EngineConfig::default()).await;
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = peer.local_addr().unwrap();
    let hear = async |what: &str| heard(&peer, what).await;
    let uri: iqra_sip::Uri = format!("sip:callee@{addr}").parse().unwrap();
    let call = OutgoingInvite { to: iqra_sip::message::NameAddr::new(uri.clone()), uri, ..call_to(&caller) };
    let mut call = caller.invite(call).await.unwrap();
    let (invite, from) = hear("INVITE ").await;
    let contact = format!("Contact: <sip:callee@{addr}>\r\n");
    peer.send_to(worded(&invite, "200 OK", &contact, "v=0\r\n").as_bytes(), from).await.unwrap();
    let mut placed = answered(&mut call).await;
    hear("ACK ").await;

    let line = |name: &str| invite.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let asks = |method: &str| {
        format!(
            "{method} sip:us@{from} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch=z9hG4bKr\r\nMax-Forwards: 70\r\n\
             From: <sip:callee@127.0.0.1>;tag=theirs\r\nTo:{}\r\nCall-ID:{}\r\nCSeq: 1 {method}\r\n{contact}\
             Content-Length: 0\r\n\r\n",
            line("From:"),
            line("Call-ID:"),
        )
    };
    peer.send_to(asks("INVITE").as_bytes(), from).await.unwrap();
    let Some(CallEvent::Request(reinvite)) = placed.next().await else { panic!("no re-INVITE") };
    peer.send_to(asks("CANCEL").as_bytes(), from).await.unwrap();
    let (refused, _) = hear("SIP/2.0 487 ").await;
    assert!(refused.contains("CSeq: 1 INVITE\r\n"), "{refused}");
    let answer = Reply { body: sdp("answer"), ..Reply::new(StatusCode::OK) };
    assert!(matches!(reinvite.respond(answer), Err(iqra_sip::net::Error::Engine(_))));
    peer.send_to(asks("ACK").as_bytes(), from).await.unwrap();
    placed.hangup(Headers::new()).await.unwrap();
    let (bye, _) = hear("BYE ").await;
    peer.send_to(worded(&bye, "200 OK", "", "").as_bytes(), from).await.unwrap();
    closed([caller]).await;
}
