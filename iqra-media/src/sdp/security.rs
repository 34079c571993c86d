//! Whether audio is encrypted: our policy, the profiles of an m-line, and what was agreed.

use super::{DtlsRole, Fingerprint, LocalDtls, SrtpKey};

/// Whether we want SRTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecurityPolicy {
    /// Plain RTP alone.
    #[default]
    Never,
    /// SRTP where the peer has it, plain RTP else.
    Optional,
    /// SRTP alone.
    Required,
}

/// The transport of an m-line that carries RTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// `RTP/AVP` (RFC 3551). With keys beside it, "best effort" or opportunistic SRTP (RFC 8643).
    #[default]
    Avp,
    /// `RTP/AVPF`: feedback that nobody has to send (RFC 4585 §3.1).
    Avpf,
    /// `RTP/SAVP` (RFC 3711).
    Savp,
    /// `RTP/SAVPF` (RFC 5124).
    Savpf,
    /// `UDP/TLS/RTP/SAVP` (RFC 5764 §8).
    TlsSavp,
    /// `UDP/TLS/RTP/SAVPF`, what browsers speak.
    TlsSavpf,
}

impl Profile {
    const ALL: [Self; 6] = [Self::Avp, Self::Avpf, Self::Savp, Self::Savpf, Self::TlsSavp, Self::TlsSavpf];

    /// As the m-line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savp => "RTP/SAVP",
            Self::Savpf => "RTP/SAVPF",
            Self::TlsSavp => "UDP/TLS/RTP/SAVP",
            Self::TlsSavpf => "UDP/TLS/RTP/SAVPF",
        }
    }

    pub(super) fn parse(proto: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str().eq_ignore_ascii_case(proto))
    }

    /// Whether RTP may go in the clear.
    pub fn allows_plain(self) -> bool {
        matches!(self, Self::Avp | Self::Avpf)
    }

    /// Whether keys come by DTLS alone.
    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::TlsSavp | Self::TlsSavpf)
    }
}

/// Our policy and keys. The default is plain RTP alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecuritySettings {
    /// Whether we want SRTP.
    pub policy: SecurityPolicy,
    /// What our offers say where the policy allows SRTP. [`Profile::Avp`] (the default) with [`sdes`](Self::sdes) is
    /// the best effort of RFC 8643, which some PBXs take and FreeSWITCH by default refuses; `RTP/SAVP` offers nothing
    /// but SRTP.
    pub profile: Profile,
    /// Keys for SDES, a suite each, best first; empty leaves SDES out. An answer takes one, an offer shows all.
    pub sdes: Vec<SrtpKey>,
    /// Whether keys are taken whose packets carry an identifier ([`SrtpKey::mki`]). Default no.
    pub mki: bool,
    /// Our certificate; `None` leaves DTLS out.
    pub dtls: Option<LocalDtls>,
}

impl SecuritySettings {
    /// SRTP with keys in the SDP: offered as `RTP/SAVP` where required, else with best effort.
    pub fn sdes(policy: SecurityPolicy, keys: Vec<SrtpKey>) -> Self {
        let profile = if policy == SecurityPolicy::Required { Profile::Savp } else { Profile::Avp };
        Self { policy, profile, sdes: keys, ..Self::default() }
    }

    /// DTLS-SRTP, offered as browsers do.
    pub fn dtls(policy: SecurityPolicy, dtls: LocalDtls) -> Self {
        Self { policy, profile: Profile::TlsSavpf, dtls: Some(dtls), ..Self::default() }
    }

    /// Whether packets under this key can be read.
    pub(super) fn can_use(&self, key: &SrtpKey) -> bool {
        self.mki || key.mki().is_none()
    }

    pub(super) fn wants_srtp(&self) -> bool {
        self.policy != SecurityPolicy::Never
    }

    /// The profile of our offers.
    pub(super) fn offered(&self) -> Profile {
        match self.profile {
            profile if self.wants_srtp() || profile.allows_plain() => profile,
            _ => Profile::Avp,
        }
    }

    /// What we would take, for a refusal's text.
    pub(super) fn takes(&self) -> String {
        let mut takes = Vec::new();
        if self.policy != SecurityPolicy::Required {
            takes.push("RTP/AVP");
        }
        if self.wants_srtp() && !self.sdes.is_empty() {
            takes.push("RTP/SAVP with a=crypto");
        }
        if self.wants_srtp() && self.dtls.is_some() {
            takes.push("UDP/TLS/RTP/SAVPF with a sha-256 fingerprint");
        }
        if takes.is_empty() {
            "nothing: SRTP is required and no keys are set".to_owned()
        } else {
            takes.join(" or ")
        }
    }
}

/// How the audio is protected, as negotiated. `Debug` shows no key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    #[default]
    Plain,
    /// SRTP with keys from the SDP; both have the same suite.
    Sdes {
        /// Protects what we send.
        local: SrtpKey,
        /// Protects what we receive.
        remote: SrtpKey,
    },
    /// SRTP with keys from a DTLS handshake on the media's port (RFC 5764).
    Dtls {
        /// What the peer's certificate has to match.
        fingerprint: Fingerprint,
        /// Our side of the handshake.
        role: DtlsRole,
        /// The peer's name of the association; another one means a new handshake (RFC 8842 §4).
        tls_id: Option<String>,
    },
}

impl Security {
    /// Whether packets are encrypted.
    pub fn is_secure(&self) -> bool {
        *self != Self::Plain
    }
}
