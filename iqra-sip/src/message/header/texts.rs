//! The headers that are text for people or for other layers, carried as they came: one grammar, so one file
//! (RFC 3261 §20.17, §20.24 to §20.26, §20.35, §20.36, §20.38, §20.41; RFC 2392; RFC 6442; RFC 8224 §4).

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar;
use crate::message::name::HeaderName;
use crate::message::text::Text;

macro_rules! text_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub Text);

        impl $name {
            /// The text in one line.
            #[must_use]
            pub fn to_str(&self) -> Cow<'_, str> {
                grammar::unfold(self.0.to_str())
            }
        }

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                values.line().map(|text| Ok($name(text)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_header! {
    /// What names a body or a part of one for a `cid:` URI (RFC 2392).
    ContentId, CONTENT_ID
}
text_header! {
    /// When a message was sent, as its sender wrote it; clocks of peers are not trusted, so it is not read further.
    Date, DATE
}
text_header! {
    /// Where a caller is, as the peer conveys it (RFC 6442); carried, never read.
    Geolocation, GEOLOCATION
}
text_header! {
    /// A signed assertion of the caller's number (RFC 8224), a PASSporT with its parameters; carried, not verified.
    Identity, IDENTITY
}
text_header! {
    /// The version of MIME that a body follows: `1.0`.
    MimeVersion, MIME_VERSION
}
text_header! {
    /// Whom a caller belongs to.
    Organization, ORGANIZATION
}
text_header! {
    /// How urgent a request is: `emergency`, `urgent`, `normal`, `non-urgent` or another word.
    Priority, PRIORITY
}
text_header! {
    /// The software that answers.
    Server, SERVER
}
text_header! {
    /// What a call is about.
    Subject, SUBJECT
}
text_header! {
    /// When a request was sent, in seconds of the sender's own, and in a response the delay behind it.
    Timestamp, TIMESTAMP
}
text_header! {
    /// The software that asks.
    UserAgent, USER_AGENT
}
