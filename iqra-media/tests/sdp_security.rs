//! SRTP in offers and answers: keys in the SDP, certificates, ICE-lite, bundling, and what the policy makes of them.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Agreement, Capabilities, Change, CryptoSuite, Direction, DtlsRole, Fingerprint, IceLite, LocalDtls,
    Profile, Refusal, Security, SecurityPolicy, SecuritySettings, SrtpKey, accept_answer, answer, offer,
};

use SecurityPolicy::{Never, Optional, Required};

fn plain() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], [198, 51, 100, 7].into(), 40_000, 42)
}

/// A key of each suite, its octets counting up from `seed`.
fn keys(seed: u8) -> Vec<SrtpKey> {
    let octets = |suite: CryptoSuite| {
        (0..suite.material_len() as u8).map(|n| n.wrapping_add(seed)).collect::<Vec<_>>()
    };
    CryptoSuite::ALL.into_iter().map(|suite| SrtpKey::new(suite, &octets(suite)).unwrap()).collect()
}

fn sdes(policy: SecurityPolicy) -> Capabilities {
    Capabilities { security: SecuritySettings::sdes(policy, keys(1)), ..plain() }
}

fn dtls(policy: SecurityPolicy) -> Capabilities {
    let ice = IceLite { ufrag: "ours".into(), pwd: "o".repeat(22), candidates: Vec::new() };
    let security = SecuritySettings::dtls(policy, LocalDtls::new(Fingerprint([0xAB; 32])));
    Capabilities { security, ice: Some(ice), rtcp_mux: true, ..plain() }
}

fn from_caller(media: &str) -> String {
    format!("v=0\r\no=alice 7 3 IN IP4 192.0.2.5\r\ns=call\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\n{media}")
}

fn answered(ours: &Capabilities, media: &str) -> Result<Agreement, Refusal> {
    answer(from_caller(media).as_bytes(), ours)
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

/// An audio line over `proto` with these suites, tagged from 1.
fn line(proto: &str, suites: &[&str]) -> String {
    let crypto = (1..).zip(suites).map(|(tag, suite)| format!("a=crypto:{tag} {suite} inline:{KEY}\r\n"));
    format!("m=audio 5004 {proto} 0\r\n{}", crypto.collect::<String>())
}

const AES_80: &str = "AES_CM_128_HMAC_SHA1_80";
const AES_32: &str = "AES_CM_128_HMAC_SHA1_32";

fn is_sdes(agreed: &Agreement) -> bool {
    matches!(agreed.negotiated.security, Security::Sdes { .. })
}

/// policy × what is offered → what becomes of it.
#[test]
fn the_policy_decides() {
    let cases: [(SecurityPolicy, String, Result<bool, u16>); 13] = [
        (Never, line("RTP/AVP", &[]), Ok(false)),
        (Never, line("RTP/AVP", &[AES_80]), Ok(false)),
        (Never, line("RTP/SAVP", &[AES_80]), Err(302)),
        (Optional, line("RTP/AVP", &[]), Ok(false)),
        (Optional, line("RTP/AVP", &[AES_80]), Ok(true)),
        (Optional, line("RTP/AVP", &["F8_128_HMAC_SHA1_80"]), Ok(false)),
        (Optional, line("RTP/SAVPF", &[AES_80]), Ok(true)),
        (Optional, line("RTP/SAVP", &["F8_128_HMAC_SHA1_80"]), Err(306)),
        (Optional, line("RTP/SAVP", &[]), Err(306)),
        (Required, line("RTP/AVP", &[]), Err(302)),
        (Required, line("RTP/AVP", &[AES_80]), Ok(true)),
        (Required, line("RTP/AVP", &["F8_128_HMAC_SHA1_80"]), Err(306)),
        (Required, line("RTP/SAVP", &[AES_32]), Ok(true)),
    ];
    for (policy, media, expected) in cases {
        let became = answered(&sdes(policy), &media);
        let got = became.as_ref().map(is_sdes).map_err(|refusal| refusal.warning().0);
        assert_eq!(got, expected, "{policy:?} {media} {became:?}");
        if let Err(refusal) = became {
            assert_eq!(refusal.status(), 488);
        }
    }
}

#[test]
fn of_alternative_lines_the_policy_chooses() {
    let secure_first = line("RTP/SAVP", &[AES_80]) + &line("RTP/AVP", &[]);
    let plain_first = line("RTP/AVP", &[]) + &line("RTP/SAVP", &[AES_80]);
    for (policy, media, expected) in [
        (Never, &secure_first, ["m=audio 0 RTP/SAVP 0", "m=audio 40000 RTP/AVP 0"]),
        (Never, &plain_first, ["m=audio 40000 RTP/AVP 0", "m=audio 0 RTP/SAVP 0"]),
        (Optional, &secure_first, ["m=audio 40000 RTP/SAVP 0", "m=audio 0 RTP/AVP 0"]),
        (Optional, &plain_first, ["m=audio 0 RTP/AVP 0", "m=audio 40000 RTP/SAVP 0"]),
        (Required, &plain_first, ["m=audio 0 RTP/AVP 0", "m=audio 40000 RTP/SAVP 0"]),
    ] {
        let sdp = answered(&sdes(policy), media).unwrap().local();
        let lines: Vec<_> = sdp.lines().filter(|l| l.starts_with("m=")).collect();
        assert_eq!(lines, expected, "{policy:?}");
    }
}

#[test]
fn the_answer_takes_one_suite_with_its_tag_and_our_own_key() {
    let media = line("RTP/SAVP", &[AES_32, AES_80]);
    let agreed = answered(&sdes(Required), &media).unwrap();
    let sdp = agreed.local();
    let lines: Vec<_> = sdp.lines().filter(|l| l.starts_with("a=crypto")).collect();
    assert!(
        lines.len() == 1 && lines[0].starts_with("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:AQIDBAUG"),
        "{lines:?}"
    );
    let Security::Sdes { local, remote } = &agreed.negotiated.security else { panic!("{agreed:?}") };
    assert_eq!(
        (local.master().octets()[0], remote.master().octets()[0], remote.suite()),
        (1, 0, CryptoSuite::AesCm128HmacSha1_80)
    );
    let theirs = Capabilities { order: iqra_media::sdp::Order::Theirs, ..sdes(Required) };
    assert!(answered(&theirs, &media).unwrap().local().contains("a=crypto:1 AES_CM_128_HMAC_SHA1_32"));
}

#[test]
fn packets_with_key_identifiers_are_for_those_who_read_them() {
    let media = line("RTP/SAVP", &[AES_80]).replace(KEY, &format!("{KEY}|2^31|1:1"));
    let refusal = answered(&sdes(Required), &media).unwrap_err();
    assert!(refusal.to_string().contains("offered AES_CM_128_HMAC_SHA1_80 with an MKI"), "{refusal}");
    let mut ours = sdes(Required);
    ours.security.mki = true;
    let agreed = answered(&ours, &media).unwrap();
    let Security::Sdes { remote, local } = &agreed.negotiated.security else { panic!("{agreed:?}") };
    assert_eq!((remote.mki().unwrap().value.as_slice(), local.mki()), (&[1u8][..], None));
}

#[test]
fn keys_cross_over_between_two_of_us() {
    for (profile, proto) in
        [(Profile::Avp, "RTP/AVP"), (Profile::Savp, "RTP/SAVP"), (Profile::Savpf, "RTP/SAVPF")]
    {
        let mut caller = sdes(Optional);
        caller.security.profile = profile;
        caller.security.sdes = keys(100);
        let offer = offer(&caller);
        assert!(offer.contains(&format!(" {proto} ")) && offer.matches("a=crypto:").count() == 4, "{offer}");
        let callee = answer(offer.as_bytes(), &sdes(Optional)).unwrap();
        let caller = accept_answer(&caller, &offer, callee.local().as_bytes()).unwrap();
        let (Security::Sdes { local, remote }, Security::Sdes { local: sends, remote: hears }) =
            (&caller.negotiated.security, &callee.negotiated.security)
        else {
            panic!("{caller:?} {callee:?}")
        };
        assert_eq!((local, remote, local.suite()), (hears, sends, CryptoSuite::AeadAes256Gcm));
    }
}

#[test]
fn an_answer_may_not_take_encryption_away() {
    let caller = sdes(Required);
    let mut best_effort = sdes(Optional);
    best_effort.security.profile = Profile::Avp;
    for (ours, reply, expected) in [
        (&caller, line("RTP/SAVP", &[]), Err(306)),
        (&caller, line("RTP/SAVP", &[AES_80]), Err(306)),
        (&caller, line("RTP/SAVP", &[AES_80]).replace("crypto:1", "crypto:3"), Ok(true)),
        (&caller, line("RTP/AVP", &[]), Err(302)),
        (&best_effort, line("RTP/AVP", &[]), Ok(false)),
        (&best_effort, line("RTP/AVP", &[AES_80]).replace("crypto:1", "crypto:3"), Ok(true)),
        (&best_effort, line("RTP/AVP", &[AES_80]), Err(306)),
        (&plain(), line("RTP/AVP", &[AES_80]), Ok(false)),
        (&plain(), line("RTP/SAVP", &[AES_80]), Err(302)),
    ] {
        let became = accept_answer(ours, &offer(ours), from_caller(&reply).as_bytes());
        let got = became.as_ref().map(is_sdes).map_err(|refusal| refusal.warning().0);
        assert_eq!(got, expected, "{reply} {became:?}");
    }
    let required_best_effort = Capabilities {
        security: SecuritySettings { profile: Profile::Avp, ..sdes(Required).security },
        ..plain()
    };
    let bare = accept_answer(
        &required_best_effort,
        &offer(&required_best_effort),
        from_caller(&line("RTP/AVP", &[])).as_bytes(),
    );
    assert!(matches!(bare, Err(Refusal::Unencrypted { .. })), "{bare:?}");
}

#[test]
fn new_keys_are_a_change_and_the_same_ones_are_none() {
    let agreed = answered(&sdes(Required), &line("RTP/SAVP", &[AES_80])).unwrap();
    let again =
        |media: &str, ours: &Capabilities| agreed.answer(from_caller(media).as_bytes(), ours).unwrap().1;
    assert!(again(&line("RTP/SAVP", &[AES_80]), &sdes(Required)).is_none());
    assert!(again(&line("RTP/SAVP", &[AES_80]).replace("AAEC", "BBEC"), &sdes(Required)).keys);
    let rekeyed = Capabilities { security: SecuritySettings::sdes(Required, keys(9)), ..plain() };
    assert!(again(&line("RTP/SAVP", &[AES_80]), &rekeyed).keys);
}

#[test]
fn a_hold_keeps_transport_keys_and_roles() {
    let hold = |side: &Capabilities| Capabilities { direction: Direction::SendOnly, ..side.clone() };
    for (ours, theirs) in
        [(sdes(Required), sdes(Optional)), (dtls(Required), dtls(Optional)), (plain(), plain())]
    {
        let sent = offer(&ours);
        let there = answer(sent.as_bytes(), &theirs).unwrap();
        let here = accept_answer(&ours, &sent, there.local().as_bytes()).unwrap();
        let held = there.reoffer(&hold(&theirs));
        let (_, change) = here.answer(held.as_bytes(), &ours).unwrap();
        assert_eq!(change, Change { direction: true, ..Change::default() }, "{held}");
        assert!(held.matches("a=crypto").count() <= 1, "{held}");
    }
    // What turned out plain is not offered keys again: some refuse an RTP/AVP with keys.
    let first = answered(&sdes(Optional), &line("RTP/AVP", &[])).unwrap();
    assert!(!first.reoffer(&sdes(Optional)).contains("a=crypto"));
}

#[test]
fn refusals_and_debug_hold_no_keys() {
    let refusal = answered(&sdes(Required), &line("RTP/SAVP", &["F8_128_HMAC_SHA1_80"])).unwrap_err();
    let weak = answered(
        &sdes(Required),
        &line("RTP/SAVP", &[AES_80]).replace(KEY, &format!("{KEY} UNENCRYPTED_SRTP")),
    );
    let ours = sdes(Required);
    let agreed = answered(&ours, &line("RTP/SAVP", &[AES_80])).unwrap();
    let text = format!("{refusal} {refusal:?} {weak:?} {ours:?} {agreed:?} {}", weak.as_ref().unwrap_err());
    assert!(!text.contains("AAEC") && !text.contains("AQID") && !text.contains("1, 2, 3"), "{text}");
    assert!(text.contains("UNENCRYPTED_SRTP") && text.contains("F8_128"), "{text}");
}

const FINGERPRINT: &str = "a=fingerprint:sha-256 01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20\r\n";

fn browser(attributes: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\n\
         a=ice-ufrag:thei\r\na=ice-pwd:tttttttttttttttttttttt\r\na=ice-options:trickle\r\n\
         a=candidate:1 1 udp 2122260223 192.0.2.5 50000 typ host generation 0\r\n{attributes}"
    )
}

#[test]
fn a_browser_is_answered_with_certificate_and_candidate() {
    let agreed =
        answered(&dtls(Required), &browser(&format!("{FINGERPRINT}a=setup:actpass\r\na=mid:0\r\n"))).unwrap();
    let sdp = agreed.local();
    for expected in [
        "a=ice-lite\r\n",
        "m=audio 40000 UDP/TLS/RTP/SAVPF 0\r\n",
        "a=mid:0\r\n",
        "a=rtcp-mux\r\n",
        "a=ice-ufrag:ours\r\n",
        "a=candidate:1 1 UDP 2130706431 198.51.100.7 40000 typ host\r\n",
        "a=fingerprint:sha-256 AB:AB:",
        "a=setup:active\r\n",
        "a=sendrecv\r\n",
    ] {
        assert!(sdp.contains(expected), "{expected} is not in {sdp}");
    }
    assert!(!sdp.contains("a=candidate:1 2") && !sdp.contains("a=group"), "{sdp}");
    let ice = agreed.negotiated.ice.as_ref().unwrap();
    assert_eq!((ice.ufrag.as_str(), ice.candidates[0].address.port(), ice.lite), ("thei", 50_000, false));
    let Security::Dtls { fingerprint, role, .. } = &agreed.negotiated.security else { panic!("{agreed:?}") };
    assert_eq!((fingerprint.0[31], *role), (0x20, DtlsRole::Client));
}

#[test]
fn setup_and_hash_have_to_fit() {
    let roles = [("actpass", DtlsRole::Client), ("active", DtlsRole::Server), ("passive", DtlsRole::Client)];
    for (setup, expected) in roles {
        let agreed =
            answered(&dtls(Required), &browser(&format!("{FINGERPRINT}a=setup:{setup}\r\n"))).unwrap();
        assert!(
            matches!(agreed.negotiated.security, Security::Dtls { role, .. } if role == expected),
            "{setup}"
        );
    }
    for bad in [
        format!("{FINGERPRINT}a=setup:holdconn\r\n"),
        FINGERPRINT.replace("sha-256", "sha-1"),
        "a=setup:actpass\r\n".to_owned(),
        line("", &[AES_80]).split_once("\r\n").unwrap().1.to_owned(),
    ] {
        let refusal = answered(&dtls(Required), &browser(&bad)).unwrap_err();
        assert!(
            matches!(refusal, Refusal::Keys { .. }) && refusal.to_string().contains("sha-256"),
            "{refusal}"
        );
    }
    let session_level =
        from_caller(&browser("")).replace("t=0 0\r\n", &format!("t=0 0\r\n{FINGERPRINT}a=setup:passive\r\n"));
    assert!(answer(session_level.as_bytes(), &dtls(Required)).unwrap().negotiated.security.is_secure());
    assert_eq!(answered(&dtls(Never), &browser(FINGERPRINT)).unwrap_err().warning().0, 302);
}

#[test]
fn two_of_us_agree_on_roles_and_a_changed_certificate_is_a_change_of_keys() {
    let mut caller = dtls(Required);
    caller.security.dtls.as_mut().unwrap().tls_id = Some("a".repeat(20));
    let offer = offer(&caller);
    for expected in ["a=group:BUNDLE 0\r\n", "a=mid:0\r\n", "a=setup:actpass\r\n", "a=tls-id:aaaa"] {
        assert!(offer.contains(expected), "{offer}");
    }
    let callee = answer(offer.as_bytes(), &dtls(Required)).unwrap();
    let caller_s = accept_answer(&caller, &offer, callee.local().as_bytes()).unwrap();
    assert!(callee.local().contains("a=group:BUNDLE 0\r\n"), "{}", callee.local());
    let role = |agreed: &Agreement| match agreed.negotiated.security {
        Security::Dtls { role, .. } => role,
        _ => panic!("{agreed:?}"),
    };
    assert_eq!((role(&caller_s), role(&callee)), (DtlsRole::Server, DtlsRole::Client));
    assert!(caller_s.negotiated.ice.as_ref().unwrap().lite && callee.negotiated.rtcp_mux);
    let other = LocalDtls::new(Fingerprint([1; 32]));
    let renewed = Capabilities { security: SecuritySettings::dtls(Required, other), ..caller };
    let (_, change) = callee.answer(caller_s.reoffer(&renewed).as_bytes(), &dtls(Required)).unwrap();
    assert!(change.keys && !change.codec, "{change:?}");
}

/// The credentials of ICE in an SDP.
fn credentials_of(sdp: &str) -> (String, String) {
    let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    (value("a=ice-ufrag:"), value("a=ice-pwd:"))
}

#[test]
fn a_restart_of_ice_changes_the_credentials_of_both_sides_and_nothing_else_does() {
    let fresh = |seed| Capabilities { ice: Some(IceLite::random(&[seed; 24])), ..dtls(Required) };
    let first = browser(&format!("{FINGERPRINT}a=setup:actpass\r\n"));
    let agreed = answered(&fresh(1), &first).unwrap();
    let (sdp, ours) = (agreed.local(), agreed.negotiated.local_ice.clone().unwrap());
    assert_eq!(credentials_of(&sdp), (ours.ufrag, ours.pwd));

    let again = |offer: &str, seed| agreed.answer(from_caller(offer).as_bytes(), &fresh(seed)).unwrap();
    let (same, change) = again(&first, 2);
    assert!(change.is_none() && same.local() == sdp, "{}", same.local());
    let held = again(&format!("{first}a=sendonly\r\n"), 3).0;
    assert_eq!(credentials_of(&held.local()), credentials_of(&sdp));
    assert_eq!(credentials_of(&agreed.reoffer(&fresh(4))), credentials_of(&sdp));

    let restarted = first.replace("thei", "anew").replace(&"t".repeat(22), &"u".repeat(22));
    let (next, change) = again(&restarted, 5);
    let (ufrag, pwd) = credentials_of(&next.local());
    let (ufrag_before, pwd_before) = credentials_of(&sdp);
    assert!(change.ice && !change.keys && ufrag != ufrag_before && pwd != pwd_before);
    assert_eq!(next.negotiated.local_ice.clone().unwrap().pwd, pwd);
    let after = next.answer(from_caller(&restarted).as_bytes(), &fresh(6)).unwrap().0;
    assert_eq!(credentials_of(&after.local()), (ufrag, pwd));
}

#[test]
fn our_restart_of_ice_is_answered_with_new_credentials() {
    let side = |seed| Capabilities { ice: Some(IceLite::random(&[seed; 24])), ..dtls(Required) };
    let (caller, offer) = (side(1), offer(&side(1)));
    let callee = answer(offer.as_bytes(), &side(2)).unwrap();
    let ours = accept_answer(&caller, &offer, callee.local().as_bytes()).unwrap();
    let restart = ours.restart_ice(&side(3));
    let (theirs, seen) = callee.answer(restart.as_bytes(), &side(4)).unwrap();
    // What we could do by now counts less than what we offered.
    let (ours, change) = ours.accept_answer(&side(5), &restart, theirs.local().as_bytes()).unwrap();
    assert!(seen.ice && change.ice);
    for (agreed, local, remote) in [(&ours, 3, 4), (&theirs, 4, 3)] {
        let [local, remote] = [local, remote].map(|seed| IceLite::random(&[seed; 24]));
        assert_eq!(agreed.negotiated.local_ice.as_ref(), Some(&local));
        let heard = agreed.negotiated.ice.as_ref().unwrap();
        assert_eq!((&heard.ufrag, &heard.pwd), (&remote.ufrag, &remote.pwd));
    }
}

#[test]
fn bundles_name_the_lines_that_we_take() {
    let group = "v=0\r\no=- 1 1 IN IP4 192.0.2.5\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v a d\r\n";
    let media = browser(&format!("{FINGERPRINT}a=setup:actpass\r\na=mid:a\r\n"));
    let text = format!(
        "{group}m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n{media}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\n"
    );
    let sdp = answer(text.as_bytes(), &dtls(Optional)).unwrap().local();
    assert!(sdp.contains("a=group:BUNDLE a\r\n"), "{sdp}");
    let lines: Vec<_> = sdp.lines().filter(|l| l.starts_with("m=") || l.starts_with("a=mid")).collect();
    let expected = [
        "m=video 0 UDP/TLS/RTP/SAVPF 96",
        "a=mid:v",
        "m=audio 40000 UDP/TLS/RTP/SAVPF 0",
        "a=mid:a",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "a=mid:d",
    ];
    assert_eq!(lines, expected);
    let apart = answer(text.replace("a=rtcp-mux\r\n", "").as_bytes(), &dtls(Optional)).unwrap().local();
    assert!(!apart.contains("a=group"), "no group without rtcp-mux: {apart}");
}

#[test]
fn ice_is_answered_only_where_both_have_it() {
    let plain_ice = "m=audio 5004 RTP/AVP 0\r\na=ice-ufrag:thei\r\na=ice-pwd:tttttttttttttttttttttt\r\n";
    assert!(!answered(&plain(), plain_ice).unwrap().local().contains("ice"));
    let ours = Capabilities { ice: dtls(Never).ice, ..plain() };
    assert!(answered(&ours, plain_ice).unwrap().local().contains("a=ice-ufrag:ours\r\n"));
    let short = plain_ice.replace("tttttttttttttttttttttt", "short");
    let agreed = answered(&ours, &short).unwrap();
    assert!(agreed.negotiated.ice.is_none() && !agreed.local().contains("ice"));
    let nine = answered(&plain(), "m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n").unwrap();
    assert!(!nine.negotiated.direction.sends(), "without ICE it is a hold");
}
