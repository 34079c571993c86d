//! What must hold for any octets as an SDP. Shared by the fuzz target, which chooses the octets, and by the property
//! tests.
#![allow(dead_code)] // Each user runs some of it.
#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Agreement, Capabilities, CryptoSuite, Description, Fingerprint, IceLite, Limits, LocalDtls, Negotiated,
    Security, SecurityPolicy, SecuritySettings, SrtpKey, accept_answer, answer, offer,
};

pub(crate) const OPUS: CodecSpec = CodecSpec {
    name: "opus",
    payload_type: 96,
    clock_rate: 48_000,
    sample_rate: 48_000,
    channels: 1,
    fmtp: "useinbandfec=1",
};
pub(crate) const G722: CodecSpec = CodecSpec { name: "G722", payload_type: 9, sample_rate: 16_000, ..PCMU };

/// G.711 in the clear.
pub(crate) fn narrow() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], [198, 51, 100, 7].into(), 40_000, 42)
}

/// All that there is. `seed` makes the keys.
pub(crate) fn wide(policy: SecurityPolicy, seed: u8) -> Capabilities {
    let key = |suite: CryptoSuite| SrtpKey::new(suite, &vec![seed; suite.material_len()]).unwrap();
    let security = SecuritySettings {
        mki: seed.is_multiple_of(2),
        dtls: Some(LocalDtls::new(Fingerprint([seed; 32]))),
        ..SecuritySettings::sdes(policy, CryptoSuite::ALL.into_iter().map(key).collect())
    };
    let ice = IceLite { ufrag: "iqra".into(), pwd: "p".repeat(24), candidates: Vec::new() };
    let codecs = vec![OPUS, G722, PCMU, PCMA];
    Capabilities { codecs, security, ice: Some(ice), rtcp_mux: true, comfort_noise: true, ..narrow() }
}

/// Any octets as the other side's offer, as its answer, and as a re-offer: nothing panics, and what we answer reads,
/// mirrors the offer line by line, and comes to the same on both sides.
pub(crate) fn sdp(data: &[u8]) {
    prints_what_it_reads(data);
    let settled = wide(SecurityPolicy::Optional, 3);
    let standing = answer(offer(&settled).as_bytes(), &settled).unwrap();
    let sides = [narrow(), wide(SecurityPolicy::Optional, 1), wide(SecurityPolicy::Required, 1)];
    for ours in sides {
        if let Ok(agreed) = answer(data, &ours) {
            mirrors(data, &agreed.local());
            agrees_with_the_caller(data, &agreed, &ours);
            goes_on(&agreed, data, &ours);
        }
        let _ = accept_answer(&ours, &offer(&ours), data);
        let _ = standing.accept_answer(&ours, &standing.reoffer(&ours), data);
        if let Ok((next, _)) = standing.answer(data, &ours) {
            goes_on(&next, data, &ours);
        }
    }
}

const NO_LIMITS: Limits =
    Limits { octets: usize::MAX, streams: usize::MAX, attributes: usize::MAX, formats: usize::MAX };

fn read(text: &[u8]) -> Description {
    Description::parse_within(text, &NO_LIMITS).expect("what was read or written reads")
}

/// Octet for octet; and its values alone read back.
fn prints_what_it_reads(data: &[u8]) {
    let Ok(mut description) = Description::parse(data) else { return };
    assert_eq!(&*description.to_bytes(), data);
    description.model_mut();
    let printed = description.to_bytes();
    let mut again = read(&printed);
    again.model_mut();
    assert_eq!(again.to_bytes(), printed);
}

/// As many m-lines in the same order, of the same kind and transport, with no format that was not offered.
pub(crate) fn mirrors(offer: &[u8], answer: &str) {
    let (offer, answer) = (read(offer), read(answer.as_bytes()));
    let (offered, answered) = (&offer.model().medias, &answer.model().medias);
    assert_eq!(offered.len(), answered.len());
    for (offered, answered) in offered.iter().zip(answered) {
        assert_eq!(offered.proto, answered.proto);
        assert!(offered.media.eq_ignore_ascii_case(&answered.media));
        let formats: Vec<&str> = offered.fmt.split_ascii_whitespace().collect();
        let among = |format: &str| {
            formats.contains(&format) || formats.iter().any(|f| f.parse::<u8>() == format.parse())
        };
        assert!(answered.fmt.split_ascii_whitespace().all(among), "{} {}", offered.fmt, answered.fmt);
    }
    assert_eq!(answered.iter().filter(|media| media.port != 0).count(), 1, "one stream is taken");
}

/// A caller who can do what we can, and made that offer, reads our answer as we meant it.
fn agrees_with_the_caller(data: &[u8], agreed: &Agreement, ours: &Capabilities) {
    let sent = String::from_utf8_lossy(data);
    let caller = accept_answer(ours, &sent, agreed.local().as_bytes()).expect("our answer fits its offer");
    are_two_sides(&caller.negotiated, &agreed.negotiated);
}

/// What one side sends, the other receives, under the same numbers and keys.
pub(crate) fn are_two_sides(one: &Negotiated, other: &Negotiated) {
    assert_eq!(one.codec, other.codec);
    assert_eq!((one.send_payload, one.receive_payload), (other.receive_payload, other.send_payload));
    assert_eq!(one.direction, other.direction.reversed());
    assert_eq!(one.rtcp_mux, other.rtcp_mux);
    let events =
        |n: &Negotiated| n.telephone_event.map(|e| (e.send_payload, e.receive_payload, e.clock_rate));
    assert_eq!(events(one), events(other).map(|(send, receive, rate)| (receive, send, rate)));
    let noise = |n: &Negotiated| n.comfort_noise.map(|c| (c.send_payload, c.receive_payload));
    assert_eq!(noise(one), noise(other).map(|(send, receive)| (receive, send)));
    match (&one.security, &other.security) {
        (Security::Plain, Security::Plain) => {}
        (Security::Sdes { local, remote }, Security::Sdes { local: sends, remote: hears }) => {
            assert_eq!((local, remote), (hears, sends));
        }
        (Security::Dtls { role, .. }, Security::Dtls { role: other, .. }) => assert_ne!(role, other),
        (one, other) => panic!("{one:?} against {other:?}"),
    }
}

/// The same offer again changes nothing, and an offer of ours is one that we could answer.
fn goes_on(agreed: &Agreement, data: &[u8], ours: &Capabilities) {
    let (same, change) = agreed.answer(data, ours).expect("what was taken is taken again");
    assert!(change.is_none() && same.local() == agreed.local(), "{change:?}");
    let again = agreed.reoffer(ours);
    let lines = |text: &str| read(text.as_bytes()).model().medias.len();
    assert_eq!(lines(&again), lines(&agreed.local()));
    let far =
        answer(again.as_bytes(), &Capabilities { limits: NO_LIMITS, ..ours.clone() }).expect("ours suits us");
    let (near, _) = agreed
        .accept_answer(&Capabilities { limits: NO_LIMITS, ..ours.clone() }, &again, far.local().as_bytes())
        .expect("and so does its answer");
    are_two_sides(&near.negotiated, &far.negotiated);
}
