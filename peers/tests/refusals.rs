//! The ways a call is refused, as a real caller hears them: 404, 403, 482, 486, 503.

use std::net::SocketAddr;

use iqra_peers::caller::Caller;
use iqra_peers::g711::Law;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::sip_text::Text;
use iqra_peers::sipp::Sipp;

/// A run of sipp that expects this status.
fn refused(quickstart: &Server, business: &str, server: SocketAddr, status: u16) -> Sipp {
    quickstart.sipp_for(business, "p1", server, "refused", Law::Mu).key("status", status)
}

/// The final response to one INVITE for that number.
fn answer(quickstart: &Server, uri: &str) -> Text {
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(uri);
    caller.final_response()
}

/// Calls up to the 200 of the backend and leaves the call standing.
fn stand(quickstart: &Server, uri: &str) -> Caller {
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(uri);
    let redirect = caller.final_response();
    let mut caller = caller.following(&redirect);
    caller.answered();
    caller
}

#[test]
fn sipp_is_refused_with_the_status_of_the_reason() {
    let quickstart = Server::quickstart(&Setup::default());
    for (business, status) in [("nobody", 404), ("inactive", 403), ("elsewhere", 403)] {
        let calls = refused(&quickstart, business, quickstart.proxy(0), status);
        calls.calls(3, 10).run().assert_all_succeeded();
        let calls = refused(&quickstart, business, quickstart.proxy_tcp(), status);
        calls.tcp().calls(3, 10).run().assert_all_succeeded();
    }
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn an_unknown_number_of_a_known_business_is_404() {
    let quickstart = Server::quickstart(&Setup::default());
    let refusal = answer(&quickstart, &quickstart.uri("open", "no-such-phone"));
    assert_eq!(refusal.status(), Some(404), "{refusal:?}");
    assert!(refusal.header("Reason").contains("Q.850"), "{refusal:?}");
    quickstart.stop();
}

#[test]
fn a_second_call_of_an_account_of_one_is_486_until_the_first_ends() {
    let quickstart = Server::quickstart(&Setup::default());
    let uri = quickstart.uri("single", "p1");
    let mut first = stand(&quickstart, &uri);
    let calls = refused(&quickstart, "single", quickstart.proxy(0), 486);
    calls.calls(3, 10).run().assert_all_succeeded();
    // One tenant's limit is no reason to stay away from this server (RFC 3261 §21.5.4 is for the server's own).
    assert_eq!(answer(&quickstart, &uri).header("Retry-After"), "");
    first.bye();
    quickstart.assert_no_call_left();
    stand(&quickstart, &uri).bye();
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn a_full_backend_is_503_until_a_call_ends() {
    let quickstart = Server::quickstart(&Setup { capacity: 1, ..Setup::default() });
    let mut first = stand(&quickstart, &quickstart.open_uri());
    let calls = refused(&quickstart, "open", quickstart.proxy(0), 503);
    calls.calls(3, 10).run().assert_all_succeeded();
    first.bye();
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn a_copy_that_came_another_way_is_482() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(&quickstart.open_uri());
    assert_eq!(caller.final_response().status(), Some(302));
    caller.send_invite_merged();
    let refusal = caller.final_response();
    assert_eq!(refusal.status(), Some(482), "{refusal:?}");
    assert_eq!(quickstart.count("entries_total"), 1);
    quickstart.stop();
}

#[test]
fn a_committed_entry_refuses_its_caller_at_the_proxy_with_482() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut standing = stand(&quickstart, &quickstart.open_uri());
    let mut again = standing.moved_to(quickstart.proxy(0));
    again.invite(&quickstart.open_uri());
    let refusal = again.final_response();
    assert_eq!(refusal.status(), Some(482), "{refusal:?}");
    standing.bye();
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn methods_and_extensions_that_are_not_served_are_named() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut caller = Caller::udp(quickstart.proxy(0)).with_headers("Require: no-such-extension\r\n");
    caller.invite(&quickstart.open_uri());
    let refusal = caller.final_response();
    assert_eq!((refusal.status(), refusal.header("Unsupported")), (Some(420), "no-such-extension"));
    quickstart.assert_no_call_left();
    quickstart.stop();
}
