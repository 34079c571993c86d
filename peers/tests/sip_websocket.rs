//! JsSIP under node: registration, a call with a digit, hold and BYE, over WebSocket, plain and secure.

use std::path::Path;
use std::time::Duration;

use iqra_peers::end::{ACCOUNT, End, LOOPBACK, Registrar};
use iqra_peers::pki::Pki;
use iqra_peers::program::Launch;
use iqra_sip::auth::Algorithm;
use iqra_sip::event::Reply;
use iqra_sip::net::{Endpoint, IncomingRequest};
use iqra_sip::{Method, StatusCode, Transport};

const SOON: Duration = Duration::from_secs(15);

/// A phone that runs its script against an end; `roots` is whom it trusts besides the usual.
fn phone(end: &End, transport: Transport, roots: &str) -> iqra_peers::program::Program {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(folder.join("node_modules").exists(), "run npm ci in {}", folder.display());
    let addr = end.addr(transport);
    let scheme = transport.to_string().to_ascii_lowercase();
    let (user, password) = ACCOUNT;
    let server = format!("{scheme}://{addr}");
    let (account, callee) = (format!("sip:{user}@127.0.0.1"), "sip:service@127.0.0.1;X-Phone-Id=p1");
    let arguments = ["phone.js", &server, &account, password, callee];
    Launch::new("node", "nodejs").args(arguments).env("NODE_EXTRA_CA_CERTS", roots).dir(&folder).start()
}

/// All that the phone does, from our side.
fn serve(end: &mut End, transport: Transport, roots: &str) {
    let mut registrar = Registrar::new(Algorithm::Md5);
    let phone = phone(end, transport, roots);
    registrar.register(end);
    phone.line("done: register", SOON);
    let IncomingRequest::Invite(invite) = registrar.admit(end) else { panic!("{}", end.messages()) };
    assert_eq!(invite.source().transport, transport);
    assert_eq!(invite.request().uri.param("x-phone-id"), Some(Some("p1")), "whatever its case");
    let mut call = end.accept(invite);
    phone.line("done: call", SOON);
    let info = end.request_in(&mut call, &Method::Info);
    assert!(info.request().body.starts_with(b"Signal=5"), "{info:?}");
    info.respond(Reply::new(StatusCode::OK));
    for step in ["hold", "resume"] {
        let again = end.request_in(&mut call, &Method::Invite);
        end.agree(again);
        phone.line(&format!("done: {step}"), SOON);
    }
    end.ended(call);
    registrar.register(end);
    phone.line("done: unregister", SOON);
    let ended = phone.end(SOON);
    assert!(ended.status.success(), "{}", ended.output);
}

/// Cell: JsSIP | call over WebSocket
/// Cell: JsSIP | call from the peer, its BYE
/// Cell: JsSIP | registration of the peer at us
/// Cell: JsSIP | digest: we ask a caller
/// Cell: JsSIP | digest: we ask a request other than INVITE
/// Cell: JsSIP | INFO with DTMF by the peer
/// Cell: JsSIP | re-INVITE by the peer
#[test]
fn jssip_registers_and_calls_over_websocket() {
    let mut end = End::bind(Endpoint::builder().ws(LOOPBACK));
    serve(&mut end, Transport::Ws, "");
    end.close();
}

/// Cell: JsSIP | call over secure WebSocket
#[test]
fn jssip_registers_and_calls_over_secure_websocket() {
    let pki = Pki::new();
    let mut end = End::bind(Endpoint::builder().wss(LOOPBACK).tls_config(pki.open_endpoint()));
    serve(&mut end, Transport::Wss, &pki.roots().display().to_string());
    end.close();
}
