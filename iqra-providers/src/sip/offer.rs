//! The media half of a SIP call: what we can do, where, and how an SDP body becomes an agreement.

use std::net::IpAddr;

use iqra_media::codec::{CodecSpec, Registry};
use iqra_media::net::{MediaDriver, MediaPort};
use iqra_media::sdp::{self, Capabilities, Negotiated};
use iqra_sip::event::Body;

use super::refusal::Refused;

/// What the media of SIP calls is made from: one per program, cheap to clone.
#[derive(Debug, Clone)]
pub struct SipMedia {
    driver: MediaDriver,
    address: IpAddr,
    codecs: Vec<CodecSpec>,
}

impl SipMedia {
    /// Media on `driver`'s ports, which peers reach at `address`, with all built-in codecs.
    pub fn new(driver: MediaDriver, address: IpAddr) -> Self {
        Self { driver, address, codecs: Registry::default().specs() }
    }

    /// The same with these codecs in order of preference, by their SDP names (`PCMU`, `PCMA`); unknown names are
    /// left out, and an empty list leaves the preference as it is.
    #[must_use]
    pub fn preferring<S: AsRef<str>>(&self, names: &[S]) -> Self {
        let known = |name: &S| {
            self.codecs.iter().copied().find(|codec| codec.name.eq_ignore_ascii_case(name.as_ref()))
        };
        let chosen: Vec<CodecSpec> = names.iter().filter_map(known).collect();
        let codecs = if chosen.is_empty() { self.codecs.clone() } else { chosen };
        Self { codecs, ..self.clone() }
    }

    /// The media threads.
    pub fn driver(&self) -> &MediaDriver {
        &self.driver
    }

    /// Reserves a port and says what can be done on it.
    pub(super) fn reserve(&self, session_id: u64) -> Result<(MediaPort, Capabilities), Refused> {
        let port = self.driver.reserve().map_err(|error| Refused::Ports(error.to_string()))?;
        let capabilities =
            Capabilities::new(self.codecs.clone(), self.address, port.local_addr().port(), session_id);
        Ok((port, capabilities))
    }
}

/// Our side of the SDP exchange after an INVITE came.
pub(super) enum Exchange {
    /// The INVITE held an offer: the answer for the 200, and what was agreed.
    Answered(String, Negotiated),
    /// It held none: our offer for the 200; the ACK brings the answer (RFC 3264 §5, RFC 3261 §13.2.1).
    Offered(String),
}

impl Exchange {
    /// Reads the INVITE's body.
    pub(super) fn begin(
        content_type: Option<&str>,
        body: &[u8],
        ours: &Capabilities,
    ) -> Result<Self, Refused> {
        if body.is_empty() {
            return Ok(Self::Offered(sdp::offer(ours)));
        }
        if !content_type.is_some_and(is_sdp) {
            return Err(Refused::BodyType(content_type.unwrap_or("none").to_owned()));
        }
        let (answer, negotiated) = sdp::answer(body, ours).map_err(Refused::Sdp)?;
        Ok(Self::Answered(answer, negotiated))
    }

    /// The body for the 200.
    pub(super) fn body(&self) -> Body {
        match self {
            Self::Answered(text, _) | Self::Offered(text) => Body::sdp(text.clone()),
        }
    }
}

fn is_sdp(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/sdp"))
}
