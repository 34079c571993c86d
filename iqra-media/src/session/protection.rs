//! Whether and how a call's packets are protected: in the clear, or by SRTP with keys from the SDP or from a handshake
//! on the media port.

use crate::rtp::srtp::{Incoming, MasterKey, Outgoing, SrtpError};

#[cfg(feature = "webrtc")]
use super::handshake::Dtls;

/// Both directions of a call.
pub(super) enum Protection {
    Clear,
    Srtp(Box<Srtp>),
    #[cfg(feature = "webrtc")]
    Dtls(Box<Dtls>),
}

/// What SRTP keeps; the keys tell whether a re-INVITE brought others.
pub(super) struct Srtp {
    ours: MasterKey,
    theirs: MasterKey,
    /// What names their key in each packet.
    mki: Vec<u8>,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Srtp {
    /// `ours` protects what we send; each packet of the far end names `theirs` by `mki`, if it is not empty.
    pub(super) fn new(ours: MasterKey, theirs: MasterKey, mki: Vec<u8>) -> Self {
        let (incoming, outgoing) = (Incoming::with_mki(&theirs, &mki), Outgoing::new(&ours));
        Self { ours, theirs, mki, incoming, outgoing }
    }

    /// A direction counts on, since an index must not come twice under one key, and a new key does not begin the count
    /// anew (RFC 3711 §3.3.1); but ours under a new key does where the far end `moved` (RFC 4568 §7.1.4).
    fn update(&mut self, next: Self, moved: bool) {
        let before = std::mem::replace(self, next);
        if before.ours == self.ours {
            self.outgoing = before.outgoing;
        } else if !moved {
            self.outgoing.count_on_from(&before.outgoing);
        }
        if before.theirs == self.theirs && before.mki == self.mki {
            self.incoming = before.incoming;
        } else {
            self.incoming.count_on_from(&before.incoming);
        }
    }
}

impl Protection {
    /// Takes over what a re-INVITE agreed on, by which the far end may have `moved` to another address.
    pub(super) fn update(&mut self, next: Self, moved: bool) {
        match (&mut *self, next) {
            (Self::Srtp(now), Self::Srtp(next)) => now.update(*next, moved),
            #[cfg(feature = "webrtc")]
            (Self::Dtls(now), Self::Dtls(next)) if now.is_for(&next) => {}
            (_, next) => *self = next,
        }
    }

    /// Whether media can flow: the keys are there, or none are wanted.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Clear | Self::Srtp(_) => true,
            #[cfg(feature = "webrtc")]
            Self::Dtls(dtls) => dtls.srtp.is_some(),
        }
    }

    /// Whether what opens was made by who has the key.
    pub(super) fn is_protected(&self) -> bool {
        !matches!(self, Self::Clear)
    }

    /// The length of an RTP packet once it is open; `None` when it does not prove itself, or there are no keys yet.
    pub(super) fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.pass(packet.len(), |srtp| srtp.incoming.open(packet))
    }

    /// The same for an RTCP compound.
    pub(super) fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        self.pass(packet.len(), |srtp| srtp.incoming.open_rtcp(packet))
    }

    /// The length of an RTP packet once it is protected; `None` without keys, with a short buffer or a used-up key.
    pub(super) fn protect(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.pass(length, |srtp| srtp.outgoing.protect(buffer, length))
    }

    /// The same for an RTCP compound.
    pub(super) fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        self.pass(length, |srtp| srtp.outgoing.protect_rtcp(buffer, length))
    }

    /// A packet of this length as it is where nothing is protected, else as `act` makes it.
    fn pass(
        &mut self,
        length: usize,
        act: impl FnOnce(&mut Srtp) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        match self {
            Self::Clear => Some(length),
            Self::Srtp(srtp) => act(srtp).ok(),
            #[cfg(feature = "webrtc")]
            Self::Dtls(dtls) => act(dtls.srtp.as_mut()?).ok(),
        }
    }

    /// Packets that did not open.
    pub(super) fn refused(&self) -> u64 {
        match self {
            Self::Clear => 0,
            Self::Srtp(srtp) => srtp.incoming.refused(),
            #[cfg(feature = "webrtc")]
            Self::Dtls(dtls) => dtls.srtp.as_ref().map_or(0, |srtp| srtp.incoming.refused()),
        }
    }
}
