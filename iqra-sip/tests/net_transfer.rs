//! Transfers between endpoints on real sockets: REFER in both roles with its outcome, Replaces in both roles.

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use iqra_sip::event::{EndReason, OutgoingInvite, Refer, ReferralEnd, ReferralEvent, Replaced, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::Replaces;
use iqra_sip::net::{Answer, Call, CallEvent, Endpoint, Incoming, IncomingRefer, OutgoingEvent, Referral};
use iqra_sip::{EngineConfig, HeaderName, Headers, StatusCode, TransferConfig, Transport};

#[path = "common/loopback.rs"]
mod loopback;
use loopback::{answered, call_to, closed, connect, end, invited, uri_of};

const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// Three endpoints that take transfers: whom a call is taken from, who transfers it, and to whom.
struct Three {
    caller: Endpoint,
    agent: Endpoint,
    third: Endpoint,
    to_agent: Incoming,
    to_third: Incoming,
}

impl Three {
    async fn on(transport: Transport) -> Self {
        let transfer = TransferConfig { refer: true, replaces: true, ..TransferConfig::default() };
        let config = EngineConfig { transfer, ..EngineConfig::default() };
        let (caller, _) = end(transport, config.clone()).await;
        let (agent, to_agent) = end(transport, config.clone()).await;
        let (third, to_third) = end(transport, config).await;
        Self { caller, agent, third, to_agent, to_third }
    }

    async fn close(self) {
        closed([self.caller, self.agent, self.third]).await;
    }

    /// The call that the caller places because it was asked to.
    fn asked_for(&self, refer: &IncomingRefer) -> OutgoingInvite {
        let target = refer.target();
        OutgoingInvite { uri: target.uri.clone(), headers: target.invite_headers(), ..call_to(&self.third) }
    }
}

async fn referred(call: &mut Call) -> IncomingRefer {
    match call.next().await {
        Some(CallEvent::Referred(refer)) => refer,
        other => panic!("no REFER: {other:?}"),
    }
}

/// What was told of a transfer: the statuses on the way, and the end.
async fn outcome(referral: &mut Referral) -> (Vec<u16>, ReferralEnd) {
    let mut told = Vec::new();
    loop {
        match referral.next().await {
            Some(ReferralEvent::Accepted) => {}
            Some(ReferralEvent::Progress(outcome)) => told.push(outcome.status.code()),
            Some(ReferralEvent::Ended(end)) => {
                assert!(referral.next().await.is_none());
                return (told, end);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn hung_up(call: &mut Call) {
    let event = call.next().await;
    assert!(matches!(event, Some(CallEvent::Ended(EndReason::Remote { .. }))), "{event:?}");
}

#[tokio::test]
async fn a_blind_transfer_is_carried_out_and_told() {
    for transport in BOTH {
        let mut all = Three::on(transport).await;
        let (mut held, with_agent) = connect(&all.caller, &all.agent, &mut all.to_agent).await;
        let agent = NameAddr::new("sip:agent@example.org".parse().unwrap());
        let asked = Refer::to(uri_of(&all.third, "third")).referred_by(agent);
        let mut referral = with_agent.refer(asked).unwrap();
        let refer = referred(&mut held).await;
        let call = all.asked_for(&refer);
        let report = refer.accept().unwrap();
        let mut placed = all.caller.invite(call).await.unwrap();
        let invite = invited(&mut all.to_third).await;
        assert_eq!(invite.request().headers.get(HeaderName::REFERRED_BY).unwrap(), "<sip:agent@example.org>");
        invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        assert!(matches!(placed.next().await, Some(OutgoingEvent::Provisional { .. })));
        report.notify(StatusCode::RINGING).unwrap();
        let mut taken = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
        let new = answered(&mut placed).await;
        report.notify(StatusCode::OK).unwrap();
        let (told, end) = outcome(&mut referral).await;
        assert_eq!(told, [100, 180], "{transport:?}");
        assert!(matches!(end, ReferralEnd::Reported(outcome) if outcome.status == StatusCode::OK));
        assert!(report.notify(StatusCode::OK).is_err(), "that was the last");
        with_agent.hangup(Headers::new()).await.unwrap();
        hung_up(&mut held).await;
        new.hangup(Headers::new()).await.unwrap();
        while !matches!(taken.next().await, Some(CallEvent::Ended(_))) {}
        all.close().await;
    }
}

#[tokio::test]
async fn the_caller_may_transfer_too_and_failures_and_refusals_are_told() {
    for transport in BOTH {
        let mut all = Three::on(transport).await;
        let (with_agent, mut held) = connect(&all.caller, &all.agent, &mut all.to_agent).await;
        let ask = || with_agent.refer(Refer::to(uri_of(&all.third, "third"))).unwrap();

        let mut referral = ask();
        let report = referred(&mut held).await.accept().unwrap();
        report.notify(StatusCode::BUSY_HERE).unwrap();
        let (_, end) = outcome(&mut referral).await;
        assert!(matches!(end, ReferralEnd::Reported(outcome) if outcome.status == StatusCode::BUSY_HERE));

        let mut referral = ask();
        referred(&mut held).await.reject(Reply::new(StatusCode::FORBIDDEN));
        let (_, end) = outcome(&mut referral).await;
        let ReferralEnd::Refused(response) = end else { panic!("{end:?}") };
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{transport:?}");

        let mut referral = ask();
        drop(referred(&mut held).await);
        let (_, end) = outcome(&mut referral).await;
        assert!(matches!(end, ReferralEnd::Refused(response) if response.status == StatusCode::DECLINE));

        let mut quiet = with_agent.refer(Refer::to(uri_of(&all.third, "third")).quiet()).unwrap();
        let report = referred(&mut held).await.accept().unwrap();
        report.notify(StatusCode::OK).unwrap();
        let (told, end) = outcome(&mut quiet).await;
        assert!(told.is_empty() && matches!(end, ReferralEnd::Unknown { .. }), "asked to hear nothing");
        with_agent.hangup(Headers::new()).await.unwrap();
        hung_up(&mut held).await;
        all.close().await;
    }
}

#[tokio::test]
async fn an_attended_transfer_takes_the_place_of_the_consultation() {
    for transport in BOTH {
        let mut all = Three::on(transport).await;
        let (mut held, with_agent) = connect(&all.caller, &all.agent, &mut all.to_agent).await;
        let (mut consulting, mut consulted) = connect(&all.agent, &all.third, &mut all.to_third).await;
        let asked = Refer::replacing(&uri_of(&all.third, "third"), consulting.id());
        let mut referral = with_agent.refer(asked).unwrap();
        let refer = referred(&mut held).await;
        assert!(refer.target().replaces.is_some());
        let call = all.asked_for(&refer);
        let report = refer.accept().unwrap();
        let mut placed = all.caller.invite(call).await.unwrap();
        let invite = invited(&mut all.to_third).await;
        assert_eq!(invite.replaces(), Some(&Replaced::Call(consulted.id().clone())), "{transport:?}");
        let mut taken = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
        let new = answered(&mut placed).await;
        match consulted.next().await {
            Some(CallEvent::Ended(EndReason::Replaced { by })) => assert_eq!(by, *taken.id()),
            other => panic!("not replaced: {other:?}"),
        }
        hung_up(&mut consulting).await;
        report.notify(StatusCode::OK).unwrap();
        let (_, end) = outcome(&mut referral).await;
        assert!(matches!(end, ReferralEnd::Reported(outcome) if outcome.status == StatusCode::OK));
        with_agent.hangup(Headers::new()).await.unwrap();
        hung_up(&mut held).await;
        new.hangup(Headers::new()).await.unwrap();
        while !matches!(taken.next().await, Some(CallEvent::Ended(_))) {}
        all.close().await;
    }
}

#[tokio::test]
async fn a_call_that_rings_elsewhere_is_picked_up() {
    for transport in BOTH {
        let mut all = Three::on(transport).await;
        let (third, mut to_caller) = (all.third.clone(), end(transport, EngineConfig::default()).await);
        // The agent's call rings at a desk; the third party picks it up.
        let (desk, rings) = (to_caller.0.clone(), &mut to_caller.1);
        let mut ringing = all.agent.invite(call_to(&desk)).await.unwrap();
        let mut invite = invited(rings).await;
        invite.provisional(StatusCode::RINGING, Headers::new(), None).await.unwrap();
        assert!(matches!(ringing.next().await, Some(OutgoingEvent::Provisional { .. })));
        let replaces = Replaces::of_peer(invite.early().unwrap().id()).early_only();
        let mut call = call_to(&all.agent);
        call.headers.push_typed(&replaces);
        let mut placed = third.invite(call).await.unwrap();
        let pick_up = invited(&mut all.to_agent).await;
        assert!(matches!(pick_up.replaces(), Some(Replaced::Ringing(_))), "{transport:?}");
        let mut taken = pick_up.accept(Answer::sdp("v=0\r\n")).await.unwrap();
        invite.cancelled().await;
        let Some(OutgoingEvent::Failed(response)) = ringing.next().await else { panic!("rings on") };
        assert_eq!(response.status, StatusCode::REQUEST_TERMINATED);
        let new = answered(&mut placed).await;
        new.hangup(Headers::new()).await.unwrap();
        while !matches!(taken.next().await, Some(CallEvent::Ended(_))) {}
        drop(invite);
        closed([desk, third]).await;
        closed([all.caller, all.agent]).await;
    }
}

#[tokio::test]
async fn what_cannot_be_replaced_is_refused() {
    for transport in BOTH {
        let mut all = Three::on(transport).await;
        let (held, mut with_agent) = connect(&all.caller, &all.agent, &mut all.to_agent).await;
        let answered_one = Replaces::of_peer(held.id()).early_only();
        let unknown = Replaces::parse("nobody@knows;to-tag=1;from-tag=2").unwrap();
        for (replaces, status) in
            [(answered_one, StatusCode::BUSY_HERE), (unknown, StatusCode::CALL_DOES_NOT_EXIST)]
        {
            let mut call = call_to(&all.agent);
            call.headers.push_typed(&replaces);
            let mut placed = all.third.invite(call).await.unwrap();
            let Some(OutgoingEvent::Failed(response)) = placed.next().await else { panic!("not refused") };
            assert_eq!(response.status, status, "{transport:?}");
        }
        held.hangup(Headers::new()).await.unwrap();
        hung_up(&mut with_agent).await;
        all.close().await;
    }
}
