//! What challenges and credentials have in common: a scheme and `name=value` pairs with commas between them
//! (RFC 3261 §25.1 `challenge`, `credentials`; RFC 7616 §3.3, §3.4).
//!
//! Read leniently, for peers quote what should be bare and leave bare what should be quoted. Values are kept as they
//! stand between their quotes, escapes included: that is the text that a digest is taken over (`unq` of RFC 7616
//! §3.4.1) and the text that has to be sent back.

use std::fmt;
use std::ops::Range;

use crate::message::grammar::{self, Cursor, SPACE, TOKEN, Why};
use crate::message::text::Text;

/// Most pairs in one value; the RFCs know a dozen.
const MAX_PAIRS: usize = 32;

/// A scheme with its pairs.
pub(super) struct AuthParams {
    scheme: Text,
    pairs: Vec<(Text, Text)>,
}

impl AuthParams {
    /// Reads one scheme with its pairs; the rest of the text is what begins with a further scheme, which RFC 3261
    /// §7.3.1 forbids to combine and some send nevertheless.
    pub(super) fn read(text: &Text) -> Result<(AuthParams, Option<Text>), Why> {
        let mut cursor = Cursor::new(text.as_bytes());
        cursor.skip_space();
        let scheme = cursor.take(TOKEN);
        if scheme.is_empty() {
            return Err("has no authentication scheme");
        }
        let slice = |range: Range<usize>| Text::from(text.bytes().slice(range));
        let mut found = AuthParams { scheme: slice(scheme), pairs: Vec::new() };
        loop {
            let at = skip_commas(&mut cursor);
            if cursor.done() {
                return Ok((found, None));
            }
            match pair(&mut cursor)? {
                Some((name, value)) => found.add(slice(name), slice(value))?,
                None if found.pairs.is_empty() => return Err("has no name=value behind its scheme"),
                None => return Ok((found, Some(slice(at..text.as_bytes().len())))),
            }
        }
    }

    /// Reads the pairs of a header that has no scheme (Authentication-Info).
    pub(super) fn read_bare(text: &Text) -> Result<AuthParams, Why> {
        let text = Text::from(format!("info {text}"));
        Self::read(&text).map(|(found, _)| found)
    }

    /// A repeated name could be read either way, so it is refused (RFC 7616 §3.3).
    fn add(&mut self, name: Text, value: Text) -> Result<(), Why> {
        if self.get(&name.to_str()).is_some() {
            return Err("repeats a parameter");
        }
        if self.pairs.len() == MAX_PAIRS {
            return Err("has more than 32 parameters");
        }
        self.pairs.push((name, value));
        Ok(())
    }

    pub(super) fn is_digest(&self) -> bool {
        self.scheme.as_bytes().eq_ignore_ascii_case(b"Digest")
    }

    pub(super) fn get(&self, name: &str) -> Option<Text> {
        let same = |(found, _): &&(Text, Text)| found.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        self.pairs.iter().find(same).map(|(_, value)| value.clone())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
    }
}

/// `nc-value`: eight hexadecimal digits, or fewer from the careless.
pub(super) fn count(nc: &Text) -> Result<u32, &'static str> {
    let text = nc.to_str();
    let hexadecimal = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u32::from_str_radix(&text, 16).ok().filter(|_| hexadecimal);
    number.ok_or("has an nc that is not eight hexadecimal digits")
}

/// Where a name and its value stand.
type Pair = (Range<usize>, Range<usize>);

fn skip_commas(cursor: &mut Cursor<'_>) -> usize {
    cursor.skip_space();
    while cursor.eat(b',') {
        cursor.skip_space();
    }
    cursor.at
}

/// One `name=value`; the value's bounds are those inside its quotes. `None` where a word stands without `=`.
fn pair(cursor: &mut Cursor<'_>) -> Result<Option<Pair>, Why> {
    let name = cursor.take(TOKEN);
    if name.is_empty() {
        return Err("has something that is no name=value; quote the values");
    }
    cursor.skip_space();
    if !cursor.eat(b'=') {
        return Ok(None);
    }
    cursor.skip_space();
    if cursor.peek() == Some(b'"') {
        let quoted = cursor.quoted()?;
        return Ok(Some((name, quoted.start + 1..quoted.end - 1)));
    }
    let start = cursor.at;
    let rest = &cursor.bytes[start..];
    let ends = |b: &u8| grammar::is(*b, SPACE) || matches!(b, b',' | b'"');
    cursor.at += rest.iter().position(ends).unwrap_or(rest.len());
    Ok(Some((name, start..cursor.at)))
}

/// Prints pairs with commas between them. A value goes into quotes as it is, with a stray quote escaped.
pub(super) struct Printer<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    first: bool,
}

impl<'a, 'f> Printer<'a, 'f> {
    pub(super) fn new(f: &'a mut fmt::Formatter<'f>) -> Self {
        Self { f, first: true }
    }

    fn comma(&mut self) -> fmt::Result {
        let comma = if std::mem::take(&mut self.first) { "" } else { ", " };
        self.f.write_str(comma)
    }

    pub(super) fn quoted(&mut self, name: &str, value: &Text) -> fmt::Result {
        self.comma()?;
        write!(self.f, "{name}=\"{}\"", escaped(&value.to_str()))
    }

    pub(super) fn quoted_if(&mut self, name: &str, value: Option<&Text>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.quoted(name, value))
    }

    pub(super) fn bare(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        self.comma()?;
        write!(self.f, "{name}={value}")
    }

    /// Bare where it is a token, as the grammar has it; else in quotes.
    pub(super) fn token_if(&mut self, name: &str, value: Option<&Text>) -> fmt::Result {
        match value {
            Some(value) if grammar::is_token(value.as_bytes()) => self.bare(name, value),
            value => self.quoted_if(name, value),
        }
    }

    pub(super) fn flag_if(&mut self, name: &str, set: bool) -> fmt::Result {
        if set { self.bare(name, "true") } else { Ok(()) }
    }
}

/// Leaves escapes alone and makes one of every quote that is none, and of a backslash at the end.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(['\\', chars.next().unwrap_or('\\')]),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}
