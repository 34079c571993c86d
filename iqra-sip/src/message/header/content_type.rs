//! `Content-Type`: what the body is (RFC 3261 §20.15).

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{Cursor, TOKEN, Why};
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

/// A media type with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    kind: Text,
    subtype: Text,
    /// The parameters, `boundary` for instance.
    pub params: Params,
}

impl ContentType {
    /// `application/sdp`
    pub const SDP: ContentType = ContentType {
        kind: Text::from_static("application"),
        subtype: Text::from_static("sdp"),
        params: Params::EMPTY,
    };

    /// Reads a media type.
    ///
    /// # Errors
    /// A phrase saying what is wrong with it.
    pub fn parse(text: impl Into<Text>) -> Result<ContentType, &'static str> {
        read(&text.into())
    }

    /// The type, before the slash.
    #[must_use]
    pub fn kind(&self) -> Cow<'_, str> {
        self.kind.to_str()
    }

    /// The subtype, behind the slash.
    #[must_use]
    pub fn subtype(&self) -> Cow<'_, str> {
        self.subtype.to_str()
    }

    /// True when it is `kind/subtype`, in any case and with any parameters.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind().eq_ignore_ascii_case(kind) && self.subtype().eq_ignore_ascii_case(subtype)
    }
}

fn read(text: &Text) -> Result<ContentType, Why> {
    let mut cursor = Cursor::new(text.as_bytes());
    let kind = cursor.take(TOKEN);
    cursor.skip_space();
    let slash = cursor.eat(b'/');
    cursor.skip_space();
    let subtype = cursor.take(TOKEN);
    if kind.is_empty() || !slash || subtype.is_empty() {
        return Err("is not a type, a slash and a subtype");
    }
    let part = |range| Text::from(text.bytes().slice(range));
    let params = Params::parse(part(cursor.at..text.as_bytes().len()))?;
    Ok(ContentType { kind: part(kind), subtype: part(subtype), params })
}

impl TypedHeader for ContentType {
    const NAME: HeaderName = HeaderName::CONTENT_TYPE;

    fn read(values: &mut Values<'_>) -> Option<Result<ContentType, &'static str>> {
        values.line().map(|text| read(&text))
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.kind, self.subtype, self.params)
    }
}
