//! The lexical rules that all headers share (RFC 3261 §25.1): character classes, linear white space, quoted
//! strings, parameters, comma lists. One table and one cursor; nothing here allocates.
//!
//! A folded header value keeps its line break (`CRLF` and white space), which counts as white space here, so that
//! no value has to be copied before it is read (RFC 3261 §7.3.1).

use std::borrow::Cow;
use std::ops::Range;

use crate::octets::{self, LANE};

/// Why a value is not what its grammar says; a fixed phrase, never the value itself.
pub(crate) type Why = &'static str;

/// `token` of RFC 3261 §25.1.
pub(crate) const TOKEN: u8 = 1;
/// Space, tab, and the line break of a fold.
pub(crate) const SPACE: u8 = 1 << 1;
/// What a host name is made of; `_` is not in the grammar but is in the field.
pub(crate) const HOST: u8 = 1 << 2;
/// `user` without the escapes; `#` is not in the grammar but is dialled.
pub(crate) const USER: u8 = 1 << 3;
/// URI parameters, URI headers and the body of schemes that are not read further, without the escapes.
pub(crate) const URI: u8 = 1 << 4;
/// A parameter's unquoted value. Wider than `token`, as tags and branches with `=`, `@` or `/` are in the field.
pub(crate) const VALUE: u8 = 1 << 5;
/// Decimal digits.
pub(crate) const DIGIT: u8 = 1 << 6;
/// All but white space and control characters; wider than `word`, as Call-IDs are in the field.
pub(crate) const WORD: u8 = 1 << 7;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = class(at as u8);
        at += 1;
    }
    table
}

const fn class(b: u8) -> u8 {
    let alnum = b.is_ascii_alphanumeric();
    let visible = b.is_ascii_graphic();
    let mut class = 0;
    if alnum || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~') {
        class |= TOKEN;
    }
    if matches!(b, b' ' | b'\t' | b'\r' | b'\n') {
        class |= SPACE;
    }
    if alnum || matches!(b, b'-' | b'.' | b'_') {
        class |= HOST;
    }
    if visible
        && !matches!(
            b,
            b'"' | b'<' | b'>' | b'@' | b':' | b'%' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'[' | b']'
        )
    {
        class |= USER;
    }
    if visible && !matches!(b, b'"' | b'<' | b'>' | b'%') {
        class |= URI;
    }
    if (visible || b >= 0x80) && !matches!(b, b'"' | b'<' | b'>' | b';' | b',' | b'\\') {
        class |= VALUE;
    }
    if b.is_ascii_digit() {
        class |= DIGIT;
    }
    if visible || b >= 0x80 {
        class |= WORD;
    }
    class
}

/// True when `b` belongs to one of the classes in `mask`.
#[inline]
pub(crate) const fn is(b: u8, mask: u8) -> bool {
    CLASS[b as usize] & mask != 0
}

/// The classes that hold every plain octet, so that a run of them is searched for its odd octets alone.
const WORDS: u8 = TOKEN | HOST | USER | URI | VALUE | WORD;

const _: () = {
    let mut b = 0;
    while b < 128 {
        assert!(!octets::is_plain(b) || CLASS[b as usize] & WORDS == WORDS);
        b += 1;
    }
};

/// True for [`SPACE`]; most characters are above it and need no look at the table.
#[inline]
pub(crate) const fn is_space(b: u8) -> bool {
    b <= b' ' && is(b, SPACE)
}

/// The end of the run of characters of `mask` that begins at `at`.
#[inline]
pub(crate) fn run(bytes: &[u8], at: usize, mask: u8) -> usize {
    if mask & WORDS != 0 && bytes.len() >= LANE {
        run_of_words(bytes, at, mask)
    } else {
        run_by_octets(bytes, at, mask)
    }
}

#[inline]
fn run_by_octets(bytes: &[u8], mut at: usize, mask: u8) -> usize {
    while bytes.get(at).is_some_and(|&b| is(b, mask)) {
        at += 1;
    }
    at
}

/// The same by lanes; the last lane ends where `bytes` do and overlaps the one before.
#[inline]
fn run_of_words(bytes: &[u8], mut at: usize, mask: u8) -> usize {
    while at < bytes.len() {
        let base = at.min(bytes.len() - LANE);
        let Some(lane) = bytes[base..].first_chunk() else { break };
        let mut odd = octets::odd(lane) >> (at - base);
        while odd != 0 {
            let stop = at + odd.trailing_zeros() as usize;
            if !is(bytes[stop], mask) {
                return stop;
            }
            odd &= odd - 1;
        }
        at = base + LANE;
    }
    at
}

/// How many characters of `mask` stand at the front.
#[inline]
pub(crate) fn run_len(bytes: &[u8], mask: u8) -> usize {
    run(bytes, 0, mask)
}

/// True when `bytes` is a `token`: one or more token characters.
#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run_len(bytes, TOKEN) == bytes.len()
}

/// The bounds of `bytes` without the white space at both ends.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> Range<usize> {
    if let [b' ', first, .., last] = bytes
        && !is_space(*first)
        && !is_space(*last)
    {
        return 1..bytes.len();
    }
    let mut rest = bytes;
    while let [first, tail @ ..] = rest
        && is_space(*first)
    {
        rest = tail;
    }
    let start = bytes.len() - rest.len();
    while let [head @ .., last] = rest
        && is_space(*last)
    {
        rest = head;
    }
    start..start + rest.len()
}

/// The number that `bytes` spells in decimal digits, up to `max`.
#[inline]
pub(crate) fn number(bytes: &[u8], max: u32) -> Result<u32, Why> {
    let is_other = |b: &u8| !b.is_ascii_digit();
    if bytes.first().is_some_and(is_other) {
        return Err("is not a plain decimal number");
    }
    match leading_number(bytes, max)? {
        (number, len) if len == bytes.len() => Ok(number),
        _ => Err("is not a plain decimal number"),
    }
}

/// The number that `bytes` begins with, up to `max`, and how many digits it has.
#[inline]
pub(crate) fn leading_number(bytes: &[u8], max: u32) -> Result<(u32, usize), Why> {
    let (mut number, mut len) = (0, 0);
    while let Some(digit) = bytes.get(len).map(|b| b.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        len += 1;
        number = 10 * number + u64::from(digit); // No more than ten times `max` and nine.
        if number > u64::from(max) {
            return Err("is a number out of range");
        }
    }
    if len == 0 { Err("has no digits") } else { Ok((number as u32, len)) }
}

/// Folds become single spaces (RFC 3261 §7.3.1); copies only when the value was folded.
pub(crate) fn unfold(value: Cow<'_, str>) -> Cow<'_, str> {
    if !value.contains(['\r', '\n']) {
        return value;
    }
    let lines: Vec<&str> = value.split(['\r', '\n']).map(|line| line.trim_matches([' ', '\t'])).collect();
    let mut out = String::with_capacity(value.len());
    for line in lines.into_iter().filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    Cow::Owned(out)
}

/// The text of a `quoted-string` without its quotes and backslashes; any other value as it is.
pub(crate) fn unquote(value: Cow<'_, str>) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value };
    if !inner.contains('\\') {
        return Cow::Owned(inner.to_owned());
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(out)
}

/// `text` as a `quoted-string`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A cursor over one header value.
pub(crate) struct Cursor<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Steps over characters of `mask` and gives their bounds, which may be empty.
    #[inline]
    pub(crate) fn take(&mut self, mask: u8) -> Range<usize> {
        let start = self.at;
        self.at = run(self.bytes, start, mask);
        start..self.at
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        while self.bytes.get(self.at).is_some_and(|&b| is_space(b)) {
            self.at += 1;
        }
    }

    /// Steps over `b` if it is next.
    #[inline]
    pub(crate) fn eat(&mut self, b: u8) -> bool {
        let found = self.peek() == Some(b);
        self.at += usize::from(found);
        found
    }

    /// A `quoted-string`, quotes included; the cursor stands at the opening quote.
    #[inline]
    pub(crate) fn quoted(&mut self) -> Result<Range<usize>, Why> {
        let start = self.at;
        self.at += 1;
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'"' => return Ok(start..self.at),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        Err("has a quoted string without its closing quote")
    }

    /// `*( SEMI name [ EQUAL value ] )` up to the end or a comma; gives the bounds from the first semicolon.
    pub(crate) fn params(&mut self) -> Result<Range<usize>, Why> {
        self.params_noting(false, |_, _| Ok(()))
    }

    /// The same; `note` judges each name, and whether a value follows. With `loose` one semicolon more may stand at the
    /// end, as in the field; it is in no bounds.
    #[inline(always)]
    pub(crate) fn params_noting(
        &mut self,
        loose: bool,
        mut note: impl FnMut(&'a [u8], bool) -> Result<(), Why>,
    ) -> Result<Range<usize>, Why> {
        self.skip_space();
        let start = self.at;
        let mut end = start;
        while self.eat(b';') {
            if loose && self.ends_here() {
                break;
            }
            let name = self.param_name()?;
            let value = self.param_value()?;
            note(&self.bytes[name], value.is_some())?;
            end = self.at;
            self.skip_space();
        }
        if self.done() || self.peek() == Some(b',') {
            return Ok(start..end);
        }
        Err("has text after its last parameter; put it in quotes or leave it out")
    }

    /// Whether nothing but white space stands before the end or a comma; steps over it then.
    fn ends_here(&mut self) -> bool {
        let before = self.at;
        self.skip_space();
        let ends = self.done() || self.peek() == Some(b',');
        if !ends {
            self.at = before;
        }
        ends
    }

    /// One parameter with its semicolon; `None` when the next character is none.
    #[inline]
    pub(crate) fn param(&mut self) -> Result<Option<Param>, Why> {
        self.skip_space();
        let start = self.at;
        if !self.eat(b';') {
            return Ok(None);
        }
        Ok(Some(Param { start, name: self.param_name()?, value: self.param_value()? }))
    }

    #[inline]
    fn param_name(&mut self) -> Result<Range<usize>, Why> {
        self.skip_space();
        let name = self.take(TOKEN);
        if name.is_empty() { Err("has an empty parameter; write ;name=value") } else { Ok(name) }
    }

    /// The equals sign and what stands behind it; `None` when there is none.
    #[inline]
    fn param_value(&mut self) -> Result<Option<Range<usize>>, Why> {
        let after_name = self.at;
        self.skip_space();
        if !self.eat(b'=') {
            self.at = after_name;
            return Ok(None);
        }
        self.skip_space();
        let value = if self.peek() == Some(b'"') { self.quoted()? } else { self.take(VALUE) };
        if value.is_empty() {
            return Err("has a parameter without a value after its equals sign");
        }
        Ok(Some(value))
    }
}

/// Tells a parameter that stands again from one that may (RFC 3261 §7.3.1). What reads the last of two would see another
/// dialog, transaction or place than what reads the first.
#[derive(Default)]
pub(crate) struct Once(u8);

impl Once {
    /// False where `name`, one of at most eight `names`, was there before.
    #[inline]
    pub(crate) fn is_first(&mut self, names: &[&str], name: &[u8]) -> bool {
        let Some(at) = names.iter().position(|one| one.as_bytes().eq_ignore_ascii_case(name)) else {
            return true;
        };
        let before = self.0;
        self.0 |= 1 << at;
        self.0 != before
    }
}

/// Where a parameter stands in its value.
pub(crate) struct Param {
    /// The semicolon before it.
    pub(crate) start: usize,
    pub(crate) name: Range<usize>,
    /// Quotes included.
    pub(crate) value: Option<Range<usize>>,
}

/// The end of the first element of a comma list: the index of its comma, or the length. Commas in quoted strings
/// and in angle brackets belong to the element.
pub(crate) fn element_end(bytes: &[u8]) -> usize {
    let mut cursor = Cursor::new(bytes);
    let mut bracket = false;
    while let Some(b) = cursor.peek() {
        match b {
            b'"' if !bracket => {
                if cursor.quoted().is_err() {
                    return bytes.len();
                }
                continue;
            }
            b'<' => bracket = true,
            b'>' => bracket = false,
            b',' if !bracket => return cursor.at,
            _ => {}
        }
        cursor.at += 1;
    }
    bytes.len()
}
