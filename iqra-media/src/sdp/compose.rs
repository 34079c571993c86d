//! Writing our SDP: offers, answers, and the next version of either.

use std::net::SocketAddr;

use sdp_types::{Attribute, Connection, Media, Origin, Session, Time};

use super::crypto::Crypto;
use super::dtls::Setup;
use super::format::{Format, Kind, Numbers, longest_packet};
use super::negotiate::Taken;
use super::{Capabilities, Description, Direction, Profile, Security, SrtpKey, ice};

/// Version of a session's first SDP; [`next_version`] raises it.
const FIRST_VERSION: u64 = 1;
/// Our ICE follows RFC 8445 (§10 asks to say so).
const ICE_OPTIONS: &str = "ice2";

/// What an m-line of ours says, besides where.
struct Stream<'a> {
    proto: &'a str,
    formats: Vec<Format>,
    ptime_ms: u8,
    direction: Direction,
    crypto: Vec<Crypto>,
    setup: Option<Setup>,
    ice: bool,
    rtcp_mux: bool,
    rtcp_port: Option<u16>,
    mid: Option<String>,
    bundled: bool,
}

/// What a re-offer builds on: our last SDP, the index of its audio, and how that is protected.
pub(super) struct Standing<'a> {
    pub(super) local: &'a Description,
    pub(super) stream: usize,
    pub(super) security: &'a Security,
}

/// Our offer: all that we can do, in preference order. In a session it takes the place of its stream among the
/// m-lines, and keeps to the numbers that are known, the transport and the way of keys.
pub(super) fn offer(ours: &Capabilities, numbers: &Numbers, standing: Option<&Standing<'_>>) -> Description {
    let before = standing.and_then(|standing| standing.local.audio_at(standing.stream));
    let wants_srtp = ours.security.wants_srtp();
    let kept = before.and_then(|audio| audio.profile()).filter(|p| wants_srtp || p.allows_plain());
    let profile = kept.unwrap_or_else(|| ours.security.offered());
    let browser = profile == Profile::TlsSavpf;
    let mid = before.map_or_else(|| browser.then(|| "0".to_owned()), |audio| audio.mid().map(str::to_owned));
    let security = standing.map(|standing| standing.security);
    let stream = Stream {
        proto: profile.as_str(),
        formats: numbers.assign(ours),
        ptime_ms: ours.ptime_ms,
        direction: ours.direction,
        crypto: offered_keys(ours, profile, security),
        setup: offered_setup(ours, profile, security),
        ice: ours.ice.is_some(),
        rtcp_mux: ours.rtcp_mux,
        rtcp_port: ours.rtcp_port,
        bundled: mid.is_some() && ours.rtcp_mux && before.map_or(browser, |audio| audio.is_bundled()),
        mid,
    };
    let mut session = session(ours, &stream);
    let Some(Standing { local, stream: at, .. }) = standing else {
        session.times.push(Time::new(0, 0));
        session.medias.push(audio(ours, &stream));
        return session.into();
    };
    session.times = local.session.times.clone();
    session.medias = local.session.medias.iter().map(refused).collect();
    session.medias[*at] = audio(ours, &stream);
    session.into()
}

/// All keys in a first offer; in a session that has keys the one of its suite.
fn offered_keys(ours: &Capabilities, profile: Profile, standing: Option<&Security>) -> Vec<Crypto> {
    let security = &ours.security;
    let wanted = |key: &&SrtpKey| match standing {
        None => !profile.is_tls(),
        Some(Security::Sdes { local, .. }) => local.suite() == key.suite(),
        Some(_) => false,
    };
    let keys = security.sdes.iter().filter(|_| security.wants_srtp()).filter(wanted);
    (1..).zip(keys).map(|(tag, key)| Crypto { tag, key: key.clone() }).collect()
}

/// Fingerprints go out over TLS transports, and over others where there are no keys to offer; in a session that has
/// one.
fn offered_setup(ours: &Capabilities, profile: Profile, standing: Option<&Security>) -> Option<Setup> {
    let security = &ours.security;
    let wanted = match standing {
        None => profile.is_tls() || security.sdes.is_empty(),
        Some(standing) => matches!(standing, Security::Dtls { .. }),
    };
    (wanted && security.wants_srtp() && security.dtls.is_some()).then_some(Setup::ActPass)
}

/// As many m-lines as the offer has, in its order (RFC 3264 §6); all but the one taken refused.
pub(super) fn answer(offer: &Description, taken: &Taken, ours: &Capabilities) -> Description {
    let Taken { stream: index, negotiated, tag } = taken;
    let theirs = offer.audio_at(*index);
    let (crypto, setup) = match (&negotiated.security, tag) {
        (Security::Sdes { local, .. }, Some(tag)) => (vec![Crypto { tag: *tag, key: local.clone() }], None),
        (Security::Dtls { role, .. }, _) => (Vec::new(), Some(Setup::from(*role))),
        _ => (Vec::new(), None),
    };
    let stream = Stream {
        proto: &offer.session.medias[*index].proto,
        formats: answered_formats(taken),
        ptime_ms: negotiated.ptime_ms,
        direction: negotiated.direction,
        crypto,
        setup,
        ice: negotiated.ice.is_some(),
        rtcp_mux: negotiated.rtcp_mux,
        rtcp_port: ours.rtcp_port.filter(|_| !negotiated.rtcp_mux),
        mid: theirs.and_then(|audio| audio.mid().map(str::to_owned)),
        // Bundled RTP shares its port with RTCP (RFC 8843 §9.3), so without that there is no group for us.
        bundled: negotiated.rtcp_mux && theirs.is_some_and(|audio| audio.is_bundled()),
    };
    let mut session = session(ours, &stream);
    session.times = offer.session.times.clone();
    session.medias = offer.session.medias.iter().map(refused).collect();
    session.medias[*index] = audio(ours, &stream);
    session.into()
}

fn answered_formats(taken: &Taken) -> Vec<Format> {
    let negotiated = &taken.negotiated;
    let codec = Format { payload: negotiated.receive_payload, kind: Kind::Codec(negotiated.codec) };
    let noise = negotiated.comfort_noise.map(|n| Format { payload: n.receive_payload, kind: Kind::Noise });
    let events = negotiated
        .telephone_event
        .map(|e| Format { payload: e.receive_payload, kind: Kind::Events(e.clock_rate) });
    [Some(codec), noise, events].into_iter().flatten().collect()
}

/// Gives `fresh` the identity of `previous`: the same `o=`, and a version one higher if anything else changed (RFC
/// 3264 §8).
pub(super) fn next_version(previous: &Description, mut fresh: Description) -> Description {
    fresh.model_mut().origin = previous.session.origin.clone();
    if fresh != *previous {
        let version = &mut fresh.model_mut().origin.sess_version;
        *version = version.wrapping_add(1);
    }
    fresh
}

fn session(ours: &Capabilities, stream: &Stream<'_>) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(ours.session_id, FIRST_VERSION, ours.address), "-");
    session.connection = Some(Connection::from_ip_addr(ours.address));
    if let Some(mid) = stream.mid.as_ref().filter(|_| stream.bundled) {
        session.attributes.push(with_value("group", format!("BUNDLE {mid}")));
    }
    if stream.ice {
        session.attributes.push(Attribute { attribute: "ice-lite".into(), value: None });
        session.attributes.push(with_value("ice-options", ICE_OPTIONS));
    }
    session
}

fn audio(ours: &Capabilities, stream: &Stream<'_>) -> Media {
    let payloads = stream.formats.iter().map(|f| f.payload.to_string());
    let mut media = Media {
        proto: stream.proto.to_owned(),
        fmt: payloads.collect::<Vec<_>>().join(" "),
        ..empty("audio", ours.port)
    };
    for Format { payload, kind } in &stream.formats {
        media.add_attribute_with_value("rtpmap", format!("{payload} {}", kind.encoding()));
        if !kind.parameters().is_empty() {
            media.add_attribute_with_value("fmtp", format!("{payload} {}", kind.parameters()));
        }
    }
    let longest = longest_ms(ours, &stream.formats);
    media.add_attribute_with_value("ptime", stream.ptime_ms.min(longest));
    media.add_attribute_with_value("maxptime", longest);
    add_transport(&mut media, ours, stream);
    add_security(&mut media, ours, stream);
    media.add_attribute_from_str(stream.direction.as_str());
    media
}

/// The longest packet that we take of every codec of an m-line, since `a=maxptime` is for all of them.
fn longest_ms(ours: &Capabilities, formats: &[Format]) -> u8 {
    let of_codec = |format: &Format| match format.kind {
        Kind::Codec(codec) => Some(longest_packet(&codec)),
        Kind::Noise | Kind::Events(_) => None,
    };
    formats.iter().filter_map(of_codec).fold(ours.longest_ms(), u8::min)
}

fn add_transport(media: &mut Media, ours: &Capabilities, stream: &Stream<'_>) {
    if let Some(mid) = &stream.mid {
        media.add_attribute_with_value("mid", mid);
    }
    if let Some(port) = stream.rtcp_port {
        media.add_attribute_with_value("rtcp", port);
    }
    if stream.rtcp_mux {
        media.add_attribute_from_str("rtcp-mux");
    }
    if let Some(local) = ours.ice.as_ref().filter(|_| stream.ice) {
        media.add_attribute_with_value("ice-ufrag", &local.ufrag);
        media.add_attribute_with_value("ice-pwd", &local.pwd);
        let default = SocketAddr::new(ours.address, ours.port);
        for candidate in ice::candidates(local, default, stream.rtcp_port) {
            media.add_attribute_with_value("candidate", candidate);
        }
        media.add_attribute_from_str("end-of-candidates");
    }
}

fn add_security(media: &mut Media, ours: &Capabilities, stream: &Stream<'_>) {
    for crypto in &stream.crypto {
        media.add_attribute_with_value("crypto", crypto);
    }
    if let (Some(setup), Some(local)) = (stream.setup, &ours.security.dtls) {
        media.add_attribute_with_value("fingerprint", local.fingerprint);
        media.add_attribute_with_value("setup", setup.as_str());
        if let Some(id) = &local.tls_id {
            media.add_attribute_with_value("tls-id", id);
        }
    }
}

/// The same m-line with port 0 and without attributes but its name (RFC 5888 §9.1).
fn refused(media: &Media) -> Media {
    let mid = media.attributes.iter().find(|a| a.attribute.eq_ignore_ascii_case("mid"));
    Media {
        proto: media.proto.clone(),
        fmt: media.fmt.clone(),
        attributes: mid.cloned().into_iter().collect(),
        ..empty(&media.media, 0)
    }
}

fn with_value(name: &str, value: impl Into<String>) -> Attribute {
    Attribute { attribute: name.to_owned(), value: Some(value.into()) }
}

fn empty(name: &str, port: u16) -> Media {
    Media {
        media: name.to_owned(),
        port,
        num_ports: None,
        proto: String::new(),
        fmt: String::new(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}
