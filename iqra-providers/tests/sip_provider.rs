//! Calls that `SipProvider` places to a callee on loopback.

#![cfg(feature = "sip")]
#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use iqra_media::codec::Registry;
use iqra_media::conversation::{CallContext, Direction, SinkRefusal, Tone};
use iqra_media::net::{MediaConfig, MediaDriver, Overload};
use iqra_media::sdp::{self, Capabilities};
use iqra_providers::client::{PlaceCall, PlacedCall, ProviderCallId, ProviderClient, ProviderError};
use iqra_providers::lifecycle::{CallState, EndCause};
use iqra_providers::sip::{SipMedia, SipProvider};
use iqra_sip::event::{EndReason, Reply};
use iqra_sip::message::header::{CSeq, From};
use iqra_sip::net::{Answer, Call, CallEvent, Endpoint, Incoming, IncomingInvite, IncomingRequest};
use iqra_sip::{HeaderName, Headers, StatusCode};

const PATIENCE: Duration = Duration::from_secs(10);
const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

struct World {
    provider: SipProvider,
    endpoint: Endpoint,
    media: MediaDriver,
    callee: Endpoint,
    incoming: Incoming,
    told: Arc<Mutex<Vec<CallContext>>>,
}

impl World {
    async fn new() -> Self {
        let (endpoint, _) = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap();
        let (callee, incoming) = Endpoint::builder().udp(LOOPBACK).bind().await.unwrap();
        // The machine that tests may be as slow as it likes.
        let overload = Overload { refuse: false, ..Overload::default() };
        let config = MediaConfig { bind: [127, 0, 0, 1].into(), overload, ..MediaConfig::default() };
        let media = MediaDriver::start(config).unwrap();
        let provider =
            SipProvider::new(endpoint.clone(), SipMedia::new(media.clone(), [127, 0, 0, 1].into()));
        Self { provider, endpoint, media, callee, incoming, told: Arc::default() }
    }

    fn uri(&self) -> String {
        format!("sip:bob@{}", self.callee.listeners()[0].addr)
    }

    fn request(&self) -> PlaceCall {
        let told = self.told.clone();
        let factory = move |call: CallContext| {
            told.lock().unwrap().push(call);
            async { Ok::<_, SinkRefusal>(Tone::new(1000.0)) }
        };
        PlaceCall::new(self.uri(), "+12025550100", Arc::new(factory))
    }

    async fn place(&self) -> PlacedCall {
        self.provider.place(self.request()).await.unwrap()
    }

    async fn invited(&mut self) -> IncomingInvite {
        match tokio::time::timeout(PATIENCE, self.incoming.next()).await.unwrap() {
            Some(IncomingRequest::Invite(invite)) => invite,
            other => panic!("an INVITE expected, not {other:?}"),
        }
    }

    /// Nothing is left of any call.
    async fn close(self) {
        let gone = async {
            while self.media.counts().ports + self.endpoint.counts().dialogs > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("ports and dialogs are free again");
    }
}

async fn next(call: &mut PlacedCall) -> Option<CallState> {
    tokio::time::timeout(PATIENCE, call.states.recv()).await.expect("a state in time")
}

async fn ended(call: &mut PlacedCall) -> EndCause {
    loop {
        if let CallState::Ended(cause) = next(call).await.expect("an end") {
            assert_eq!(next(call).await, None, "the end is the last state");
            return cause;
        }
    }
}

async fn accepted(invite: IncomingInvite) -> Call {
    let capabilities = Capabilities::new(Registry::default().specs(), [127, 0, 0, 1].into(), 40_000, 1);
    let agreed = sdp::answer(&invite.request().body, &capabilities).unwrap();
    invite.accept(Answer::sdp(agreed.local())).await.unwrap()
}

async fn end_of(mut call: Call) -> EndReason {
    loop {
        match tokio::time::timeout(PATIENCE, call.next()).await.unwrap() {
            Some(CallEvent::Ended(reason)) => return reason,
            Some(_) => {}
            None => panic!("the end is told"),
        }
    }
}

fn moved_to(uri: &str) -> Reply {
    Reply::new(StatusCode::MOVED_TEMPORARILY).header(HeaderName::CONTACT, format!("<{uri}>"))
}

#[tokio::test]
async fn an_answered_call_tells_its_states_and_ends_when_the_far_end_hangs_up() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    assert_eq!(world.provider.status(&call.id).await.unwrap(), Some(CallState::Dialling));
    let invite = world.invited().await;
    let from: From = invite.request().headers.typed().unwrap();
    assert_eq!(from.0.uri.user_decoded().as_deref(), Some("+12025550100"), "a number will do as caller id");
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    assert_eq!(next(&mut call).await, Some(CallState::Ringing));
    let theirs = accepted(invite).await;
    assert_eq!(next(&mut call).await, Some(CallState::Answered));
    assert_eq!(world.provider.status(&call.id).await.unwrap(), Some(CallState::Answered));
    theirs.hangup(Headers::new()).await.unwrap();
    assert_eq!(ended(&mut call).await, EndCause::CallerHungUp);
    let told = world.told.lock().unwrap().pop().unwrap();
    assert_eq!((told.direction, told.called.as_deref()), (Direction::Outbound, Some("bob")));
    world.close().await;
}

#[tokio::test]
async fn a_busy_callee_ends_the_call_as_busy() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    world.invited().await.reject(Reply::new(StatusCode::new(486).unwrap()));
    assert_eq!(ended(&mut call).await, EndCause::Busy);
    world.close().await;
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_cancelled_at_the_ring_limit() {
    let mut world = World::new().await;
    let request = PlaceCall { ring_limit: Duration::from_millis(200), ..world.request() };
    let mut call = world.provider.place(request).await.unwrap();
    let mut invite = world.invited().await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    tokio::time::timeout(PATIENCE, invite.cancelled()).await.unwrap();
    assert_eq!(ended(&mut call).await, EndCause::NoAnswer);
    world.close().await;
}

#[tokio::test]
async fn a_redirect_is_followed_with_the_next_cseq() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    let first = world.invited().await;
    let call_id = first.call_id().into_owned();
    first.reject(moved_to(&format!("{};X-CallQueue-Id=abc", world.uri())));
    let second = world.invited().await;
    let cseq: CSeq = second.request().headers.typed().unwrap();
    assert_eq!((second.call_id().into_owned(), cseq.number), (call_id, 2));
    assert_eq!(second.request().uri.param_decoded("X-CallQueue-Id").as_deref(), Some("abc"));
    accepted(second).await.hangup(Headers::new()).await.unwrap();
    assert_eq!(ended(&mut call).await, EndCause::CallerHungUp);
    world.close().await;
}

#[tokio::test]
async fn a_chain_of_redirects_ends_after_five() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    let uri = world.uri();
    for turn in 0..6 {
        world.invited().await.reject(moved_to(&format!("{uri};turn={turn}")));
    }
    assert_eq!(ended(&mut call).await, EndCause::Rejected(302));
    let more = tokio::time::timeout(Duration::from_millis(100), world.incoming.next()).await;
    assert!(more.is_err(), "no INVITE after the last redirect");
    world.close().await;
}

#[tokio::test]
async fn a_redirect_to_the_same_place_is_not_followed() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    let uri = world.uri();
    world.invited().await.reject(moved_to(&uri));
    assert_eq!(ended(&mut call).await, EndCause::Rejected(302));
    world.close().await;
}

#[tokio::test]
async fn hanging_up_before_the_answer_cancels() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    let mut invite = world.invited().await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
    assert_eq!(next(&mut call).await, Some(CallState::Ringing));
    world.provider.hang_up(&call.id).await.unwrap();
    tokio::time::timeout(PATIENCE, invite.cancelled()).await.unwrap();
    assert_eq!(ended(&mut call).await, EndCause::Cancelled);
    world.close().await;
}

#[tokio::test]
async fn hanging_up_after_the_answer_sends_bye_and_may_be_repeated() {
    let mut world = World::new().await;
    let mut call = world.place().await;
    let theirs = accepted(world.invited().await).await;
    assert_eq!(next(&mut call).await, Some(CallState::Answered));
    for _ in 0..2 {
        world.provider.hang_up(&call.id).await.unwrap();
    }
    assert!(matches!(end_of(theirs).await, EndReason::Remote { .. }));
    assert_eq!(ended(&mut call).await, EndCause::AgentHungUp);
    assert_eq!(world.provider.status(&call.id).await.unwrap(), None);
    world.provider.hang_up(&ProviderCallId("unknown".into())).await.unwrap();
    world.close().await;
}

#[tokio::test]
async fn calls_above_the_limit_are_refused_and_room_comes_back() {
    let mut world = World::new().await;
    world.provider = world.provider.clone().max_calls(1);
    let mut call = world.place().await;
    let second = world.provider.place(world.request()).await;
    assert!(matches!(second, Err(ProviderError::Exhausted(_))));
    world.invited().await.reject(Reply::new(StatusCode::new(486).unwrap()));
    ended(&mut call).await;
    let again = async {
        while world.provider.place(world.request()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    world.invited().await.reject(Reply::new(StatusCode::new(486).unwrap()));
    world.close().await;
}
