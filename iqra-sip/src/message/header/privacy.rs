//! `Privacy`: what of the caller's identity is to be kept from the far end (RFC 3323 §4.2, RFC 3325 §9.3).

use std::fmt;

use super::{TypedHeader, Values};
use crate::message::grammar;
use crate::message::name::HeaderName;
use crate::message::text::Text;

/// The wishes of the caller: `id; critical`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Privacy(pub Vec<Text>);

impl Privacy {
    /// True when `wish` (`id`, `header`, `session`, `user`, `none`, `critical`) is listed; compares without case.
    #[must_use]
    pub fn contains(&self, wish: &str) -> bool {
        self.0.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(wish.as_bytes()))
    }

    /// True when the asserted identity must not leave the trusted network (RFC 3325 §7).
    #[must_use]
    pub fn hides_identity(&self) -> bool {
        self.contains("id")
    }
}

impl TypedHeader for Privacy {
    const NAME: HeaderName = HeaderName::PRIVACY;

    fn read(values: &mut Values<'_>) -> Option<Result<Privacy, &'static str>> {
        values.line().map(|text| {
            let bytes = text.as_bytes();
            let mut wishes = Vec::new();
            for part in bytes.split(|b| matches!(b, b';' | b',')) {
                let part = &part[grammar::trim(part)];
                if !grammar::is_token(part) {
                    return Err("lists something that is no word");
                }
                wishes.push(Text::from(text.bytes().slice_ref(part)));
            }
            Ok(Privacy(wishes))
        })
    }
}

impl fmt::Display for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, wish) in self.0.iter().enumerate() {
            write!(f, "{}{wish}", if at == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn wishes_are_parted_by_semicolons_and_in_the_field_by_commas() {
        for value in ["id;critical", "ID ; critical", "id, critical"] {
            let mut headers = Headers::new();
            headers.push("Privacy", value);
            let privacy: Privacy = headers.typed().unwrap();
            assert!(privacy.hides_identity() && privacy.contains("critical"), "{value}");
        }
        let mut headers = Headers::new();
        headers.push("Privacy", "id;;");
        assert!(headers.typed::<Privacy>().is_err());
    }
}
