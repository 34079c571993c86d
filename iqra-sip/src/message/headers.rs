//! The headers of a message, in order: what came from the wire is an index into its buffer, what was added is
//! owned. Values are read when they are asked for, and a header that nobody touched prints byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::error::HeaderError;
use super::grammar;
use super::header::{TypedHeader, Values};
use super::name::{HeaderName, Known};
use super::text::Text;

/// An ordered list of headers. Names compare without case, compact forms included.
///
/// `Content-Length` is computed from the body whenever a message is printed; one that is pushed here has no effect.
#[derive(Clone, Default)]
pub struct Headers {
    wire: Bytes,
    fields: Vec<Field>,
    /// What fields that did not come from the wire point to.
    owned: Vec<Owned>,
}

/// One header line: where it stands in the message's buffer, or which of the owned ones it is. Plain numbers, so that
/// the index of a message is one allocation and nothing is to be dropped line by line.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) known: Option<Known>,
    /// `start` is a place in the list of owned headers.
    pub(crate) is_owned: bool,
    pub(crate) name_len: u16,
    pub(crate) start: u32,
    /// Bounds of the value without the white space around it; folds are left in.
    pub(crate) value: u32,
    pub(crate) value_end: u32,
    /// Before the CRLF.
    pub(crate) end: u32,
}

#[derive(Clone)]
struct Owned {
    name: HeaderName,
    value: Text,
}

/// A stretch of a shared buffer: read in place, sliced without copying.
#[derive(Clone, Copy)]
pub(crate) struct Slice<'a> {
    pub(crate) buffer: &'a Bytes,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl<'a> Slice<'a> {
    #[inline]
    pub(crate) fn bytes(self) -> &'a [u8] {
        &self.buffer[self.start..self.end]
    }

    /// A part of it, as a text of its own.
    #[inline]
    pub(crate) fn text(self, range: Range<usize>) -> Text {
        if range.is_empty() { Text::EMPTY } else { Text::from(self.part(range)) }
    }

    /// A part of it, as a buffer.
    #[inline]
    pub(crate) fn part(self, range: Range<usize>) -> Bytes {
        self.buffer.slice(self.start + range.start..self.start + range.end)
    }

    /// All of it.
    #[inline]
    pub(crate) fn whole(self) -> Text {
        self.text(0..self.end - self.start)
    }
}

impl<'a> From<&'a Bytes> for Slice<'a> {
    fn from(buffer: &'a Bytes) -> Slice<'a> {
        Slice { buffer, start: 0, end: buffer.len() }
    }
}

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Headers {
        Headers::default()
    }

    pub(crate) fn from_wire(wire: Bytes, fields: Vec<Field>) -> Headers {
        Headers { wire, fields, owned: Vec::new() }
    }

    /// The first value of a header: unfolded, trimmed, octets that are not UTF-8 replaced.
    #[must_use]
    pub fn get(&self, name: impl Into<HeaderName>) -> Option<Cow<'_, str>> {
        let name = name.into();
        self.fields.iter().find(|field| self.is(field, &name)).map(|field| self.text(field))
    }

    /// The values of a header, one per header line; comma lists are not split.
    pub fn all(&self, name: impl Into<HeaderName>) -> impl Iterator<Item = Cow<'_, str>> {
        let name = name.into();
        self.fields.iter().filter(move |field| self.is(field, &name)).map(|field| self.text(field))
    }

    /// The octets of the first value of a header as they came, folds included.
    #[must_use]
    pub fn raw(&self, name: impl Into<HeaderName>) -> Option<&[u8]> {
        let name = name.into();
        self.fields.iter().find(|field| self.is(field, &name)).map(|field| self.value(field))
    }

    /// The first value of a typed header. Types that hold a whole list take all lines of that name.
    ///
    /// # Errors
    /// [`HeaderError::Missing`], or [`HeaderError::Invalid`] when the value is not what its grammar says.
    pub fn typed<H: TypedHeader>(&self) -> Result<H, HeaderError> {
        self.typed_all().next().unwrap_or(Err(HeaderError::Missing(H::NAME)))
    }

    /// All values of a typed header in order, comma lists split.
    pub fn typed_all<H: TypedHeader>(&self) -> impl Iterator<Item = Result<H, HeaderError>> {
        let mut values = Values::new(self, H::NAME);
        std::iter::from_fn(move || H::read(&mut values))
            .map(|value| value.map_err(|why| HeaderError::Invalid { name: H::NAME, why }))
    }

    /// True when there is a header of that name.
    #[must_use]
    pub fn contains(&self, name: impl Into<HeaderName>) -> bool {
        let name = name.into();
        self.fields.iter().any(|field| self.is(field, &name))
    }

    /// Adds a header at the end. Line breaks and NULs in the value become spaces.
    pub fn push(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        let field = self.own(name.into(), value.into());
        self.fields.push(field);
    }

    /// Adds a header before all others, as a Via of our own is. Line breaks and NULs in the value become spaces.
    pub fn push_front(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        let field = self.own(name.into(), value.into());
        self.fields.insert(0, field);
    }

    /// Adds a header before all others but those named `top` with which the message begins.
    pub fn push_below(
        &mut self,
        top: impl Into<HeaderName>,
        name: impl Into<HeaderName>,
        value: impl Into<Text>,
    ) {
        let top = top.into();
        let at = self.fields.iter().position(|field| !self.is(field, &top)).unwrap_or(self.fields.len());
        let field = self.own(name.into(), value.into());
        self.fields.insert(at, field);
    }

    /// Replaces all headers of that name by one, which takes the place of the first.
    pub fn set(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        let name = name.into();
        let at = self.fields.iter().position(|field| self.is(field, &name)).unwrap_or(self.fields.len());
        self.remove(&name);
        let field = self.own(name, value.into());
        self.fields.insert(at, field);
    }

    /// Replaces the first header line of that name and leaves the others; at the end if there is none.
    pub fn set_first(&mut self, name: impl Into<HeaderName>, value: impl Into<Text>) {
        let name = name.into();
        match self.fields.iter().position(|field| self.is(field, &name)) {
            Some(at) => {
                let field = self.own(name, value.into());
                self.fields[at] = field;
                self.disown();
            }
            None => self.push(name, value),
        }
    }

    /// Removes the first value of a comma list and leaves the others as they stand; false where there is none.
    pub fn take_first(&mut self, name: impl Into<HeaderName>) -> bool {
        let name = name.into();
        let Some(at) = self.fields.iter().position(|field| self.is(field, &name)) else { return false };
        let value = self.value(&self.fields[at]);
        let rest = value.get(grammar::element_end(value) + 1..).unwrap_or_default();
        match Bytes::copy_from_slice(&rest[grammar::trim(rest)]) {
            rest if rest.is_empty() => drop(self.fields.remove(at)),
            rest => self.set_first(name, rest),
        }
        true
    }

    /// Removes all headers of that name and says how many there were.
    pub fn remove(&mut self, name: impl Into<HeaderName>) -> usize {
        let name = name.into();
        let before = self.fields.len();
        let (wire, owned) = (&self.wire, &self.owned);
        self.fields.retain(|field| !is(wire, owned, field, &name));
        self.disown();
        before - self.fields.len()
    }

    /// Adds a typed header at the end.
    pub fn push_typed<H: TypedHeader>(&mut self, header: &H) {
        self.push(H::NAME, header.to_string());
    }

    /// Adds a typed header before all others.
    pub fn push_front_typed<H: TypedHeader>(&mut self, header: &H) {
        self.push_front(H::NAME, header.to_string());
    }

    /// Replaces all headers of this type by one.
    pub fn set_typed<H: TypedHeader>(&mut self, header: &H) {
        self.set(H::NAME, header.to_string());
    }

    /// All headers in order: name, and value as [`Headers::get`] gives it.
    pub fn iter(&self) -> impl Iterator<Item = (HeaderName, Cow<'_, str>)> {
        self.fields.iter().map(|field| (self.name(field), self.text(field)))
    }

    /// How many header lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Adds the headers of these names from `other` at the end, octet for octet and in their order there.
    pub fn copy_from(&mut self, other: &Headers, names: &[HeaderName]) {
        for field in other.fields.iter().filter(|field| names.iter().any(|name| other.is(field, name))) {
            if self.wire.is_empty() {
                self.wire = other.wire.clone();
            }
            let same_buffer = self.wire.as_ptr() == other.wire.as_ptr();
            let copy = if same_buffer && !field.is_owned {
                *field
            } else {
                self.own(other.name(field), other.slice(field).whole())
            };
            self.fields.push(copy);
        }
    }

    /// The value of the first field at or after `at` with that name, and where to look on.
    #[inline]
    pub(crate) fn next_value(&self, name: &HeaderName, at: usize) -> Option<(Slice<'_>, usize)> {
        let rest = self.fields.get(at..)?;
        let found = match name.known() {
            Some(known) => rest.iter().position(|field| field.known == Some(known))?,
            None => rest.iter().position(|field| self.is(field, name))?,
        };
        Some((self.slice(&rest[found]), at + found + 1))
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub(crate) fn name(&self, field: &Field) -> HeaderName {
        match field.known {
            _ if field.is_owned => self.owned[field.start as usize].name.clone(),
            Some(known) => HeaderName::from_known(known),
            None => HeaderName::from_wire(self.wire.slice(field.name_range())),
        }
    }

    pub(crate) fn value(&self, field: &Field) -> &[u8] {
        self.slice(field).bytes()
    }

    fn slice(&self, field: &Field) -> Slice<'_> {
        if field.is_owned {
            return Slice::from(self.owned[field.start as usize].value.bytes());
        }
        let Range { start, end } = field.value_range();
        Slice { buffer: &self.wire, start, end }
    }

    fn text(&self, field: &Field) -> Cow<'_, str> {
        grammar::unfold(String::from_utf8_lossy(self.value(field)))
    }

    fn is(&self, field: &Field, name: &HeaderName) -> bool {
        is(&self.wire, &self.owned, field, name)
    }

    /// Takes a header over and gives the field that points to it.
    fn own(&mut self, name: HeaderName, value: Text) -> Field {
        let (known, start) = (name.known(), self.owned.len() as u32);
        self.owned.push(Owned { name, value: value.in_one_line() });
        Field { known, is_owned: true, name_len: 0, start, value: 0, value_end: 0, end: 0 }
    }

    /// Forgets owned headers that no field points to any more.
    fn disown(&mut self) {
        let used = self.fields.iter().filter(|field| field.is_owned).count();
        if used == self.owned.len() {
            return;
        }
        let mut old = std::mem::take(&mut self.owned);
        for field in self.fields.iter_mut().filter(|field| field.is_owned) {
            let empty = Owned { name: HeaderName::VIA, value: Text::EMPTY };
            self.owned.push(std::mem::replace(&mut old[field.start as usize], empty));
            field.start = self.owned.len() as u32 - 1;
        }
    }
}

fn is(wire: &[u8], owned: &[Owned], field: &Field, name: &HeaderName) -> bool {
    match (field.known, name.known()) {
        (None, None) if field.is_owned => owned[field.start as usize].name == *name,
        (None, None) => wire[field.name_range()].eq_ignore_ascii_case(name.as_str().as_bytes()),
        (one, other) => one == other,
    }
}

impl Field {
    pub(crate) fn is(&self, known: Known) -> bool {
        self.known == Some(known)
    }

    pub(crate) fn name_range(&self) -> Range<usize> {
        self.start as usize..self.start as usize + usize::from(self.name_len)
    }

    pub(crate) fn value_range(&self) -> Range<usize> {
        self.value as usize..self.value_end as usize
    }

    /// The whole line with its CRLF.
    pub(crate) fn line_range(&self) -> Range<usize> {
        self.start as usize..self.end as usize + 2
    }
}

/// Same names and unfolded values in the same order; `Content-Length` follows from the body and is left out.
impl PartialEq for Headers {
    fn eq(&self, other: &Headers) -> bool {
        fn listed(headers: &Headers) -> impl Iterator<Item = (HeaderName, Vec<u8>)> {
            headers
                .fields
                .iter()
                .filter(|field| !field.is(Known::ContentLength))
                .map(|field| (headers.name(field), words(headers.value(field))))
        }
        listed(self).eq(listed(other))
    }
}

impl Eq for Headers {}

/// A value with its folds made single spaces, as octets.
fn words(value: &[u8]) -> Vec<u8> {
    let lines = value.split(|b| matches!(b, b'\r' | b'\n'));
    let lines: Vec<&[u8]> =
        lines.map(|line| &line[grammar::trim(line)]).filter(|line| !line.is_empty()).collect();
    lines.join(&b' ')
}

/// Shows the names alone: values hold phone numbers and credentials.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|field| self.name(field))).finish()
    }
}
