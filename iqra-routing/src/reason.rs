//! The catalogue of refusals: one row per reason, and everything that a reason means in one place.
//!
//! In: a [`Reason`] from any step of a call. Out: the SIP status, the Q.850 cause for a `Reason` header (RFC 6432; the
//! pairs follow RFC 3398 §8.2.6.1 where it has one), the text of a `Warning: 399` header (RFC 3261 §20.43), a metric
//! label, a log line and what to do about it. A row's `Retry-After` is set only where this server as a whole is the
//! cause: a client then stays away from all of it (RFC 3261 §21.5.4), so a tenant's limit never carries one.

use std::fmt;

/// What a reason means to the caller and to whoever runs the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The metric label and stored name, stable over versions.
    pub label: &'static str,
    /// The SIP status, 400 to 699.
    pub status: u16,
    /// The cause for `Reason: Q.850;cause=N`.
    pub cause: u8,
    /// Whether the answer carries Retry-After.
    pub retry_after: bool,
    /// The text of `Warning: 399`: what the caller may know.
    pub warning: &'static str,
    /// What the log says.
    pub log: &'static str,
    /// What would help.
    pub fix: &'static str,
}

/// What a call hears when its plan's concurrent-call limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlanLimitStatus {
    /// 486 Busy Here: the called party is busy (default).
    #[default]
    Busy,
    /// 503 Service Unavailable, without Retry-After: carriers that overflow to another route on 503 want this.
    Unavailable,
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $cause:literal, $label:literal, $retry:literal,
        $warning:literal, $log:literal, $fix:literal;)+) => {
        /// Why a call was not taken, or did not go on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason's row in the catalogue.
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        label: $label, status: $status, cause: $cause, retry_after: $retry,
                        warning: $warning, log: $log, fix: $fix,
                    },)+
                }
            }
        }
    };
}

catalogue! {
    /// The request cannot be understood; the answer names the fault.
    Malformed = 400, 41, "malformed", false,
        "The request cannot be understood", "request malformed",
        "see the fault named in the answer";
    /// No list has the source's address, or not the list of this number.
    SourceNotAllowed = 403, 21, "source_not_allowed", false,
        "This source may not call here", "source not in the list that applies to the number",
        "add the address to the number's allowed_sources or its trunk's, or list the proxy in front in trusted_proxies";
    /// This node drains and takes no new call.
    Draining = 503, 42, "draining", true,
        "This server is going out of service", "new call while draining",
        "send new calls to another node; this one was told to drain";
    /// This node has more to do than it can.
    Overload = 503, 42, "overload", true,
        "This server is overloaded", "new call while overloaded",
        "add nodes, or raise the limit that the log names";
    /// No such business.
    BusinessUnknown = 404, 1, "business_unknown", false,
        "No such business", "business id not known",
        "check X-Business-Id in the trunk's target URI against the configured businesses";
    /// The business is switched off.
    BusinessInactive = 403, 21, "business_inactive", false,
        "This business takes no calls", "business inactive",
        "set active = true on the business";
    /// No such number of this business, or none dialled so on this trunk.
    NumberUnknown = 404, 1, "number_unknown", false,
        "No such number", "phone id or dialled number not known",
        "check X-Phone-Id or the dialled number, and that the number names the trunk it comes from";
    /// The number is with another provider and cannot be called this way.
    OtherProvider = 404, 1, "other_provider", false,
        "No such number", "number belongs to another provider",
        "set provider = \"sip\" on the number, or send its calls by its own provider";
    /// Nothing answers the number.
    RouteMissing = 404, 1, "route_missing", false,
        "No route for this number", "number has no route",
        "set route on the number";
    /// The number takes no voice calls.
    VoiceDisabled = 403, 21, "voice_disabled", false,
        "This number takes no voice calls", "voice disabled on the number",
        "set voice = true on the number";
    /// The account is switched off or missing.
    AccountInactive = 403, 21, "account_inactive", false,
        "The account takes no calls", "account missing or inactive",
        "set active = true on the account";
    /// The account's minutes are used up.
    MinutesSpent = 403, 21, "minutes_spent", false,
        "The account has no minutes left", "no minutes left",
        "raise minutes_left on the account";
    /// The account has as many calls as its plan allows.
    PlanLimit = 486, 17, "plan_limit", false,
        "All lines of the account are busy", "concurrent-call limit of the account reached",
        "raise concurrent_calls on the account, or wait for a call to end";
    /// The number's region does not exist or is switched off.
    RegionOff = 503, 41, "region_off", false,
        "The region takes no calls", "region unknown or disabled",
        "set enabled = true on the region, or move the number to another one";
    /// No backend can take the call.
    NoBackend = 503, 34, "no_backend", false,
        "No server can take the call", "no backend running with room in the regions allowed",
        "start a backend in the region, or check that its reports reach the registry";
    /// A store did not answer.
    StoreAway = 503, 41, "store_away", false,
        "The service is disturbed", "a store did not answer",
        "check the store that the log names";
    /// The queue holds as many live calls as it may.
    QueueFull = 503, 34, "queue_full", false,
        "The service is full", "call queue holds its maximum of live entries",
        "raise queue.live, or find out why calls do not end";
    /// Every backend that a relay tried failed.
    RelaysExhausted = 503, 41, "relays_exhausted", false,
        "No server took the call", "every backend tried failed",
        "see the entry's log for what each backend answered";
    /// The backend that a relayed call had reached is gone.
    BackendLost = 503, 41, "backend_lost", false,
        "The server that had the call is gone", "backend silent for longer than its reports count",
        "see why the backend that the entry names stopped; calls already answered there are lost with it";
    /// The same request arrived over two paths (RFC 3261 §8.2.2.2).
    Merged = 482, 25, "merged", false,
        "The same request came another way", "merged request, or one older than the last",
        "the network forks the call upstream; let one path send it";
    /// The call was already answered.
    AlreadyAnswered = 482, 25, "already_answered", false,
        "The call was already answered", "call already committed to a backend",
        "nothing: a repeated or forked request for a call in progress";
    /// The call brought no token.
    TokenMissing = 404, 1, "token_missing", false,
        "Call the proxy, not this server", "no token in the request",
        "send calls to a proxy; it redirects here with a token";
    /// The token's entry is not known here.
    TokenUnknown = 404, 1, "token_unknown", false,
        "No such call", "token names an entry that the queue does not have",
        "check that proxy and backend share one queue store";
    /// The token was not made by us, or was changed on its way.
    TokenForged = 403, 21, "token_forged", false,
        "The token is not valid", "token unreadable or its signature wrong",
        "check that proxy and backend have the same token keys, and that no hop rewrites URI parameters";
    /// The token came too late.
    TokenExpired = 403, 21, "token_expired", false,
        "The token has expired", "token expired",
        "raise tokens.life_s, and check the clocks of proxy and backend";
    /// The token is for another server or region.
    WrongServer = 403, 21, "wrong_server", false,
        "The token is for another server", "token names another backend or region",
        "check that each backend's id, region and sip_uris in the registry are its own";
    /// Another caller has claimed the call.
    ClaimedByAnother = 482, 25, "claimed_by_another", false,
        "The call is taken by another caller", "claim by a caller other than the first",
        "a token was replayed from another call; look for a leak in the network";
    /// A later attempt or claim replaced this one.
    Superseded = 482, 25, "superseded", false,
        "A later attempt replaced this one", "attempt or claim superseded",
        "nothing: the call goes on at another server";
    /// The entry is in a final state.
    Finished = 482, 25, "finished", false,
        "The call is over", "entry already in a final state",
        "nothing: a late repeat of a call that has ended";
    /// This backend has no room.
    BackendFull = 503, 34, "backend_full", false,
        "This server is full", "backend at its capacity",
        "raise capacity on the backend, or add backends";
    /// The conversation refused the call before it was answered.
    ConversationRefused = 480, 18, "conversation_refused", false,
        "Nobody can take the call now", "the conversation factory refused the call",
        "see the refusal that the log names";
    /// The request needs an extension that is not supported.
    UnsupportedExtension = 420, 127, "unsupported_extension", false,
        "An extension that is required is not supported", "Require names an unsupported extension",
        "switch the extension off at the caller";
    /// The request is of another SIP version.
    UnsupportedVersion = 505, 127, "unsupported_version", false,
        "Only SIP/2.0 is supported", "request of another SIP version",
        "the caller must speak SIP/2.0";
    /// No codec or media type in common.
    UnsupportedMedia = 488, 65, "unsupported_media", false,
        "No media in common", "no codec in common with the offer",
        "let the caller offer one of the number's codecs, for instance PCMU";
    /// No media port is free.
    NoMediaPort = 503, 44, "no_media_port", false,
        "This server is full", "no media port free",
        "widen media.ports, or lower the backend's capacity";
    /// The caller gave up.
    Cancelled = 487, 16, "cancelled", false,
        "The caller gave up", "cancelled by the caller",
        "nothing";
    /// Nobody followed the offer in time.
    NobodyCame = 480, 102, "nobody_came", false,
        "The call was not continued in time", "no claim or answer before the offer expired",
        "check that the caller follows redirects and reaches the backends' sip_uris";
    /// Something failed that should not have.
    Internal = 500, 41, "internal", false,
        "Internal error", "internal error",
        "report it with the log around it";
}

impl Reason {
    /// The SIP status, with the deployment's choice for a reached plan limit.
    pub const fn status(self, plan_limit: PlanLimitStatus) -> u16 {
        match (self, plan_limit) {
            (Self::PlanLimit, PlanLimitStatus::Unavailable) => 503,
            _ => self.row().status,
        }
    }

    /// The metric label and stored name.
    pub const fn label(self) -> &'static str {
        self.row().label
    }

    /// The reason of this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.label() == label)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.row().log)
    }
}

/// A refusal on its way out: the reason and, where one request's fault is named, its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", self.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// What exactly, in words for the caller; free of numbers and secrets.
    pub detail: Option<String>,
}

impl Rejection {
    /// The text of `Warning: 399`: the detail, else the catalogue's text.
    pub fn warning(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.reason.row().warning)
    }
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self { reason, detail: None }
    }
}

impl From<crate::identity::IdentityFault> for Rejection {
    fn from(fault: crate::identity::IdentityFault) -> Self {
        Self { reason: Reason::Malformed, detail: Some(fault.to_string()) }
    }
}

impl From<crate::error::StoreError> for Rejection {
    fn from(_: crate::error::StoreError) -> Self {
        Reason::StoreAway.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_consistent() {
        for reason in Reason::ALL {
            let row = reason.row();
            assert!((400..700).contains(&row.status), "{reason:?}");
            assert!((1..128).contains(&row.cause), "{reason:?}");
            assert_eq!(Reason::from_label(row.label), Some(*reason), "labels are unique");
            assert!(!row.retry_after || row.status == 503, "{reason:?}");
            assert!(row.warning.is_ascii() && !row.warning.contains('"'), "{reason:?}");
        }
    }

    #[test]
    fn only_whole_server_reasons_send_callers_away() {
        let with: Vec<_> = Reason::ALL.iter().filter(|reason| reason.row().retry_after).collect();
        assert_eq!(with, [&Reason::Draining, &Reason::Overload]);
    }

    #[test]
    fn the_plan_limit_is_busy_unless_configured() {
        assert_eq!(Reason::PlanLimit.status(PlanLimitStatus::Busy), 486);
        assert_eq!(Reason::PlanLimit.status(PlanLimitStatus::Unavailable), 503);
        assert_eq!(Reason::NumberUnknown.status(PlanLimitStatus::Unavailable), 404);
    }

    #[test]
    fn a_rejection_names_its_detail() {
        let rejection = Rejection::from(crate::identity::IdentityFault::HalfNamed);
        assert!(rejection.warning().contains("X-Phone-Id"));
        assert!(rejection.to_string().starts_with("request malformed: "));
        assert_eq!(Rejection::from(Reason::Draining).warning(), Reason::Draining.row().warning);
    }
}
