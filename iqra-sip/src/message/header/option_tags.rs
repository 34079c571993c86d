//! The headers that list option tags or other words (RFC 3261 §20.12, §20.13, §20.29, §20.32, §20.37, §20.40;
//! RFC 6665 §8.2.2): one grammar, so one file.

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar;
use crate::message::name::HeaderName;
use crate::message::text::Text;

macro_rules! option_tags {
    ($(#[$doc:meta])* $name:ident, $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct $name(pub Vec<Text>);

        impl $name {
            /// True when the option tag is listed; tags compare without case.
            #[must_use]
            pub fn contains(&self, tag: &str) -> bool {
                self.0.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(tag.as_bytes()))
            }
        }

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                read(values).map(|tags| tags.map($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                print(&self.0, f)
            }
        }
    };
}

option_tags! {
    /// Extensions that the sender knows (RFC 3261 §20.37). May be empty.
    Supported, SUPPORTED
}
option_tags! {
    /// Extensions without which the request must be refused with 420 (RFC 3261 §20.32).
    Require, REQUIRE
}
option_tags! {
    /// Extensions that the proxies on the way must know (RFC 3261 §20.29).
    ProxyRequire, PROXY_REQUIRE
}
option_tags! {
    /// Required extensions that are not known, in a 420 (RFC 3261 §20.40).
    Unsupported, UNSUPPORTED
}

option_tags! {
    /// The event packages that a party knows (RFC 6665 §8.2.2).
    AllowEvents, ALLOW_EVENTS
}
option_tags! {
    /// The encodings of a body, in the order they were applied (RFC 3261 §20.12).
    ContentEncoding, CONTENT_ENCODING
}
option_tags! {
    /// The languages of a body (RFC 3261 §20.13).
    ContentLanguage, CONTENT_LANGUAGE
}

/// All tags of all lines; `None` when there is no line left.
fn read(values: &mut Values<'_>) -> Option<Result<Vec<Text>, &'static str>> {
    let present = values.any();
    let mut tags = Vec::new();
    while let Some(tag) = values.element() {
        if !grammar::is_token(tag.as_bytes()) {
            return Some(Err("lists something that is no word"));
        }
        tags.push(tag);
    }
    present.then_some(Ok(tags))
}

fn print(tags: &[Text], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, tag) in tags.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(f, "{comma}{tag}")?;
    }
    Ok(())
}
