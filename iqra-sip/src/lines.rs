//! Finds line ends and colons in a head, 64 octets at a time: one load of each block serves all its lines.

use crate::message::Fault;
use crate::octets::{BLOCK, Masks, masks};

/// A head with the masks of the block that was looked at last. Nothing that is not inlined borrows it, so that its
/// fields can stay in registers.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    base: usize,
    masks: Masks,
}

/// Why a line has no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)] // As wide as the numbers of a field, with which it shares its place in a result.
pub(crate) enum Broken {
    Incomplete,
    LineBreak,
    Nul,
}

impl From<Broken> for Fault {
    #[cold]
    fn from(broken: Broken) -> Fault {
        match broken {
            Broken::Incomplete => Fault::Incomplete,
            Broken::LineBreak => Fault::LineBreak,
            Broken::Nul => Fault::Nul,
        }
    }
}

impl<'a> Lines<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Lines<'a> {
        Lines { bytes, base: 0, masks: masks_at(bytes, 0).unwrap_or_default() }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first colon, CR or octet below CR from `from` on.
    #[inline]
    pub(crate) fn stop(&mut self, from: usize) -> Option<usize> {
        self.find(from, |masks| masks.controls | masks.colons)
    }

    /// The CR of the CRLF that ends the line at `at`. A NUL is let pass behind a backslash only, where a quoted string
    /// escapes it (RFC 3261 §25.1 `quoted-pair`).
    #[inline]
    pub(crate) fn end(&mut self, at: usize) -> Result<usize, Broken> {
        let found = self.find(at, |masks| masks.controls).ok_or(Broken::Incomplete)?;
        match self.bytes[found..].first_chunk() {
            Some(b"\r\n") => Ok(found),
            _ => odd_end(self.bytes, at, found),
        }
    }

    #[inline]
    fn find(&mut self, mut from: usize, mask: impl Fn(Masks) -> u64) -> Option<usize> {
        loop {
            let base = from - from % BLOCK;
            if base != self.base {
                (self.base, self.masks) = (base, masks_at(self.bytes, base)?);
            }
            let left = mask(self.masks) >> (from % BLOCK);
            if left != 0 {
                return Some(from + left.trailing_zeros() as usize);
            }
            from = base + BLOCK;
        }
    }
}

/// [`Lines::end`] where what was found is no CRLF.
#[cold]
#[inline(never)]
fn odd_end(bytes: &[u8], at: usize, mut found: usize) -> Result<usize, Broken> {
    let mut lines = Lines::new(bytes);
    loop {
        match bytes[found] {
            b'\r' if bytes.get(found + 1) == Some(&b'\n') => return Ok(found),
            b'\r' if found + 1 == bytes.len() => return Err(Broken::Incomplete),
            b'\r' | b'\n' => return Err(Broken::LineBreak),
            0 if found == at || bytes[found - 1] != b'\\' => return Err(Broken::Nul),
            _ => found = lines.find(found + 1, |masks| masks.controls).ok_or(Broken::Incomplete)?,
        }
    }
}

/// The masks of the block at `base`; `None` where there is none.
#[inline]
fn masks_at(bytes: &[u8], base: usize) -> Option<Masks> {
    let rest = bytes.get(base..).filter(|rest| !rest.is_empty())?;
    Some(match rest.first_chunk() {
        Some(block) => masks(block),
        None => last_masks(rest),
    })
}

#[inline(never)]
fn last_masks(rest: &[u8]) -> Masks {
    let mut block = [u8::MAX; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    masks(&block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_both_octets_wherever_the_block_ends() {
        for len in 0..200 {
            let text = [&vec![b'x'; len][..], b"\r\n"].concat();
            assert_eq!(Lines::new(&text).end(0), Ok(len));
            assert_eq!(Lines::new(&text[..len + 1]).end(0), Err(Broken::Incomplete));
            assert_eq!(Lines::new(&text[..len]).end(0), Err(Broken::Incomplete));
        }
    }
}
