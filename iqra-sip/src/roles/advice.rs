//! What a refusal says that the caller may do about it (RFC 3261 §8.1.3.5, §20.1 to §20.3, §20.33, §21.4.23).
//!
//! In: a final response. Out: its facts in types. What can be done without asking anybody, [`super::uac`] does; when to
//! call again after 413, 480, 486, 500, 503, 600 or 603, and whom of the choices of a 485, is the program's to say.

use std::time::Duration;

use crate::message::header::{Accept, AcceptEncoding, AcceptLanguage, Contact, RetryAfter, Unsupported};
use crate::message::{HeaderName, NameAddr, Response, StatusCode, Text};

/// Most entries that are taken of one list; the rest is left out.
const MOST: usize = 32;

/// The facts of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advice {
    /// When it may be tried again.
    pub retry_after: Option<Duration>,
    /// The media types that the server takes, of a 415; `None` where it does not say, which means `application/sdp`
    /// alone (RFC 3261 §20.1), empty where it takes none.
    pub accept: Option<Vec<Accept>>,
    /// The encodings that it takes, likewise; none means no encoding at all.
    pub accept_encodings: Vec<AcceptEncoding>,
    /// The languages that it prefers.
    pub accept_languages: Vec<AcceptLanguage>,
    /// The extensions that it does not know, of a 420.
    pub unsupported: Vec<Text>,
    /// Where the callee may be meant to be, of a 485 or a redirect, as they stand.
    pub choices: Vec<NameAddr>,
}

impl Advice {
    /// What this response says. Headers out of form say nothing.
    #[must_use]
    pub fn of(response: &Response) -> Self {
        let headers = &response.headers;
        let named = response.status == StatusCode::AMBIGUOUS || response.status.is_redirect();
        let accept = || headers.typed_all::<Accept>().flatten().take(MOST).collect();
        let contacts = headers.typed_all::<Contact>().flatten();
        let choices = contacts.filter_map(|contact| contact.address().cloned()).take(MOST).collect();
        let unsupported = headers.typed::<Unsupported>().map(|unknown| unknown.0).unwrap_or_default();
        Self {
            retry_after: headers.typed().ok().map(|RetryAfter(seconds)| Duration::from_secs(seconds.into())),
            accept: headers.contains(HeaderName::ACCEPT).then(accept),
            accept_encodings: headers.typed_all().flatten().take(MOST).collect(),
            accept_languages: headers.typed_all().flatten().take(MOST).collect(),
            unsupported: unsupported.into_iter().take(MOST).collect(),
            choices: if named { choices } else { Vec::new() },
        }
    }

    /// Whether the server takes a body of this Content-Type: the range that fits closest decides, unless its `q` is 0.
    #[must_use]
    pub fn takes(&self, content_type: &str) -> bool {
        let wanted = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Some(ranges) = &self.accept else { return wanted == "application/sdp" };
        let main = wanted.split('/').next().unwrap_or_default();
        let fits = |range: &Accept| match &*range.value().to_ascii_lowercase() {
            exact if exact == wanted => 3,
            "*/*" => 1,
            wide => 2 * u8::from(wide.strip_suffix("/*") == Some(main)),
        };
        let closest = ranges.iter().filter(|range| fits(range) > 0).max_by_key(|range| fits(range));
        closest.is_some_and(|range| !is_zero(range))
    }
}

fn is_zero(range: &Accept) -> bool {
    range.params.value("q").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(status: StatusCode, headers: &[(HeaderName, &str)]) -> Advice {
        let mut response = Response::new(status);
        headers.iter().for_each(|(name, value)| response.headers.push(name, *value));
        Advice::of(&response)
    }

    #[test]
    fn a_refusal_tells_its_facts_in_types() {
        let busy = advice(StatusCode::BUSY_HERE, &[(HeaderName::RETRY_AFTER, "120 (lunch);duration=60")]);
        assert_eq!(busy, Advice { retry_after: Some(Duration::from_secs(120)), ..Advice::default() });
        let media = [
            (HeaderName::ACCEPT, "text/plain, application/sdp;q=0.5"),
            (HeaderName::ACCEPT_ENCODING, "gzip"),
            (HeaderName::ACCEPT_LANGUAGE, "en, fr;q=0.1"),
        ];
        let told = advice(StatusCode::UNSUPPORTED_MEDIA_TYPE, &media);
        let accept: Vec<_> = told.accept.iter().flatten().map(|range| range.value().into_owned()).collect();
        assert_eq!(accept, ["text/plain", "application/sdp"]);
        assert_eq!((told.accept_encodings.len(), told.accept_languages.len()), (1, 2));
        let unknown = advice(StatusCode::BAD_EXTENSION, &[(HeaderName::UNSUPPORTED, "foo, bar")]);
        assert_eq!(unknown.unsupported, ["foo", "bar"]);
        let nonsense = [(HeaderName::RETRY_AFTER, "soon"), (HeaderName::ACCEPT, ";;")];
        let nonsense = advice(StatusCode::SERVICE_UNAVAILABLE, &nonsense);
        assert_eq!((nonsense.retry_after, nonsense.accept.map(|all| all.len())), (None, Some(0)));
    }

    #[test]
    fn the_choices_of_an_ambiguous_address_are_told_and_a_contact_elsewhere_is_none() {
        let contacts =
            [(HeaderName::CONTACT, "\"Carol Lee\" <sip:carol.lee@example.com>, <sip:lee@example.com>")];
        let told = advice(StatusCode::AMBIGUOUS, &contacts);
        let users: Vec<_> = told.choices.iter().filter_map(|choice| choice.uri.user()).collect();
        assert_eq!(users, ["carol.lee", "lee"]);
        assert!(advice(StatusCode::BUSY_HERE, &contacts).choices.is_empty());
    }

    #[test]
    fn the_closest_range_decides_whether_a_body_is_taken() {
        let takes = |accept: &str, kind: &str| {
            advice(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[(HeaderName::ACCEPT, accept)]).takes(kind)
        };
        assert!(takes("application/sdp", "Application/SDP;charset=utf-8"));
        assert!(takes("text/*", "text/plain") && takes("*/*", "text/plain"));
        assert!(!takes("text/*", "application/sdp") && !takes("", "application/sdp"));
        assert!(!takes("*/*, text/plain;q=0", "text/plain") && takes("*/*, text/plain;q=0", "text/html"));
        assert!(!takes("applicatio/*", "application/sdp"));
        let silent = advice(StatusCode::UNSUPPORTED_MEDIA_TYPE, &[]);
        assert!(silent.takes("application/sdp") && !silent.takes("text/plain"));
    }
}
