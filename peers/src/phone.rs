//! A phone of others as a test sees it, whichever it is: what it can be told to do, what it says of its call, and the
//! calls with it that go the same way with every phone.
//!
//! Each script states what passes on both sides. It leaves the phone without a call, or gives the call that stands.

use std::fmt::Display;

use iqra_sip::event::{Body, OutgoingInvite, Refer, ReferralEnd, ReferralEvent, Reply};
use iqra_sip::net::{Call, CallEvent, OutgoingCall};
use iqra_sip::roles::redirect::{Choice, redirect};
use iqra_sip::{Headers, Hop, Method, StatusCode, Transport, Uri};

use crate::endpoint::{
    SDP, Us, agree, answered, ask_in, invite, refused, requested, ringing, soon, until_the_peer_hangs_up,
};

/// What a phone is told to do. A phone that cannot do it panics.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// Call a URI.
    Call(&'a str),
    /// Take the call that rings.
    Answer,
    /// End its call: by BYE, CANCEL or a refusal, as the call stands.
    HangUp,
    /// Hold its call.
    Hold,
    /// Resume it.
    Resume,
    /// Have the other side of its call call a URI.
    Transfer(&'a str),
    /// Send the other side that it be asked for by another URI, while it rings.
    Redirect(&'a str),
    /// Send the digit 5 by INFO.
    Digit,
    /// Send the text `hello` to a URI.
    Message(&'a str),
    /// Ask a URI what it can.
    Options(&'a str),
    /// Change its call by UPDATE.
    Update,
}

/// What a phone says of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It is called.
    Ringing,
    /// The call stands.
    Established,
    /// The call is over, or never came to be.
    Over,
}

/// A phone under remote control.
pub trait Phone {
    /// What leads to it.
    fn uri(&self) -> Uri;

    /// The way to it, where its URI does not tell.
    fn hops(&self) -> Vec<Hop> {
        Vec::new()
    }

    /// Has it do something.
    fn act(&mut self, act: Act<'_>);

    /// Waits until it says this.
    ///
    /// # Panics
    /// When it does not in time.
    fn says(&mut self, what: Says);

    /// Waits until it is through with a change of its call, where it says so and takes no further order before.
    fn settles(&mut self) {}

    /// An INVITE that leads to it.
    fn invite(&self) -> OutgoingInvite {
        OutgoingInvite { hops: self.hops(), ..invite(self.uri()) }
    }
}

/// The phone calls us over a transport, and we take the call.
pub async fn calls_us(us: &mut Us, phone: &mut impl Phone, transport: Transport) -> Call {
    phone.act(Act::Call(&text(us.uri("service", transport))));
    let invite = us.called().await;
    assert_eq!(invite.source().transport, transport);
    let call = us.take(invite).await;
    phone.says(Says::Established);
    call
}

/// We call the phone, and it rings.
pub async fn rings(us: &Us, phone: &mut impl Phone) -> OutgoingCall {
    let mut call = us.call(phone.invite()).await;
    ringing(&mut call).await;
    phone.says(Says::Ringing);
    call
}

/// We call the phone, and it takes the call.
pub async fn is_called(us: &Us, phone: &mut impl Phone) -> Call {
    let mut call = rings(us, phone).await;
    phone.act(Act::Answer);
    let (call, _) = answered(&mut call).await;
    phone.says(Says::Established);
    call
}

/// The phone ends a call that stands.
pub async fn hangs_up(phone: &mut impl Phone, mut call: Call) {
    phone.act(Act::HangUp);
    until_the_peer_hangs_up(&mut call).await;
    phone.says(Says::Over);
}

/// We end a call that stands.
pub async fn is_hung_up(us: &Us, phone: &mut impl Phone, call: Call) {
    us.hang_up(call).await;
    phone.says(Says::Over);
}

/// The phone calls us, and gives up while we ring.
pub async fn gives_up(us: &mut Us, phone: &mut impl Phone, transport: Transport) {
    phone.act(Act::Call(&text(us.uri("service", transport))));
    let mut invite = us.called().await;
    invite.provisional(StatusCode::RINGING, Headers::new(), None).await.expect("sent");
    us.sent("180 to INVITE");
    phone.act(Act::HangUp);
    soon("the CANCEL", invite.cancelled()).await;
    phone.says(Says::Over);
    us.sent("487 to INVITE");
    us.received("ACK");
}

/// We call the phone, and give up while it rings.
pub async fn is_given_up(us: &Us, phone: &mut impl Phone) {
    let mut call = rings(us, phone).await;
    call.cancel(Headers::new()).await;
    assert_eq!(refused(&mut call).await.status, StatusCode::REQUEST_TERMINATED);
    phone.says(Says::Over);
}

/// The phone calls us, and we are busy.
pub async fn is_refused(us: &mut Us, phone: &mut impl Phone, transport: Transport) {
    phone.act(Act::Call(&text(us.uri("service", transport))));
    assert!(us.called().await.reject(Reply::new(StatusCode::BUSY_HERE)));
    phone.says(Says::Over);
    us.received("ACK");
}

/// We call the phone, and it refuses; the status.
pub async fn refuses(us: &Us, phone: &mut impl Phone) -> StatusCode {
    let mut call = rings(us, phone).await;
    phone.act(Act::HangUp);
    let status = refused(&mut call).await.status;
    phone.says(Says::Over);
    status
}

/// The phone holds a call and resumes it, each by an offer that says so.
pub async fn holds_and_resumes(phone: &mut impl Phone, call: &mut Call) {
    for (act, held) in [(Act::Hold, true), (Act::Resume, false)] {
        phone.act(act);
        let again = requested(call).await;
        let offer = String::from_utf8_lossy(&again.request().body).into_owned();
        let holds = offer.contains("a=sendonly") || offer.contains("a=inactive");
        assert!(holds == held && offer.starts_with("v=0"), "{act:?}: {offer}");
        assert_eq!(agree(again), Method::Invite);
        phone.settles();
    }
}

/// We hold a call and resume it, and the phone agrees.
pub async fn is_held_and_resumed(call: &Call) {
    for direction in ["sendonly", "sendrecv"] {
        let offer = Body::sdp(format!("{SDP}a={direction}\r\n"));
        assert_eq!(ask_in(call, Method::Invite, Some(offer)).await, StatusCode::OK);
    }
}

/// The phone calls us, is sent elsewhere with a parameter, goes there, and hangs up.
pub async fn follows_our_redirect(us: &mut Us, phone: &mut impl Phone) {
    phone.act(Act::Call(&text(us.uri("service", Transport::Udp))));
    let here = format!("{};X-CallQueue-Id=q1", us.uri("backend", Transport::Udp)).parse().expect("a URI");
    let away = redirect(StatusCode::MOVED_TEMPORARILY, [Choice { uri: here, q: 1_000 }]).expect("one");
    assert!(us.called().await.reject(away));
    let again = us.called().await;
    assert_eq!(again.request().uri.user(), Some("backend"));
    assert_eq!(again.request().uri.param("x-callqueue-id"), Some(Some("q1")));
    let call = us.take(again).await;
    phone.says(Says::Established);
    hangs_up(phone, call).await;
}

/// The phone has us call another phone of its kind, hears that it is done, and both calls end. Wants an endpoint that
/// takes REFER.
pub async fn transfers_us<P: Phone>(us: &mut Us, phone: &mut P, mut call: Call, other: &mut P) {
    phone.act(Act::Transfer(&text(other.uri())));
    let Some(CallEvent::Referred(refer)) = soon("the REFER", call.next()).await else { panic!("no REFER") };
    assert_eq!(refer.target().uri.user(), other.uri().user());
    let to = refer.target().uri.clone();
    let report = refer.accept().expect("taken");
    let mut second = us.call(OutgoingInvite { hops: other.hops(), ..invite(to) }).await;
    other.says(Says::Ringing);
    other.act(Act::Answer);
    let (second, _) = answered(&mut second).await;
    report.notify(StatusCode::OK).expect("sent");
    us.received("200 to NOTIFY");
    us.hang_up(second).await;
    other.says(Says::Over);
}

/// We have the phone call us a second time, hear how that went, and end the first call, which the phone may hold before.
pub async fn is_transferred(us: &mut Us, call: Call, to: Uri) -> Call {
    let user = to.user().map(str::to_owned);
    let mut referral = call.refer(Refer::to(to)).expect("sent");
    let first = call.handle();
    let served = tokio::spawn(serve(call));
    let invite = us.called().await;
    assert_eq!(invite.request().uri.user().map(str::to_owned), user);
    let second = us.take(invite).await;
    let end = loop {
        match soon("the outcome", referral.next()).await {
            Some(ReferralEvent::Ended(end)) => break end,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    let told = matches!(&end, ReferralEnd::Reported(outcome) if outcome.status == StatusCode::OK);
    assert!(told, "{end:?}");
    // The phone may have ended it by itself.
    let _ = first.hangup(Headers::new());
    soon("the end of the first call", served).await.expect("served");
    second
}

/// Agrees to all that the peer asks in a call, until it is over.
pub async fn serve(mut call: Call) {
    while let Some(event) = call.next().await {
        if let CallEvent::Request(request) = event {
            agree(request);
        }
    }
}

/// The phone sends a digit by INFO.
pub async fn sends_a_digit(phone: &mut impl Phone, call: &mut Call) {
    phone.act(Act::Digit);
    let info = requested(call).await;
    assert!(info.request().body.starts_with(b"Signal=5"), "{info:?}");
    assert_eq!(agree(info), Method::Info);
}

/// The phone sends us a text.
pub async fn sends_a_message(us: &mut Us, phone: &mut impl Phone, transport: Transport) {
    phone.act(Act::Message(&text(us.uri("service", transport))));
    let message = us.asked().await;
    assert_eq!((&message.request().method, &message.request().body[..]), (&Method::Message, &b"hello"[..]));
    message.respond(Reply::new(StatusCode::OK));
}

/// The phone asks us what we can.
pub async fn asks_options(us: &mut Us, phone: &mut impl Phone, transport: Transport) {
    phone.act(Act::Options(&text(us.uri("service", transport))));
    let asked = us.asked().await;
    assert_eq!(asked.request().method, Method::Options);
    drop(asked);
    us.sent("200 to OPTIONS");
}

fn text(uri: impl Display) -> String {
    uri.to_string()
}
