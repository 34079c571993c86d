//! The media half of a SIP call: what we can do, where, and how an SDP body becomes an agreement.

use std::net::IpAddr;

use iqra_media::codec::CodecSpec;
use iqra_media::conversation::Direction;
use iqra_media::net::{MediaDriver, MediaPort};
use iqra_media::rtp::srtp::MasterKey;
#[cfg(feature = "webrtc")]
use iqra_media::sdp::LocalDtls;
use iqra_media::sdp::{
    self, Agreement, Capabilities, CryptoSuite, IceLite, SecurityPolicy, SecuritySettings, SrtpKey,
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
    keys: Vec<KeyExchange>,
    ice: bool,
}

/// How both sides come to the keys of SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExchange {
    /// They are in the SDP (RFC 4568); so the signalling should go over TLS, since who reads it has the keys.
    Sdes,
    /// By a handshake of DTLS on the media's port (RFC 5763), as browsers do. It needs a media driver with a certificate.
    #[cfg(feature = "webrtc")]
    Dtls,
}

impl SipMedia {
    /// Media on `driver`'s ports, which peers reach at `address`, with all codecs of the driver.
    pub fn new(driver: MediaDriver, address: IpAddr) -> Self {
        let codecs = driver.codecs().specs();
        let (session, security) = (Config::default(), SecurityPolicy::Never);
        Self { driver, address, codecs, session, security, keys: vec![KeyExchange::Sdes], ice: false }
    }

    /// The same with these settings of each call's media: media time-out, jitter buffer, who may send.
    #[must_use]
    pub fn session(self, session: Config) -> Self {
        Self { session, ..self }
    }

    /// The same with SRTP by this policy, with keys in the SDP unless [`keyed`](Self::keyed) says otherwise.
    #[must_use]
    pub fn secured(self, security: SecurityPolicy) -> Self {
        Self { security, ..self }
    }

    /// The same with these ways to keys, the preferred one first: our offers have that one (with DTLS as
    /// `UDP/TLS/RTP/SAVPF`, which few but browsers and their gateways take), our answers whichever is offered.
    #[must_use]
    pub fn keyed(self, keys: &[KeyExchange]) -> Self {
        Self { keys: keys.to_vec(), ..self }
    }

    /// The same with ICE on our side, where the peer has it: lite, since our address is reachable (RFC 8445 §2.5).
    /// Default: without.
    #[cfg(feature = "webrtc")]
    #[must_use]
    pub fn ice_lite(self, ice: bool) -> Self {
        Self { ice, ..self }
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
            capabilities.security = self.security()?;
        }
        capabilities.ice = self.ice.then(credentials).transpose()?;
        Ok((port, capabilities))
    }

    /// The first way to keys says what our offers are.
    fn security(&self) -> Result<SecuritySettings, Refused> {
        let sdes = if self.keys.contains(&KeyExchange::Sdes) { keys()? } else { Vec::new() };
        let in_sdp = SecuritySettings { mki: true, ..SecuritySettings::sdes(self.security, sdes) };
        #[cfg(feature = "webrtc")]
        if let Some(local) = self.driver.fingerprint().map(LocalDtls::new)
            && self.keys.contains(&KeyExchange::Dtls)
        {
            let by_handshake = SecuritySettings::dtls(self.security, local);
            let is_first = self.keys.first() == Some(&KeyExchange::Dtls);
            let profile = if is_first { by_handshake.profile } else { in_sdp.profile };
            return Ok(SecuritySettings { profile, dtls: by_handshake.dtls, ..in_sdp });
        }
        Ok(in_sdp)
    }
}

/// Credentials for a session of ICE.
fn credentials() -> Result<IceLite, Refused> {
    let mut octets = [0; 24];
    getrandom::fill(&mut octets).map_err(|error| Refused::Keys(error.to_string()))?;
    Ok(IceLite::random(&octets))
}

/// Before each further offer and answer: fresh credentials, for the case that ICE restarts with it.
pub(super) fn renew(capabilities: &mut Capabilities) -> Result<(), Refused> {
    if capabilities.ice.is_some() {
        capabilities.ice = Some(credentials()?);
    }
    Ok(())
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
        let config = MediaConfig {
            bind: [127, 0, 0, 1].into(),
            #[cfg(feature = "webrtc")]
            certificate: Some(iqra_media::rtp::dtls::Certificate::generate().unwrap()),
            ..MediaConfig::default()
        };
        SipMedia::new(MediaDriver::start(config).unwrap(), [127, 0, 0, 1].into())
    }

    #[tokio::test]
    async fn a_preference_orders_and_restricts_and_leaves_out_what_is_unknown() {
        let names = |list: &[&str]| media().preferring(list).map(|media| media.codec_names());
        assert_eq!(names(&["pcma", "SPEEX"]).unwrap(), "PCMA");
        assert_eq!(names(&["PCMA", "PCMU"]).unwrap(), "PCMA, PCMU");
        assert_eq!(names(&[]).unwrap(), media().codec_names());
    }

    #[cfg(feature = "webrtc")]
    #[tokio::test]
    async fn the_first_way_to_keys_is_offered_and_all_of_them_are_answered() {
        use KeyExchange::{Dtls, Sdes};
        let browser = SipMedia { security: SecurityPolicy::Required, ice: true, ..media().keyed(&[Dtls]) };
        let able = |keys: &[KeyExchange], ice: bool| {
            let media = media().secured(SecurityPolicy::Required).keyed(keys).ice_lite(ice);
            media.reserve(Direction::Outbound, 1).unwrap()
        };
        let (_port, offers) = browser.reserve(Direction::Outbound, 2).unwrap();
        let offer = sdp::offer(&offers);
        assert!(offer.contains("UDP/TLS/RTP/SAVPF") && offer.contains("a=ice-lite"), "{offer}");
        for (keys, shown, hidden) in [
            (&[Sdes][..], "a=crypto", "a=fingerprint"),
            (&[Sdes, Dtls], "a=crypto", "UDP/TLS"),
            (&[Dtls, Sdes], "UDP/TLS", "a=crypto"),
        ] {
            let (_port, ours) = able(keys, false);
            let first = sdp::offer(&ours);
            assert!(
                first.contains(shown) && !first.contains(hidden) && !first.contains("a=ice"),
                "{keys:?} {first}"
            );
            assert_eq!(sdp::answer(offer.as_bytes(), &ours).is_ok(), keys.contains(&Dtls), "{keys:?}");
        }
        let (_port, mut ours) = able(&[Dtls], true);
        let before = ours.ice.clone();
        renew(&mut ours).unwrap();
        assert!(ours.ice.is_some() && ours.ice != before);
    }

    #[tokio::test]
    async fn a_preference_for_nothing_that_is_there_is_refused_and_names_both_sides() {
        let refused = media().preferring(&["SPEEX", "G729"]).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("SPEEX, G729") && text.contains("PCMU"), "{text}");
        assert_eq!(refused.status(), 488);
    }
}
