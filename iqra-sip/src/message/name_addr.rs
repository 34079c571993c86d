//! A name and an address: `"Alice" <sip:alice@example.org;lr>;tag=1` (RFC 3261 §20.10, §25.1), the form of From,
//! To, Contact, Route and their kin.
//!
//! Without angle brackets (`addr-spec`) everything behind the first semicolon belongs to the header, not to the URI.
//!
//! # What is read beyond the grammar
//! A display name that lacks its quotes, `Müller`, `AT&T (EU)` (RFC 4475 §3.1.2.15 lets a reader infer them), where only one
//! reading is left: an address in angle brackets follows, and what stands before it is no URI, has no quote, semicolon or
//! bracket, and a comma in From and To alone, which have one value. Nothing is decided by it, and what is printed anew gets
//! its quotes. One semicolon at the end of the parameters is passed over.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::grammar::{self, Cursor, SPACE, TOKEN, WORD, Why};
use super::headers::Slice;
use super::params::Params;
use super::text::Text;
use super::uri::{self, Uri};

/// A display name, a URI and the header's parameters. Prints with angle brackets.
#[derive(Clone, PartialEq, Eq)]
pub struct NameAddr {
    display: Option<Text>,
    /// The address.
    pub uri: Uri,
    /// The parameters behind the address.
    pub params: Params,
}

/// Where the parts of a name-addr stand in its value.
pub(crate) struct Parts {
    display: Range<usize>,
    uri: Range<usize>,
    uri_parts: uri::Parts,
    params: Range<usize>,
}

impl NameAddr {
    /// An address without a display name or parameters.
    #[must_use]
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::EMPTY }
    }

    /// Reads a whole value as one name-addr or addr-spec.
    ///
    /// # Errors
    /// A phrase saying what is wrong with it.
    pub fn parse(text: impl Into<Text>) -> Result<NameAddr, &'static str> {
        NameAddr::read(Slice::from(text.into().bytes()))
    }

    /// Reads a value that is one address.
    pub(crate) fn read(slice: Slice<'_>) -> Result<NameAddr, Why> {
        Ok(NameAddr::of(slice, alone(slice.bytes(), scan)?))
    }

    /// Reads the value of a From or a To.
    pub(crate) fn read_party(slice: Slice<'_>) -> Result<NameAddr, Why> {
        Ok(NameAddr::of(slice, alone(slice.bytes(), scan_party)?))
    }

    /// Takes over what [`scan`] has found in `slice`.
    #[inline]
    pub(crate) fn of(slice: Slice<'_>, parts: Parts) -> NameAddr {
        NameAddr {
            display: (!parts.display.is_empty()).then(|| slice.text(parts.display)),
            uri: Uri::checked(slice.part(parts.uri), parts.uri_parts),
            params: Params::checked(slice.text(parts.params)),
        }
    }

    /// The display name without its quotes and backslashes.
    #[must_use]
    pub fn display_name(&self) -> Option<Cow<'_, str>> {
        self.display.as_ref().map(|text| grammar::unquote(grammar::unfold(text.to_str())))
    }

    /// The same address with another display name, quoted as needed.
    #[must_use]
    pub fn with_display_name(mut self, name: &str) -> NameAddr {
        self.display = Some(Text::from(grammar::quote(name)));
        self
    }

    /// The `tag` parameter (RFC 3261 §19.3).
    #[must_use]
    pub fn tag(&self) -> Option<Cow<'_, str>> {
        self.params.value("tag")
    }

    /// The same address with its tag set.
    #[must_use]
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.params.set("tag", Some(tag));
        self
    }
}

/// Checks the value of a From or a To.
#[inline(never)]
pub(crate) fn check_party(value: &[u8]) -> Result<(), Why> {
    alone(value, scan_party).map(drop)
}

/// What `scan` finds in a value that holds nothing else.
#[inline(always)]
fn alone<'a>(
    value: &'a [u8],
    scan: impl FnOnce(&mut Cursor<'a>) -> Result<Parts, Why>,
) -> Result<Parts, Why> {
    let mut cursor = Cursor::new(value);
    let parts = scan(&mut cursor)?;
    if cursor.done() { Ok(parts) } else { Err("holds more than one address; send one") }
}

/// Checks a line of a comma list of addresses, and says how many there are.
#[inline(never)]
pub(crate) fn check_list(value: &[u8]) -> Result<usize, Why> {
    let mut cursor = Cursor::new(value);
    let mut count = 0;
    loop {
        scan(&mut cursor)?;
        count += 1;
        if !cursor.eat(b',') {
            return Ok(count);
        }
    }
}

/// Reads one name-addr or addr-spec with its parameters, up to the end or a comma.
#[inline(always)] // A check alone does not pay for the parts.
pub(crate) fn scan(cursor: &mut Cursor<'_>) -> Result<Parts, Why> {
    scan_noting(cursor, false, |_, _| Ok(()))
}

/// Reads a From or a To: its tag, by which the dialog is found, stands at most once and has a value.
#[inline(always)]
pub(crate) fn scan_party(cursor: &mut Cursor<'_>) -> Result<Parts, Why> {
    let mut tagged = false;
    scan_noting(cursor, true, |name, has_value| {
        if !name.eq_ignore_ascii_case(b"tag") {
            return Ok(());
        }
        match std::mem::replace(&mut tagged, true) {
            true => Err("has more than one tag; send one"),
            false if !has_value => Err("has a tag without a value; send ;tag=value or none"),
            false => Ok(()),
        }
    })
}

#[inline(always)]
fn scan_noting<'a>(
    cursor: &mut Cursor<'a>,
    party: bool,
    note: impl FnMut(&'a [u8], bool) -> Result<(), Why>,
) -> Result<Parts, Why> {
    cursor.skip_space();
    let start = cursor.at;
    let display = if cursor.peek() == Some(b'"') {
        cursor.quoted()?
    } else {
        let run = cursor.take(TOKEN | SPACE);
        start..start + grammar::trim(&cursor.bytes[run]).end
    };
    cursor.skip_space();
    let (uri, uri_parts) = if cursor.eat(b'<') {
        bracketed(cursor)?
    } else if cursor.bytes.get(start) == Some(&b'"') {
        return Err("has no <address> after its display name");
    } else {
        cursor.at = start;
        return addr_spec(cursor, party, note);
    };
    Ok(Parts { display, uri, uri_parts, params: cursor.params_noting(true, note)? })
}

/// The bounds of the parameters of a value that is one address.
pub(crate) fn scan_params(cursor: &mut Cursor<'_>) -> Result<Range<usize>, Why> {
    scan(cursor).map(|parts| parts.params)
}

#[inline(always)]
fn bracketed(cursor: &mut Cursor<'_>) -> Result<(Range<usize>, uri::Parts), Why> {
    let start = cursor.at;
    let (parts, len) = uri::scan_prefix(&cursor.bytes[start..]).map_err(uri::UriError::why)?;
    cursor.at += len;
    if cursor.eat(b'>') { Ok((start..start + len, parts)) } else { Err("has no > right after its URI") }
}

/// RFC 3261 §20: a URI with a comma, question mark or semicolon must stand in angle brackets.
fn addr_spec<'a>(
    cursor: &mut Cursor<'a>,
    party: bool,
    note: impl FnMut(&'a [u8], bool) -> Result<(), Why>,
) -> Result<Parts, Why> {
    let start = cursor.at;
    let ends = |b: &u8| grammar::is(*b, SPACE) || matches!(b, b';' | b',' | b'?' | b'<' | b'>' | b'"');
    let rest = &cursor.bytes[start..];
    cursor.at += rest.iter().position(ends).unwrap_or(rest.len());
    let uri = start..cursor.at;
    let uri_parts = match uri::scan(&cursor.bytes[uri.clone()]) {
        Ok(parts) => parts,
        Err(error) => {
            let display = bare_name(cursor, start, party).ok_or(error.why())?;
            let (uri, uri_parts) = bracketed(cursor)?;
            return Ok(Parts { display, uri, uri_parts, params: cursor.params_noting(true, note)? });
        }
    };
    if cursor.peek() == Some(b'?') {
        return Err("has a URI with headers outside of angle brackets; write <uri>");
    }
    Ok(Parts { display: start..start, uri, uri_parts, params: cursor.params_noting(true, note)? })
}

/// A display name from `start` on that lacks its quotes, with the bracket behind it; what begins like a URI is none.
#[cold]
fn bare_name(cursor: &mut Cursor<'_>, start: usize, party: bool) -> Option<Range<usize>> {
    let stands = |b: &u8| match b {
        b'"' | b'<' | b'>' | b';' => false,
        b',' => party,
        b => grammar::is(*b, SPACE | WORD),
    };
    let rest = &cursor.bytes[start..];
    let length = rest.iter().position(|b| !stands(b))?;
    cursor.at = start + length;
    cursor.eat(b'<').then(|| start..start + grammar::trim(&rest[..length]).end)
}

/// Whether a display name is one by the grammar: in quotes, or of tokens.
fn is_printable(display: &[u8]) -> bool {
    display.first() == Some(&b'"') || grammar::run_len(display, TOKEN | SPACE) == display.len()
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            if is_printable(display.as_bytes()) {
                write!(f, "{display} ")?;
            } else {
                write!(f, "{} ", grammar::quote(&grammar::unfold(display.to_str())))?;
            }
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// Hides the display name and the user part.
impl fmt::Debug for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{:?}>{:?}", self.uri, self.params)
    }
}
