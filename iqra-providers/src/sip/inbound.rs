//! An INVITE on its way to being answered: SDP and port, ringing, the 200.
//!
//! Final steps consume the value, so a call is answered once or refused once; one that is dropped is refused with
//! 500 by the engine, and its port is free again.

use std::borrow::Cow;
use std::time::Duration;

use iqra_media::conversation::{CallContext, Direction};
use iqra_media::net::MediaPort;
use iqra_media::sdp::Capabilities;
use iqra_sip::event::Reply;
use iqra_sip::message::header::From;
use iqra_sip::net::{Answer, IncomingInvite};
use iqra_sip::{HeaderName, Headers, StatusCode};

use super::live::{ALLOW, LiveCall};
use super::offer::{Exchange, SipMedia};
use super::refusal::Refused;

/// An INVITE that can be answered: its SDP was understood and a port is reserved.
pub struct Inbound {
    invite: IncomingInvite,
    media: SipMedia,
    exchange: Exchange,
    port: MediaPort,
    capabilities: Capabilities,
}

/// What became of the ringing.
pub enum Rung {
    /// The pick-up delay is over: answer now.
    Answer(Inbound),
    /// The caller gave up (CANCEL was answered with 487).
    Cancelled,
    /// `stop` came first: the call is still to be refused.
    Stopped(Inbound),
}

impl Inbound {
    /// Negotiates and reserves.
    ///
    /// # Errors
    /// The INVITE back with why it cannot be taken; nothing was answered yet.
    #[allow(clippy::result_large_err)] // It gives the INVITE back, which is to be answered.
    pub fn prepare(invite: IncomingInvite, media: &SipMedia) -> Result<Self, (IncomingInvite, Refused)> {
        let begun =
            media.reserve(Direction::Inbound, fastrand::u64(..) >> 2).and_then(|(port, capabilities)| {
                let request = invite.request();
                let kind = request.headers.get(HeaderName::CONTENT_TYPE);
                let exchange = Exchange::begin(kind.as_deref(), &request.body, &capabilities)?;
                Ok((exchange, port, capabilities))
            });
        match begun {
            Ok((exchange, port, capabilities)) => {
                Ok(Self { invite, media: media.clone(), exchange, port, capabilities })
            }
            Err(refused) => Err((invite, refused)),
        }
    }

    /// What a factory is told of the call.
    #[must_use]
    pub fn context(&self) -> CallContext {
        let request = self.invite.request();
        let from = request.headers.typed::<From>().ok();
        CallContext {
            id: self.invite.call_id().into_owned(),
            direction: Direction::Inbound,
            caller: from.and_then(|from| from.0.uri.user_decoded().map(Cow::into_owned)),
            called: request.uri.user_decoded().map(Cow::into_owned),
            parameters: Vec::new(),
        }
    }

    /// Resolves when the caller gives up, or its transport fails. Cancel-safe.
    pub async fn cancelled(&mut self) {
        self.invite.cancelled().await;
    }

    /// Rings (180) for `delay`, or not at all when it is zero, until `stop` resolves.
    pub async fn ring(mut self, delay: Duration, stop: impl Future<Output = ()>) -> Rung {
        if !delay.is_zero() {
            // A call that was cancelled meanwhile says so below.
            let _ = self.invite.provisional(StatusCode::RINGING, Headers::new(), None).await;
        }
        tokio::select! {
            biased;
            () = self.invite.cancelled() => Rung::Cancelled,
            () = stop => Rung::Stopped(self),
            () = tokio::time::sleep(delay) => Rung::Answer(self),
        }
    }

    /// The INVITE alone, to be refused; the port is free again.
    #[must_use]
    pub fn into_invite(self) -> IncomingInvite {
        self.invite
    }

    /// Refuses.
    pub fn reject(self, reply: Reply) {
        self.invite.reject(reply);
    }

    /// Answers with 200; `Allow` is added where `headers` have none.
    ///
    /// # Errors
    /// When the caller gave up in the meantime; the port is free again.
    pub async fn accept(self, mut headers: Headers) -> Result<LiveCall, iqra_sip::net::Error> {
        if !headers.contains(HeaderName::ALLOW) {
            headers.push(HeaderName::ALLOW, ALLOW);
        }
        let answer = Answer { headers, body: Some(self.exchange.body()) };
        let call = self.invite.accept(answer).await?;
        Ok(LiveCall::new(call, self.media, self.exchange, self.port, self.capabilities))
    }
}
