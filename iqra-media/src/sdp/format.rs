//! Formats of an m-line: what payload types mean, and which ones we use for what (RFC 3551 §6, RFC 3264 §8.3.2).

use super::{Capabilities, PTIME_RANGE_MS, TELEPHONE_EVENT_PAYLOAD_TYPE};
use crate::codec::{CodecSpec, comfort_noise, l16};

/// Name of telephone-events in `a=rtpmap` (RFC 4733 §7.1.1).
const EVENTS: &str = "telephone-event";
/// The events that we understand and send: the sixteen keys (RFC 4733 §3.2).
const EVENT_CODES: &str = "0-15";
/// Name of comfort noise in `a=rtpmap` (RFC 3389 §5).
const NOISE: &str = "CN";

/// `<name>/<clock rate>[/<channels>]` of an `a=rtpmap` (RFC 8866 §6.6), or of a static payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoding<'a> {
    pub(super) name: &'a str,
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
}

impl<'a> Encoding<'a> {
    /// The value of an `a=rtpmap`, with the payload type that it is for.
    pub(super) fn parse(value: &'a str) -> Option<(u8, Self)> {
        let (payload, encoding) = value.trim().split_once(char::is_whitespace)?;
        let mut parts = encoding.trim().split('/');
        let name = parts.next()?;
        let clock_rate = parts.next()?.parse().ok()?;
        let channels = parts.next().map_or(Some(1), |c| c.parse().ok())?;
        Some((payload.parse().ok()?, Self { name, clock_rate, channels }))
    }

    /// What a payload type means without `a=rtpmap` (RFC 3551 §6): the audio ones.
    pub(super) fn of_static(payload: u8) -> Option<Encoding<'static>> {
        let (name, clock_rate, channels) = match payload {
            0 => ("PCMU", 8000, 1),
            3 => ("GSM", 8000, 1),
            4 => ("G723", 8000, 1),
            5 => ("DVI4", 8000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8000, 1),
            8 => ("PCMA", 8000, 1),
            9 => ("G722", 8000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8000, 1),
            13 => ("CN", 8000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8000, 1),
            _ => return None,
        };
        Some(Encoding { name, clock_rate, channels })
    }

    /// Opus always says two channels, whatever it carries (RFC 7587 §7), and some leave them out; some devices give
    /// G.722 the rate of its samples, though its clock is 8000 (RFC 3551 §4.5.2).
    pub(super) fn is(&self, codec: &CodecSpec) -> bool {
        let named =
            |name: &str| codec.name.eq_ignore_ascii_case(name) && self.name.eq_ignore_ascii_case(name);
        if named("opus") {
            return self.clock_rate == codec.clock_rate;
        }
        let g722 = named("G722") && self.clock_rate == 16_000;
        let clock_rate = if g722 { codec.clock_rate } else { self.clock_rate };
        codec.matches(self.name, clock_rate, self.channels)
    }

    pub(super) fn is_events(&self) -> bool {
        self.name.eq_ignore_ascii_case(EVENTS)
    }

    pub(super) fn is_noise(&self) -> bool {
        self.name.eq_ignore_ascii_case(NOISE) && self.clock_rate == comfort_noise::CLOCK_RATE
    }
}

/// What we list under a payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Codec(CodecSpec),
    Noise,
    /// At this clock rate in Hz.
    Events(u32),
}

impl Kind {
    /// As an `a=rtpmap` has it behind the payload type.
    pub(super) fn encoding(&self) -> String {
        match self {
            Self::Codec(codec) if codec.name.eq_ignore_ascii_case("opus") => {
                format!("{}/{}/2", codec.name, codec.clock_rate)
            }
            Self::Codec(CodecSpec { name, clock_rate, channels: 1, .. }) => format!("{name}/{clock_rate}"),
            Self::Codec(CodecSpec { name, clock_rate, channels, .. }) => {
                format!("{name}/{clock_rate}/{channels}")
            }
            Self::Noise => format!("{NOISE}/{}", comfort_noise::CLOCK_RATE),
            Self::Events(clock_rate) => format!("{EVENTS}/{clock_rate}"),
        }
    }

    /// Our parameters, as an `a=fmtp` has them; empty for none.
    pub(super) fn parameters(&self) -> &'static str {
        match self {
            Self::Codec(codec) => codec.fmtp,
            Self::Noise => "",
            Self::Events(_) => EVENT_CODES,
        }
    }

    fn is(&self, encoding: &Encoding<'_>) -> bool {
        match self {
            Self::Codec(codec) => encoding.is(codec),
            Self::Noise => encoding.is_noise(),
            Self::Events(clock_rate) => encoding.is_events() && encoding.clock_rate == *clock_rate,
        }
    }

    fn preferred(&self) -> u8 {
        match self {
            Self::Codec(codec) => codec.payload_type,
            Self::Noise => comfort_noise::PAYLOAD_TYPE,
            Self::Events(_) => TELEPHONE_EVENT_PAYLOAD_TYPE,
        }
    }
}

/// One format of an m-line of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) payload: u8,
    pub(super) kind: Kind,
}

/// What payload types have meant in a session: a number never comes to mean something else (RFC 3264 §8.3.2).
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// Number, name, clock rate and channels; at most one entry per number.
    known: Vec<(u8, String, u32, u8)>,
}

impl Numbers {
    /// Keeps what a number means, unless it meant something before.
    pub(super) fn learn(&mut self, payload: u8, encoding: &Encoding<'_>) {
        if self.meaning(payload).is_none() {
            self.known.push((payload, encoding.name.to_owned(), encoding.clock_rate, encoding.channels));
        }
    }

    fn meaning(&self, payload: u8) -> Option<Encoding<'_>> {
        self.entries().find_map(|(known, encoding)| (known == payload).then_some(encoding))
    }

    fn number_of(&self, kind: &Kind) -> Option<u8> {
        self.entries().find_map(|(payload, encoding)| kind.is(&encoding).then_some(payload))
    }

    fn entries(&self) -> impl Iterator<Item = (u8, Encoding<'_>)> {
        self.known.iter().map(|(payload, name, clock_rate, channels)| {
            (*payload, Encoding { name, clock_rate: *clock_rate, channels: *channels })
        })
    }

    /// All that we can do, under numbers that are free for it: the number that it had, else the one that it likes,
    /// else the first free dynamic one (96-127, then 35-63 by RFC 5761 §4). What finds none is left out.
    pub(super) fn assign(&self, ours: &Capabilities) -> Vec<Format> {
        let mut formats: Vec<Format> = Vec::with_capacity(ours.codecs.len() + 2);
        for kind in kinds(ours) {
            let is_free = |payload: &u8| {
                let said = self.meaning(*payload).or_else(|| Encoding::of_static(*payload));
                said.is_none_or(|encoding| kind.is(&encoding))
                    && formats.iter().all(|f| f.payload != *payload)
            };
            let known = self.number_of(&kind).filter(is_free);
            let liked = || Some(kind.preferred()).filter(|p| *p < 128).filter(is_free);
            let any = || (96..128).chain(35..64).find(is_free);
            if let Some(payload) = known.or_else(liked).or_else(any) {
                formats.push(Format { payload, kind });
            }
        }
        formats
    }
}

/// Codecs in their order, then noise, then telephone-events once per clock rate (RFC 4733 §2.1), that of telephony
/// first: it gets the number that everybody gives it.
fn kinds(ours: &Capabilities) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = ours.codecs.iter().copied().map(Kind::Codec).collect();
    if ours.comfort_noise && ours.codecs.iter().any(|codec| codec.clock_rate == 8000) {
        kinds.push(Kind::Noise);
    }
    let mut rates: Vec<u32> = ours.codecs.iter().map(|codec| codec.clock_rate).collect();
    rates.sort_by_key(|rate| *rate != 8000);
    for events in rates.into_iter().map(Kind::Events).filter(|_| ours.telephone_event) {
        if !kinds.contains(&events) {
            kinds.push(events);
        }
    }
    kinds
}

/// The keys of an events `a=fmtp` such as `0-11,16`, a bit each; events beyond the keys are left out. Without one,
/// or with nothing that can be read, all keys (RFC 4733 §2.4.1).
pub(super) fn event_codes(fmtp: &str) -> u16 {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        Some((first..=last.min(15)).fold(0, |codes, code| codes | 1u16 << code))
    };
    let text = fmtp.trim_start_matches("events=");
    let ranges: Vec<u16> = text.split([',', ';']).filter_map(range).collect();
    if ranges.is_empty() { u16::MAX } else { ranges.into_iter().fold(0, |all, codes| all | codes) }
}

/// The longest packet of a codec in milliseconds, where it is its octets that set the bound: those of one packet.
pub(super) fn longest_packet(codec: &CodecSpec) -> u8 {
    let is_linear = codec.name.eq_ignore_ascii_case("L16");
    if is_linear { l16::longest_packet_time(codec).max(*PTIME_RANGE_MS.start()) } else { u8::MAX }
}

/// A packet time that the codec can make: of whole frames that fit a packet, the longest that is not above `wanted`,
/// else one frame.
pub(super) fn whole_frames(codec: &CodecSpec, wanted: u8) -> u8 {
    let wanted = wanted.min(longest_packet(codec));
    let named = |names: &[&str]| names.iter().any(|name| codec.name.eq_ignore_ascii_case(name));
    if named(&["opus"]) {
        return [60, 40, 20].into_iter().find(|ms| *ms <= wanted).unwrap_or(10);
    }
    let frame = match () {
        () if named(&["AMR", "AMR-WB", "EVS", "GSM", "GSM-EFR", "speex"]) => 20,
        () if named(&["G723", "iLBC"]) => 30,
        () => 10,
    };
    (wanted - wanted % frame).max(frame)
}

/// Whether parameters that both sides must share are shared: the packing of AMR (RFC 4867 §8.1).
pub(super) fn parameters_fit(codec: &CodecSpec, theirs: &str) -> bool {
    let aligned = |fmtp: &str| fmtp.split(';').any(|p| p.trim().eq_ignore_ascii_case("octet-align=1"));
    let amr = ["AMR", "AMR-WB"].iter().any(|name| codec.name.eq_ignore_ascii_case(name));
    !amr || aligned(codec.fmtp) == aligned(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::g711::{PCMA, PCMU};

    fn codec(name: &'static str, payload_type: u8, clock_rate: u32) -> CodecSpec {
        CodecSpec { name, payload_type, clock_rate, sample_rate: clock_rate, ..PCMU }
    }

    fn assigned(codecs: Vec<CodecSpec>, numbers: &Numbers) -> Vec<(u8, String)> {
        let ours =
            Capabilities { comfort_noise: true, ..Capabilities::new(codecs, [192, 0, 2, 1].into(), 1, 1) };
        numbers.assign(&ours).iter().map(|f| (f.payload, f.kind.encoding())).collect()
    }

    #[test]
    fn each_clock_rate_has_events_and_no_number_comes_twice() {
        let codecs = vec![codec("opus", 101, 48_000), codec("G722", 9, 8000), PCMU, codec("L16", 0, 16_000)];
        let list = assigned(codecs, &Numbers::default());
        let text: Vec<_> = list.iter().map(|(p, e)| format!("{p} {e}")).collect();
        let expected = [
            "101 opus/48000/2",
            "9 G722/8000",
            "0 PCMU/8000",
            "96 L16/16000",
            "13 CN/8000",
            "97 telephone-event/8000",
            "98 telephone-event/48000",
            "99 telephone-event/16000",
        ];
        assert_eq!(text, expected);
    }

    #[test]
    fn a_number_keeps_its_meaning_and_a_format_its_number() {
        let mut numbers = Numbers::default();
        for map in ["96 speex/8000", "111 pcma/8000", "101 iLBC/8000", "0 other/8000", "96 L16/8000"] {
            let (payload, encoding) = Encoding::parse(map).unwrap();
            numbers.learn(payload, &encoding);
        }
        let list = assigned(vec![PCMA, PCMU, codec("L16", 96, 8000)], &numbers);
        let payloads: Vec<_> = list.iter().map(|(p, _)| *p).collect();
        assert_eq!(payloads, [111, 97, 98, 13, 99], "{list:?}");
    }

    #[test]
    fn event_codes_are_ranges_and_single_ones() {
        for (fmtp, expected) in [
            ("0-15", 0xffff),
            ("0-16", 0xffff),
            ("0-11,16", 0x0fff),
            ("0-9, 11 ,32-36", 0x0bff),
            ("events=0-11", 0x0fff),
            ("", 0xffff),
            ("x", 0xffff),
            ("16", 0),
            ("9-3", 0),
            ("0-255", 0xffff),
        ] {
            assert_eq!(event_codes(fmtp), expected, "{fmtp:?}");
        }
    }

    #[test]
    fn packets_hold_whole_frames() {
        let ms = |name, wanted| whole_frames(&codec(name, 96, 8000), wanted);
        assert_eq!([ms("PCMU", 25), ms("PCMU", 60), ms("PCMU", 10)], [20, 60, 10]);
        assert_eq!([ms("opus", 30), ms("opus", 50), ms("opus", 60), ms("opus", 10)], [20, 40, 60, 10]);
        let linear = |rate: u32, wanted| whole_frames(&codec("L16", 96, rate), wanted);
        assert_eq!([linear(48_000, 20), linear(24_000, 40), linear(16_000, 60)], [10, 20, 30]);
        assert_eq!([ms("AMR-WB", 30), ms("AMR", 10), ms("ilbc", 20), ms("G723", 60)], [20, 20, 30, 60]);
    }

    #[test]
    fn names_are_read_as_devices_write_them() {
        let is = |map: &str, codec: &CodecSpec| Encoding::parse(map).unwrap().1.is(codec);
        let opus = codec("opus", 96, 48_000);
        assert!(is("111 OPUS/48000/2", &opus) && is("111 opus/48000", &opus) && !is("111 opus/16000", &opus));
        let g722 = codec("G722", 9, 8000);
        assert!(is("9 g722/8000", &g722) && is("9 G722/16000", &g722) && !is("9 G722/32000", &g722));
        assert!(is("8 pcma/8000/1", &PCMA) && !is("8 PCMA/8000/2", &PCMA));
        for bad in ["8", "8 PCMA", "x PCMA/8000", "8 PCMA/x", "8 PCMA/8000/x", "300 PCMA/8000"] {
            assert_eq!(Encoding::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_packing_of_amr_is_shared() {
        let aligned =
            CodecSpec { fmtp: "octet-align=1; mode-change-capability=2", ..codec("AMR-WB", 96, 16_000) };
        assert!(parameters_fit(&aligned, "mode-set=0,1; octet-align=1") && !parameters_fit(&aligned, ""));
        assert!(parameters_fit(&PCMU, "octet-align=1"));
    }
}
