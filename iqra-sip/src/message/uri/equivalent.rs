//! When two URIs mean the same (RFC 3261 §19.1.4).

use super::{Scheme, Uri, decode};

/// The parameters that must stand in both URIs or in neither; any other counts only where both have it.
const IN_BOTH: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

impl Uri {
    /// Whether the two URIs mean the same: escapes decoded, scheme, host and parameters without case, user part with
    /// case, a written port unlike none. URIs of other schemes than `sip` and `sips` mean the same when they are equal.
    #[must_use]
    pub fn equivalent(&self, other: &Uri) -> bool {
        if !matches!(self.scheme(), Scheme::Sip | Scheme::Sips) {
            return self == other;
        }
        self.scheme() == other.scheme()
            && decode(self.userinfo()) == decode(other.userinfo())
            && self.same_host(other)
            && self.port() == other.port()
            && self.params_allow(other)
            && other.params_allow(self)
            && self.headers_in(other)
            && other.headers_in(self)
    }

    fn same_host(&self, other: &Uri) -> bool {
        match (self.host(), other.host()) {
            (Some(one), Some(other)) => one.to_string().eq_ignore_ascii_case(&other.to_string()),
            (one, other) => one == other,
        }
    }

    fn params_allow(&self, other: &Uri) -> bool {
        self.params().all(|(name, value)| match other.param(&decode(name)) {
            Some(theirs) => decode(value.unwrap_or("")).eq_ignore_ascii_case(&decode(theirs.unwrap_or(""))),
            None => !IN_BOTH.iter().any(|fixed| decode(name).eq_ignore_ascii_case(fixed)),
        })
    }

    fn headers_in(&self, other: &Uri) -> bool {
        self.headers()
            .all(|(name, value)| other.header(&decode(name)).is_some_and(|theirs| theirs == decode(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn spelling_makes_no_difference_where_it_means_none() {
        for (one, other) in [
            ("sip:%61nn@Voice.example;Transport=UDP", "SIP:ann@voice.EXAMPLE;transport=udp"),
            ("sip:ann@voice.example", "sip:ann@voice.example;newparam=5"),
            ("sip:voice.example;a=1;b=2?x=1&y=2", "sip:voice.example;b=2;a=1?y=2&x=1"),
            ("sip:a@[2001:DB8::1]", "sip:a@[2001:db8:0::1]"),
        ] {
            assert!(uri(one).equivalent(&uri(other)) && uri(other).equivalent(&uri(one)), "{one} {other}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_different() {
        for (one, other) in [
            ("sip:Ann@voice.example", "sip:ann@voice.example"),
            ("sip:ann@voice.example", "sip:ann@voice.example:5060"),
            ("sip:ann@voice.example", "sip:ann@voice.example;transport=tcp"),
            ("sip:ann@voice.example", "sips:ann@voice.example"),
            ("sip:ann@voice.example", "sip:ann@voice.example?Subject=x"),
            ("sip:ann@voice.example;a=1", "sip:ann@voice.example;a=2"),
            ("sip:ann:x@voice.example", "sip:ann:y@voice.example"),
            ("tel:+15550100", "tel:+15550101"),
        ] {
            assert!(!uri(one).equivalent(&uri(other)) && !uri(other).equivalent(&uri(one)), "{one} {other}");
        }
    }
}
