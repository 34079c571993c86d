//! JsSIP under node, over WebSocket, plain and secure: registration, calls each way, digits, hold, transfers, CANCEL.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::endpoint::{LOOPBACK, SDP, Us, agree, ask_in, dtmf, hello, request, requested};
use iqra_peers::jssip::Jssip;
use iqra_peers::phone::{self, Act, Phone as _, Says};
use iqra_peers::pki::Pki;
use iqra_peers::registrar::Registrar;
use iqra_sip::auth::{Algorithm, Role};
use iqra_sip::event::Body;
use iqra_sip::net::{Endpoint, IncomingRequest};
use iqra_sip::{EngineConfig, Method, StatusCode, TransferConfig, Transport};

async fn over_ws(config: EngineConfig) -> (Us, Jssip) {
    let mut us = Us::bind(Endpoint::builder().ws(LOOPBACK).config(config)).await;
    let phone = Jssip::start(&mut us, None, None).await;
    (us, phone)
}

async fn close(mut us: Us, phone: Jssip) {
    phone.quit(&mut us, None).await;
    us.close().await;
}

/// Cell: JsSIP | call over WebSocket
/// Cell: JsSIP | call from the peer, its BYE
/// Cell: JsSIP | registration of the peer at us
/// Cell: JsSIP | digest: we ask a caller
/// Cell: JsSIP | digest: we ask a request other than INVITE
/// Cell: JsSIP | INFO with DTMF by the peer
/// Cell: JsSIP | re-INVITE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn jssip_registers_and_calls_over_websocket() {
    let mut us = Us::bind(Endpoint::builder().ws(LOOPBACK)).await;
    let mut registrar = Registrar::new(Algorithm::Md5, Role::Agent);
    let mut phone = Jssip::start(&mut us, None, Some(&mut registrar)).await;
    phone.act(Act::Call("sip:service@127.0.0.1;X-Phone-Id=p1"));
    let IncomingRequest::Invite(invite) = registrar.admit(&mut us).await else { panic!("no INVITE") };
    assert_eq!(invite.source().transport, Transport::Ws);
    assert_eq!(invite.request().uri.param("x-phone-id"), Some(Some("p1")), "whatever its case");
    let mut call = us.take(invite).await;
    phone.says(Says::Established);
    phone::sends_a_digit(&mut phone, &mut call).await;
    phone::holds_and_resumes(&mut phone, &mut call).await;
    phone::hangs_up(&mut phone, call).await;
    phone.quit(&mut us, Some(&mut registrar)).await;
    us.close().await;
}

/// Cell: JsSIP | call over secure WebSocket
/// Cell: JsSIP | call from the peer, our BYE
/// Cell: JsSIP | CANCEL by the peer before the answer
/// Cell: JsSIP | call refused by us
/// Cell: JsSIP | INFO with DTMF by us
#[tokio::test(flavor = "multi_thread")]
async fn jssip_calls_over_secure_websocket() {
    let pki = Pki::new();
    let mut us = Us::bind(Endpoint::builder().wss(LOOPBACK).tls_config(pki.open_endpoint())).await;
    let mut phone = Jssip::start(&mut us, Some(&pki), None).await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Wss).await;
    phone::hangs_up(&mut phone, call).await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Wss).await;
    assert_eq!(ask_in(&call, Method::Info, Some(dtmf())).await, StatusCode::OK);
    phone.prints("digit 5");
    phone::is_hung_up(&us, &mut phone, call).await;
    phone::is_refused(&mut us, &mut phone, Transport::Wss).await;
    phone::gives_up(&mut us, &mut phone, Transport::Wss).await;
    close(us, phone).await;
}

/// Cell: JsSIP | call to the peer, our BYE
/// Cell: JsSIP | call to the peer, its BYE
/// Cell: JsSIP | CANCEL by us before the answer
/// Cell: JsSIP | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn jssip_is_called_over_its_connection() {
    let (us, mut phone) = over_ws(EngineConfig::default()).await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::hangs_up(&mut phone, call).await;
    phone::is_given_up(&us, &mut phone).await;
    assert_eq!(phone::refuses(&us, &mut phone).await, StatusCode::TEMPORARILY_UNAVAILABLE);
    close(us, phone).await;
}

/// Cell: JsSIP | call over secure WebSocket
/// Cell: JsSIP | call to the peer, our BYE
/// Cell: JsSIP | call to the peer, its BYE
/// Cell: JsSIP | CANCEL by us before the answer
#[tokio::test(flavor = "multi_thread")]
async fn jssip_is_called_over_its_secure_connection() {
    let pki = Pki::new();
    let mut us = Us::bind(Endpoint::builder().wss(LOOPBACK).tls_config(pki.open_endpoint())).await;
    let mut phone = Jssip::start(&mut us, Some(&pki), None).await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_held_and_resumed(&call).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::hangs_up(&mut phone, call).await;
    phone::is_given_up(&us, &mut phone).await;
    close(us, phone).await;
}

/// Cell: JsSIP | re-INVITE by us
/// Cell: JsSIP | UPDATE by us
/// Cell: JsSIP | UPDATE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_jssip_is_changed() {
    let (us, mut phone) = over_ws(EngineConfig::default()).await;
    let mut call = phone::is_called(&us, &mut phone).await;
    phone::is_held_and_resumed(&call).await;
    assert_eq!(ask_in(&call, Method::Update, Some(Body::sdp(SDP))).await, StatusCode::OK);
    phone.act(Act::Update);
    assert_eq!(agree(requested(&mut call).await), Method::Update);
    phone.settles();
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: JsSIP | REFER by us
#[tokio::test(flavor = "multi_thread")]
async fn we_transfer_jssip() {
    let (mut us, mut phone) = over_ws(EngineConfig::default()).await;
    let call = phone::is_called(&us, &mut phone).await;
    let elsewhere = us.uri("elsewhere", Transport::Ws);
    let second = phone::is_transferred(&mut us, call, elsewhere).await;
    us.hang_up(second).await;
    close(us, phone).await;
}

/// Cell: JsSIP | REFER by the peer
#[tokio::test(flavor = "multi_thread")]
async fn jssip_transfers_us() {
    let transfer = TransferConfig { refer: true, ..TransferConfig::default() };
    let (mut us, mut phone) = over_ws(EngineConfig { transfer, ..EngineConfig::default() }).await;
    let mut other = Jssip::start(&mut us, None, None).await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Ws).await;
    phone::transfers_us(&mut us, &mut phone, call, &mut other).await;
    phone.prints("transferred");
    other.quit(&mut us, None).await;
    close(us, phone).await;
}

/// Cell: JsSIP | MESSAGE by the peer
/// Cell: JsSIP | MESSAGE by us
/// Cell: JsSIP | OPTIONS by the peer
/// Cell: JsSIP | OPTIONS by us
#[tokio::test(flavor = "multi_thread")]
async fn requests_outside_calls_pass_each_way() {
    let (mut us, mut phone) = over_ws(EngineConfig::default()).await;
    phone::sends_a_message(&mut us, &mut phone, Transport::Ws).await;
    phone::asks_options(&mut us, &mut phone, Transport::Ws).await;
    let hops = || phone.hops();
    assert_eq!(us.endpoint.request(hello(phone.uri()), hops()).await.unwrap().status, StatusCode::OK);
    let options = request(Method::Options, phone.uri());
    assert_eq!(us.endpoint.request(options, hops()).await.unwrap().status, StatusCode::OK);
    phone.prints("message hello");
    close(us, phone).await;
}
