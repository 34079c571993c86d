//! Writing our SDP: offers, answers, and the next version of either.

use sdp_types::{AddrType, Connection, Media, Origin, Session, Time};

use super::read::Description;
use super::{Capabilities, Direction, Negotiated, PTIME_RANGE_MS, TELEPHONE_EVENT_PAYLOAD_TYPE};
use crate::codec::CodecSpec;

/// Version of a session's first SDP; [`revise`] raises it.
const FIRST_VERSION: u64 = 1;
/// The events that we understand and send: the sixteen keys (RFC 4733 §3.2).
const EVENTS: &str = "0-15";

/// One format of an m-line.
struct Format<'a> {
    payload: u8,
    codec: &'a CodecSpec,
}

pub(super) fn offer(ours: &Capabilities) -> String {
    let formats: Vec<_> =
        ours.codecs.iter().map(|codec| Format { payload: codec.payload_type, codec }).collect();
    let events = ours.codecs.first().filter(|_| ours.telephone_event);
    let events = events.map(|codec| (TELEPHONE_EVENT_PAYLOAD_TYPE, codec.clock_rate));
    let mut session = session(ours);
    session.times.push(Time::new(0, 0));
    session.medias.push(audio(ours, "RTP/AVP", &formats, events, ours.ptime_ms, Direction::SendRecv));
    text(&session)
}

/// As many m-lines as the offer has, in its order (RFC 3264 §6); all but `taken` refused.
pub(super) fn answer(
    offer: &Description,
    taken: usize,
    ours: &Capabilities,
    negotiated: &Negotiated,
) -> String {
    let mut session = session(ours);
    session.times = offer.session.times.clone();
    session.medias = offer.session.medias.iter().map(refused).collect();
    let formats = [Format { payload: negotiated.receive_payload, codec: &negotiated.codec }];
    let events = negotiated.telephone_event.map(|e| (e.receive_payload, e.clock_rate));
    let proto = &offer.session.medias[taken].proto;
    session.medias[taken] = audio(ours, proto, &formats, events, negotiated.ptime_ms, negotiated.direction);
    text(&session)
}

/// Gives `fresh` (from [`answer`](super::answer) or [`offer`](super::offer) in a running session) the identity of
/// `previous`: the same `o=` id, and a version one higher if anything else changed (RFC 3264 §8).
pub fn revise(previous: &str, fresh: String) -> String {
    let parsed = (Session::parse(previous.as_bytes()), Session::parse(fresh.as_bytes()));
    let (Ok(before), Ok(mut after)) = parsed else { return fresh };
    after.origin = before.origin.clone();
    if after != before {
        after.origin.sess_version = after.origin.sess_version.wrapping_add(1);
    }
    text(&after)
}

fn session(ours: &Capabilities) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(ours.session_id, FIRST_VERSION, ours.address), "-");
    session.connection = Some(Connection::new(
        sdp_types::NetType::In,
        if ours.address.is_ipv4() { AddrType::Ip4 } else { AddrType::Ip6 },
        ours.address,
    ));
    session
}

fn audio(
    ours: &Capabilities,
    proto: &str,
    formats: &[Format<'_>],
    events: Option<(u8, u32)>,
    ptime_ms: u8,
    direction: Direction,
) -> Media {
    let payloads = formats.iter().map(|f| f.payload).chain(events.map(|e| e.0));
    let mut media = Media {
        proto: proto.to_owned(),
        fmt: payloads.map(|p| p.to_string()).collect::<Vec<_>>().join(" "),
        ..refused_like("audio", ours.port)
    };
    for Format { payload, codec } in formats {
        media.add_attribute_with_value("rtpmap", rtpmap(*payload, codec));
    }
    if let Some((payload, clock_rate)) = events {
        media.add_attribute_with_value("rtpmap", format!("{payload} telephone-event/{clock_rate}"));
        media.add_attribute_with_value("fmtp", format!("{payload} {EVENTS}"));
    }
    media.add_attribute_with_value("ptime", ptime_ms);
    media.add_attribute_with_value("maxptime", *PTIME_RANGE_MS.end());
    media.add_attribute_from_str(direction.as_str());
    media
}

fn rtpmap(payload: u8, codec: &CodecSpec) -> String {
    let CodecSpec { name, clock_rate, channels, .. } = codec;
    match channels {
        1 => format!("{payload} {name}/{clock_rate}"),
        _ => format!("{payload} {name}/{clock_rate}/{channels}"),
    }
}

/// The same m-line with port 0 and without attributes.
fn refused(media: &Media) -> Media {
    Media { proto: media.proto.clone(), fmt: media.fmt.clone(), ..refused_like(&media.media, 0) }
}

fn refused_like(name: &str, port: u16) -> Media {
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

fn text(session: &Session) -> String {
    let mut bytes = Vec::with_capacity(512);
    session.write(&mut bytes).expect("writing to a Vec does not fail");
    String::from_utf8(bytes).expect("the model holds UTF-8 only")
}
