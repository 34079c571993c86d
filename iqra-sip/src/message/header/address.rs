//! The headers that are a name-addr with its parameters (RFC 3261 §20.20, §20.30, §20.34, §20.39, RFC 3325, RFC 3327,
//! RFC 3515, RFC 3608, RFC 3892): one grammar, so one file.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::{TypedHeader, Values};
use crate::message::grammar::Why;
use crate::message::name::HeaderName;
use crate::message::name_addr::{self, NameAddr};

macro_rules! address_header {
    ($(#[$doc:meta])* $name:ident, $constant:ident, $take:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(pub NameAddr);

        impl TypedHeader for $name {
            const NAME: HeaderName = HeaderName::$constant;

            fn read(values: &mut Values<'_>) -> Option<Result<$name, &'static str>> {
                $take(values).map(|address| address.map($name))
            }
        }

        impl Deref for $name {
            type Target = NameAddr;

            fn deref(&self) -> &NameAddr {
                &self.0
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut NameAddr {
                &mut self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

fn line(values: &mut Values<'_>) -> Option<Result<NameAddr, Why>> {
    values.line_slice().map(NameAddr::read)
}

fn party(values: &mut Values<'_>) -> Option<Result<NameAddr, Why>> {
    values.line_slice().map(NameAddr::read_party)
}

fn element(values: &mut Values<'_>) -> Option<Result<NameAddr, Why>> {
    Some(values.scan(name_addr::scan)?.map(|(slice, parts)| NameAddr::of(slice, parts)))
}

address_header! {
    /// Who sends the request (RFC 3261 §20.20). Carries the caller's dialog tag.
    From, FROM, party
}
address_header! {
    /// Whom the request is for (RFC 3261 §20.39). Carries the called party's dialog tag once there is one.
    To, TO, party
}
address_header! {
    /// Where a REFER points to (RFC 3515 §2.1).
    ReferTo, REFER_TO, line
}
address_header! {
    /// Who caused a request by a REFER (RFC 3892 §3).
    ReferredBy, REFERRED_BY, line
}
address_header! {
    /// One hop of the way ahead of a request (RFC 3261 §20.34).
    Route, ROUTE, element
}
address_header! {
    /// One proxy that wants to stay on the way of a dialog (RFC 3261 §20.30).
    RecordRoute, RECORD_ROUTE, element
}
address_header! {
    /// One proxy on the way to a registered contact (RFC 3327 §4).
    Path, PATH, element
}
address_header! {
    /// One hop that a registrar wants requests of the registered party to take (RFC 3608 §5).
    ServiceRoute, SERVICE_ROUTE, element
}
address_header! {
    /// An identity that a trusted network vouches for (RFC 3325 §9.1).
    AssertedIdentity, P_ASSERTED_IDENTITY, element
}
address_header! {
    /// The identity that the caller asks its network to vouch for (RFC 3325 §9.2).
    PreferredIdentity, P_PREFERRED_IDENTITY, element
}
address_header! {
    /// Where answers outside of the dialog go (RFC 3261 §20.31).
    ReplyTo, REPLY_TO, line
}
address_header! {
    /// A tone to alert with, by its URI (RFC 3261 §20.4).
    AlertInfo, ALERT_INFO, element
}
address_header! {
    /// More about the caller or the called party, by a URI with its `purpose` (RFC 3261 §20.9).
    CallInfo, CALL_INFO, element
}
address_header! {
    /// More about an error, by a URI (RFC 3261 §20.18).
    ErrorInfo, ERROR_INFO, element
}
address_header! {
    /// One diversion of the call, the latest first (RFC 5806 §3).
    Diversion, DIVERSION, element
}
address_header! {
    /// One target that the request has been sent to, the oldest first (RFC 7044 §5).
    HistoryInfo, HISTORY_INFO, element
}

impl Diversion {
    /// Why the call was diverted: `unconditional`, `user-busy`, `no-answer`...
    #[must_use]
    pub fn reason(&self) -> Option<Cow<'_, str>> {
        self.params.value("reason")
    }

    /// How many diversions this entry stands for; 1 where it does not say.
    #[must_use]
    pub fn counter(&self) -> u32 {
        self.params.value("counter").and_then(|count| count.parse().ok()).unwrap_or(1)
    }
}

impl HistoryInfo {
    /// Where the entry stands in the tree of targets: `1.2.1`.
    #[must_use]
    pub fn index(&self) -> Option<Cow<'_, str>> {
        self.params.value("index")
    }

    /// Why the request left this target: the Reason that is escaped into the URI, `SIP;cause=302`.
    #[must_use]
    pub fn reason(&self) -> Option<Cow<'_, str>> {
        self.uri.header("Reason")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;

    #[test]
    fn diversions_and_history_are_read_in_order() {
        let mut headers = Headers::new();
        headers.push("Diversion", "<tel:+15550101>;reason=user-busy;counter=2, \"Desk\" <sip:d@h.example>");
        headers.push(
            "History-Info",
            "<sip:a@h.example?Reason=SIP%3Bcause%3D302>;index=1, <sip:b@h.example>;index=1.1;mp=1",
        );
        let diversions: Vec<Diversion> = headers.typed_all().map(Result::unwrap).collect();
        assert_eq!((diversions[0].reason().as_deref(), diversions[0].counter()), (Some("user-busy"), 2));
        assert_eq!((diversions[1].reason(), diversions[1].counter()), (None, 1));
        let history: Vec<HistoryInfo> = headers.typed_all().map(Result::unwrap).collect();
        assert_eq!(history[0].reason().unwrap(), "SIP;cause=302");
        assert_eq!(history[1].index().unwrap(), "1.1");
    }
}
