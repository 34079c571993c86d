//! Our record-routing proxy between two real programs: calls changed and ended by either side, and given up, over one
//! transport and over two. `Cell` lines make the matrix of docs/interop.md.

use iqra_peers::baresip::{self, Profile};
use iqra_peers::endpoint::{LOOPBACK, SOON, Us};
use iqra_peers::jssip::Jssip;
use iqra_peers::linphone::Linphone;
use iqra_peers::phone::{Act, Phone, Says};
use iqra_peers::pki::Pki;
use iqra_peers::sipp::{LIMIT, Sipp, called, finish};
use iqra_peers::wait;
use iqra_sip::Transport;
use iqra_sip::net::{Builder, Endpoint};
use iqra_sip::observe::Direction;
use iqra_sip::roles::relay::Target;

fn phone() -> baresip::Phone {
    baresip::Phone::configured(&Profile::default(), &[])
}

fn plain() -> Builder {
    Endpoint::builder().udp(LOOPBACK).tcp(LOOPBACK)
}

/// The caller calls, and the proxy takes the call on to the callee, which rings.
async fn rings(proxy: &mut Us, caller: &mut impl Phone, callee: &mut impl Phone, transport: Transport) {
    caller.act(Act::Call(&proxy.uri("service", transport).to_string()));
    proxy.relays(Target { uri: Some(callee.uri()), hops: callee.hops(), ..Target::default() }).await;
    callee.says(Says::Ringing);
}

/// Two calls that are answered, held and resumed by the caller, and ended by one side each, and one that is given up.
async fn talk(mut proxy: Us, caller: &mut impl Phone, callee: &mut impl Phone, transport: Transport) -> Us {
    for callee_ends in [true, false] {
        rings(&mut proxy, caller, callee, transport).await;
        callee.act(Act::Answer);
        caller.says(Says::Established);
        callee.says(Says::Established);
        for act in [Act::Hold, Act::Resume] {
            let before = proxy.count(Direction::Out, "ACK");
            caller.act(act);
            caller.settles();
            wait::until("the change", SOON, || (proxy.count(Direction::Out, "ACK") > before).then_some(()));
        }
        if callee_ends {
            callee.act(Act::HangUp);
        } else {
            caller.act(Act::HangUp);
        }
        caller.says(Says::Over);
        callee.says(Says::Over);
    }
    rings(&mut proxy, caller, callee, transport).await;
    caller.act(Act::HangUp);
    caller.says(Says::Over);
    callee.says(Says::Over);
    proxy
}

/// Cell: baresip | call through our record-routing proxy
/// Cell: baresip | CANCEL through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn baresip_reaches_baresip_over_udp() {
    let (mut caller, mut callee) = (phone(), phone());
    let proxy = Us::relay(plain()).await;
    let proxy = talk(proxy, &mut caller, &mut callee, Transport::Udp).await;
    caller.quit();
    callee.quit();
    proxy.close().await;
}

/// Cell: baresip | call through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn baresip_reaches_baresip_from_tls_to_udp_and_tcp() {
    let pki = Pki::new();
    let config = vec![
        format!("sip_certificate {}", pki.joined("phone").display()),
        format!("sip_cafile {}", pki.roots().display()),
    ];
    let secured = Profile { config, ..Profile::default() };
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut caller = baresip::Phone::configured(&secured, &[]);
        let mut callee = baresip::Phone::configured(&Profile { transport, ..Profile::default() }, &[]);
        let proxy = Us::relay(plain().tls(LOOPBACK).tls_config(pki.open_endpoint())).await;
        let proxy = talk(proxy, &mut caller, &mut callee, Transport::Tls).await;
        caller.quit();
        callee.quit();
        proxy.close().await;
    }
}

/// Cell: linphone | call through our record-routing proxy
/// Cell: linphone | CANCEL through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn linphone_reaches_linphone() {
    let (mut caller, mut callee) = (Linphone::start(), Linphone::start());
    let proxy = Us::relay(plain()).await;
    let proxy = talk(proxy, &mut caller, &mut callee, Transport::Udp).await;
    caller.quit();
    callee.quit();
    proxy.close().await;
}

/// Cell: JsSIP | call through our record-routing proxy
/// Cell: JsSIP | CANCEL through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn jssip_reaches_baresip_from_websocket_to_udp() {
    let mut proxy = Us::relay(Endpoint::builder().ws(LOOPBACK).udp(LOOPBACK)).await;
    let mut caller = Jssip::start(&mut proxy, None, None).await;
    let mut callee = phone();
    let mut proxy = talk(proxy, &mut caller, &mut callee, Transport::Ws).await;
    callee.quit();
    caller.quit(&mut proxy, None).await;
    proxy.close().await;
}

/// Cell: JsSIP | call through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn baresip_reaches_jssip_from_udp_to_secure_websocket() {
    let pki = Pki::new();
    let builder = Endpoint::builder().udp(LOOPBACK).wss(LOOPBACK).tls_config(pki.open_endpoint());
    let mut proxy = Us::relay(builder).await;
    let mut callee = Jssip::start(&mut proxy, Some(&pki), None).await;
    let mut caller = phone();
    let mut proxy = talk(proxy, &mut caller, &mut callee, Transport::Udp).await;
    caller.quit();
    callee.quit(&mut proxy, None).await;
    proxy.close().await;
}

/// Cell: sipp | call through our record-routing proxy
#[tokio::test(flavor = "multi_thread")]
async fn sipp_reaches_sipp() {
    let mut proxy = Us::relay(plain()).await;
    for transport in [Transport::Udp, Transport::Tcp] {
        let callee = called("called_takes");
        let caller = Sipp::calling(proxy.addr_of(transport), "caller_hangs_up").within(LIMIT);
        let caller = if transport == Transport::Tcp { caller.tcp() } else { caller }.start();
        let uri = format!("sip:sipp@{}", callee.address()).parse().ok();
        proxy.relays(Target { uri, ..Target::default() }).await;
        for run in [caller, callee] {
            finish(run);
        }
    }
    proxy.close().await;
}
