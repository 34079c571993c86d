//! The token of a redirect, and an INVITE that comes more than once: one entry, one call, one caller.

use std::time::Duration;

use iqra_peers::caller::Caller;
use iqra_peers::ours::{Server, Setup};
use iqra_peers::sip_text::Text;
use iqra_peers::wait;

/// An INVITE for this number at the proxy, and its 302.
fn redirected(quickstart: &Server, uri: &str) -> (Caller, Text) {
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(uri);
    let redirect = caller.final_response();
    assert_eq!(redirect.status(), Some(302), "{redirect:?}");
    (caller, redirect)
}

fn answered_and_ended(mut caller: Caller) {
    caller.answered();
    caller.bye();
}

/// The token parameter of a Contact: where it starts and ends.
fn token(contact: &str) -> std::ops::Range<usize> {
    let start =
        contact.find("X-CallQueue-Id=").expect("the Contact carries a token") + "X-CallQueue-Id=".len();
    let end = contact[start..].find([';', '?', '>']).map_or(contact.len(), |length| start + length);
    start..end
}

#[test]
fn a_second_caller_with_the_token_is_482() {
    let quickstart = Server::quickstart(&Setup::default());
    let (caller, redirect) = redirected(&quickstart, &quickstart.slow_uri());
    let first = caller.following(&redirect);
    let mut thief = Caller::udp(quickstart.backend());
    // Before the answer the claim is held, after it the entry is committed: refused both times.
    wait::until("the claim", Duration::from_secs(10), || (quickstart.count("calls") == 1).then_some(()));
    thief.invite(&redirect.contact());
    assert_eq!(thief.final_response().status(), Some(482));
    answered_and_ended(first);
    thief.invite(&redirect.contact());
    assert_eq!(thief.final_response().status(), Some(482));
    quickstart.assert_no_call_left();
    assert_eq!(quickstart.count("calls_total"), 1);
    quickstart.stop();
}

#[test]
fn a_forged_token_is_403_and_none_is_404() {
    let quickstart = Server::quickstart(&Setup::default());
    let (caller, redirect) = redirected(&quickstart, &quickstart.open_uri());
    let contact = redirect.contact();
    let range = token(&contact);
    for at in [range.start, (range.start + range.end) / 2, range.end - 1] {
        let mut forged = contact.clone().into_bytes();
        forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
        let forged = String::from_utf8(forged).unwrap();
        let mut forger = Caller::udp(quickstart.backend());
        forger.invite(&forged);
        let refusal = forger.final_response();
        assert_eq!(refusal.status(), Some(403), "character {at}: {refusal:?}");
    }
    for user in ["", "+15550100@"] {
        let mut stranger = Caller::udp(quickstart.backend());
        stranger.invite(&format!("sip:{user}{}", quickstart.backend()));
        assert_eq!(stranger.final_response().status(), Some(404), "{user}");
    }
    // The true one still works.
    answered_and_ended(caller.following(&redirect));
    quickstart.assert_no_call_left();
    quickstart.stop();
}

#[test]
fn the_callers_own_repetition_before_the_answer_is_served() {
    let quickstart = Server::quickstart(&Setup::default());
    let (caller, redirect) = redirected(&quickstart, &quickstart.slow_uri());
    let mut first = caller.following(&redirect);
    first.send_invite_again();
    first.send_invite_again();
    answered_and_ended(first);
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1, 1));
    quickstart.stop();
}

#[test]
fn a_repetition_as_a_new_transaction_before_the_answer_is_not_refused() {
    let quickstart = Server::quickstart(&Setup::default());
    let (caller, redirect) = redirected(&quickstart, &quickstart.slow_uri());
    let first = caller.following(&redirect);
    // The same caller from another socket with a higher CSeq, as after a lost connection.
    let mut again = first.moved_to(quickstart.backend());
    again.invite(&redirect.contact());
    answered_and_ended(again);
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1, 1));
    quickstart.stop();
}

#[test]
fn an_invite_retransmitted_makes_one_entry_and_one_call() {
    let quickstart = Server::quickstart(&Setup::default());
    let mut caller = Caller::udp(quickstart.proxy(0));
    caller.invite(&quickstart.open_uri());
    for _ in 0..5 {
        caller.send_invite_again();
    }
    let redirect = caller.final_response();
    caller.send_invite_again();
    answered_and_ended(caller.following(&redirect));
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1, 1));
    quickstart.stop();
}

#[test]
fn an_invite_repeated_through_the_other_proxy_port_makes_one_entry_and_one_call() {
    let quickstart = Server::quickstart(&Setup::default());
    let (caller, _) = redirected(&quickstart, &quickstart.open_uri());
    let mut other = caller.moved_to(quickstart.proxy(1));
    other.invite(&quickstart.open_uri());
    let redirect = other.final_response();
    assert_eq!(redirect.status(), Some(302), "{redirect:?}");
    assert_eq!((quickstart.count("entries_total"), quickstart.count("slots")), (1, 1));
    answered_and_ended(other.following(&redirect));
    quickstart.assert_no_call_left();
    assert_eq!((quickstart.count("entries_total"), quickstart.count("calls_total")), (1, 1));
    quickstart.stop();
}
