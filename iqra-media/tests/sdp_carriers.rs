//! Offers in the shapes that carriers, PBXs, gateways and browsers send, and what becomes of each.
//!
//! The texts are our own, with addresses of the documentation ranges and made-up keys. What they follow: Twilio's,
//! Telnyx's and Vonage's lists of codecs for SIP trunks; github.com/onsip/SIP.js#675 (FreeSWITCH in the clear),
//! github.com/team-telnyx/freeswitch#621 (FreeSWITCH's two lines for optional SRTP),
//! github.com/signalwire/freeswitch#1310 (its DTLS over `RTP/SAVPF`), github.com/sipwise/rtpengine#1128 (Chrome),
//! github.com/sipwise/rtpengine#2044 (events at two clock rates), github.com/sipcapture/paStash#75 (a session border
//! controller's long list), Cisco's guides on annex B of G.729, fax and keys, Asterisk's `res_pjsip_sdp_rtp` for its
//! `maxptime:150`. Of 3CX and Genesys the codecs that their documentation names, in their usual order.

#![allow(clippy::unwrap_used)] // helpers of tests may unwrap like tests

use iqra_media::codec::CodecSpec;
use iqra_media::codec::g711::{PCMA, PCMU};
use iqra_media::sdp::{
    Agreement, Capabilities, Change, CryptoSuite, Fingerprint, IceLite, LocalDtls, Security, SecurityPolicy,
    SecuritySettings, SrtpKey, accept_answer, answer, offer,
};

const OPUS: CodecSpec = CodecSpec {
    name: "opus",
    payload_type: 96,
    clock_rate: 48_000,
    sample_rate: 48_000,
    channels: 1,
    fmtp: "useinbandfec=1",
};
const G722: CodecSpec = CodecSpec { name: "G722", payload_type: 9, sample_rate: 16_000, ..PCMU };

/// As a number is set up without a wish for more: G.711 in the clear.
fn narrow() -> Capabilities {
    Capabilities::new(vec![PCMU, PCMA], [198, 51, 100, 7].into(), 40_000, 42)
}

/// All that there is: wide band first, SRTP where it is offered, either way of keys.
fn wide() -> Capabilities {
    let suite = CryptoSuite::AesCm128HmacSha1_80;
    let keys = vec![SrtpKey::new(suite, &[7; 30]).unwrap()];
    let security = SecuritySettings {
        policy: SecurityPolicy::Optional,
        mki: true,
        dtls: Some(LocalDtls::new(Fingerprint([9; 32]))),
        ..SecuritySettings::sdes(SecurityPolicy::Optional, keys)
    };
    let ice = IceLite { ufrag: "iqra".into(), pwd: "p".repeat(24), candidates: Vec::new() };
    let codecs = vec![OPUS, G722, PCMU, PCMA];
    Capabilities { codecs, security, ice: Some(ice), rtcp_mux: true, comfort_noise: true, ..narrow() }
}

/// What was taken: line, codec, payload type, events, packet time, protection.
fn taken(agreed: &Agreement) -> String {
    let n = &agreed.negotiated;
    let line =
        agreed.local().lines().filter(|l| l.starts_with("m=")).position(|l| l.contains(" 40000 ")).unwrap();
    let events = n.telephone_event.map_or("-".to_owned(), |e| format!("{}@{}", e.send_payload, e.clock_rate));
    let security = match n.security {
        Security::Plain => "plain",
        Security::Sdes { .. } => "sdes",
        Security::Dtls { .. } => "dtls",
    };
    format!("{line} {} {} {events} {} {security}", n.codec.name, n.send_payload, n.ptime_ms)
}

fn head(origin: &str, name: &str) -> String {
    format!("v=0\r\no={origin} IN IP4 203.0.113.20\r\ns={name}\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\n")
}

const SDES: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n";
const DTLS: &str = "a=fingerprint:sha-256 01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20\r\na=setup:actpass\r\n";
const ICE: &str = "a=ice-ufrag:Yr3d\r\na=ice-pwd:kJ2mN8pQ4rS6tV0xZ1aB3cD5\r\n\
    a=candidate:2930 1 udp 2122260223 203.0.113.20 61000 typ host generation 0 network-id 1\r\n\
    a=candidate:7714 1 tcp 1518280447 203.0.113.20 9 typ host tcptype active generation 0\r\n";

fn twilio(proto: &str, keys: &str) -> String {
    let head = head("root 1791236712 1791236712", "Twilio Media Gateway");
    format!(
        "{head}m=audio 17234 {proto} 0 8 101\r\n{keys}a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:20\r\na=sendrecv\r\n"
    )
}

fn telnyx() -> String {
    let head = head("FreeSWITCH 1764300000 1764300001", "FreeSWITCH");
    format!(
        "{head}m=audio 18822 RTP/AVP 9 8 0 18 102 101 103\r\na=rtpmap:102 opus/48000/2\r\n\
         a=fmtp:102 useinbandfec=1; maxaveragebitrate=30000; maxplaybackrate=48000; ptime=20; minptime=10\r\n\
         a=fmtp:18 annexb=no\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=rtpmap:103 telephone-event/48000\r\na=fmtp:103 0-15\r\na=rtcp:18823 IN IP4 203.0.113.20\r\na=ptime:20\r\n"
    )
}

fn vonage() -> String {
    let head = head("- 1117 1117", "Nexmo");
    format!(
        "{head}m=audio 21560 RTP/AVP 8 0 98 18 9 97 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:98 iLBC/8000\r\na=fmtp:98 mode=20\r\na=rtpmap:18 G729/8000\r\na=rtpmap:9 G722/8000\r\n\
         a=rtpmap:97 speex/16000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
    )
}

fn asterisk() -> String {
    let head = head("- 1402066778 1402066778", "Asterisk");
    format!(
        "{head}m=audio 15078 RTP/AVP 107 0 8 101\r\na=rtpmap:107 opus/48000/2\r\na=fmtp:107 useinbandfec=1\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
         a=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n"
    )
}

fn freeswitch_optional_srtp() -> String {
    let head = head("FreeSWITCH 1764300000 1764300001", "FreeSWITCH");
    let formats = "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n";
    format!(
        "{head}m=audio 30504 RTP/SAVP 9 0 8 3 101 13\r\n{formats}\
         a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NQ==\r\n{}\
         m=audio 30504 RTP/AVP 9 0 8 3 101 13\r\n{formats}",
        SDES.replace(":1 ", ":4 ")
    )
}

fn freeswitch_dtls() -> String {
    let head = head("FreeSWITCH 1764300000 1764300001", "FreeSWITCH");
    format!(
        "{head}a=msid-semantic: WMS stream\r\nm=audio 18822 RTP/SAVPF 102 0 8 103 101\r\na=rtpmap:102 opus/48000/2\r\n\
         a=fmtp:102 useinbandfec=1; stereo=1\r\na=rtpmap:103 telephone-event/48000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n{DTLS}a=rtcp-mux\r\na=rtcp:18822 IN IP4 203.0.113.20\r\n\
         a=ssrc:1764433912 cname:x\r\n{ICE}a=ptime:20\r\n"
    )
}

fn three_cx() -> String {
    let head = head("3cxPS 553799163904 311351574529", "3cxPS Audio call");
    format!(
        "{head}m=audio 9104 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n"
    )
}

fn cube() -> String {
    let head = head("CiscoSystemsSIP-GW-UserAgent 5371 2215", "SIP Call");
    format!(
        "{head}m=audio 16384 RTP/SAVP 18 0 101 19\r\nc=IN IP4 203.0.113.21\r\na=rtpmap:18 G729/8000\r\n\
         a=fmtp:18 annexb=yes\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=rtpmap:19 CN/8000\r\na=ptime:20\r\n{}m=image 16386 udptl t38\r\nc=IN IP4 203.0.113.21\r\na=T38FaxVersion:0\r\n",
        SDES.replace(
            "inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd",
            "inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^31|1:1"
        )
    )
}

fn genesys() -> String {
    let head = head("- 1764300000 1", "Genesys");
    format!(
        "{head}b=AS:64\r\nm=audio 26034 RTP/AVP 111 0 8 96 97\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 maxplaybackrate=16000; stereo=0; usedtx=1\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n\
         a=rtpmap:97 telephone-event/48000\r\na=fmtp:97 0-15\r\na=ptime:20\r\na=sendonly\r\n"
    )
}

fn border_controller() -> String {
    let head = head("- 1760810766 1135981213", "session");
    format!(
        "{head}b=CT:1500\r\nm=audio 7028 RTP/AVP 8 18 112 111 9 0 104 103 97 118 119 13 101\r\na=rtcp:7029\r\n\
         a=rtpmap:104 SILK/16000\r\na=rtpmap:103 SILK/8000\r\na=rtpmap:112 G7221/16000\r\na=rtpmap:111 SIREN/16000\r\n\
         a=rtpmap:97 RED/8000\r\na=rtpmap:118 CN/16000\r\na=rtpmap:119 CN/32000\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=fmtp:101 0-16\r\na=ptime:20\r\na=x-unknown:1\r\na=label:main-audio\r\n"
    )
}

fn chrome() -> String {
    format!(
        "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n\
         a=msid-semantic: WMS 1f\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\n\
         a=rtcp:9 IN IP4 0.0.0.0\r\n{ICE}a=ice-options:trickle\r\n{DTLS}a=mid:0\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\na=msid:1f 2e\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
         a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
         a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
         a=rtpmap:126 telephone-event/8000\r\na=ssrc:2813338482 cname:gr5u\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtcp-mux\r\n"
    )
}

/// Who, what, what a plain number makes of it, what one with everything does.
fn offers() -> Vec<(&'static str, String, &'static str, &'static str)> {
    vec![
        ("Twilio", twilio("RTP/AVP", ""), "0 PCMU 0 101@8000 20 plain", "0 PCMU 0 101@8000 20 plain"),
        ("Twilio, secure trunk", twilio("RTP/SAVP", SDES), "302", "0 PCMU 0 101@8000 20 sdes"),
        ("Telnyx", telnyx(), "0 PCMU 0 101@8000 20 plain", "0 opus 102 103@48000 20 plain"),
        ("Vonage", vonage(), "0 PCMU 0 101@8000 20 plain", "0 G722 9 101@8000 20 plain"),
        ("Asterisk", asterisk(), "0 PCMU 0 101@8000 20 plain", "0 opus 107 101@8000 20 plain"),
        (
            "FreeSWITCH, optional SRTP",
            freeswitch_optional_srtp(),
            "1 PCMU 0 101@8000 20 plain",
            "0 G722 9 101@8000 20 sdes",
        ),
        ("FreeSWITCH, DTLS", freeswitch_dtls(), "302", "0 opus 102 103@48000 20 dtls"),
        ("3CX", three_cx(), "0 PCMU 0 101@8000 20 plain", "0 PCMU 0 101@8000 20 plain"),
        ("Cisco CUBE, SRTP and fax", cube(), "302", "0 PCMU 0 101@8000 20 sdes"),
        ("Genesys", genesys(), "0 PCMU 0 96@8000 20 plain", "0 opus 111 97@48000 20 plain"),
        (
            "a border controller",
            border_controller(),
            "0 PCMU 0 101@8000 20 plain",
            "0 G722 9 101@8000 20 plain",
        ),
        ("Chrome", chrome(), "302", "0 opus 111 110@48000 20 dtls"),
    ]
}

#[test]
fn each_is_taken_or_refused_with_a_reason() {
    for (name, sdp, plain, all) in offers() {
        for (ours, expected) in [(narrow(), plain), (wide(), all)] {
            let became = answer(sdp.as_bytes(), &ours);
            let got = became.as_ref().map(taken).unwrap_or_else(|refusal| refusal.warning().0.to_string());
            assert_eq!(got, expected, "{name}: {became:?}");
        }
    }
}

#[test]
fn each_answer_has_the_offer_s_lines_and_nothing_that_was_not_offered() {
    for (name, sdp, ..) in offers() {
        let reply = answer(sdp.as_bytes(), &wide()).unwrap().local();
        let lines =
            |text: &str| text.lines().filter(|l| l.starts_with("m=")).map(str::to_owned).collect::<Vec<_>>();
        let (offered, answered) = (lines(&sdp), lines(&reply));
        assert_eq!(offered.len(), answered.len(), "{name}");
        for (offered, answered) in offered.iter().zip(&answered) {
            let (offered, answered): (Vec<_>, Vec<_>) =
                (offered.split(' ').collect(), answered.split(' ').collect());
            assert_eq!((offered[0], offered[2]), (answered[0], answered[2]), "{name}: kind and transport");
            assert!(answered[3..].iter().all(|format| offered[3..].contains(format)), "{name}: {answered:?}");
        }
    }
}

#[test]
fn each_may_repeat_itself_hold_and_resume() {
    for (name, sdp, ..) in offers() {
        let first = answer(sdp.as_bytes(), &wide()).unwrap();
        let (same, change) = first.answer(sdp.as_bytes(), &wide()).unwrap();
        assert!(change.is_none() && same.local() == first.local(), "{name}: {change:?}");
        let plain = sdp.replace("a=sendrecv\r\n", "").replace("a=sendonly\r\n", "");
        let (held, _) = first
            .answer(plain.replace("a=rtpmap:101", "a=inactive\r\na=rtpmap:101").as_bytes(), &wide())
            .unwrap();
        if held.negotiated.direction.sends() {
            continue; // It has no line 101 to hang the hold on.
        }
        let (_, back) = held.answer(plain.as_bytes(), &wide()).unwrap();
        assert_eq!(back, Change { direction: true, ..Change::default() }, "{name}");
    }
}

/// github.com/sipwise/rtpengine#2044: a phone that answers events under the number of the other clock rate.
#[test]
fn a_phone_that_mixes_up_the_events_is_heard_under_the_number_that_it_took() {
    let ours = Capabilities { codecs: vec![PCMA, OPUS], ..narrow() };
    let sdp = offer(&ours);
    assert!(sdp.contains("a=rtpmap:97 telephone-event/48000\r\n"), "{sdp}");
    let reply = head("- 1 1", "phone") + "m=audio 58085 RTP/AVP 8 97\r\na=rtpmap:97 telephone-event/8000\r\n";
    let events = accept_answer(&ours, &sdp, reply.as_bytes()).unwrap().negotiated.telephone_event.unwrap();
    assert_eq!((events.send_payload, events.receive_payload, events.clock_rate), (97, 97, 8000));
}
