//! What a packet says of its length without being decoded: table of contents and framing (RFC 6716 §3).

/// The longest packet, 120 ms (R5), in RTP clock units of 48 kHz.
const LONGEST: u32 = 5_760;
/// The longest frame in octets (R2).
const LONGEST_FRAME: usize = 1_275;

/// How long a packet plays, in RTP clock units of 48 kHz; 0 for one that breaks the framing rules of RFC 6716 §3.4.
pub fn duration(payload: &[u8]) -> u32 {
    frames(payload).map_or(0, |(count, each)| count * each)
}

/// Number of frames, and the length of each in units of 48 kHz.
fn frames(payload: &[u8]) -> Option<(u32, u32)> {
    let (&toc, rest) = payload.split_first()?;
    let each = frame_length(toc >> 3);
    let count = match toc & 3 {
        0 => fits(rest.len()).then_some(1)?,
        1 => (rest.len().is_multiple_of(2) && fits(rest.len() / 2)).then_some(2)?,
        2 => two_frames(rest)?,
        _ => several_frames(rest, each)?,
    };
    Some((count, each))
}

/// By configuration (RFC 6716 §3.1, table 2): SILK, hybrid, CELT.
fn frame_length(configuration: u8) -> u32 {
    let size = usize::from(configuration & 3);
    match configuration {
        0..12 => [480, 960, 1_920, 2_880][size],
        12..16 => [480, 960][size & 1],
        _ => [120, 240, 480, 960][size],
    }
}

fn fits(octets: usize) -> bool {
    octets <= LONGEST_FRAME
}

/// Code 2: the first frame's length is given (§3.2.4).
fn two_frames(rest: &[u8]) -> Option<u32> {
    let (first, rest) = length(rest)?;
    fits(rest.len().checked_sub(first)?).then_some(2)
}

/// Code 3: a count, with padding, of equal frames or of frames with their lengths (§3.2.5).
fn several_frames(rest: &[u8], each: u32) -> Option<u32> {
    let (&head, mut rest) = rest.split_first()?;
    let count = u32::from(head & 0b0011_1111);
    if count == 0 || count * each > LONGEST {
        return None;
    }
    if head & 0b0100_0000 != 0 {
        rest = without_padding(rest)?;
    }
    if head & 0b1000_0000 == 0 {
        let frames = count as usize;
        return (rest.len().is_multiple_of(frames) && fits(rest.len() / frames)).then_some(count);
    }
    let mut before_last = 0;
    for _ in 1..count {
        let (octets, after) = length(rest)?;
        (before_last, rest) = (before_last + octets, after);
    }
    fits(rest.len().checked_sub(before_last)?).then_some(count)
}

/// 254 octets for each 255, then the rest; they stand at the packet's end.
fn without_padding(mut rest: &[u8]) -> Option<&[u8]> {
    let mut padding = 0;
    loop {
        let (&more, after) = rest.split_first()?;
        rest = after;
        if more < 255 {
            padding += usize::from(more);
            return rest.get(..rest.len().checked_sub(padding)?);
        }
        padding += 254;
    }
}

/// A frame's length in one or two octets (§3.2.1), and what follows.
fn length(rest: &[u8]) -> Option<(usize, &[u8])> {
    match *rest {
        [short @ 0..252, ref after @ ..] => Some((short.into(), after)),
        [low, high, ref after @ ..] => Some((usize::from(low) + 4 * usize::from(high), after)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILK_20: u8 = 1 << 3;
    const SILK_60: u8 = 3 << 3;
    const CELT_2_5: u8 = 16 << 3;

    #[test]
    fn the_table_of_contents_tells_the_length() {
        for (configuration, length) in
            [(0, 480), (3, 2_880), (11, 2_880), (12, 480), (15, 960), (16, 120), (31, 960)]
        {
            assert_eq!(duration(&[configuration << 3, 1, 2, 3]), length, "{configuration}");
        }
    }

    #[test]
    fn several_frames_add_up() {
        assert_eq!(duration(&[SILK_20 | 1, 1, 2]), 2 * 960);
        assert_eq!(duration(&[SILK_20 | 2, 1, 9, 8, 7]), 2 * 960);
        assert_eq!(duration(&[CELT_2_5 | 3, 48]), LONGEST);
        assert_eq!(duration(&[SILK_20 | 3, 0b1000_0011, 1, 2, 0, 0, 0]), 3 * 960);
        assert_eq!(duration(&[SILK_20 | 3, 0b0100_0001, 2, 5, 5, 0, 0]), 960);
    }

    #[test]
    fn broken_framing_has_no_length() {
        for broken in [
            &[][..],
            &[SILK_20 | 1, 1],
            &[SILK_20 | 2],
            &[SILK_20 | 2, 252],
            &[SILK_20 | 2, 3, 1, 2],
            &[SILK_20 | 3],
            &[SILK_20 | 3, 0],
            &[SILK_60 | 3, 3],
            &[CELT_2_5 | 3, 49],
            &[SILK_20 | 3, 2, 1],
            &[SILK_20 | 3, 0b1000_0010, 5, 1],
            &[SILK_20 | 3, 0b0100_0001, 2, 0],
            &[SILK_20 | 3, 0b0100_0001, 255],
            &[SILK_20; LONGEST_FRAME + 2],
        ] {
            assert_eq!(duration(broken), 0, "{broken:?}");
        }
    }
}
