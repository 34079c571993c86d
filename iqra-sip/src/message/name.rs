//! Header names: compared without case, compact forms being the same name (RFC 3261 §7.3.1, §7.3.3).

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::grammar;

/// The name of a header. `HeaderName::VIA`, `HeaderName::from("via")` and `HeaderName::from("v")` are equal.
#[derive(Clone)]
pub struct HeaderName(Repr);

#[derive(Clone)]
enum Repr {
    Known(Known),
    Other(Bytes),
}

macro_rules! header_names {
    ($($variant:ident $constant:ident $canonical:literal $($compact:literal)?;)*) => {
        /// The names this crate knows; the numbers index [`CANONICAL`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub(crate) enum Known { $($variant,)* }

        const ALL: &[Known] = &[$(Known::$variant,)*];
        const CANONICAL: &[&str] = &[$($canonical,)*];
        const COMPACT: &[(u8, Known)] = &[$($(($compact, Known::$variant),)?)*];

        impl HeaderName {
            $(
                #[doc = concat!("`", $canonical, "`")]
                pub const $constant: HeaderName = HeaderName(Repr::Known(Known::$variant));
            )*
        }
    };
}

header_names! {
    Accept ACCEPT "Accept";
    AcceptContact ACCEPT_CONTACT "Accept-Contact" b'a';
    AcceptEncoding ACCEPT_ENCODING "Accept-Encoding";
    AcceptLanguage ACCEPT_LANGUAGE "Accept-Language";
    AlertInfo ALERT_INFO "Alert-Info";
    Allow ALLOW "Allow";
    AllowEvents ALLOW_EVENTS "Allow-Events" b'u';
    AuthenticationInfo AUTHENTICATION_INFO "Authentication-Info";
    Authorization AUTHORIZATION "Authorization";
    CallId CALL_ID "Call-ID" b'i';
    CallInfo CALL_INFO "Call-Info";
    Contact CONTACT "Contact" b'm';
    ContentDisposition CONTENT_DISPOSITION "Content-Disposition";
    ContentEncoding CONTENT_ENCODING "Content-Encoding" b'e';
    ContentId CONTENT_ID "Content-ID";
    ContentLanguage CONTENT_LANGUAGE "Content-Language";
    ContentLength CONTENT_LENGTH "Content-Length" b'l';
    ContentType CONTENT_TYPE "Content-Type" b'c';
    CSeq CSEQ "CSeq";
    Date DATE "Date";
    Diversion DIVERSION "Diversion";
    ErrorInfo ERROR_INFO "Error-Info";
    Event EVENT "Event" b'o';
    Expires EXPIRES "Expires";
    FlowTimer FLOW_TIMER "Flow-Timer";
    From FROM "From" b'f';
    Geolocation GEOLOCATION "Geolocation";
    HistoryInfo HISTORY_INFO "History-Info";
    Identity IDENTITY "Identity" b'y';
    InReplyTo IN_REPLY_TO "In-Reply-To";
    MaxForwards MAX_FORWARDS "Max-Forwards";
    MimeVersion MIME_VERSION "MIME-Version";
    MinExpires MIN_EXPIRES "Min-Expires";
    MinSe MIN_SE "Min-SE";
    Organization ORGANIZATION "Organization";
    AssertedIdentity P_ASSERTED_IDENTITY "P-Asserted-Identity";
    PreferredIdentity P_PREFERRED_IDENTITY "P-Preferred-Identity";
    Path PATH "Path";
    Priority PRIORITY "Priority";
    Privacy PRIVACY "Privacy";
    ProxyAuthenticate PROXY_AUTHENTICATE "Proxy-Authenticate";
    ProxyAuthorization PROXY_AUTHORIZATION "Proxy-Authorization";
    ProxyRequire PROXY_REQUIRE "Proxy-Require";
    RAck RACK "RAck";
    Reason REASON "Reason";
    RecordRoute RECORD_ROUTE "Record-Route";
    ReferSub REFER_SUB "Refer-Sub";
    ReferTo REFER_TO "Refer-To" b'r';
    ReferredBy REFERRED_BY "Referred-By" b'b';
    RejectContact REJECT_CONTACT "Reject-Contact" b'j';
    Replaces REPLACES "Replaces";
    ReplyTo REPLY_TO "Reply-To";
    RequestDisposition REQUEST_DISPOSITION "Request-Disposition" b'd';
    Require REQUIRE "Require";
    RetryAfter RETRY_AFTER "Retry-After";
    Route ROUTE "Route";
    RSeq RSEQ "RSeq";
    Server SERVER "Server";
    ServiceRoute SERVICE_ROUTE "Service-Route";
    SessionExpires SESSION_EXPIRES "Session-Expires" b'x';
    SessionId SESSION_ID "Session-ID";
    Subject SUBJECT "Subject" b's';
    SubscriptionState SUBSCRIPTION_STATE "Subscription-State";
    Supported SUPPORTED "Supported" b'k';
    TargetDialog TARGET_DIALOG "Target-Dialog";
    Timestamp TIMESTAMP "Timestamp";
    To TO "To" b't';
    Unsupported UNSUPPORTED "Unsupported";
    UserAgent USER_AGENT "User-Agent";
    UserToUser USER_TO_USER "User-to-User";
    Via VIA "Via" b'v';
    Warning WARNING "Warning";
    WwwAuthenticate WWW_AUTHENTICATE "WWW-Authenticate";
}

const SLOTS: usize = 256;
const EMPTY: u8 = u8::MAX;

/// Spreads the known names over [`SLOTS`] by their [`words`], without a collision, which [`slots`] checks when it is
/// compiled.
#[inline]
const fn slot((first, last): (u64, u64)) -> usize {
    ((first ^ last.rotate_left(5)).wrapping_mul(0x45b1_906c_a19e_27b9) >> 56) as usize
}

static TABLE: [u8; SLOTS] = slots();

const fn slots() -> [u8; SLOTS] {
    let mut table = [EMPTY; SLOTS];
    let mut at = 0;
    while at < CANONICAL.len() {
        let slot = slot(words(CANONICAL[at].as_bytes()));
        assert!(table[slot] == EMPTY, "two known names share a slot: change the factor in slot()");
        table[slot] = at as u8;
        at += 1;
    }
    table
}

/// The octets of a name of two to sixteen octets, in two words that overlap or meet. The case bit is set in each octet:
/// that makes letters equal but for case, and no other character that may stand in a name becomes a letter by it.
#[inline]
const fn words(name: &[u8]) -> (u64, u64) {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
            }
            _ => (name[0] as u64 | (name[1] as u64) << 8, name[name.len() - 1] as u64),
        },
    };
    (first | CASE, last | CASE)
}

/// What a name is compared with: its [`words`] and its length.
static SPELLINGS: [((u64, u64), usize); ALL.len()] = {
    let mut table = [((0, 0), 0); ALL.len()];
    let mut at = 0;
    while at < ALL.len() {
        let name = CANONICAL[at].as_bytes();
        table[at] = (words(name), name.len());
        at += 1;
    }
    table
};

impl Known {
    pub(crate) const COUNT: usize = ALL.len();

    /// The known header of this name or compact form.
    #[inline(always)] // One of the steps of the loop over the lines.
    pub(crate) fn find(name: &[u8]) -> Option<Known> {
        if name.len() < 2 {
            return Known::of_compact(name);
        }
        let words = words(name);
        let at = usize::from(TABLE[slot(words)]);
        let same = *SPELLINGS.get(at)? == (words, name.len());
        (same && (name.len() <= 16 || is_spelled(at, name))).then(|| ALL[at])
    }

    #[inline(never)]
    fn of_compact(name: &[u8]) -> Option<Known> {
        let [compact] = name else { return None };
        COMPACT.iter().find(|(c, _)| *c == compact | 0x20).map(|(_, known)| *known)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        CANONICAL[self as usize]
    }
}

#[inline(never)]
fn is_spelled(at: usize, name: &[u8]) -> bool {
    CANONICAL[at].as_bytes().eq_ignore_ascii_case(name)
}

impl HeaderName {
    /// The name of a header this crate has no constant for, without allocation. Letters, digits and `-` only.
    #[must_use]
    pub const fn from_static(name: &'static str) -> HeaderName {
        HeaderName(Repr::Other(Bytes::from_static(name.as_bytes())))
    }

    /// The canonical spelling of a known name, else the name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(known) => known.as_str(),
            Repr::Other(name) => std::str::from_utf8(name).expect("a header name is ASCII"),
        }
    }

    pub(crate) fn known(&self) -> Option<Known> {
        match &self.0 {
            Repr::Known(known) => Some(*known),
            Repr::Other(name) => Known::find(name),
        }
    }

    pub(crate) fn from_known(known: Known) -> HeaderName {
        HeaderName(Repr::Known(known))
    }

    /// A name from the wire, whose characters the index has checked.
    pub(crate) fn from_wire(name: Bytes) -> HeaderName {
        HeaderName(Repr::Other(name))
    }
}

/// Compact forms and any case are understood. A character that no header name can hold becomes `-`, and so does an
/// empty name.
impl From<&str> for HeaderName {
    fn from(name: &str) -> HeaderName {
        match Known::find(name.as_bytes()) {
            Some(known) => HeaderName(Repr::Known(known)),
            None if name.is_empty() => HeaderName::from_static("-"),
            None => HeaderName(Repr::Other(
                name.bytes().map(|b| if grammar::is(b, grammar::TOKEN) { b } else { b'-' }).collect(),
            )),
        }
    }
}

impl From<&HeaderName> for HeaderName {
    fn from(name: &HeaderName) -> HeaderName {
        name.clone()
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &HeaderName) -> bool {
        match (self.known(), other.known()) {
            (None, None) => self.as_str().eq_ignore_ascii_case(other.as_str()),
            (one, other) => one == other,
        }
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.known() {
            Some(known) => known.hash(state),
            None => self.as_str().bytes().for_each(|b| state.write_u8(b.to_ascii_lowercase())),
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_forms_and_any_case_are_the_same_name() {
        assert_eq!(HeaderName::from("v"), HeaderName::VIA);
        assert_eq!(HeaderName::from("CALL-id"), HeaderName::CALL_ID);
        assert_eq!(HeaderName::from_static("x-route-id"), HeaderName::from("X-Route-Id"));
        assert_ne!(HeaderName::from("C%6Fntact"), HeaderName::CONTACT);
    }

    #[test]
    fn every_known_name_is_found_by_its_spelling() {
        for &known in ALL {
            assert_eq!(Known::find(known.as_str().as_bytes()), Some(known));
            assert_eq!(Known::find(known.as_str().to_lowercase().as_bytes()), Some(known));
        }
    }
}
