//! The headers that are a name-addr and nothing else (RFC 3261 §20.20, §20.30, §20.34, §20.39, RFC 3325, RFC 3327,
//! RFC 3515, RFC 3608, RFC 3892): one grammar, so one file.

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

fn element(values: &mut Values<'_>) -> Option<Result<NameAddr, Why>> {
    Some(values.scan(name_addr::scan)?.map(|(slice, parts)| NameAddr::of(slice, parts)))
}

address_header! {
    /// Who sends the request (RFC 3261 §20.20). Carries the caller's dialog tag.
    From, FROM, line
}
address_header! {
    /// Whom the request is for (RFC 3261 §20.39). Carries the called party's dialog tag once there is one.
    To, TO, line
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
