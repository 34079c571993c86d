//! The headers that are a value with parameters, each element of their comma lists being one: what a party accepts
//! (RFC 3261 §20.1 to §20.3), what a body is for (§20.11), and user-to-user information (RFC 7433 §4).

use std::borrow::Cow;
use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar::{self, Cursor, VALUE, Why};
use crate::message::headers::Slice;
use crate::message::name::HeaderName;
use crate::message::params::Params;
use crate::message::text::Text;

macro_rules! item_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            value: Text,
            /// The parameters behind the value.
            pub params: Params,
        }

        impl $name {
            /// This value without parameters, in quotes where it needs them.
            #[must_use]
            pub fn new(value: &str) -> $name {
                $name { value: written(value), params: Params::EMPTY }
            }

            /// The value without its quotes.
            #[must_use]
            pub fn value(&self) -> Cow<'_, str> {
                grammar::unquote(self.value.to_str())
            }

            /// The same with a parameter set.
            #[must_use]
            pub fn with_param(mut self, name: &str, value: Option<&str>) -> $name {
                self.params.set(name, value);
                self
            }
        }

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                Some(values.scan(scan)?.map(|(slice, parts)| {
                    let (value, params) = of(slice, parts);
                    $name { value, params }
                }))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", self.value, self.params)
            }
        }
    };
}

item_header! {
    /// A media range that a party takes: `application/sdp;level=1`, `application/*`.
    Accept, ACCEPT
}
item_header! {
    /// An encoding of bodies that a party takes: `gzip;q=0.5`.
    AcceptEncoding, ACCEPT_ENCODING
}
item_header! {
    /// A language that a party prefers: `en-gb;q=0.8`.
    AcceptLanguage, ACCEPT_LANGUAGE
}
item_header! {
    /// What a body is for: `session`, `render;handling=optional`.
    ContentDisposition, CONTENT_DISPOSITION
}
item_header! {
    /// Data of one user for the other, opaque to the network: `56a390f3d2b7;encoding=hex`.
    UserToUser, USER_TO_USER
}

impl UserToUser {
    /// The octets where the encoding is `hex`, which it is unless it says otherwise (RFC 7433 §4.1).
    #[must_use]
    pub fn octets(&self) -> Option<Vec<u8>> {
        let encoding = self.params.value("encoding").unwrap_or(Cow::Borrowed("hex"));
        let value = self.value();
        if !encoding.eq_ignore_ascii_case("hex") || !value.len().is_multiple_of(2) || !value.is_ascii() {
            return None;
        }
        let pairs = value.as_bytes().chunks(2);
        pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

impl ContentDisposition {
    /// Whether a body of this kind may be passed over by who does not know it (RFC 3261 §20.11): only where
    /// `handling` says `optional`.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.params.value("handling").is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
    }
}

type Parts = (std::ops::Range<usize>, std::ops::Range<usize>);

fn scan(cursor: &mut Cursor<'_>) -> Result<Parts, Why> {
    let value = if cursor.peek() == Some(b'"') { cursor.quoted()? } else { cursor.take(VALUE) };
    if value.is_empty() {
        return Err("has parameters without a value before them");
    }
    Ok((value, cursor.params()?))
}

fn of(slice: Slice<'_>, (value, params): Parts) -> (Text, Params) {
    (slice.text(value), Params::checked(slice.text(params)))
}

fn written(value: &str) -> Text {
    let bare = !value.is_empty() && value.bytes().all(|b| b.is_ascii() && grammar::is(b, VALUE));
    if bare { Text::from(value) } else { Text::from(grammar::quote(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn every_element_of_every_line_is_one() {
        let mut headers = Headers::new();
        headers.push("Accept", "application/sdp;level=1, text/*;q=\"0,5\"");
        headers.push("Accept", "*/*");
        let values: Vec<String> =
            headers.typed_all::<Accept>().map(|accept| accept.unwrap().value().into_owned()).collect();
        assert_eq!(values, ["application/sdp", "text/*", "*/*"]);
    }

    #[test]
    fn user_to_user_data_is_hexadecimal_unless_it_says_otherwise() {
        for (text, octets) in [
            ("00fe", Some(vec![0, 0xfe])),
            ("\"00FE\";encoding=hex;content=isdn-uui", Some(vec![0, 0xfe])),
            ("00f", None),
            ("\u{e9}", None),
            ("00fe;encoding=other", None),
        ] {
            let mut headers = Headers::new();
            headers.push("User-to-User", text);
            assert_eq!(headers.typed::<UserToUser>().unwrap().octets(), octets, "{text}");
        }
    }
}
