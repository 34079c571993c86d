//! The calling client's pursuit of an answer: the Contacts of redirects tried in their order, and requests amended where
//! a refusal says how (RFC 3261 §8.1.3.4, §8.1.3.5).
//!
//! In: how each INVITE of one call ended. Out: the next INVITE, or nothing and the response that stands for them all.
//! Credentials are not its matter (the engine answers challenges), nor are the servers behind one name (RFC 3263).

use std::cmp::Reverse;
use std::sync::Arc;

use super::advice::Advice;
use crate::event::{Body, OutgoingInvite};
use crate::message::header::{CSeq, Contact, ProxyRequire, Require, Unsupported};
use crate::message::{HeaderName, Host, NameAddr, Response, Scheme, StatusCode, Text, Uri};

/// CSeq numbers passed over after an INVITE without an answer, whose challenges may have used some.
const UNSEEN: u32 = 16;
/// Most URI headers of one Contact that are taken over.
const MAX_URI_HEADERS: usize = 8;
/// The known headers that a Contact may ask for in the new INVITE. Those that say who calls, where the request goes or
/// what it carries are never taken (RFC 3261 §19.1.5).
const URI_HEADERS: [HeaderName; 7] = [
    HeaderName::CALL_INFO,
    HeaderName::DIVERSION,
    HeaderName::HISTORY_INFO,
    HeaderName::PRIORITY,
    HeaderName::REASON,
    HeaderName::SUBJECT,
    HeaderName::USER_TO_USER,
];

/// How redirects are followed. All fields have defaults; [`Redirects::none`] follows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirects {
    /// How many redirects may follow from each other. Default 5.
    pub depth: u8,
    /// Most INVITEs in all, the first included. Default 10.
    pub attempts: u8,
    /// To which hosts. Default [`Hosts::Any`].
    pub hosts: Hosts,
    /// Takes harmless headers over from Contact URIs (`?Reason=…`, and those that begin with `X-`). Default true.
    pub uri_headers: bool,
}

/// The hosts that a redirect may name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Hosts {
    /// Any: the server that was called is trusted to choose.
    #[default]
    Any,
    /// That of the first Request-URI.
    Same,
    /// These, and that of the first Request-URI; compared without case, without ports.
    Listed(Vec<String>),
}

impl Default for Redirects {
    fn default() -> Self {
        Self { depth: 5, attempts: 10, hosts: Hosts::Any, uri_headers: true }
    }
}

impl Redirects {
    /// Follows nothing.
    #[must_use]
    pub fn none() -> Self {
        Self { depth: 0, attempts: 1, ..Self::default() }
    }
}

/// How one INVITE of a pursuit ended without an answer.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A final response of 300 or more.
    Refused(Arc<Response>),
    /// Nobody answered.
    Timeout,
    /// It could not be sent.
    Unsent,
}

/// Where to try, and how many redirects led there.
#[derive(Debug, Clone)]
struct Target {
    uri: Uri,
    depth: u8,
}

/// One call on its way through redirects. The first INVITE is the caller's to send, with From tag and Call-ID set.
#[derive(Debug)]
pub struct Pursuit {
    invite: OutgoingInvite,
    redirects: Redirects,
    /// Best last.
    targets: Vec<Target>,
    seen: Vec<Uri>,
    depth: u8,
    attempts: u8,
    amended: bool,
    best: Option<Outcome>,
    /// Bodies to send in place of one that is refused.
    alternatives: Vec<Body>,
}

impl Pursuit {
    /// The pursuit of this call.
    #[must_use]
    pub fn new(invite: OutgoingInvite, redirects: Redirects) -> Self {
        Self {
            seen: vec![invite.uri.clone()],
            invite,
            redirects,
            targets: Vec::new(),
            depth: 0,
            attempts: 1,
            amended: false,
            best: None,
            alternatives: Vec::new(),
        }
    }

    /// The same with bodies to try where the INVITE's own is of a type that is not taken (415) or too large (413), best
    /// first.
    #[must_use]
    pub fn with_alternatives(self, alternatives: Vec<Body>) -> Self {
        Self { alternatives, ..self }
    }

    /// The next INVITE after one that ended so; `None` where the call has failed and [`result`](Self::result) says how.
    /// A 6xx ends the pursuit, for the callee does not want it elsewhere either (RFC 3261 §21.6).
    pub fn next(&mut self, outcome: Outcome) -> Option<OutgoingInvite> {
        self.note_sequence(&outcome);
        if let Some(amended) = self.amend(&outcome) {
            return Some(amended);
        }
        let (redirected, everywhere) = match &outcome {
            Outcome::Refused(response) => (self.redirect(response), response.status.code() >= 600),
            _ => (false, false),
        };
        if !redirected {
            self.remember(outcome);
        }
        if everywhere || self.attempts >= self.redirects.attempts {
            self.targets.clear();
        }
        let Target { uri, depth } = self.targets.pop()?;
        (self.depth, self.attempts, self.amended) = (depth, self.attempts + 1, false);
        Some(self.aim(&uri))
    }

    /// What stands for all that were tried (RFC 3261 §16.7): a 6xx, else the lowest class of refusals, else silence.
    #[must_use]
    pub fn result(self) -> Option<Outcome> {
        self.best
    }

    fn remember(&mut self, outcome: Outcome) {
        if self.best.as_ref().is_none_or(|best| rank(&outcome) < rank(best)) {
            self.best = Some(outcome);
        }
    }

    /// The next number: behind the one in the response, which challenges may have raised.
    fn note_sequence(&mut self, outcome: &Outcome) {
        let used = match outcome {
            Outcome::Refused(response) => response.headers.typed::<CSeq>().map(|cseq| cseq.number).ok(),
            _ => None,
        };
        let next = used.map_or(self.invite.cseq.wrapping_add(UNSEEN), |used| used.wrapping_add(1));
        self.invite.cseq = next.max(self.invite.cseq.wrapping_add(1));
    }

    /// Takes the Contacts of a redirect; true where there was one to follow. They go before what is left of an earlier
    /// one, best first; equals in their order.
    fn redirect(&mut self, response: &Response) -> bool {
        if !response.status.is_redirect() || self.depth >= self.redirects.depth {
            return false;
        }
        let contacts = response.headers.typed_all::<Contact>().flatten();
        let mut found: Vec<(u16, Uri)> = contacts
            .filter_map(|contact| {
                let q = contact.q().unwrap_or(1_000);
                contact.address().map(|address| (q, address.uri.clone()))
            })
            .take(usize::from(self.redirects.attempts))
            .collect();
        found.sort_by_key(|(q, _)| Reverse(*q));
        let before = self.targets.len();
        for (_, uri) in found {
            if self.may_follow(&uri) {
                self.seen.push(uri.clone());
                self.targets.insert(before, Target { uri, depth: self.depth + 1 });
            }
        }
        self.targets.len() > before
    }

    /// A new place, of a scheme as secure as the first, at a host that is allowed.
    fn may_follow(&self, uri: &Uri) -> bool {
        let scheme = match self.first().scheme() {
            Scheme::Sips => uri.scheme() == Scheme::Sips,
            _ => matches!(uri.scheme(), Scheme::Sip | Scheme::Sips),
        };
        let invites = uri.param("method").is_none_or(|method| method == Some("INVITE"));
        let new = !self.seen.iter().any(|seen| is_same_place(seen, uri));
        scheme && invites && new && self.allows_host(uri)
    }

    fn allows_host(&self, uri: &Uri) -> bool {
        let same = |one: Option<Host<'_>>, other: Option<Host<'_>>| match (one, other) {
            (Some(Host::Name(one)), Some(Host::Name(other))) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        let host = uri.target_host();
        match &self.redirects.hosts {
            Hosts::Any => true,
            Hosts::Same => same(host, self.first().target_host()),
            Hosts::Listed(listed) => {
                let named = |name: &String| host.is_some_and(|h| h.to_string().eq_ignore_ascii_case(name));
                listed.iter().any(named) || same(host, self.first().target_host())
            }
        }
    }

    fn first(&self) -> &Uri {
        self.seen.first().expect("the first Request-URI was seen when the pursuit began")
    }

    /// The INVITE for another place: the same To, From, Call-ID and Routes (RFC 3261 §8.1.3.4).
    fn aim(&mut self, uri: &Uri) -> OutgoingInvite {
        self.invite.uri = bare(uri);
        self.invite.hops.clear();
        let mut invite = self.invite.clone();
        if self.redirects.uri_headers {
            let wanted = uri.headers().filter(|(name, _)| is_harmless(name)).take(MAX_URI_HEADERS);
            for (name, value) in wanted {
                invite.headers.push(name, crate::message::decode(value));
            }
        }
        invite
    }

    /// RFC 3261 §8.1.3.5: the same INVITE without the extensions that a 420 names, with a telephone number at the callee's
    /// own domain where a 416 does not know `tel`, or with another body of the program's where a 415 names its type or a
    /// 413 wants a smaller one. Once for each place.
    fn amend(&mut self, outcome: &Outcome) -> Option<OutgoingInvite> {
        let Outcome::Refused(response) = outcome else { return None };
        if self.amended || self.attempts >= self.redirects.attempts {
            return None;
        }
        let changed = match response.status {
            StatusCode::BAD_EXTENSION => self.drop_extensions(response),
            StatusCode::UNSUPPORTED_URI_SCHEME => self.spell_number(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => self.send_other_type(&Advice::of(response)),
            StatusCode::REQUEST_ENTITY_TOO_LARGE => self.send_smaller(&Advice::of(response)),
            _ => false,
        };
        self.amended = changed;
        self.attempts += u8::from(changed);
        changed.then(|| self.invite.clone())
    }

    fn drop_extensions(&mut self, response: &Response) -> bool {
        let Ok(unknown) = response.headers.typed::<Unsupported>() else { return false };
        let headers = &mut self.invite.headers;
        let required: Vec<Text> = headers.typed_all::<Require>().flatten().flat_map(|tags| tags.0).collect();
        let proxied: Vec<Text> =
            headers.typed_all::<ProxyRequire>().flatten().flat_map(|tags| tags.0).collect();
        let keep = |tags: &[Text]| -> Vec<Text> {
            tags.iter().filter(|tag| !unknown.contains(&tag.to_str())).cloned().collect()
        };
        let (kept, kept_proxied) = (keep(&required), keep(&proxied));
        let changed = kept.len() + kept_proxied.len() < required.len() + proxied.len();
        headers.remove(HeaderName::REQUIRE);
        headers.remove(HeaderName::PROXY_REQUIRE);
        if !kept.is_empty() {
            headers.push_typed(&Require(kept));
        }
        if !kept_proxied.is_empty() {
            headers.push_typed(&ProxyRequire(kept_proxied));
        }
        changed
    }

    fn send_other_type(&mut self, advice: &Advice) -> bool {
        let fits = |body: &&Body| advice.takes(&body.content_type);
        let body = self.alternatives.iter().find(fits).cloned();
        self.replace_body(body)
    }

    /// A 413 with Retry-After is about now, not about the body.
    fn send_smaller(&mut self, advice: &Advice) -> bool {
        let refused = self.invite.body.as_ref().map_or(0, |body| body.bytes.len());
        let smaller = |body: &&Body| body.bytes.len() < refused && advice.retry_after.is_none();
        let body = self.alternatives.iter().find(smaller).cloned();
        self.replace_body(body)
    }

    /// The alternatives are in no encoding.
    fn replace_body(&mut self, body: Option<Body>) -> bool {
        let Some(body) = body.filter(|body| self.invite.body.as_ref() != Some(body)) else { return false };
        self.invite.headers.remove(HeaderName::CONTENT_ENCODING);
        self.invite.body = Some(body);
        true
    }

    /// `tel:+15550100` at the host of To or From, with `user=phone` (RFC 3261 §19.1.6).
    fn spell_number(&mut self) -> bool {
        let number = match (self.invite.uri.scheme(), self.invite.uri.user()) {
            (Scheme::Tel, Some(number)) => number.replace(['-', '.', '(', ')'], ""),
            _ => return false,
        };
        let host = |party: &NameAddr| party.uri.host().map(|host| host.to_string());
        let Some(host) = host(&self.invite.to).or_else(|| host(&self.invite.from)) else { return false };
        self.invite.uri = Uri::sip(Some(&number), host, None).with_param("user", Some("phone"));
        true
    }
}

/// Equivalent, and with the same parameters: those that RFC 3261 §19.1.4 lets one side leave out, such as tokens, tell
/// places apart here.
fn is_same_place(one: &Uri, other: &Uri) -> bool {
    let (one, other) = (bare(one), bare(other));
    one.equivalent(&other) && one.params().count() == other.params().count()
}

/// Which of two ends is told in place of the other: lower wins.
fn rank(outcome: &Outcome) -> u16 {
    match outcome {
        Outcome::Refused(response) => match response.status.code() {
            600.. => 0,
            code => code / 100,
        },
        Outcome::Timeout => 10,
        Outcome::Unsent => 11,
    }
}

/// A Contact's URI as a Request-URI.
fn bare(uri: &Uri) -> Uri {
    uri.for_request_line().detached()
}

fn is_harmless(name: &str) -> bool {
    let name = crate::message::decode(name);
    let known = HeaderName::from(&*name);
    let own = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-")) && name.len() > 2;
    URI_HEADERS.contains(&known) || own
}
