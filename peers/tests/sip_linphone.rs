//! linphone, by its console: calls both ways over UDP, TCP and TLS, Digest by SHA-256, registration, hold, transfers,
//! redirects both ways, digits, CANCEL. `Cell` lines make the matrix of docs/interop.md.

use std::time::Duration;

use iqra_peers::endpoint::{LOOPBACK, SDP, Us, answered, ask_in, dtmf, request, soon};
use iqra_peers::linphone::{Linphone, Profile};
use iqra_peers::phone::{self, Act, Phone as _, Says};
use iqra_peers::pki::Pki;
use iqra_peers::registrar::Registrar;
use iqra_sip::auth::{Algorithm, Role};
use iqra_sip::event::{Body, Reliability};
use iqra_sip::net::{CallEvent, CallPolicy, Endpoint, IncomingRequest};
use iqra_sip::observe::Direction;
use iqra_sip::{EngineConfig, Headers, Method, SessionTimers, StatusCode, TransferConfig, Transport};

async fn ends() -> (Us, Linphone) {
    (Us::plain().await, Linphone::start())
}

async fn close(us: Us, phone: Linphone) {
    phone.quit();
    us.close().await;
}

/// Cell: linphone | call from the peer, its BYE
/// Cell: linphone | call from the peer, our BYE
/// Cell: linphone | re-INVITE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn calls_from_linphone() {
    let (mut us, mut phone) = ends().await;
    let mut call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::holds_and_resumes(&mut phone, &mut call).await;
    phone::hangs_up(&mut phone, call).await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | call to the peer, its BYE
/// Cell: linphone | call to the peer, our BYE
/// Cell: linphone | re-INVITE by us
#[tokio::test(flavor = "multi_thread")]
async fn calls_to_linphone() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_held_and_resumed(&call).await;
    phone::hangs_up(&mut phone, call).await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | CANCEL by the peer before the answer
/// Cell: linphone | CANCEL by us before the answer
/// Cell: linphone | call refused by us
/// Cell: linphone | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn calls_with_linphone_that_are_not_taken() {
    let (mut us, mut phone) = ends().await;
    phone::gives_up(&mut us, &mut phone, Transport::Udp).await;
    phone::is_given_up(&us, &mut phone).await;
    phone::is_refused(&mut us, &mut phone, Transport::Udp).await;
    assert_eq!(phone::refuses(&us, &mut phone).await, StatusCode::DECLINE);
    close(us, phone).await;
}

async fn each_way(mut us: Us, mut phone: Linphone, transport: Transport) {
    let call = phone::calls_us(&mut us, &mut phone, transport).await;
    phone::hangs_up(&mut phone, call).await;
    let call = phone::is_called(&us, &mut phone).await;
    assert_eq!(call.remote_flow().map(|flow| flow.transport), Some(transport));
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | call over TCP
#[tokio::test(flavor = "multi_thread")]
async fn calls_with_linphone_over_tcp() {
    let us = Us::bind(Endpoint::builder().tcp(LOOPBACK)).await;
    let profile = Profile { transport: Some(Transport::Tcp), ..Profile::default() };
    each_way(us, Linphone::configured(&profile), Transport::Tcp).await;
}

/// Cell: linphone | call over TLS
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_linphone_over_tls() {
    let pki = Pki::new();
    let mut us = Us::bind(Endpoint::builder().tls(LOOPBACK).tls_config(pki.open_endpoint())).await;
    let profile = Profile { transport: Some(Transport::Tls), pki: Some(&pki), ..Profile::default() };
    let mut phone = Linphone::configured(&profile);
    let call = phone::calls_us(&mut us, &mut phone, Transport::Tls).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | redirect by us, followed by the peer
#[tokio::test(flavor = "multi_thread")]
async fn linphone_follows_our_redirect() {
    let (mut us, mut phone) = ends().await;
    phone::follows_our_redirect(&mut us, &mut phone).await;
    close(us, phone).await;
}

/// Cell: linphone | redirect by the peer, followed by us
#[tokio::test(flavor = "multi_thread")]
async fn we_follow_linphone_to_another() {
    let (us, mut phone) = ends().await;
    let mut other = Linphone::start();
    let mut call = us.endpoint.call(phone.invite(), CallPolicy::default()).await.unwrap();
    let pursued = tokio::spawn(async move { answered(&mut call).await.0 });
    phone.says(Says::Ringing);
    phone.act(Act::Redirect(&other.uri().to_string()));
    other.says(Says::Ringing);
    other.act(Act::Answer);
    let call = soon("the answer", pursued).await.unwrap();
    phone::is_hung_up(&us, &mut other, call).await;
    other.quit();
    close(us, phone).await;
}

/// Cell: linphone | digest: we ask a caller
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_linphone_proves_its_password() {
    for (algorithm, role) in [(Algorithm::Md5, Role::Agent), (Algorithm::Sha256, Role::Proxy)] {
        let (mut us, mut phone) = ends().await;
        phone.act(Act::Call(&us.uri("service", Transport::Udp).to_string()));
        let admitted = Registrar::new(algorithm, role).admit(&mut us).await;
        let IncomingRequest::Invite(invite) = admitted else { panic!("no INVITE") };
        let call = us.take(invite).await;
        phone::hangs_up(&mut phone, call).await;
        close(us, phone).await;
    }
}

/// Cell: linphone | registration of the peer at us
/// Cell: linphone | digest: we ask a request other than INVITE
#[tokio::test(flavor = "multi_thread")]
async fn linphone_registers_and_leaves() {
    let (mut us, mut phone) = ends().await;
    let mut registrar = Registrar::new(Algorithm::Sha256, Role::Agent);
    phone.register(us.addr(), registrar.register(&mut us)).await;
    phone.order("unregister");
    let left = registrar.register(&mut us).await;
    let expires = left.request.headers.get("Expires").map(std::borrow::Cow::into_owned);
    assert_eq!(expires.as_deref(), Some("0"));
    close(us, phone).await;
}

/// Cell: linphone | REFER by the peer
#[tokio::test(flavor = "multi_thread")]
async fn linphone_transfers_us() {
    let transfer = TransferConfig { refer: true, ..TransferConfig::default() };
    let mut us = Us::with(EngineConfig { transfer, ..EngineConfig::default() }).await;
    let [mut phone, mut other] = [(); 2].map(|()| Linphone::start());
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::transfers_us(&mut us, &mut phone, call, &mut other).await;
    phone.quit();
    close(us, other).await;
}

/// Cell: linphone | REFER by us
#[tokio::test(flavor = "multi_thread")]
async fn we_transfer_linphone() {
    let (mut us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    let elsewhere = us.uri("elsewhere", Transport::Udp);
    let second = phone::is_transferred(&mut us, call, elsewhere).await;
    us.hang_up(second).await;
    close(us, phone).await;
}

/// Cell: linphone | INFO with DTMF by the peer
/// Cell: linphone | INFO with DTMF by us
#[tokio::test(flavor = "multi_thread")]
async fn digits_travel_in_info_each_way() {
    let (mut us, mut phone) = ends().await;
    let mut call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::sends_a_digit(&mut phone, &mut call).await;
    assert_eq!(ask_in(&call, Method::Info, Some(dtmf())).await, StatusCode::OK);
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | OPTIONS by us
#[tokio::test(flavor = "multi_thread")]
async fn linphone_answers_our_options() {
    let (us, phone) = ends().await;
    assert_eq!(us.ask(request(Method::Options, phone.uri())).await.status, StatusCode::OK);
    close(us, phone).await;
}

/// Cell: linphone | UPDATE by us
#[tokio::test(flavor = "multi_thread")]
async fn linphone_takes_our_update() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    assert_eq!(ask_in(&call, Method::Update, Some(Body::sdp(SDP))).await, StatusCode::OK);
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | reliable provisional responses of ours
#[tokio::test(flavor = "multi_thread")]
async fn linphone_acknowledges_our_ringing() {
    let config = EngineConfig { reliability: Reliability::IfSupported, ..EngineConfig::default() };
    let mut us = Us::with(config).await;
    let mut phone = Linphone::configured(&Profile { sip: &["100rel_support_level=1"], ..Profile::default() });
    phone.act(Act::Call(&us.uri("service", Transport::Udp).to_string()));
    let mut invite = us.called().await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    let event = soon("the PRACK", invite.next()).await;
    assert!(matches!(&event, Some(CallEvent::Acknowledged(_))), "{event:?}");
    let call = us.take(invite).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | session interval refused by us
#[tokio::test(flavor = "multi_thread")]
async fn linphone_asks_for_a_longer_session() {
    let minimum = Duration::from_secs(600);
    let session = SessionTimers { minimum, ..SessionTimers::default() };
    let mut us = Us::with(EngineConfig { session, ..EngineConfig::default() }).await;
    let sip = ["session_expires_enabled=1", "session_expires_value=200", "session_expires_min_value=200"];
    let mut phone = Linphone::configured(&Profile { sip: &sip, ..Profile::default() });
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    assert_eq!(us.count(Direction::Out, "422 to INVITE"), 1);
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}
