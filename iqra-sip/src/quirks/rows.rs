//! A profile as rows of a table: what `docs/quirks.md` shows.

use super::{Contact, Fact, Known, Profile, Redirects, SessionTimer};
use crate::engine::flow::Transport;

/// One property of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The field of [`Profile`].
    pub field: &'static str,
    /// Its value in words, with the source; `None` where it is not known.
    pub value: Option<Fact<String>>,
}

impl Profile {
    /// Every property but the name, in the order of the fields.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        vec![
            row("transport", self.transport),
            row("registers", self.registers),
            row("redirects", self.redirects),
            row("session_timer", self.session_timer),
            row("ping", self.ping),
            row("ping_floor", self.ping_floor),
            row("contact", self.contact),
            row("contact_param", self.contact_param),
            row("lowers_uri_params", self.lowers_uri_params),
            row("bare_to", self.bare_to),
            row("late_offer", self.late_offer),
            row("retry_statuses", self.retry_statuses),
            row("retries_silence", self.retries_silence),
            row("several_addresses", self.several_addresses),
            row("keeps_call_id", self.keeps_call_id),
            row("repeats_invite", self.repeats_invite),
            row("cancels_elsewhere", self.cancels_elsewhere),
            row("header_budget", self.header_budget),
            row("custom_headers", self.custom_headers),
            row("reserved_headers", self.reserved_headers),
            row("telephone_event", self.telephone_event),
            row("bye_reason", self.bye_reason),
        ]
    }
}

fn row<T: Words>(field: &'static str, known: Known<T>) -> Row {
    Row { field, value: known.map(|fact| Fact { value: fact.value.words(), source: fact.source }) }
}

/// A value in words.
trait Words {
    fn words(&self) -> String;
}

impl Words for bool {
    fn words(&self) -> String {
        String::from(if *self { "yes" } else { "no" })
    }
}

impl Words for u8 {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Words for u32 {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Words for &str {
    fn words(&self) -> String {
        format!("`{self}`")
    }
}

impl Words for &[u16] {
    fn words(&self) -> String {
        self.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl Words for &[&str] {
    fn words(&self) -> String {
        self.iter().map(Words::words).collect::<Vec<_>>().join(", ")
    }
}

impl Words for Transport {
    fn words(&self) -> String {
        self.to_string()
    }
}

impl Words for Redirects {
    fn words(&self) -> String {
        String::from(match self {
            Redirects::Followed => "followed",
            Redirects::ToPublicOnly => "followed to public addresses",
            Redirects::UserPart => "the user part is dialled, the host is not called",
            Redirects::Ignored => "not followed",
        })
    }
}

impl Words for SessionTimer {
    fn words(&self) -> String {
        match self {
            SessionTimer::None => String::from("none"),
            SessionTimer::Supported => String::from("supported"),
            SessionTimer::Asked { expires, minimum: 0 } => format!("asks for {expires} s"),
            SessionTimer::Asked { expires, minimum } => format!("asks for {expires} s, at least {minimum} s"),
        }
    }
}

impl Words for Contact {
    fn words(&self) -> String {
        String::from(match self {
            Contact::Reachable => "where the INVITE came from",
            Contact::BehindRoutes => "private, behind Record-Routes",
            Contact::BehindNat => "private, behind a NAT",
            Contact::Invalid => "a name under `.invalid` with `ob`",
        })
    }
}
