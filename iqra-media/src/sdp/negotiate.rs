//! The decisions: which of an offer's streams is taken and how, and what an answer to ours comes to.

use super::crypto::Crypto;
use super::dtls::Setup;
use super::format::whole_frames;
use super::{
    Alternative, Audio, Capabilities, ComfortNoise, Description, Negotiated, Order, PTIME_RANGE_MS, Profile,
    Refusal, RemoteIce, Security, SecurityPolicy, SecuritySettings, SrtpKey, TelephoneEvent,
};
use crate::codec::CodecSpec;

/// A stream that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// Its index among the m-lines.
    pub(super) stream: usize,
    pub(super) negotiated: Negotiated,
    /// Tag of the `a=crypto` that was taken.
    pub(super) tag: Option<u32>,
}

/// Of an offer's audio streams the first that can be taken, where the policy is to prefer SRTP the first secure one;
/// else why the one that came closest cannot.
pub(super) fn take(offer: &Description, ours: &Capabilities) -> Result<Taken, Refusal> {
    let mut plain = None;
    let mut refusal = Refusal::NoAudio;
    for (stream, audio) in offer.audio() {
        match consider(&audio, ours) {
            Ok((negotiated, tag)) if negotiated.security.is_secure() || !ours.security.wants_srtp() => {
                return Ok(Taken { stream, negotiated, tag });
            }
            Ok((negotiated, tag)) => {
                plain.get_or_insert(Taken { stream, negotiated, tag });
            }
            Err(why) if why.closeness() > refusal.closeness() || refusal == Refusal::NoAudio => refusal = why,
            Err(_) => {}
        }
    }
    plain.ok_or(refusal)
}

/// Payload types are those of the offer in both directions (RFC 3264 §6.1).
fn consider(audio: &Audio<'_>, ours: &Capabilities) -> Result<(Negotiated, Option<u32>), Refusal> {
    let (security, tag) = secure(audio, &ours.security, ours.order)?;
    let ice = ours.ice.as_ref().and_then(|_| audio.ice());
    let remote = audio.remote(ours.address, ice.is_some())?;
    let (codec, payload) = chosen(audio, ours).ok_or_else(|| no_common_codec(audio, ours))?;
    let read = Read { audio: *audio, ours, codec, send: payload, receive: payload };
    let (theirs, only) = audio.rtcp_mux();
    let mut negotiated = read.negotiated(remote, theirs && (ours.rtcp_mux || only), ice);
    negotiated.security = security;
    Ok((negotiated, tag))
}

/// The codec that both have and one of them prefers.
fn chosen(audio: &Audio<'_>, ours: &Capabilities) -> Option<(CodecSpec, u8)> {
    let by_ours = || ours.codecs.iter().find_map(|c| audio.payload_type_of(c).map(|payload| (*c, payload)));
    match ours.order {
        Order::Ours => by_ours(),
        Order::Theirs => by_theirs(audio, ours),
    }
}

fn by_theirs(audio: &Audio<'_>, ours: &Capabilities) -> Option<(CodecSpec, u8)> {
    audio
        .payload_types()
        .find_map(|payload| audio.codec_of(payload, &ours.codecs).map(|codec| (codec, payload)))
}

/// How an offered stream would be protected, with the tag of the keys; or why not at all.
fn secure(
    audio: &Audio<'_>,
    ours: &SecuritySettings,
    order: Order,
) -> Result<(Security, Option<u32>), Refusal> {
    let offered = || audio.proto().to_owned();
    let unknown = || Refusal::Transport { offered: offered(), takes: ours.takes() };
    let profile = audio.profile().ok_or_else(unknown)?;
    if ours.wants_srtp() {
        if let Some(security) = dtls(audio, ours, Setup::Active) {
            return Ok((security, None));
        }
        if !profile.is_tls()
            && let Some((tag, security)) = sdes(audio, ours, order)
        {
            return Ok((security, Some(tag)));
        }
    }
    match (profile.allows_plain(), ours.policy) {
        (true, SecurityPolicy::Required) if !has_keys(audio) => {
            Err(Refusal::Unencrypted { offered: offered(), takes: ours.takes() })
        }
        (true, SecurityPolicy::Never | SecurityPolicy::Optional) => Ok((Security::Plain, None)),
        (false, SecurityPolicy::Never) => Err(unknown()),
        _ => Err(Refusal::Keys { offered: key_names(audio, profile), takes: ours.takes() }),
    }
}

fn has_keys(audio: &Audio<'_>) -> bool {
    audio.crypto().next().is_some() || audio.fingerprint().is_some()
}

/// The certificate is checked, and there is a handshake to be had.
fn dtls(audio: &Audio<'_>, ours: &SecuritySettings, absent: Setup) -> Option<Security> {
    let local = ours.dtls.as_ref()?;
    let fingerprint = audio.fingerprint()??;
    let role = audio.setup(absent).answered_with(local.role)?;
    Some(Security::Dtls { fingerprint, role, tls_id: audio.tls_id() })
}

/// Of the offered keys the first whose suite we have, by whose order it goes (RFC 4568 §5.1.2).
fn sdes(audio: &Audio<'_>, ours: &SecuritySettings, order: Order) -> Option<(u32, Security)> {
    let usable = |line: &Crypto| ours.can_use(&line.key);
    let offered: Vec<Crypto> = audio.crypto().filter_map(Result::ok).filter(usable).collect();
    let pair = |theirs: &Crypto, local: &SrtpKey| {
        let security = Security::Sdes { local: local.clone(), remote: theirs.key.clone() };
        (theirs.key.suite() == local.suite()).then_some((theirs.tag, security))
    };
    match order {
        Order::Ours => ours.sdes.iter().find_map(|local| offered.iter().find_map(|line| pair(line, local))),
        Order::Theirs => offered.iter().find_map(|line| ours.sdes.iter().find_map(|local| pair(line, local))),
    }
}

/// What keys a stream offers, by name.
fn key_names(audio: &Audio<'_>, profile: Profile) -> String {
    let name = |line: Result<Crypto, super::crypto::Fault>| match line {
        Ok(Crypto { key, .. }) if key.mki().is_some() => format!("{} with an MKI", key.suite().name()),
        Ok(Crypto { key, .. }) => key.suite().name().to_owned(),
        Err(fault) => fault.to_string(),
    };
    let mut names: Vec<String> = audio.crypto().take(8).map(name).collect();
    match audio.fingerprint() {
        Some(Some(_)) => names.push("a sha-256 fingerprint".into()),
        Some(None) => names.push("a fingerprint of another hash".into()),
        None => {}
    }
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("{names} over {}", profile.as_str())
}

/// What the answer to `offer` comes to. Our numbers, keys, direction and grouping are read from the offer itself, so
/// that it does not matter which one it was.
pub(super) fn accept(
    ours: &Capabilities,
    offer: &Description,
    answer: &Description,
) -> Result<Taken, Refusal> {
    let taken = |(stream, mine)| answer.audio_at(stream).map(|theirs| (stream, mine, theirs));
    let (stream, mine, theirs) = offer.audio().find_map(taken).ok_or(Refusal::Declined)?;
    let security = agreed_security(&mine, &theirs, &ours.security)?;
    let ice = mine.ice().and_then(|_| theirs.ice());
    let remote = theirs.remote(ours.address, ice.is_some())?;
    // The peer sends what it lists first; we receive it under the number that we offered (RFC 3264 §7).
    let (codec, send) = by_theirs(&theirs, ours).ok_or_else(|| no_common_codec(&theirs, ours))?;
    let receive = mine.payload_type_of(&codec).ok_or_else(|| no_common_codec(&theirs, ours))?;
    let mux = mine.rtcp_mux().0 && theirs.rtcp_mux().0;
    let mut negotiated = Read { audio: theirs, ours, codec, send, receive }.negotiated(remote, mux, ice);
    // Our credentials are those of the offer as it was sent.
    negotiated.local_ice = mine.ice().filter(|_| negotiated.ice.is_some()).and_then(|sent| {
        let ours = ours.ice.as_ref()?;
        Some(ours.under(&sent.ufrag, &sent.pwd))
    });
    negotiated.alternatives = alternatives(ours, &mine, &theirs, codec);
    negotiated.security = security;
    negotiated.direction =
        theirs.direction(negotiated.ice.is_some()).reversed().and(mine.direction(negotiated.ice.is_some()));
    receive_under_our_numbers(&mut negotiated, &mine);
    Ok(Taken { stream, negotiated, tag: None })
}

/// What the answer lists beside the codec that we use: the peer may send any of it (RFC 3264 §7).
fn alternatives(
    ours: &Capabilities,
    mine: &Audio<'_>,
    theirs: &Audio<'_>,
    used: CodecSpec,
) -> Vec<Alternative> {
    let mut found: Vec<Alternative> = Vec::new();
    for payload in theirs.payload_types() {
        let Some(codec) = theirs.codec_of(payload, &ours.codecs) else { continue };
        let Some(receive_payload) = mine.payload_type_of(&codec) else { continue };
        if codec != used && found.iter().all(|other| other.codec != codec) {
            let remote_fmtp = theirs.parameters(payload).to_owned();
            found.push(Alternative { codec, receive_payload, remote_fmtp });
        }
    }
    found
}

/// Events and noise come under the payload types of our offer; without one of ours there are none. Who gives events
/// back under one of our numbers means that number, even where it mixes up the clock rates, as some phones do.
fn receive_under_our_numbers(negotiated: &mut Negotiated, mine: &Audio<'_>) {
    let events = negotiated.telephone_event.take();
    negotiated.telephone_event = events.and_then(|events| {
        let echoed = mine.encodings().find(|(number, e)| *number == events.send_payload && e.is_events());
        let at_rate =
            || mine.telephone_event(events.clock_rate).filter(|(_, rate, _)| *rate == events.clock_rate);
        let receive_payload =
            echoed.map(|(number, _)| number).or_else(|| at_rate().map(|(number, ..)| number))?;
        Some(TelephoneEvent { receive_payload, ..events })
    });
    let noise = negotiated.comfort_noise.take();
    negotiated.comfort_noise =
        noise.and_then(|noise| Some(ComfortNoise { receive_payload: mine.comfort_noise()?, ..noise }));
}

/// An answer takes one of the ways that the offer had, under the offer's transport (RFC 3264 §6).
fn agreed_security(
    mine: &Audio<'_>,
    theirs: &Audio<'_>,
    ours: &SecuritySettings,
) -> Result<Security, Refusal> {
    let offered = || theirs.proto().to_owned();
    let unknown = || Refusal::Transport { offered: offered(), takes: mine.proto().to_owned() };
    let (mine_is, theirs_is) = (mine.profile().ok_or_else(unknown)?, theirs.profile().ok_or_else(unknown)?);
    if mine.fingerprint().is_some()
        && let Some(security) = dtls(theirs, ours, Setup::Passive)
    {
        return Ok(security);
    }
    let offered_keys: Vec<Crypto> = mine.crypto().filter_map(Result::ok).collect();
    let answered = theirs.crypto().find_map(Result::ok).filter(|line| ours.can_use(&line.key));
    let pair = answered.as_ref().and_then(|theirs| {
        offered_keys.iter().find(|mine| mine.tag == theirs.tag && mine.key.suite() == theirs.key.suite())
    });
    if let (Some(mine), Some(theirs)) = (pair, answered.as_ref()) {
        return Ok(Security::Sdes { local: mine.key.clone(), remote: theirs.key.clone() });
    }
    // Who answers with keys will use them, so that going on without them would be noise.
    let unusable = || Refusal::Keys { offered: key_names(theirs, theirs_is), takes: ours.takes() };
    match (mine_is.allows_plain(), theirs_is.allows_plain()) {
        (true, true) if has_keys(mine) && has_keys(theirs) => Err(unusable()),
        (true, true) if ours.policy == SecurityPolicy::Required => {
            Err(Refusal::Unencrypted { offered: offered(), takes: ours.takes() })
        }
        (true, true) => Ok(Security::Plain),
        (false, false) => Err(unusable()),
        _ => Err(unknown()),
    }
}

/// A stream of the peer's, with the codec and numbers that were settled.
struct Read<'a> {
    audio: Audio<'a>,
    ours: &'a Capabilities,
    codec: CodecSpec,
    send: u8,
    receive: u8,
}

impl Read<'_> {
    fn negotiated(&self, remote: std::net::SocketAddr, rtcp_mux: bool, ice: Option<RemoteIce>) -> Negotiated {
        let Self { audio, ours, codec, send, receive } = self;
        Negotiated {
            send_payload: *send,
            receive_payload: *receive,
            remote_fmtp: audio.parameters(*send).to_owned(),
            ptime_ms: ptime(audio, ours, codec),
            telephone_event: self.telephone_event(),
            comfort_noise: self.comfort_noise(),
            remote_rtcp: if rtcp_mux { remote } else { audio.remote_rtcp(remote) },
            rtcp_mux,
            direction: audio.direction(ice.is_some()).reversed().and(ours.direction),
            local_ice: ours.ice.clone().filter(|_| ice.is_some()),
            ice,
            ..Negotiated::new(*codec, remote)
        }
    }

    fn telephone_event(&self) -> Option<TelephoneEvent> {
        let found = self.audio.telephone_event(self.codec.clock_rate).filter(|_| self.ours.telephone_event);
        found.map(|(payload, clock_rate, accepted)| TelephoneEvent {
            accepted,
            ..TelephoneEvent::new(payload, payload, clock_rate)
        })
    }

    fn comfort_noise(&self) -> Option<ComfortNoise> {
        let wanted = self.ours.comfort_noise && self.codec.clock_rate == 8000;
        let payload = self.audio.comfort_noise().filter(|_| wanted)?;
        Some(ComfortNoise { send_payload: payload, receive_payload: payload })
    }
}

/// What the peer wants to receive, within `a=maxptime`, our range and the codec's frames.
fn ptime(audio: &Audio<'_>, ours: &Capabilities, codec: &CodecSpec) -> u8 {
    let (shortest, longest) = (*PTIME_RANGE_MS.start(), ours.longest_ms());
    let wanted = audio.ptime().unwrap_or(ours.ptime_ms).min(audio.maxptime().unwrap_or(longest));
    whole_frames(codec, wanted.clamp(shortest, longest))
}

fn no_common_codec(audio: &Audio<'_>, ours: &Capabilities) -> Refusal {
    Refusal::Codec { theirs: audio.codec_names(), ours: ours.codec_names() }
}
