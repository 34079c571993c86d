//! linphone, by its console: calls both ways, Digest by SHA-256, a redirect, CANCEL.

use iqra_peers::end::{End, Registrar};
use iqra_peers::linphone::Linphone;
use iqra_sip::auth::Algorithm;
use iqra_sip::net::IncomingRequest;
use iqra_sip::roles::redirect::{Choice, redirect};
use iqra_sip::{Headers, StatusCode, Transport};

/// Cell: linphone | call from the peer, its BYE
#[test]
fn a_call_from_linphone_is_taken_and_ended_by_it() {
    let (mut end, mut phone) = (End::udp(), Linphone::start());
    phone.order(&format!("call {}", end.uri("service", Transport::Udp)));
    let invite = end.invite();
    let call = end.accept(invite);
    phone.order("terminate");
    end.ended(call);
    phone.quit();
    end.close();
}

/// Cell: linphone | call from the peer, our BYE
#[test]
fn a_call_from_linphone_is_ended_by_us() {
    let (mut end, mut phone) = (End::udp(), Linphone::start());
    phone.order(&format!("call {}", end.uri("service", Transport::Udp)));
    let invite = end.invite();
    let call = end.accept(invite);
    end.hang_up(call);
    phone.quit();
    end.close();
}

/// Cell: linphone | call to the peer, our BYE
#[test]
fn a_call_to_linphone_is_answered() {
    let (end, mut phone) = (End::udp(), Linphone::start());
    let mut call = end.call(end.to(&format!("sip:phone@127.0.0.1:{}", phone.sip_port())));
    end.ringing(&mut call);
    phone.order("answer");
    let call = end.answered(call);
    end.hang_up(call);
    phone.quit();
    end.close();
}

/// Cell: linphone | redirect by us, followed by the peer
#[test]
fn linphone_follows_our_redirect() {
    let (mut end, mut phone) = (End::udp(), Linphone::start());
    phone.order(&format!("call {}", end.uri("service", Transport::Udp)));
    let here = format!("{};X-CallQueue-Id=q1", end.uri("backend", Transport::Udp)).parse().unwrap();
    let away = redirect(StatusCode::MOVED_TEMPORARILY, [Choice { uri: here, q: 1_000 }]).unwrap();
    assert!(end.invite().reject(away));
    let again = end.invite();
    assert_eq!(again.request().uri.user(), Some("backend"));
    assert_eq!(again.request().uri.param("x-callqueue-id"), Some(Some("q1")));
    let call = end.accept(again);
    phone.order("terminate");
    end.ended(call);
    phone.quit();
    end.close();
}

/// Cell: linphone | digest: we ask a caller
#[test]
fn a_call_from_linphone_proves_its_password() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let (mut end, mut phone) = (End::udp(), Linphone::start());
        phone.order(&format!("call {}", end.uri("service", Transport::Udp)));
        let admitted = Registrar::new(algorithm).admit(&mut end);
        let IncomingRequest::Invite(invite) = admitted else { panic!("{}", end.messages()) };
        let call = end.accept(invite);
        phone.order("terminate");
        end.ended(call);
        phone.quit();
        end.close();
    }
}

/// Cell: linphone | CANCEL by the peer before the answer
#[test]
fn linphone_gives_up_while_it_rings() {
    let (mut end, mut phone) = (End::udp(), Linphone::start());
    phone.order(&format!("call {}", end.uri("service", Transport::Udp)));
    let mut invite = end.invite();
    let rung = end.wait("180", invite.provisional(StatusCode::RINGING, Headers::new(), None));
    end.ok(rung);
    phone.order("terminate");
    end.wait("CANCEL", invite.cancelled());
    end.received("ACK");
    phone.quit();
    end.close();
}
