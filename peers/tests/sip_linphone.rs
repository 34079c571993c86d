//! linphone, by its console: calls both ways over UDP, TCP and TLS, Digest by SHA-256, registration, hold, transfers,
//! redirects both ways, digits, CANCEL. `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::endpoint::{LOOPBACK, Us, answered, ask_in, dtmf, request, soon};
use iqra_peers::linphone::{Linphone, Profile};
use iqra_peers::phone::{self, Act, Phone as _, Says};
use iqra_peers::pki::Pki;
use iqra_peers::registrar::Registrar;
use iqra_sip::auth::{Algorithm, Role};
use iqra_sip::net::{CallPolicy, Endpoint, IncomingRequest};
use iqra_sip::{EngineConfig, Method, StatusCode, TransferConfig, Transport};

async fn ends() -> (Us, Linphone) {
    (Us::plain().await, Linphone::start())
}

async fn close(us: Us, phone: Linphone) {
    phone.quit();
    us.close().await;
}

/// Cell: linphone | call from the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_linphone_is_taken_and_ended_by_it() {
    let (mut us, mut phone) = ends().await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | call from the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_linphone_is_ended_by_us() {
    let (mut us, mut phone) = ends().await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | call to the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_linphone_is_answered() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | call to the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_linphone_is_ended_by_it() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::hangs_up(&mut phone, call).await;
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

/// Cell: linphone | CANCEL by the peer before the answer
#[tokio::test(flavor = "multi_thread")]
async fn linphone_gives_up_while_it_rings() {
    let (mut us, mut phone) = ends().await;
    phone::gives_up(&mut us, &mut phone, Transport::Udp).await;
    close(us, phone).await;
}

/// Cell: linphone | CANCEL by us before the answer
#[tokio::test(flavor = "multi_thread")]
async fn we_give_up_while_linphone_rings() {
    let (us, mut phone) = ends().await;
    phone::is_given_up(&us, &mut phone).await;
    close(us, phone).await;
}

/// Cell: linphone | call refused by us
#[tokio::test(flavor = "multi_thread")]
async fn linphone_is_refused() {
    let (mut us, mut phone) = ends().await;
    phone::is_refused(&mut us, &mut phone, Transport::Udp).await;
    close(us, phone).await;
}

/// Cell: linphone | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn linphone_refuses() {
    let (us, mut phone) = ends().await;
    assert_eq!(phone::refuses(&us, &mut phone).await, StatusCode::DECLINE);
    close(us, phone).await;
}

/// Cell: linphone | re-INVITE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn linphone_holds_and_resumes() {
    let (mut us, mut phone) = ends().await;
    let mut call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::holds_and_resumes(&mut phone, &mut call).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: linphone | re-INVITE by us
#[tokio::test(flavor = "multi_thread")]
async fn linphone_is_held_and_resumed() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_held_and_resumed(&call).await;
    phone::is_hung_up(&us, &mut phone, call).await;
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
