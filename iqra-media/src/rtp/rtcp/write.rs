//! Compound packets that are written into a buffer of the caller (RFC 3550 §6.1, §6.4-6.6; RFC 3611 §2).

use super::{ReportBlock, SenderInfo, VoipMetrics, kind, voip};

/// The longest reason of a BYE and the longest CNAME, in octets: their length is one octet.
const MAX_TEXT: usize = 255;

/// Fills a buffer with the packets of one compound. What does not fit is left out whole, and [`Writer::finish`] says so.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    length: usize,
    complete: bool,
}

impl<'a> Writer<'a> {
    /// Begins a compound in `out`; 600 octets hold all that [`Reporter`](super::Reporter) writes.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, length: 0, complete: true }
    }

    /// A sender report about `ssrc`, which is ours, with at most one report block.
    pub fn sender_report(&mut self, ssrc: u32, info: &SenderInfo, block: Option<&ReportBlock>) {
        let ntp = [(info.ntp.0 >> 32) as u32, info.ntp.0 as u32];
        let words = [ssrc, ntp[0], ntp[1], info.rtp, info.packets, info.octets];
        self.packet(kind::SENDER_REPORT, block.is_some().into(), |body| {
            words.iter().for_each(|word| body.put(&word.to_be_bytes()));
            block.iter().for_each(|block| body.put(&octets(block)));
        });
    }

    /// A receiver report by `ssrc`, which is ours, with at most one report block.
    pub fn receiver_report(&mut self, ssrc: u32, block: Option<&ReportBlock>) {
        self.packet(kind::RECEIVER_REPORT, block.is_some().into(), |body| {
            body.put(&ssrc.to_be_bytes());
            block.iter().for_each(|block| body.put(&octets(block)));
        });
    }

    /// A description of `ssrc` by its CNAME, which is cut at 255 octets.
    pub fn cname(&mut self, ssrc: u32, cname: &str) {
        let text = text(cname);
        self.packet(kind::DESCRIPTION, 1, |body| {
            body.put(&ssrc.to_be_bytes());
            body.put(&[kind::CNAME, text.len() as u8]);
            body.put(text);
            body.put(&[0]); // The list of items ends with at least one zero, and at a word.
            body.fill();
        });
    }

    /// The end of `ssrc`; `reason` may be empty and is cut at 255 octets.
    pub fn bye(&mut self, ssrc: u32, reason: &str) {
        let text = text(reason);
        self.packet(kind::BYE, 1, |body| {
            body.put(&ssrc.to_be_bytes());
            if !text.is_empty() {
                body.put(&[text.len() as u8]);
                body.put(text);
                body.fill();
            }
        });
    }

    /// An extended report by `ssrc`, which is ours, with one block of VoIP metrics.
    pub fn voip_metrics(&mut self, ssrc: u32, metrics: &VoipMetrics) {
        self.packet(kind::EXTENDED, 0, |body| {
            body.put(&ssrc.to_be_bytes());
            body.put(&[kind::VOIP_METRICS, 0]);
            body.put(&voip::WORDS.to_be_bytes());
            body.put(&metrics.octets());
        });
    }

    /// The octets written; `None` when the buffer was too short for all of it.
    pub fn finish(self) -> Option<usize> {
        self.complete.then_some(self.length)
    }

    fn packet(&mut self, kind: u8, count: u8, fill: impl FnOnce(&mut Body<'_>)) {
        let rest = self.out.get_mut(self.length..).unwrap_or_default();
        let mut body = Body { out: rest, length: 0, fits: true };
        body.put(&[2 << 6 | count, kind, 0, 0]);
        fill(&mut body);
        let (length, fits) = (body.length, body.fits);
        if !fits {
            self.complete = false;
            return;
        }
        let words = (length / 4 - 1) as u16;
        self.out[self.length + 2..self.length + 4].copy_from_slice(&words.to_be_bytes());
        self.length += length;
    }
}

struct Body<'a> {
    out: &'a mut [u8],
    length: usize,
    fits: bool,
}

impl Body<'_> {
    fn put(&mut self, octets: &[u8]) {
        match self.out.get_mut(self.length..self.length + octets.len()) {
            Some(place) => place.copy_from_slice(octets),
            None => self.fits = false,
        }
        self.length += octets.len();
    }

    /// Zeros up to the next word.
    fn fill(&mut self) {
        self.put(&[0; 3][..(4 - self.length % 4) % 4]);
    }
}

fn text(text: &str) -> &[u8] {
    let most = text.len().min(MAX_TEXT);
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    &text.as_bytes()[..end]
}

fn octets(block: &ReportBlock) -> [u8; 24] {
    let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff).to_be_bytes();
    let mut out = [0; 24];
    out[0..4].copy_from_slice(&block.ssrc.to_be_bytes());
    out[4..8].copy_from_slice(&[block.fraction_lost, lost[1], lost[2], lost[3]]);
    let words = [block.highest_sequence, block.jitter, block.last_report, block.delay];
    for (place, word) in out[8..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::read::{self, RtcpPacket};
    use super::super::{NtpTime, ReportBlock, SenderInfo, VoipMetrics};
    use super::*;
    use proptest::prelude::*;

    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 0x0102_0304,
        fraction_lost: 5,
        cumulative_lost: -2,
        highest_sequence: 0x0001_0203,
        jitter: 6,
        last_report: 7,
        delay: 8,
    };

    fn written(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = [0xee; 1_200];
        let mut writer = Writer::new(&mut out);
        fill(&mut writer);
        let length = writer.finish().unwrap();
        out[..length].to_vec()
    }

    #[test]
    #[rustfmt::skip]
    fn the_octets_are_those_of_the_rfc() {
        let info = SenderInfo { ntp: NtpTime(0x1111_1111_2222_2222), rtp: 3, packets: 4, octets: 5 };
        let octets = written(|writer| {
            writer.sender_report(0xaabb_ccdd, &info, Some(&BLOCK));
            writer.cname(0xaabb_ccdd, "ab");
            writer.bye(0xaabb_ccdd, "why");
        });
        assert_eq!(octets, [
            0x81, 200, 0, 12, 0xaa, 0xbb, 0xcc, 0xdd,
            0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5,
            1, 2, 3, 4, 5, 0xff, 0xff, 0xfe, 0, 1, 2, 3, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8,
            0x81, 202, 0, 3, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, b'a', b'b', 0, 0, 0, 0,
            0x81, 203, 0, 2, 0xaa, 0xbb, 0xcc, 0xdd, 3, b'w', b'h', b'y',
        ]);
    }

    #[test]
    fn a_buffer_that_is_too_short_is_told() {
        for length in 0..60 {
            let mut out = vec![0; length];
            let mut writer = Writer::new(&mut out);
            writer.receiver_report(1, Some(&BLOCK));
            writer.cname(1, "0123456789abcdef");
            assert_eq!(writer.finish().is_some(), length >= 32 + 28, "{length}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "\u{e9}".repeat(200);
        let octets = written(|writer| writer.cname(1, &long));
        assert_eq!(octets[9], 254);
        assert!(read::compound(&octets).is_ok());
        let octets = written(|writer| writer.bye(1, &long));
        assert_eq!(octets[8], 254);
    }

    fn blocks() -> impl Strategy<Value = ReportBlock> {
        (any::<[u32; 5]>(), any::<u8>(), -0x80_0000..0x7f_ffffi32).prop_map(|(words, fraction_lost, lost)| {
            let [ssrc, highest_sequence, jitter, last_report, delay] = words;
            ReportBlock {
                ssrc,
                fraction_lost,
                cumulative_lost: lost,
                highest_sequence,
                jitter,
                last_report,
                delay,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_here_and_in_another_library(
            ssrc: u32, ntp: u64, words: [u32; 3], block in proptest::option::of(blocks()), name in "[a-z]{0,20}",
        ) {
            let [rtp, packets, sent] = words;
            let info = SenderInfo { ntp: NtpTime(ntp), rtp, packets, octets: sent };
            let metrics = VoipMetrics { ssrc: rtp, loss_rate: ntp as u8, round_trip: sent as u16, ..VoipMetrics::default() };
            let octets = written(|writer| {
                writer.sender_report(ssrc, &info, block.as_ref());
                writer.cname(ssrc, &name);
                writer.voip_metrics(ssrc, &metrics);
                writer.receiver_report(ssrc, block.as_ref());
                writer.bye(ssrc, &name);
            });
            let packets = read::compound(&octets).unwrap().collect::<Vec<_>>();
            assert!(matches!(&packets[0], RtcpPacket::SenderReport { ssrc: of, info: said, blocks }
                if (*of, *said, blocks.iter().next()) == (ssrc, info, block)));
            assert_eq!(&packets[2], &RtcpPacket::VoipMetrics { ssrc, metrics });
            assert!(matches!(&packets[3], RtcpPacket::ReceiverReport { blocks, .. }
                if blocks.iter().next() == block));
            assert!(matches!(&packets[4], RtcpPacket::Bye { sources } if sources.contains(ssrc)));
            others_read_the_same(&octets, ssrc, &info, block);
        }

        #[test]
        fn no_datagram_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packets) = read::compound(&octets) {
                prop_assert!(packets.count() <= octets.len() / 4);
            }
        }

        #[test]
        fn no_packet_with_a_good_head_panics(
            flags: u8, kind in 199u8..208, words in 0u16..8, octets in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let [high, low] = words.to_be_bytes();
            let datagram = [&[2 << 6 | flags & 0x3f, kind, high, low][..], &octets].concat();
            if let Ok(packets) = read::compound(&datagram) {
                for packet in packets {
                    if let RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. } = packet {
                        prop_assert!(blocks.iter().count() <= 31);
                    }
                }
            }
        }
    }

    fn others_read_the_same(octets: &[u8], ssrc: u32, info: &SenderInfo, block: Option<ReportBlock>) {
        let compound = rtcp_types::Compound::parse(octets).expect("another library reads it");
        let packets = compound.collect::<Result<Vec<_>, _>>().expect("and each packet of it");
        assert_eq!(packets.len(), 5);
        let rtcp_types::Packet::Sr(report) = &packets[0] else { panic!("{:?}", packets[0]) };
        assert_eq!(
            (report.ssrc(), report.ntp_timestamp(), report.rtp_timestamp()),
            (ssrc, info.ntp.0, info.rtp)
        );
        let theirs = report.report_blocks().next();
        assert_eq!(
            theirs.as_ref().map(|b| (b.ssrc(), b.fraction_lost())),
            block.map(|b| (b.ssrc, b.fraction_lost))
        );
        assert!(matches!(&packets[1], rtcp_types::Packet::Sdes(_)));
        assert!(matches!(&packets[2], rtcp_types::Packet::Xr(_)));
    }
}
