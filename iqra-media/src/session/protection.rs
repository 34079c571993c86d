//! Whether and how a call's packets are protected: in the clear, or by SRTP with keys from the SDP or from a handshake
//! on the media port.

use crate::rtp::srtp::{Incoming, MasterKey, Outgoing};

#[cfg(feature = "webrtc")]
use super::handshake::Dtls;

/// Both directions of a call.
pub(super) enum Protection {
    Clear,
    Srtp(Box<Srtp>),
    #[cfg(feature = "webrtc")]
    Dtls(Box<Dtls>),
}

/// Keys as they were agreed: ours protects what we send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keys {
    pub(super) ours: MasterKey,
    pub(super) theirs: MasterKey,
    /// What names their key in each packet.
    pub(super) mki: Vec<u8>,
}

/// What SRTP keeps; the keys tell whether a re-INVITE brought others.
pub(super) struct Srtp {
    keys: Keys,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Srtp {
    pub(super) fn new(keys: Keys) -> Self {
        let (incoming, outgoing) = (Incoming::with_mki(&keys.theirs, &keys.mki), Outgoing::new(&keys.ours));
        Self { keys, incoming, outgoing }
    }

    /// A direction whose key stays goes on counting, since an index must not come twice under one key.
    fn update(&mut self, next: Self) {
        let before = std::mem::replace(self, next);
        if before.keys.ours == self.keys.ours {
            self.outgoing = before.outgoing;
        }
        if before.keys.theirs == self.keys.theirs && before.keys.mki == self.keys.mki {
            self.incoming = before.incoming;
        }
    }
}

impl Protection {
    /// Takes over what a re-INVITE agreed on.
    pub(super) fn update(&mut self, next: Self) {
        match (&mut *self, next) {
            (Self::Srtp(now), Self::Srtp(next)) => now.update(*next),
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

    /// `None` while there are no keys, `Some(None)` where none are wanted.
    fn srtp(&mut self) -> Option<Option<&mut Srtp>> {
        match self {
            Self::Clear => Some(None),
            Self::Srtp(srtp) => Some(Some(srtp)),
            #[cfg(feature = "webrtc")]
            Self::Dtls(dtls) => dtls.srtp.as_mut().map(Some),
        }
    }

    /// The length of an RTP packet once it is open; `None` when it does not prove itself.
    pub(super) fn open(&mut self, packet: &mut [u8]) -> Option<usize> {
        match self.srtp()? {
            None => Some(packet.len()),
            Some(srtp) => srtp.incoming.open(packet).ok(),
        }
    }

    /// The same for an RTCP compound.
    pub(super) fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        match self.srtp()? {
            None => Some(packet.len()),
            Some(srtp) => srtp.incoming.open_rtcp(packet).ok(),
        }
    }

    /// The length of an RTP packet once it is protected; `None` without keys, with a short buffer or a used-up key.
    pub(super) fn protect(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        match self.srtp()? {
            None => Some(length),
            Some(srtp) => srtp.outgoing.protect(buffer, length).ok(),
        }
    }

    /// The same for an RTCP compound.
    pub(super) fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        match self.srtp()? {
            None => Some(length),
            Some(srtp) => srtp.outgoing.protect_rtcp(buffer, length).ok(),
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
