//! What stands between both sides in a call, and how it is made anew: re-offers from either side (RFC 3264 §8).

use std::fmt;

use super::compose::{self, Standing};
use super::format::Numbers;
use super::negotiate::{self, Taken};
use super::{Capabilities, Change, Description, Limits, Negotiated, Order, Refusal, Security};

/// The SDP that we last sent, and what it came to with the peer's. A re-INVITE makes the next one of it; while that is
/// open, and where it is refused, this one stands.
#[derive(Clone)]
pub struct Agreement {
    /// What both sides now use.
    pub negotiated: Negotiated,
    local: Description,
    /// Index of the audio among the m-lines.
    stream: usize,
    numbers: Numbers,
}

/// Answers an offer: our SDP, and what both sides now use.
///
/// # Errors
/// A [`Refusal`] when the offer is malformed (400) or holds nothing that we can take (488).
pub fn answer(offer: &[u8], ours: &Capabilities) -> Result<Agreement, Refusal> {
    let offer = Description::parse_within(offer, &ours.limits)?;
    let taken = negotiate::take(&offer, ours)?;
    let local = compose::answer(&offer, &taken, ours);
    Ok(Agreement::new(taken, local, &offer, Numbers::default()))
}

/// Our first offer: all codecs, in preference order.
pub fn offer(ours: &Capabilities) -> String {
    compose::offer(ours, &Numbers::default(), None).to_string()
}

/// Reads the answer to our [`offer`], which is given here as it was sent.
///
/// # Errors
/// A [`Refusal`] when the answer is malformed, refuses our audio, or answers with something that was not offered.
pub fn accept_answer(ours: &Capabilities, offer: &str, answer: &[u8]) -> Result<Agreement, Refusal> {
    accept(ours, offer, answer, Numbers::default())
}

fn accept(ours: &Capabilities, offer: &str, answer: &[u8], numbers: Numbers) -> Result<Agreement, Refusal> {
    let local = Description::parse_within(offer.as_bytes(), &Limits::NONE)?;
    let answer = Description::parse_within(answer, &ours.limits)?;
    let taken = negotiate::accept(ours, &local, &answer)?;
    Ok(Agreement::new(taken, local, &answer, numbers))
}

impl Agreement {
    fn new(taken: Taken, local: Description, remote: &Description, mut numbers: Numbers) -> Self {
        let Taken { stream, negotiated, .. } = taken;
        for audio in [local.audio_at(stream), remote.audio_at(stream)].into_iter().flatten() {
            audio.encodings().for_each(|(payload, encoding)| numbers.learn(payload, &encoding));
        }
        Self { negotiated, local, stream, numbers }
    }

    /// The SDP that we last sent.
    pub fn local(&self) -> String {
        self.local.to_string()
    }

    /// Answers an offer inside the call: the next agreement, and what it changes. The codec in use stays while it is
    /// offered, unless the offer's order decides. An offer that says nothing new, as in a session refresh, gets the
    /// same answer with the same version, whatever the version of its `o=`; one that says something new is read even
    /// where its version did not rise, since that is how some put calls on hold.
    ///
    /// Where the offer restarts ICE, the answer names the credentials of `ours` in place of those before (RFC 8839
    /// §4.4.2.1).
    ///
    /// # Errors
    /// A [`Refusal`] as for the first [`answer`]; the call goes on as before (RFC 3264 §8).
    pub fn answer(&self, offer: &[u8], ours: &Capabilities) -> Result<(Self, Change), Refusal> {
        let offer = Description::parse_within(offer, &ours.limits)?;
        let mut ours = self.keeping(ours);
        if !self.is_restarted_by(&offer) {
            self.keep_credentials(&mut ours);
        }
        let taken = negotiate::take(&offer, &ours)?;
        let fresh = compose::answer(&offer, &taken, &ours);
        let local = compose::next_version(&self.local, fresh);
        Ok(self.followed_by(Self::new(taken, local, &offer, self.numbers.clone())))
    }

    /// An offer inside the call, of all that we can do: every m-line in its place, payload types, transport and way of
    /// keys as they were, and the next version if it says anything new.
    pub fn reoffer(&self, ours: &Capabilities) -> String {
        let mut ours = ours.clone();
        self.keep_credentials(&mut ours);
        self.restart_ice(&ours)
    }

    /// A [`reoffer`](Self::reoffer) that begins ICE anew with the credentials of `ours` (RFC 8445 §9): since our
    /// candidates change, or the far end is no longer reached.
    pub fn restart_ice(&self, ours: &Capabilities) -> String {
        let Self { local, stream, negotiated, .. } = self;
        let standing = Standing { local, stream: *stream, security: &negotiated.security };
        let fresh = compose::offer(ours, &self.numbers, Some(&standing));
        compose::next_version(&self.local, fresh).to_string()
    }

    /// Reads the answer to our [`reoffer`](Self::reoffer), which is given here as it was sent.
    ///
    /// # Errors
    /// A [`Refusal`] as for the first [`accept_answer`]; the call goes on as before.
    pub fn accept_answer(
        &self,
        ours: &Capabilities,
        offer: &str,
        answer: &[u8],
    ) -> Result<(Self, Change), Refusal> {
        let next = accept(ours, offer, answer, self.numbers.clone())?;
        Ok(self.followed_by(next))
    }

    fn followed_by(&self, next: Self) -> (Self, Change) {
        let change = Change::between(&self.negotiated, &next.negotiated);
        (next, change)
    }

    /// Whether an offer begins ICE anew.
    fn is_restarted_by(&self, offer: &Description) -> bool {
        let theirs = offer.audio_at(self.stream).and_then(|audio| audio.ice());
        theirs.zip(self.negotiated.ice.as_ref()).is_none_or(|(now, before)| now.restarts(before))
    }

    /// The credentials do not change while ICE goes on (RFC 8839 §4.4.1.3).
    fn keep_credentials(&self, ours: &mut Capabilities) {
        if let (Some(ice), Some(used)) = (&mut ours.ice, &self.negotiated.local_ice) {
            *ice = ice.under(&used.ufrag, &used.pwd);
        }
    }

    /// Our means, with what is in use first: the codec, unless the offer's order decides, and our side of the DTLS
    /// handshake, which does not turn round while the association lives (RFC 8842 §5.3).
    fn keeping(&self, ours: &Capabilities) -> Capabilities {
        let mut ours = ours.clone();
        if ours.order == Order::Ours {
            ours.codecs.sort_by_key(|codec| *codec != self.negotiated.codec);
        }
        if let (Some(local), Security::Dtls { role, .. }) =
            (&mut ours.security.dtls, &self.negotiated.security)
        {
            local.role = *role;
        }
        ours
    }
}

/// Without the SDP, which may hold keys.
impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreement").field("negotiated", &self.negotiated).finish_non_exhaustive()
    }
}
