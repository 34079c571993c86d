//! Text as it stood on the wire: a slice of the message's buffer, or a value made here. SIP text is UTF-8 by
//! RFC 3261 §7.3.1, but phones do send Latin-1 in display names; so the octets are kept as they came and
//! viewed as `str` with replacement characters where they are not UTF-8.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

/// Octets that are meant to be text. Cheap to clone: a slice of a shared buffer.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// No text.
    pub const EMPTY: Text = Text(Bytes::new());

    /// Text of a literal, without allocation.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Text {
        Text(Bytes::from_static(text.as_bytes()))
    }

    /// The octets as they came or were given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A view as `str`; octets that are not UTF-8 show as U+FFFD. Borrowed unless there are such.
    #[must_use]
    pub fn to_str(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// True when there is not one octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same text without its line breaks and NULs, each replaced by a space, so that a value can never
    /// begin a header line of its own. Copies only when there is something to replace.
    pub(crate) fn in_one_line(self) -> Text {
        if memchr::memchr3(b'\r', b'\n', 0, &self.0).is_none() {
            return self;
        }
        let clean = self.0.iter().map(|&b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b });
        Text(clean.collect())
    }

    /// The octets as a buffer that can be sliced without copying.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Bytes::from(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Text {
        Text::from(text.as_str())
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Text {
        Text::from(text.into_owned())
    }
}

impl From<Bytes> for Text {
    fn from(bytes: Bytes) -> Text {
        Text(bytes)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_str())
    }
}

/// Shows the length alone: header values hold phone numbers and credentials.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}
