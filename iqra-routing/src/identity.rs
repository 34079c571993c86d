//! First step of a call at the proxy: what it asks for, as names that the rest of the crate can trust.
//!
//! In: [`Asked`], what the caller of this crate read from the request (texts, no SIP types). Out: an [`Identity`], the
//! business and the number asked for, or an [`IdentityFault`] that names what is wrong. A call names itself, in this
//! order, by `X-Business-Id` and `X-Phone-Id` as Request-URI parameters, as URI headers where the trunk enables them
//! (RFC 4475 §3.1.2.11 warns of them, so they are off by default), as SIP headers, else by the dialled number and the
//! trunk that it came from. Names compare without case (RFC 3261 §7.3.1, §19.1.4).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::source::ViaHop;

/// The name of the parameter or header that says which business is called.
pub const BUSINESS_ID: &str = "X-Business-Id";
/// The name of the parameter or header that says which of its numbers is called.
pub const PHONE_ID: &str = "X-Phone-Id";
/// The longest Call-ID or From-tag that can be a key, in bytes. Longer ones are refused as malformed.
pub const MAX_CALL_ID: usize = 256;
/// The longest id of a business, number, account, backend, region, trunk, route or node, in bytes.
pub const MAX_ID: usize = 64;

/// A text cannot be the name that it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
}

const ID_RULE: &str = "must be 1 to 64 letters, digits, '.', '_', '-' or '+'";

fn check_id(what: &'static str, text: &str) -> Result<(), IdError> {
    let fits = (1..=MAX_ID).contains(&text.len());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+'));
    if fits && plain { Ok(()) } else { Err(IdError { what, rule: ID_RULE }) }
}

/// Whether a text could be somebody's telephone number: an id that is one is not shown by `Debug`.
fn looks_like_a_number(text: &str) -> bool {
    text.len() >= 6 && text.bytes().all(|b| b.is_ascii_digit() || b == b'+')
}

fn redact(out: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    if looks_like_a_number(text) { write!(out, "{name}(<number>)") } else { write!(out, "{name}({text})") }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes 1 to 64 letters, digits, `.`, `_`, `-` or `+`.
            ///
            /// # Errors
            /// [`IdError`] for anything else.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id($what, text).map(|()| Self(text.into()))
            }

            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                redact(out, stringify!($name), &self.0)
            }
        }
    };
}

id!(
    /// A business: the tenant that owns numbers.
    BusinessId, "business id");
id!(
    /// A number's id within its business.
    PhoneId, "phone id");
id!(
    /// An account: who pays, for one or several businesses.
    AccountId, "account id");
id!(
    /// A backend, the server that answers calls.
    BackendId, "backend id");
id!(
    /// A region that backends belong to.
    RegionId, "region id");
id!(
    /// A trunk: a carrier or PBX that sends calls from known addresses.
    TrunkId, "trunk id");
id!(
    /// What the conversation is chosen by, opaque here.
    RouteId, "route id");
id!(
    /// A node of this system, for instance one proxy.
    NodeId, "node id");

/// Which start of a program wrote something: later starts compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The incarnation of a program that starts `now`.
    pub fn starting(now: crate::time::Timestamp) -> Self {
        Self(now.as_millis())
    }
}

/// A queue entry's id: 128 bits, the first 48 of which are its creation time, so ids sort by age.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId(pub u128);

impl EntryId {
    /// A new id for an entry created `now`; unique by 80 random bits.
    pub fn new(now: crate::time::Timestamp, rng: &mut fastrand::Rng) -> Self {
        let random = rng.u128(..) & ((1 << 80) - 1);
        Self((u128::from(now.as_millis()) << 80) | random)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fault = IdError { what: "entry id", rule: "must be 32 hexadecimal digits" };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fault);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| fault)
    }
}

/// A telephone number in international form, `+` and 2 to 15 digits (ITU-T E.164). Not shown by `Debug`, no `Display`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct E164(Arc<str>);

impl E164 {
    /// Takes `+` and 2 to 15 digits, the first not zero.
    ///
    /// # Errors
    /// [`IdError`] for anything else; it does not repeat the number.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let fault = IdError { what: "number", rule: "must be '+' and 2 to 15 digits, the first not 0" };
        let digits = text.strip_prefix('+').ok_or_else(|| fault.clone())?;
        let fits = (2..=15).contains(&digits.len()) && !digits.starts_with('0');
        if fits && digits.bytes().all(|b| b.is_ascii_digit()) { Ok(Self(text.into())) } else { Err(fault) }
    }

    /// The number with its `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for E164 {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<E164> for String {
    fn from(number: E164) -> Self {
        number.as_str().to_owned()
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("E164(<number>)")
    }
}

/// A dialled user part in the form that it is looked up by: user parameters cut off, and, where it is a number, visual
/// separators and the leading `+` taken away (RFC 3966 §5.1.1; carriers differ about the plus). Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dialled(Arc<str>);

impl Dialled {
    /// Takes a SIP user part or a number of up to 64 bytes.
    ///
    /// # Errors
    /// [`IdError`] when nothing is left of it, or it is longer.
    pub fn parse(user: &str) -> Result<Self, IdError> {
        let user = user.split(';').next().unwrap_or_default();
        let number: String = user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect();
        let number = number.strip_prefix('+').unwrap_or(&number);
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let key = if is_number { number } else { user };
        if (1..=MAX_ID).contains(&key.len()) {
            return Ok(Self(key.into()));
        }
        Err(IdError { what: "dialled user part", rule: "must be 1 to 64 bytes" })
    }

    /// The form that is looked up.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Dialled {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<Dialled> for String {
    fn from(dialled: Dialled) -> Self {
        dialled.as_str().to_owned()
    }
}

impl fmt::Debug for Dialled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Dialled(<user>)")
    }
}

/// Who is calling, for as long as one call lasts: what a claim and a queue entry are bound to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CallerKey {
    /// A SIP caller: Call-ID and From-tag, which stay the same over challenges and redirects (RFC 3261 §8.1.3.4).
    Sip {
        /// The Call-ID.
        call_id: Arc<str>,
        /// The tag of From; empty for a caller that sends none (RFC 2543).
        from_tag: Arc<str>,
    },
    /// A provider's call.
    Provider {
        /// The provider account.
        account: Arc<str>,
        /// The provider's id of the call.
        call: Arc<str>,
    },
}

impl CallerKey {
    /// A SIP caller's key.
    ///
    /// # Errors
    /// [`IdentityFault`] when the Call-ID is empty or one of them is longer than [`MAX_CALL_ID`].
    pub fn sip(call_id: &str, from_tag: &str) -> Result<Self, IdentityFault> {
        if call_id.is_empty() || call_id.len() > MAX_CALL_ID || from_tag.len() > MAX_CALL_ID {
            return Err(IdentityFault::CallId);
        }
        Ok(Self::Sip { call_id: call_id.into(), from_tag: from_tag.into() })
    }

    /// A provider's call, by the provider account and the call's id there.
    ///
    /// # Errors
    /// [`IdentityFault`] when the id is empty or one of them is longer than [`MAX_CALL_ID`].
    pub fn provider(account: &str, call: &str) -> Result<Self, IdentityFault> {
        if call.is_empty() || call.len() > MAX_CALL_ID || account.len() > MAX_CALL_ID {
            return Err(IdentityFault::CallId);
        }
        Ok(Self::Provider { account: account.into(), call: call.into() })
    }

    /// Whether a provider carries the call (it may open a second media stream, so a repeated token resumes).
    pub fn is_provider(&self) -> bool {
        matches!(self, Self::Provider { .. })
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip { call_id, .. } => write!(out, "CallerKey::Sip({call_id})"),
            Self::Provider { call, .. } => write!(out, "CallerKey::Provider({call})"),
        }
    }
}

/// A name and its value, as they stood in the request, escapes undone.
pub type Named<'a> = (&'a str, &'a str);

/// What a request asks for, in texts: filled by whoever speaks SIP (or a provider's webhook).
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The user part of the Request-URI, escapes undone; `None` when it has none.
    pub user: Option<&'a str>,
    /// The parameters of the Request-URI.
    pub uri_params: &'a [Named<'a>],
    /// The headers inside the Request-URI (`?name=value`).
    pub uri_headers: &'a [Named<'a>],
    /// Header fields of the request; only the two ids are read, so others may be left out.
    pub headers: &'a [Named<'a>],
    /// The Call-ID.
    pub call_id: &'a str,
    /// The tag of From, empty when it has none.
    pub from_tag: &'a str,
    /// The number in CSeq.
    pub cseq: u32,
    /// The branch of the topmost Via.
    pub branch: &'a str,
    /// The address that the request came from, of the packet or connection.
    pub peer: IpAddr,
    /// The Via values, topmost first.
    pub via: &'a [ViaHop],
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Asked")
            .field("call_id", &self.call_id)
            .field("cseq", &self.cseq)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What a call asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A number of a business, by ids.
    Named {
        /// The business.
        business: BusinessId,
        /// Its number.
        phone: PhoneId,
    },
    /// Whatever number the source's trunk has under this user part.
    Dialled(Dialled),
}

/// Why a call cannot be identified; it hears 400 with this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFault {
    /// Only one of the two ids is there.
    #[error("X-Business-Id and X-Phone-Id belong together: send both or neither")]
    HalfNamed,
    /// An id is there twice with different values.
    #[error("X-Business-Id or X-Phone-Id is there twice with different values")]
    Ambiguous,
    /// The business id cannot be one.
    #[error("X-Business-Id must be 1 to 64 letters, digits, '.', '_', '-' or '+'")]
    BusinessId,
    /// The phone id cannot be one.
    #[error("X-Phone-Id must be 1 to 64 letters, digits, '.', '_', '-' or '+'")]
    PhoneId,
    /// Neither ids nor a usable user part.
    #[error(
        "the Request-URI names no number: no X-Business-Id and X-Phone-Id, and no user part of 1 to 64 bytes"
    )]
    Nothing,
    /// Call-ID or From-tag cannot be a key.
    #[error("Call-ID must have 1 to 256 bytes and the From tag at most 256")]
    CallId,
}

/// Reads what a call asks for. `uri_headers` says whether the trunk enables ids as headers inside the Request-URI.
///
/// # Errors
/// The [`IdentityFault`] that the caller should be told of.
pub fn identify(asked: &Asked<'_>, uri_headers: bool) -> Result<Identity, IdentityFault> {
    let in_uri_headers = if uri_headers { asked.uri_headers } else { &[] };
    for place in [asked.uri_params, in_uri_headers, asked.headers] {
        if let Some(identity) = named_in(place)? {
            return Ok(identity);
        }
    }
    let user = asked.user.ok_or(IdentityFault::Nothing)?;
    Dialled::parse(user).map(Identity::Dialled).map_err(|_| IdentityFault::Nothing)
}

/// The identity that one place of the request names, if it names one.
fn named_in(place: &[Named<'_>]) -> Result<Option<Identity>, IdentityFault> {
    match (sole(place, BUSINESS_ID)?, sole(place, PHONE_ID)?) {
        (None, None) => Ok(None),
        (Some(business), Some(phone)) => Ok(Some(Identity::Named {
            business: BusinessId::parse(business).map_err(|_| IdentityFault::BusinessId)?,
            phone: PhoneId::parse(phone).map_err(|_| IdentityFault::PhoneId)?,
        })),
        _ => Err(IdentityFault::HalfNamed),
    }
}

/// The value under `name`, which may be repeated only with the same value.
fn sole<'a>(place: &[Named<'a>], name: &str) -> Result<Option<&'a str>, IdentityFault> {
    let mut values = place.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    let Some(first) = values.next() else { return Ok(None) };
    if values.any(|other| other != first) { Err(IdentityFault::Ambiguous) } else { Ok(Some(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(
        params: &'a [Named<'a>],
        uri_headers: &'a [Named<'a>],
        headers: &'a [Named<'a>],
    ) -> Asked<'a> {
        Asked {
            user: Some("+49 30 123456;phone-context=x"),
            uri_params: params,
            uri_headers,
            headers,
            call_id: "a84b4c76e66710",
            from_tag: "1928301774",
            cseq: 1,
            branch: "z9hG4bK776asdhds",
            peer: [192, 0, 2, 1].into(),
            via: &[],
        }
    }

    fn named(business: &str, phone: &str) -> Identity {
        Identity::Named { business: business.parse().unwrap(), phone: phone.parse().unwrap() }
    }

    const IN_PARAMS: &[Named<'_>] = &[("x-business-id", "7"), ("X-PHONE-ID", "desk")];
    const IN_HEADERS: &[Named<'_>] = &[("X-Business-ID", "8"), ("x-phone-id", "till")];

    #[test]
    fn parameters_come_before_headers_and_headers_before_the_dialled_number() {
        assert_eq!(identify(&asked(IN_PARAMS, &[], IN_HEADERS), false), Ok(named("7", "desk")));
        assert_eq!(identify(&asked(&[], &[], IN_HEADERS), false), Ok(named("8", "till")));
        let dialled = Identity::Dialled(Dialled::parse("4930123456").unwrap());
        assert_eq!(identify(&asked(&[], &[], &[]), false), Ok(dialled));
    }

    #[test]
    fn uri_headers_count_only_where_enabled() {
        let asked = asked(&[], IN_PARAMS, IN_HEADERS);
        assert_eq!(identify(&asked, false), Ok(named("8", "till")));
        assert_eq!(identify(&asked, true), Ok(named("7", "desk")));
    }

    #[test]
    fn faults_are_named() {
        let cases: [(&[Named<'_>], IdentityFault); 4] = [
            (&[("X-Business-Id", "7")], IdentityFault::HalfNamed),
            (
                &[("X-Business-Id", "7"), ("X-Business-Id", "8"), ("X-Phone-Id", "a")],
                IdentityFault::Ambiguous,
            ),
            (&[("X-Business-Id", "7 8"), ("X-Phone-Id", "a")], IdentityFault::BusinessId),
            (&[("X-Business-Id", "7"), ("X-Phone-Id", "")], IdentityFault::PhoneId),
        ];
        for (params, fault) in cases {
            assert_eq!(identify(&asked(params, &[], &[]), false), Err(fault));
        }
        let nobody = Asked { user: None, ..asked(&[], &[], &[]) };
        assert_eq!(identify(&nobody, false), Err(IdentityFault::Nothing));
    }

    #[test]
    fn dialled_numbers_compare_without_plus_and_separators_and_names_as_they_are() {
        let number = Dialled::parse("+1 (202) 555-0100").unwrap();
        assert_eq!(number, Dialled::parse("12025550100").unwrap());
        assert_eq!(Dialled::parse("front-desk.1").unwrap().as_str(), "front-desk.1");
        assert!(Dialled::parse("").is_err());
    }

    #[test]
    fn debug_shows_no_telephone_number() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            E164::parse("+12025550100").unwrap(),
            Dialled::parse("12025550100").unwrap(),
            PhoneId::parse("+12025550100").unwrap(),
            asked(&[], &[], &[]),
        );
        assert!(!shown.contains("2025550100") && !shown.contains("123456"), "{shown}");
    }

    #[test]
    fn e164_and_entry_ids_refuse_what_they_are_not() {
        for bad in ["12025550100", "+0123", "+1", "+1234567890123456", "+12a"] {
            assert!(E164::parse(bad).is_err(), "{bad}");
        }
        let id = EntryId::new(crate::time::Timestamp::from_millis(77), &mut fastrand::Rng::with_seed(1));
        assert_eq!(id.to_string().parse::<EntryId>(), Ok(id));
        assert_eq!(id.0 >> 80, 77);
        assert!("+0000000000000000000000000000001".parse::<EntryId>().is_err());
    }
}
