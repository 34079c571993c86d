//! The media half of a SIP call: what we can do, where, and how an SDP body becomes an agreement.

use std::net::IpAddr;

use iqra_media::codec::CodecSpec;
use iqra_media::conversation::Direction;
use iqra_media::net::{MediaDriver, MediaPort};
use iqra_media::rtp::srtp::MasterKey;
use iqra_media::sdp::{
    self, Agreement, Capabilities, CryptoSuite, SecurityPolicy, SecuritySettings, SrtpKey,
};
use iqra_media::session::Config;
use iqra_sip::event::Body;

use super::refusal::Refused;

/// What the media of SIP calls is made from: one per program, cheap to clone.
#[derive(Debug, Clone)]
pub struct SipMedia {
    driver: MediaDriver,
    address: IpAddr,
    codecs: Vec<CodecSpec>,
    session: Config,
    security: SecurityPolicy,
}

impl SipMedia {
    /// Media on `driver`'s ports, which peers reach at `address`, with all codecs of the driver.
    pub fn new(driver: MediaDriver, address: IpAddr) -> Self {
        let codecs = driver.codecs().specs();
        Self { driver, address, codecs, session: Config::default(), security: SecurityPolicy::Never }
    }

    /// The same with these settings of each call's media: media time-out, jitter buffer, who may send.
    #[must_use]
    pub fn session(self, session: Config) -> Self {
        Self { session, ..self }
    }

    /// The same with SRTP by this policy, each call with keys of its own in its SDP (RFC 4568). The signalling should go
    /// over TLS, since who reads it has the keys.
    #[must_use]
    pub fn secured(self, security: SecurityPolicy) -> Self {
        Self { security, ..self }
    }

    /// The same with only these codecs, in order of preference, by their SDP names (`PCMU`, `PCMA`). Names that the
    /// driver does not have are left out with a warning in the log; an empty list leaves all codecs as they are.
    ///
    /// # Errors
    /// [`Refused::Codecs`] when the driver has none of them: the list asks for what this build cannot do.
    pub fn preferring<S: AsRef<str>>(&self, names: &[S]) -> Result<Self, Refused> {
        if names.is_empty() {
            return Ok(self.clone());
        }
        let named =
            |name: &str| self.codecs.iter().copied().find(|codec| codec.name.eq_ignore_ascii_case(name));
        let codecs: Vec<CodecSpec> = names.iter().filter_map(|name| named(name.as_ref())).collect();
        let unknown: Vec<&str> =
            names.iter().map(AsRef::as_ref).filter(|name| named(name).is_none()).collect();
        if codecs.is_empty() {
            let (asked, known) = (unknown.join(", "), self.codec_names());
            return Err(Refused::Codecs(format!("{asked}: none of them is among {known}")));
        }
        if !unknown.is_empty() {
            let known = self.codec_names();
            tracing::warn!(
                ?unknown,
                known,
                "codecs left out that this build does not have; correct the list"
            );
        }
        Ok(Self { codecs, ..self.clone() })
    }

    fn codec_names(&self) -> String {
        let names: Vec<&str> = self.codecs.iter().map(|codec| codec.name).collect();
        names.join(", ")
    }

    /// How each call's media is handled.
    pub(super) fn session_config(&self) -> Config {
        self.session.clone()
    }

    /// The media threads.
    pub fn driver(&self) -> &MediaDriver {
        &self.driver
    }

    /// Reserves a port for a call of this direction and says what can be done on it.
    pub(super) fn reserve(
        &self,
        direction: Direction,
        session_id: u64,
    ) -> Result<(MediaPort, Capabilities), Refused> {
        let port = self.driver.reserve(direction)?;
        let mut capabilities =
            Capabilities::new(self.codecs.clone(), self.address, port.local_addr().port(), session_id);
        capabilities.rtcp_mux = true;
        if self.security != SecurityPolicy::Never {
            capabilities.security =
                SecuritySettings { mki: true, ..SecuritySettings::sdes(self.security, keys()?) };
        }
        Ok((port, capabilities))
    }
}

/// A key for each suite, the strongest first.
fn keys() -> Result<Vec<SrtpKey>, Refused> {
    let mut octets = [0; MasterKey::MAX];
    let key = |suite: CryptoSuite| {
        let octets = &mut octets[..suite.material_len()];
        getrandom::fill(octets).map_err(|error| Refused::Keys(error.to_string()))?;
        SrtpKey::new(suite, octets).ok_or_else(|| Refused::Keys(String::from("a key of the wrong length")))
    };
    CryptoSuite::ALL.into_iter().map(key).collect()
}

/// Our side of the SDP exchange after an INVITE came.
pub(super) enum Exchange {
    /// The INVITE held an offer: the answer for the 200, and what was agreed.
    Answered(Box<Agreement>),
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
        check_type(content_type)?;
        let agreed = sdp::answer(body, ours).map_err(Refused::Sdp)?;
        Ok(Self::Answered(Box::new(agreed)))
    }

    /// The body for the 200.
    pub(super) fn body(&self) -> Body {
        match self {
            Self::Answered(agreed) => Body::sdp(agreed.local()),
            Self::Offered(text) => Body::sdp(text.clone()),
        }
    }
}

/// Whether a body is SDP by its Content-Type.
pub(super) fn check_type(content_type: Option<&str>) -> Result<(), Refused> {
    let named = || Refused::BodyType(content_type.unwrap_or("none").to_owned());
    content_type.is_some_and(is_sdp).then_some(()).ok_or_else(named)
}

fn is_sdp(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/sdp"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use iqra_media::net::MediaConfig;

    fn media() -> SipMedia {
        let config = MediaConfig { bind: [127, 0, 0, 1].into(), ..MediaConfig::default() };
        SipMedia::new(MediaDriver::start(config).unwrap(), [127, 0, 0, 1].into())
    }

    #[tokio::test]
    async fn a_preference_orders_and_restricts_and_leaves_out_what_is_unknown() {
        let names = |list: &[&str]| media().preferring(list).map(|media| media.codec_names());
        assert_eq!(names(&["pcma", "SPEEX"]).unwrap(), "PCMA");
        assert_eq!(names(&["PCMA", "PCMU"]).unwrap(), "PCMA, PCMU");
        assert_eq!(names(&[]).unwrap(), media().codec_names());
    }

    #[tokio::test]
    async fn a_preference_for_nothing_that_is_there_is_refused_and_names_both_sides() {
        let refused = media().preferring(&["SPEEX", "G729"]).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("SPEEX, G729") && text.contains("PCMU"), "{text}");
        assert_eq!(refused.status(), 488);
    }
}
