//! How real peers behave where the RFCs leave room or are not kept: [`Profile`]s as data, each fact with its source, and
//! a caller and a callee that behave so.
//!
//! The profiles feed decisions (may a call of this trunk be redirected?), the [`Peer`] and the [`Callee`] feed tests:
//! they are driven like the [`Engine`](crate::Engine), octets in and octets out, and no clock. `docs/quirks.md` lists every fact.
//!
//! Facts are as their sources had them in November 2026; a provider may change its side on any day.

mod callee;
mod message;
mod peer;
pub mod profiles;
mod rows;

pub use callee::{Callee, CalleeState};
pub use peer::{Addresses, CallState, Peer, Sent};
pub use rows::Row;

use crate::engine::flow::Transport;

/// Something known of a peer, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact<T> {
    /// What.
    pub value: T,
    /// The page or thread that says so, or the measurement.
    pub source: &'static str,
}

/// A fact, or `None` where no source was found: then nothing is assumed.
pub type Known<T> = Option<Fact<T>>;

/// A fact with its source, for profiles of one's own.
#[must_use]
pub const fn fact<T: Copy>(value: T, source: &'static str) -> Known<T> {
    Some(Fact { value, source })
}

/// What a caller does with a 3xx (RFC 3261 §8.1.3.4 leaves it free).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    /// Calls the Contact.
    Followed,
    /// Calls the Contact, unless that is a private address.
    ToPublicOnly,
    /// Dials the user part of the Contact in its own dial plan; the host of the Contact is never called.
    UserPart,
    /// Gives up.
    Ignored,
}

/// How a caller takes part in session timers (RFC 4028).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTimer {
    /// Not at all.
    None,
    /// Lists `timer` in Supported.
    Supported,
    /// Asks for an interval.
    Asked {
        /// Session-Expires, in seconds.
        expires: u32,
        /// Min-SE, in seconds; 0 sends none.
        minimum: u32,
    },
}

/// What the Contact of an INVITE leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The socket that the INVITE came from.
    Reachable,
    /// A private address; the Record-Routes lead there, and a request without them is answered 481.
    BehindRoutes,
    /// A private address behind a NAT, and no route: only the flow leads there.
    BehindNat,
    /// A name under `.invalid` with `ob`: only the flow leads there (RFC 5626 §4.3, RFC 7118 §5).
    Invalid,
}

/// How one kind of peer behaves as a caller. `None` is not known; [`profiles::UNKNOWN`] is a start for one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// The product.
    pub name: &'static str,
    /// The transport where nobody chose one.
    pub transport: Known<Transport>,
    /// It works with registration alone, not by address.
    pub registers: Known<bool>,
    /// What it does with a 3xx.
    pub redirects: Known<Redirects>,
    /// Session timers.
    pub session_timer: Known<SessionTimer>,
    /// It sends OPTIONS every so many seconds to see whether we are there.
    pub ping: Known<u32>,
    /// It bans who sends it OPTIONS more often than every so many seconds.
    pub ping_floor: Known<u32>,
    /// Where its Contact leads.
    pub contact: Known<Contact>,
    /// A parameter of its Contact that it needs back in the Request-URI.
    pub contact_param: Known<&'static str>,
    /// It writes the names of URI parameters in lower case: match them without regard to case (RFC 3261 §19.1.4).
    pub lowers_uri_params: Known<bool>,
    /// Its To has no angle brackets, so that the URI's parameters are read as the header's (RFC 3261 §20.10): take them
    /// from the Request-URI.
    pub bare_to: Known<bool>,
    /// Its INVITE carries no offer: the 2xx does (RFC 3261 §13.2.1).
    pub late_offer: Known<bool>,
    /// Answers to an INVITE after which it tries again.
    pub retry_statuses: Known<&'static [u16]>,
    /// Silence makes it try again.
    pub retries_silence: Known<bool>,
    /// One call may come from any of several addresses, a second try among them.
    pub several_addresses: Known<bool>,
    /// A second try keeps the Call-ID.
    pub keeps_call_id: Known<bool>,
    /// The same INVITE reaches us more than once, by different proxies (RFC 3261 §8.2.2.2).
    pub repeats_invite: Known<bool>,
    /// CANCEL comes from another address than its INVITE.
    pub cancels_elsewhere: Known<bool>,
    /// Most octets of custom headers that it carries.
    pub header_budget: Known<u32>,
    /// The headers of the program that it carries: names, or prefixes that end in `*`.
    pub custom_headers: Known<&'static [&'static str]>,
    /// The headers that it keeps for itself, written alike.
    pub reserved_headers: Known<&'static [&'static str]>,
    /// The RTP payload type of telephone events that it offers at 8 kHz (RFC 4733).
    pub telephone_event: Known<u8>,
    /// Its BYE and CANCEL carry a Reason (RFC 3326).
    pub bye_reason: Known<bool>,
}

impl Profile {
    /// Whether a redirect makes this peer call `public` or private addresses; `None` where nobody knows.
    #[must_use]
    pub fn follows_redirects(&self, public: bool) -> Option<bool> {
        self.redirects.map(|fact| match fact.value {
            Redirects::Followed => true,
            Redirects::ToPublicOnly => public,
            Redirects::UserPart | Redirects::Ignored => false,
        })
    }

    /// Whether it carries a header of this name for the program; `None` where nobody knows.
    #[must_use]
    pub fn carries(&self, name: &str) -> Option<bool> {
        let listed = |list: &[&str]| list.iter().any(|one| matches_name(one, name));
        match (self.custom_headers, self.reserved_headers) {
            (_, Some(reserved)) if listed(reserved.value) => Some(false),
            (Some(custom), _) => Some(listed(custom.value)),
            _ => None,
        }
    }
}

/// Whether `pattern` is `name`, or a prefix of it where it ends in `*`.
fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(head) => name.get(..head.len()).is_some_and(|start| start.eq_ignore_ascii_case(head)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

/// The value of a fact that says yes.
fn yes(known: Known<bool>) -> bool {
    known.is_some_and(|fact| fact.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_carried_by_name_or_prefix_unless_reserved() {
        let twilio = profiles::TWILIO;
        assert_eq!(twilio.carries("x-customer"), Some(true));
        assert_eq!(twilio.carries("User-to-User"), Some(true));
        assert_eq!(twilio.carries("User-to-User-2"), Some(false));
        assert_eq!(profiles::GENESYS.carries("X-Genesys-Id"), Some(false));
        assert_eq!(profiles::GENESYS.carries("X-Order"), None);
        assert_eq!(profiles::TELNYX.carries("X-Order"), None);
    }

    #[test]
    fn redirects_depend_on_where_they_lead() {
        assert_eq!(profiles::TWILIO.follows_redirects(true), Some(true));
        assert_eq!(profiles::TWILIO.follows_redirects(false), Some(false));
        assert_eq!(profiles::ASTERISK.follows_redirects(true), Some(false));
        assert_eq!(profiles::VONAGE.follows_redirects(true), None);
    }
}
