//! baresip: calls in both directions over UDP, TCP and TLS, registrations, hold, transfers, redirects, CANCEL.

use iqra_peers::baresip::{Phone, Profile};
use iqra_peers::end::{ACCOUNT, End, LOOPBACK, Registrar};
use iqra_peers::pki::Pki;
use iqra_sip::auth::Algorithm;
use iqra_sip::event::{Refer, ReferTarget, ReferralEnd, ReferralEvent, Reply};
use iqra_sip::message::header::To;
use iqra_sip::net::{CallEvent, Endpoint, IncomingRequest, OutgoingEvent};
use iqra_sip::observe::Direction;
use iqra_sip::roles::redirect::{Choice, redirect};
use iqra_sip::{EngineConfig, HeaderName, Headers, Method, StatusCode, TransferConfig, Transport};

fn phone() -> Phone {
    Phone::configured(&Profile::default(), &[])
}

fn phone_uri(phone: &Phone) -> String {
    format!("sip:phone@127.0.0.1:{}", phone.sip_port())
}

/// A phone that registers with an end, by a transport.
fn registering(end: &End, transport: Transport) -> Profile {
    let addr = end.addr(transport);
    let name = transport.to_string().to_ascii_lowercase();
    let (user, password) = ACCOUNT;
    let account = format!(
        "<sip:{user}@{addr};transport={name}>;regint=600;auth_user={user};auth_pass={password};outbound=\"sip:{addr};transport={name}\""
    );
    Profile { account, ..Profile::default() }
}

/// A call from the phone that the phone ends.
fn is_called_by(end: &mut End, phone: &mut Phone, transport: Transport) {
    phone.dial(&end.uri("service", transport));
    let invite = end.invite();
    assert_eq!(invite.source().transport, transport);
    let call = end.accept(invite);
    phone.event("CALL_ESTABLISHED");
    phone.hang_up();
    end.ended(call);
}

/// Cell: baresip | call from the peer, its BYE
#[test]
fn a_call_from_baresip_is_taken_and_ended_by_it() {
    let (mut end, mut phone) = (End::udp(), phone());
    is_called_by(&mut end, &mut phone, Transport::Udp);
    phone.quit();
    end.close();
}

/// Cell: baresip | call from the peer, our BYE
#[test]
fn a_call_from_baresip_is_ended_by_us() {
    let (mut end, mut phone) = (End::udp(), phone());
    phone.dial(&end.uri("service", Transport::Udp));
    let invite = end.invite();
    let call = end.accept(invite);
    phone.event("CALL_ESTABLISHED");
    end.hang_up(call);
    phone.event("CALL_CLOSED");
    phone.quit();
    end.close();
}

/// Cell: baresip | call over TCP
#[test]
fn a_call_from_baresip_over_tcp() {
    let mut end = End::bind(Endpoint::builder().tcp(LOOPBACK));
    let mut phone = phone();
    is_called_by(&mut end, &mut phone, Transport::Tcp);
    phone.quit();
    end.close();
}

/// Cell: baresip | call over TLS
#[test]
fn a_call_from_baresip_over_tls() {
    let pki = Pki::new();
    let mut end = End::bind(Endpoint::builder().tls(LOOPBACK).tls_config(pki.open_endpoint()));
    let config = vec![
        format!("sip_certificate {}", pki.joined("phone").display()),
        format!("sip_cafile {}", pki.roots().display()),
    ];
    let mut phone = Phone::configured(&Profile { config, ..Profile::default() }, &[]);
    is_called_by(&mut end, &mut phone, Transport::Tls);
    phone.quit();
    end.close();
}

/// Cell: baresip | call to the peer, our BYE
#[test]
fn a_call_to_baresip_is_ended_by_us() {
    let (end, mut phone) = (End::udp(), phone());
    let mut call = end.call(end.to(&phone_uri(&phone)));
    end.ringing(&mut call);
    phone.event("CALL_INCOMING");
    phone.order("accept", "");
    let call = end.answered(call);
    phone.event("CALL_ESTABLISHED");
    end.hang_up(call);
    phone.event("CALL_CLOSED");
    phone.quit();
    end.close();
}

/// Cell: baresip | call to the peer, its BYE
#[test]
fn a_call_to_baresip_is_ended_by_it() {
    let (end, mut phone) = (End::udp(), phone());
    let call = established(&end, &mut phone);
    phone.hang_up();
    end.ended(call);
    phone.quit();
    end.close();
}

fn established(end: &End, phone: &mut Phone) -> iqra_sip::net::Call {
    let call = end.call(end.to(&phone_uri(phone)));
    phone.event("CALL_INCOMING");
    phone.order("accept", "");
    let call = end.answered(call);
    phone.event("CALL_ESTABLISHED");
    call
}

/// Cell: baresip | CANCEL by the peer before the answer
#[test]
fn baresip_gives_up_while_it_rings() {
    let (mut end, mut phone) = (End::udp(), phone());
    phone.dial(&end.uri("service", Transport::Udp));
    let mut invite = end.invite();
    let rung = end.wait("180", invite.provisional(StatusCode::RINGING, Headers::new(), None));
    end.ok(rung);
    phone.event("CALL_RINGING");
    phone.give_up();
    end.wait("CANCEL", invite.cancelled());
    end.sent("487 to INVITE");
    end.received("ACK");
    phone.quit();
    end.close();
}

/// Cell: baresip | CANCEL by us before the answer
#[test]
fn we_give_up_while_baresip_rings() {
    let (end, mut phone) = (End::udp(), phone());
    let mut call = end.call(end.to(&phone_uri(&phone)));
    end.ringing(&mut call);
    phone.event("CALL_INCOMING");
    end.wait("CANCEL", call.cancel(Headers::new()));
    let OutgoingEvent::Failed(response) = end.outcome(&mut call) else { panic!("{}", end.messages()) };
    assert_eq!(response.status, StatusCode::REQUEST_TERMINATED);
    phone.event("CALL_CLOSED");
    phone.quit();
    end.close();
}

/// Cell: baresip | call refused by us
#[test]
fn baresip_is_refused() {
    let (mut end, mut phone) = (End::udp(), phone());
    phone.dial(&end.uri("service", Transport::Udp));
    assert!(end.invite().reject(Reply::new(StatusCode::BUSY_HERE)));
    assert!(phone.event("CALL_CLOSED").contains("486"));
    end.received("ACK");
    phone.quit();
    end.close();
}

/// Cell: baresip | call refused by the peer
#[test]
fn baresip_refuses() {
    let (end, mut phone) = (End::udp(), phone());
    let mut call = end.call(end.to(&phone_uri(&phone)));
    phone.event("CALL_INCOMING");
    phone.order("hangup", "");
    let OutgoingEvent::Failed(response) = end.outcome(&mut call) else { panic!("{}", end.messages()) };
    assert_eq!(response.status, StatusCode::BUSY_HERE);
    phone.quit();
    end.close();
}

/// Cell: baresip | re-INVITE by the peer
#[test]
fn baresip_holds_and_resumes() {
    let (mut end, mut phone) = (End::udp(), phone());
    phone.dial(&end.uri("service", Transport::Udp));
    let invite = end.invite();
    let mut call = end.accept(invite);
    phone.event("CALL_ESTABLISHED");
    for (command, direction) in [("hold", "a=sendonly"), ("resume", "a=sendrecv")] {
        phone.order(command, "");
        let again = end.request_in(&mut call, &Method::Invite);
        let offer = String::from_utf8_lossy(&again.request().body).into_owned();
        assert!(offer.contains(direction), "{offer}");
        end.agree(again);
    }
    phone.hang_up();
    end.ended(call);
    phone.quit();
    end.close();
}

/// Cell: baresip | re-INVITE by us
#[test]
fn baresip_takes_our_reinvite() {
    let (end, mut phone) = (End::udp(), phone());
    let call = established(&end, &mut phone);
    assert_eq!(end.ask_in(&call, Method::Invite, Some(end.session())), StatusCode::OK);
    end.hang_up(call);
    phone.quit();
    end.close();
}

/// Cell: baresip | REFER by the peer
#[test]
fn baresip_transfers_us() {
    let transfer = TransferConfig { refer: true, ..TransferConfig::default() };
    let config = EngineConfig { transfer, ..EngineConfig::default() };
    let mut end = End::bind_with(Endpoint::builder().udp(LOOPBACK), config);
    let (mut phone, mut other) = (phone(), self::phone());
    phone.dial(&end.uri("service", Transport::Udp));
    let invite = end.invite();
    let mut call = end.accept(invite);
    phone.event("CALL_ESTABLISHED");
    phone.order("transfer", &phone_uri(&other));
    let Some(CallEvent::Referred(refer)) = end.wait("REFER", call.next()) else {
        panic!("{}", end.messages())
    };
    let ReferTarget { uri, .. } = refer.target().clone();
    let report = end.ok(refer.accept());
    let second = end.call(end.to(&uri.to_string()));
    other.event("CALL_INCOMING");
    other.order("accept", "");
    let second = end.answered(second);
    end.ok(report.notify(StatusCode::OK));
    end.ended(call);
    end.hang_up(second);
    phone.quit();
    other.quit();
    end.close();
}

/// Cell: baresip | REFER by us
#[test]
fn we_transfer_baresip() {
    let mut end = End::udp();
    let account = "<sip:phone@127.0.0.1>;regint=0;call_transfer=yes".to_owned();
    let mut phone = Phone::configured(&Profile { account, ..Profile::default() }, &[]);
    let call = established(&end, &mut phone);
    let target = end.uri("elsewhere", Transport::Udp).parse().unwrap();
    let mut referral = end.ok(call.refer(Refer::to(target)));
    let invite = end.invite();
    assert_eq!(invite.request().uri.user(), Some("elsewhere"));
    let second = end.accept(invite);
    let outcome = loop {
        match end.wait("NOTIFY", referral.next()) {
            Some(ReferralEvent::Ended(outcome)) => break outcome,
            Some(_) => {}
            None => panic!("{}", end.messages()),
        }
    };
    assert!(matches!(outcome, ReferralEnd::Reported(_)), "{outcome:?}\n{}", end.messages());
    end.hang_up(second);
    drop(call);
    phone.quit();
    end.close();
}

/// Cell: baresip | redirect by us, followed by the peer
#[test]
fn baresip_follows_our_redirect() {
    let (mut end, mut phone) = (End::udp(), phone());
    phone.dial(&end.uri("service", Transport::Udp));
    let here = format!("{};X-CallQueue-Id=q1", end.uri("backend", Transport::Udp)).parse().unwrap();
    let away = redirect(StatusCode::MOVED_TEMPORARILY, [Choice { uri: here, q: 1_000 }]).unwrap();
    assert!(end.invite().reject(away));
    let again = end.invite();
    assert_eq!(again.request().uri.user(), Some("backend"));
    assert_eq!(again.request().uri.param("x-callqueue-id"), Some(Some("q1")));
    let call = end.accept(again);
    phone.event("CALL_ESTABLISHED");
    phone.hang_up();
    end.ended(call);
    phone.quit();
    end.close();
}

/// Cell: baresip | registration of the peer at us
/// Cell: baresip | digest: we ask a request other than INVITE
#[test]
fn baresip_registers_with_a_password_and_is_called() {
    let mut end = End::udp();
    let profile = registering(&end, Transport::Udp);
    let mut registrar = Registrar::new(Algorithm::Md5);
    let mut phone = Phone::configured(&profile, &[]);
    let register = registrar.register(&mut end);
    phone.event("REGISTER_OK");
    assert!(register.headers.typed::<To>().is_ok());
    assert_eq!(end.count(Direction::Out, "401 to REGISTER"), 1);
    phone.quit_after(|| registrar.register(&mut end));
    end.close();
}

/// Cell: baresip | digest: we ask a caller
#[test]
fn a_call_from_baresip_proves_its_password() {
    let mut end = End::udp();
    let profile = registering(&end, Transport::Udp);
    let mut registrar = Registrar::new(Algorithm::Md5);
    let mut phone = Phone::configured(&profile, &[]);
    registrar.register(&mut end);
    phone.event("REGISTER_OK");
    phone.dial(&end.uri("service", Transport::Udp));
    let IncomingRequest::Invite(invite) = registrar.admit(&mut end) else { panic!("{}", end.messages()) };
    assert!(invite.request().headers.contains(HeaderName::AUTHORIZATION));
    let call = end.accept(invite);
    phone.event("CALL_ESTABLISHED");
    phone.hang_up();
    end.ended(call);
    phone.quit_after(|| registrar.register(&mut end));
    end.close();
}

/// Cell: baresip | OPTIONS by the peer
/// Cell: baresip | OPTIONS by us
#[test]
fn options_are_answered_either_way() {
    let (mut end, mut phone) = (End::udp(), phone());
    assert_eq!(end.ask(Method::Options, &phone_uri(&phone)), StatusCode::OK);
    phone.order("options", &end.uri("service", Transport::Udp));
    drop(end.other());
    end.sent("200 to OPTIONS");
    phone.quit();
    end.close();
}
