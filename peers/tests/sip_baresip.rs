//! baresip: calls in both directions over UDP, TCP and TLS, registrations, hold, transfers, redirects, CANCEL.
//! `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::baresip::{Phone, Profile};
use iqra_peers::endpoint::{LOOPBACK, Us, ask_in, dtmf, hello, request};
use iqra_peers::phone::{self, Phone as _, Says};
use iqra_peers::pki::Pki;
use iqra_peers::registrar::{ACCOUNT, Registrar};
use iqra_sip::auth::{Algorithm, Role};
use iqra_sip::message::header::To;
use iqra_sip::net::{Endpoint, IncomingRequest};
use iqra_sip::observe::Direction;
use iqra_sip::{EngineConfig, HeaderName, Method, StatusCode, TransferConfig, Transport};

async fn ends() -> (Us, Phone) {
    (Us::plain().await, Phone::configured(&Profile::default(), &[]))
}

async fn close(us: Us, phone: Phone) {
    phone.quit();
    us.close().await;
}

/// A phone that registers with us, by a transport.
fn registering(us: &Us, transport: Transport) -> Profile {
    let (addr, name) = (us.addr_of(transport), transport.as_param());
    let (user, password) = ACCOUNT;
    let account = format!(
        "<sip:{user}@{addr};transport={name}>;regint=600;auth_user={user};auth_pass={password};outbound=\"sip:{addr};transport={name}\""
    );
    Profile { account, ..Profile::default() }
}

/// Cell: baresip | call from the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_baresip_is_taken_and_ended_by_it() {
    let (mut us, mut phone) = ends().await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | call from the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_baresip_is_ended_by_us() {
    let (mut us, mut phone) = ends().await;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | call to the peer, our BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_baresip_is_ended_by_us() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | call to the peer, its BYE
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_baresip_is_ended_by_it() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

async fn each_way(mut us: Us, mut phone: Phone, transport: Transport) {
    let call = phone::calls_us(&mut us, &mut phone, transport).await;
    phone::hangs_up(&mut phone, call).await;
    let call = phone::is_called(&us, &mut phone).await;
    assert_eq!(call.remote_flow().map(|flow| flow.transport), Some(transport));
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | call over TCP
#[tokio::test(flavor = "multi_thread")]
async fn calls_with_baresip_over_tcp() {
    let us = Us::bind(Endpoint::builder().tcp(LOOPBACK)).await;
    let profile = Profile { transport: Transport::Tcp, ..Profile::default() };
    each_way(us, Phone::configured(&profile, &[]), Transport::Tcp).await;
}

/// Cell: baresip | call over TLS
#[tokio::test(flavor = "multi_thread")]
async fn calls_with_baresip_over_tls() {
    let pki = Pki::new();
    let us = Us::bind(Endpoint::builder().tls(LOOPBACK).tls_config(pki.open_endpoint())).await;
    let config = vec![
        format!("sip_certificate {}", pki.joined("phone").display()),
        format!("sip_cafile {}", pki.roots().display()),
    ];
    let profile = Profile { config, transport: Transport::Tls, ..Profile::default() };
    each_way(us, Phone::configured(&profile, &[]), Transport::Tls).await;
}

/// Cell: baresip | CANCEL by the peer before the answer
#[tokio::test(flavor = "multi_thread")]
async fn baresip_gives_up_while_it_rings() {
    let (mut us, mut phone) = ends().await;
    phone::gives_up(&mut us, &mut phone, Transport::Udp).await;
    close(us, phone).await;
}

/// Cell: baresip | CANCEL by us before the answer
#[tokio::test(flavor = "multi_thread")]
async fn we_give_up_while_baresip_rings() {
    let (us, mut phone) = ends().await;
    phone::is_given_up(&us, &mut phone).await;
    close(us, phone).await;
}

/// Cell: baresip | call refused by us
#[tokio::test(flavor = "multi_thread")]
async fn baresip_is_refused() {
    let (mut us, mut phone) = ends().await;
    phone::is_refused(&mut us, &mut phone, Transport::Udp).await;
    close(us, phone).await;
}

/// Cell: baresip | call refused by the peer
#[tokio::test(flavor = "multi_thread")]
async fn baresip_refuses() {
    let (us, mut phone) = ends().await;
    assert_eq!(phone::refuses(&us, &mut phone).await, StatusCode::BUSY_HERE);
    close(us, phone).await;
}

/// Cell: baresip | re-INVITE by the peer
#[tokio::test(flavor = "multi_thread")]
async fn baresip_holds_and_resumes() {
    let (mut us, mut phone) = ends().await;
    let mut call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::holds_and_resumes(&mut phone, &mut call).await;
    phone::hangs_up(&mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | re-INVITE by us
#[tokio::test(flavor = "multi_thread")]
async fn baresip_takes_our_reinvite() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    phone::is_held_and_resumed(&call).await;
    phone::is_hung_up(&us, &mut phone, call).await;
    close(us, phone).await;
}

/// Cell: baresip | INFO with DTMF by us
/// Cell: baresip | MESSAGE by us
#[tokio::test(flavor = "multi_thread")]
async fn baresip_takes_a_digit_and_a_message() {
    let (us, mut phone) = ends().await;
    let call = phone::is_called(&us, &mut phone).await;
    assert_eq!(ask_in(&call, Method::Info, Some(dtmf())).await, StatusCode::OK);
    phone::is_hung_up(&us, &mut phone, call).await;
    assert_eq!(us.ask(hello(phone.uri())).await.status, StatusCode::OK);
    close(us, phone).await;
}

/// Cell: baresip | REFER by the peer
#[tokio::test(flavor = "multi_thread")]
async fn baresip_transfers_us() {
    let transfer = TransferConfig { refer: true, ..TransferConfig::default() };
    let mut us = Us::with(EngineConfig { transfer, ..EngineConfig::default() }).await;
    let phones = [(); 2].map(|()| Phone::configured(&Profile::default(), &[]));
    let [mut phone, mut other] = phones;
    let call = phone::calls_us(&mut us, &mut phone, Transport::Udp).await;
    phone::transfers_us(&mut us, &mut phone, call, &mut other).await;
    phone.says(Says::Over);
    phone.quit();
    close(us, other).await;
}

/// Cell: baresip | REFER by us
#[tokio::test(flavor = "multi_thread")]
async fn we_transfer_baresip() {
    let mut us = Us::plain().await;
    let account = format!("{};call_transfer=yes", Profile::default().account);
    let mut phone = Phone::configured(&Profile { account, ..Profile::default() }, &[]);
    let call = phone::is_called(&us, &mut phone).await;
    let elsewhere = us.uri("elsewhere", Transport::Udp);
    let second = phone::is_transferred(&mut us, call, elsewhere).await;
    us.hang_up(second).await;
    close(us, phone).await;
}

/// Cell: baresip | redirect by us, followed by the peer
#[tokio::test(flavor = "multi_thread")]
async fn baresip_follows_our_redirect() {
    let (mut us, mut phone) = ends().await;
    phone::follows_our_redirect(&mut us, &mut phone).await;
    close(us, phone).await;
}

/// Cell: baresip | registration of the peer at us
/// Cell: baresip | digest: we ask a request other than INVITE
#[tokio::test(flavor = "multi_thread")]
async fn baresip_registers_with_a_password_and_is_called() {
    let mut us = Us::plain().await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut registrar = Registrar::new(Algorithm::Md5, Role::Agent);
        let before = us.count(Direction::Out, "401 to REGISTER");
        let mut phone = Phone::configured(&registering(&us, transport), &[]);
        let binding = registrar.register(&mut us).await;
        phone.event("REGISTER_OK");
        assert!(binding.request.headers.typed::<To>().is_ok());
        assert_eq!(us.count(Direction::Out, "401 to REGISTER"), before + 1);
        phone.quit_after(registrar.register(&mut us)).await;
    }
    us.close().await;
}

/// Cell: baresip | digest: we ask a caller
#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_baresip_proves_its_password() {
    let mut us = Us::plain().await;
    let mut registrar = Registrar::new(Algorithm::Md5, Role::Agent);
    let mut phone = Phone::configured(&registering(&us, Transport::Udp), &[]);
    registrar.register(&mut us).await;
    phone.event("REGISTER_OK");
    phone.dial(&us.uri("service", Transport::Udp).to_string());
    let IncomingRequest::Invite(invite) = registrar.admit(&mut us).await else { panic!("no INVITE") };
    assert!(invite.request().headers.contains(HeaderName::AUTHORIZATION));
    let call = us.take(invite).await;
    phone.says(Says::Established);
    phone::hangs_up(&mut phone, call).await;
    phone.quit_after(registrar.register(&mut us)).await;
    us.close().await;
}

/// Cell: baresip | OPTIONS by the peer
/// Cell: baresip | OPTIONS by us
#[tokio::test(flavor = "multi_thread")]
async fn options_are_answered_either_way() {
    let (mut us, mut phone) = ends().await;
    assert_eq!(us.ask(request(Method::Options, phone.uri())).await.status, StatusCode::OK);
    phone::asks_options(&mut us, &mut phone, Transport::Udp).await;
    close(us, phone).await;
}
