//! Typed headers, one per file. Each is read from a header's values on demand, and printed by its `Display`.
//!
//! A header of one's own implements [`TypedHeader`] and works with [`Headers::typed`] like those here.

mod address;
mod allow;
mod auth_params;
mod authentication_info;
mod authorization;
mod call_id;
mod challenge;
mod contact;
mod content_length;
mod content_type;
mod cseq;
mod expires;
mod flow_timer;
mod item;
mod max_forwards;
mod number;
mod option_tags;
mod privacy;
mod reason;
mod replaces;
mod retry_after;
mod rseq;
mod session_expires;
mod texts;
pub(crate) mod via;
mod warning;
mod word;

use std::fmt;

use super::grammar::{self, Cursor, Why};
use super::headers::{Headers, Slice};
use super::name::HeaderName;
use super::text::Text;

pub use address::{
    AlertInfo, AssertedIdentity, CallInfo, Diversion, ErrorInfo, From, HistoryInfo, Path, PreferredIdentity,
    RecordRoute, ReferTo, ReferredBy, ReplyTo, Route, ServiceRoute, To,
};
pub use allow::Allow;
pub use authentication_info::AuthenticationInfo;
pub use authorization::{Authorization, DigestResponse, ProxyAuthorization};
pub(crate) use call_id::check as check_call_id;
pub use call_id::{CallId, InReplyTo};
pub use challenge::{Challenge, ProxyAuthenticate, WwwAuthenticate};
pub use contact::Contact;
pub(crate) use contact::check as check_contact;
pub use content_length::ContentLength;
pub use content_type::ContentType;
pub use cseq::CSeq;
pub(crate) use cseq::scan as scan_cseq;
pub use expires::{Expires, MinExpires};
pub use flow_timer::FlowTimer;
pub use item::{Accept, AcceptEncoding, AcceptLanguage, ContentDisposition, UserToUser};
pub use max_forwards::MaxForwards;
pub use option_tags::{
    AllowEvents, ContentEncoding, ContentLanguage, ProxyRequire, Require, Supported, Unsupported,
};
pub use privacy::Privacy;
pub use reason::Reason;
pub use replaces::{Replaces, TargetDialog};
pub use retry_after::RetryAfter;
pub use rseq::{RAck, RSeq};
pub use session_expires::{MinSe, Refresher, SessionExpires};
pub use texts::{
    ContentId, Date, Geolocation, Identity, MimeVersion, Organization, Priority, Server, Subject, Timestamp,
    UserAgent,
};
pub use via::Via;
pub use warning::Warning;
pub use word::{Event, ReferSub, SubscriptionState};

/// A header with a grammar of its own.
///
/// # Contract
/// [`Headers::typed`] and [`Headers::typed_all`] call `read` with a cursor over all values of [`TypedHeader::NAME`]
/// until it gives `None`. Each call takes what makes one header: an element of a comma list, a whole line, or all
/// lines. `Display` prints a value that `read` reads back as an equal one.
pub trait TypedHeader: Sized + fmt::Display {
    /// Which header it is.
    const NAME: HeaderName;

    /// The next one; `None` when no value is left.
    ///
    /// # Errors
    /// A phrase that continues "the header NAME ..." and never quotes the value.
    fn read(values: &mut Values<'_>) -> Option<Result<Self, &'static str>>;
}

/// A cursor over the values of one header name, across its header lines.
pub struct Values<'a> {
    headers: &'a Headers,
    name: HeaderName,
    at: usize,
    /// What is left of a comma list.
    rest: Option<Slice<'a>>,
}

impl<'a> Values<'a> {
    #[inline]
    pub(crate) fn new(headers: &'a Headers, name: HeaderName) -> Values<'a> {
        Values { headers, name, at: 0, rest: None }
    }

    /// The next whole header line's value, folds left in.
    pub fn line(&mut self) -> Option<Text> {
        self.line_slice().map(Slice::whole)
    }

    /// True when there is a header line that [`Values::line`] has not given yet.
    #[must_use]
    pub fn any(&self) -> bool {
        self.headers.next_value(&self.name, self.at).is_some()
    }

    /// The next element of the comma lists; commas in quotes and angle brackets do not part elements, and empty
    /// elements are passed over.
    pub fn element(&mut self) -> Option<Text> {
        let (slice, range) = self.element_with(|cursor| {
            let start = cursor.at;
            cursor.at += grammar::element_end(&cursor.bytes[start..]);
            start..start + grammar::trim(&cursor.bytes[start..cursor.at]).end
        })?;
        Some(slice.text(range))
    }

    /// The next whole line, in place.
    #[inline]
    pub(crate) fn line_slice(&mut self) -> Option<Slice<'a>> {
        let (slice, next) = self.headers.next_value(&self.name, self.at)?;
        self.at = next;
        Some(slice)
    }

    /// The next element as `read` finds its parts, in place: the cursor stands at its first character, and `read`
    /// leaves it at the comma behind it or at the end. After an error the element is passed over.
    #[inline]
    pub(crate) fn scan<T>(
        &mut self,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Why>,
    ) -> Option<Result<(Slice<'a>, T), Why>> {
        let (slice, found) = self.element_with(|cursor| {
            let start = cursor.at;
            read(cursor).inspect_err(|_| {
                cursor.at = start + grammar::element_end(&cursor.bytes[start..]);
            })
        })?;
        Some(found.map(|found| (slice, found)))
    }

    /// What `read` takes from the front of the next line or of what it left of one; it gives the text it leaves.
    pub(super) fn stretch<T>(
        &mut self,
        read: impl FnOnce(&Text) -> Result<(T, Option<Text>), Why>,
    ) -> Option<Result<T, Why>> {
        let slice = self.rest.take().or_else(|| self.line_slice())?;
        Some(read(&slice.whole()).map(|(found, left)| {
            self.rest = left.map(|left| Slice { start: slice.end - left.as_bytes().len(), ..slice });
            found
        }))
    }

    #[inline]
    fn element_with<T>(&mut self, read: impl FnOnce(&mut Cursor<'a>) -> T) -> Option<(Slice<'a>, T)> {
        loop {
            let slice = self.rest.take().or_else(|| self.line_slice())?;
            let mut cursor = Cursor::new(slice.bytes());
            while cursor.peek().is_some_and(|b| b == b',' || grammar::is(b, grammar::SPACE)) {
                cursor.at += 1;
            }
            if cursor.done() {
                continue;
            }
            let found = read(&mut cursor);
            if !cursor.done() {
                self.rest = Some(Slice { start: slice.start + cursor.at + 1, ..slice });
            }
            return Some((slice, found));
        }
    }
}

/// Shows how far it is; values hold phone numbers and credentials.
impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} at {})", self.name, self.at)
    }
}
