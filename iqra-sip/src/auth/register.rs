//! The registration client: keeps an address of record bound to where we are reached (RFC 3261 §10.2; RFC 3327,
//! RFC 3608; RFC 5626 §4.2, §4.5).
//!
//! In: the time, and how each REGISTER went. Out: the next REGISTER, when to look again, and the state. Challenges are
//! answered below, by the engine: a 401 that arrives here refuses the credentials.
//!
//! ```text
//!                2xx           refresh due / lost
//!  Due ── Asking ───▶ Waiting ─────────────────────▶ Due
//!   ▲       │ 423 with a longer Min-Expires ───────▶ Due
//!   │       │ 439 where flows are named, once ─────▶ Due, without them
//!   └───────┴ anything else: backoff in Waiting
//!  unregister in any of them ───▶ Leaving ── Asking ──▶ Over
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::credentials::Keyring;
use crate::engine::flow::Hop;
use crate::engine::random::{Random, Seed};
use crate::event::Failure;
use crate::message::header::{
    CSeq, Contact, Expires, FlowTimer, MinExpires, Path, RetryAfter, Route, ServiceRoute,
};
use crate::message::{HeaderName, Headers, Method, NameAddr, Request, Response, StatusCode, Uri};

/// CSeq numbers passed over after a REGISTER without an answer, whose challenges may have used some.
const UNSEEN: u32 = 16;
/// The longest lifetime that a registrar may ask for by 423.
const LONGEST: u32 = 7 * 24 * 3_600;
/// A refresh goes out this long before the end at most, and once more as much by chance.
const MOST_MARGIN: Duration = Duration::from_secs(120);

/// What to register, where and how.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The registrar's domain, `sip:voice.example`: the Request-URI.
    pub registrar: Uri,
    /// The address of record: To and From.
    pub address: NameAddr,
    /// Where it is reached. Default one binding to this endpoint.
    pub bindings: Vec<Binding>,
    /// The lifetime to ask for; the registrar may grant another. Default 1 hour.
    pub expires: Duration,
    /// The outbound proxy and further hops: Route headers.
    pub routes: Vec<Route>,
    /// Where REGISTER goes; `None` takes the first route, else the registrar.
    pub next_hop: Option<Hop>,
    /// What challenges are answered with; none means those of the endpoint.
    pub credentials: Keyring,
    /// Further headers.
    pub headers: Headers,
    /// How long to wait after failures.
    pub backoff: Backoff,
}

impl Registration {
    /// A registration of `address` at `registrar`, with the defaults.
    #[must_use]
    pub fn new(registrar: Uri, address: Uri) -> Self {
        Self {
            registrar,
            address: NameAddr::new(address),
            bindings: vec![Binding::default()],
            expires: Duration::from_secs(3_600),
            routes: Vec::new(),
            next_hop: None,
            credentials: Keyring::default(),
            headers: Headers::new(),
            backoff: Backoff::default(),
        }
    }

    /// The same with credentials.
    #[must_use]
    pub fn credentials(self, credentials: impl Into<Keyring>) -> Self {
        Self { credentials: credentials.into(), ..self }
    }

    /// The Route headers as they are sent.
    pub(crate) fn route_headers(&self) -> Headers {
        let mut headers = Headers::new();
        self.routes.iter().for_each(|route| headers.push_typed(route));
        headers
    }

    /// The Route headers of a request that goes out by this registration: the outbound proxy and further hops of
    /// [`routes`](Self::routes), then the registrar's service route (RFC 3608 §6.1), in which a hop of ours may stand
    /// already. REGISTER itself takes ours alone.
    #[must_use]
    pub fn routes_by(&self, service_route: &[ServiceRoute]) -> Vec<Route> {
        let listed = |route: &&Route| service_route.iter().any(|hop| hop.0.uri.equivalent(&route.0.uri));
        let ours = self.routes.iter().filter(|route| !listed(route)).cloned();
        ours.chain(service_route.iter().map(|hop| Route(hop.0.clone()))).collect()
    }
}

/// One contact of a registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// The contact; `None` is this endpoint's own.
    pub uri: Option<Uri>,
    /// The instance, `urn:uuid:…`, which stays the same over restarts (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// Which flow of the instance this is, from 1 (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// The preference among several, in thousandths from 0 to 1000.
    pub q: Option<u16>,
}

impl Binding {
    fn contact(&self, own: &Uri) -> NameAddr {
        let mut contact = NameAddr::new(self.uri.as_ref().unwrap_or(own).clone());
        if let Some(q) = self.q {
            let q = q.min(1_000);
            contact.params.set("q", Some(&format!("{}.{:03}", q / 1_000, q % 1_000)));
        }
        if let Some(instance) = &self.instance {
            contact.params.set_quoted("+sip.instance", &format!("<{instance}>"));
        }
        if let Some(reg_id) = self.reg_id {
            contact.params.set("reg-id", Some(&reg_id.to_string()));
        }
        contact
    }

    /// Whether a contact of the registrar's list is this binding: by instance and flow, else by URI (RFC 5626 §6).
    fn is(&self, own: &Uri, listed: &NameAddr) -> bool {
        match &self.instance {
            Some(instance) if listed.params.contains("+sip.instance") => {
                let same =
                    listed.params.value("+sip.instance").is_some_and(|v| *v == *format!("<{instance}>"));
                let flow = listed.params.value("reg-id").and_then(|id| id.parse().ok());
                same && (flow == self.reg_id || flow.is_none())
            }
            _ => listed.uri.equivalent(self.uri.as_ref().unwrap_or(own)),
        }
    }
}

/// Where a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// The first REGISTER is on its way.
    Registering,
    /// The registrar has the bindings.
    Registered(Bound),
    /// The last REGISTER failed.
    Failed(RegistrationFailure),
    /// The bindings are removed, or run out unrenewed.
    Unregistered,
}

impl RegistrationState {
    /// The hops that requests of ours should take while the bindings last, those of an earlier REGISTER too
    /// (RFC 3608 §6.1).
    #[must_use]
    pub fn service_route(&self, now: Instant) -> &[ServiceRoute] {
        match self {
            RegistrationState::Registered(bound) => &bound.service_route,
            RegistrationState::Failed(failure) if failure.bound_until.is_some_and(|until| until > now) => {
                &failure.service_route
            }
            _ => &[],
        }
    }
}

/// What the registrar granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Until when the bindings last; they are refreshed before.
    pub until: Instant,
    /// The hops that requests of ours should take, in order (RFC 3608 §6.1).
    pub service_route: Vec<ServiceRoute>,
    /// The hops that requests to us will take (RFC 3327 §5.1).
    pub path: Vec<Path>,
    /// How long the flow may be silent before the server gives it up, as its Flow-Timer says (RFC 5626 §4.4): the most
    /// that keep-alives may be apart. `None` where it says nothing, or no time at all.
    pub flow_timer: Option<Duration>,
}

/// A REGISTER that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationFailure {
    /// Why.
    pub cause: RegistrationError,
    /// When it is tried again.
    pub retry_at: Instant,
    /// Until when the bindings of an earlier one last.
    pub bound_until: Option<Instant>,
    /// The service route that came with them.
    pub service_route: Vec<ServiceRoute>,
}

/// Why a REGISTER failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The registrar refused; 401 and 407 refuse the credentials.
    #[error("the registrar answered {0}")]
    Refused(StatusCode),
    /// The registrar said 2xx, and granted no time or lists other contacts than ours.
    #[error("the registrar granted no time, or does not list our contact")]
    NotBound,
    /// Nobody answered.
    #[error("the registrar did not answer within 64*T1")]
    Timeout,
    /// It could not be sent.
    #[error("the transport could not send the REGISTER")]
    Transport,
    /// The registrar did not prove that it knows our secret.
    #[error("the registrar did not prove itself")]
    Unproven,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Due,
    Asking,
    Waiting(Instant),
    LeaveDue,
    Leaving,
    Over,
}

/// The machine of one registration. See the module for its driving.
pub struct Registering {
    asked: Registration,
    random: Random,
    call_id: String,
    tag: String,
    sequence: u32,
    expires: u32,
    failures: u32,
    /// A 423 was obeyed in this round.
    lengthened: bool,
    leave: bool,
    own: Option<Uri>,
    bound: Option<Instant>,
    service_route: Vec<ServiceRoute>,
    phase: Phase,
    state: RegistrationState,
}

impl Registering {
    /// A registration whose first REGISTER is due at once.
    #[must_use]
    pub fn new(asked: Registration, seed: impl Into<Seed>) -> Self {
        let mut random = Random::new(seed.into());
        Self {
            call_id: random.call_id(),
            tag: random.tag(),
            sequence: random.sequence(),
            expires: u32::try_from(asked.expires.as_secs()).unwrap_or(LONGEST).clamp(1, LONGEST),
            random,
            failures: 0,
            lengthened: false,
            leave: false,
            own: None,
            bound: None,
            service_route: Vec::new(),
            phase: Phase::Due,
            state: RegistrationState::Registering,
            asked,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &RegistrationState {
        &self.state
    }

    /// What is registered.
    #[must_use]
    pub fn registration(&self) -> &Registration {
        &self.asked
    }

    /// True when nothing more will happen: the bindings are removed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When [`poll_request`](Self::poll_request) has something; `None` while an answer is awaited, or for ever.
    #[must_use]
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Due | Phase::LeaveDue => Some(now),
            Phase::Waiting(at) => Some(at),
            Phase::Asking | Phase::Leaving | Phase::Over => None,
        }
    }

    /// The REGISTER that is due; its end goes to [`handle_response`](Self::handle_response) or
    /// [`handle_failure`](Self::handle_failure). `own` is the contact of this endpoint.
    pub fn poll_request(&mut self, now: Instant, own: &Uri) -> Option<Request> {
        let expires = match self.phase {
            Phase::Due => self.expires,
            Phase::Waiting(at) if at <= now => self.expires,
            Phase::LeaveDue => 0,
            _ => return None,
        };
        self.phase = if expires == 0 { Phase::Leaving } else { Phase::Asking };
        self.own = Some(own.clone());
        self.sequence = self.sequence.wrapping_add(1);
        Some(self.word(expires, own))
    }

    fn word(&self, expires: u32, own: &Uri) -> Request {
        let asked = &self.asked;
        let mut request = Request::new(Method::Register, asked.registrar.clone());
        let headers = &mut request.headers;
        *headers = asked.route_headers();
        headers.push(HeaderName::FROM, asked.address.clone().with_tag(&self.tag).to_string());
        headers.push(HeaderName::TO, asked.address.to_string());
        headers.push(HeaderName::CALL_ID, self.call_id.as_str());
        headers.push(HeaderName::CSEQ, format!("{} REGISTER", self.sequence));
        for binding in &asked.bindings {
            headers.push_typed(&Contact::from(binding.contact(own)));
        }
        headers.push_typed(&Expires(expires));
        let outbound = asked.bindings.iter().any(|binding| binding.reg_id.is_some());
        headers.push(HeaderName::SUPPORTED, if outbound { "path, outbound" } else { "path" });
        for (name, value) in asked.headers.iter() {
            headers.push(name, value);
        }
        request
    }

    /// The final response to the REGISTER.
    pub fn handle_response(&mut self, now: Instant, response: &Response) {
        // Answers to challenges took numbers of their own.
        let used = response.headers.typed::<CSeq>().map_or(0, |cseq| cseq.number);
        self.sequence = self.sequence.max(used);
        match (self.phase, self.longer_life(response)) {
            (Phase::Leaving, _) => self.end(),
            (Phase::Asking, Some(seconds)) => {
                (self.expires, self.lengthened, self.phase) = (seconds, true, Phase::Due);
            }
            (Phase::Asking, None) if response.status.is_success() => self.granted(now, response),
            (Phase::Asking, None) if self.drops_flows(response) => self.phase = Phase::Due,
            (Phase::Asking, None) => {
                let after = response.headers.typed::<RetryAfter>().map_or(0, |after| after.0);
                self.failed(
                    now,
                    RegistrationError::Refused(response.status),
                    Duration::from_secs(after.into()),
                );
            }
            _ => {}
        }
        self.leave_if_asked();
    }

    /// No final response came.
    pub fn handle_failure(&mut self, now: Instant, failure: Failure) {
        self.sequence = self.sequence.wrapping_add(UNSEEN);
        let error = match failure {
            Failure::Timeout => RegistrationError::Timeout,
            Failure::Transport => RegistrationError::Transport,
            Failure::Unproven => RegistrationError::Unproven,
        };
        match self.phase {
            Phase::Leaving => self.end(),
            Phase::Asking => self.failed(now, error, Duration::ZERO),
            _ => {}
        }
        self.leave_if_asked();
    }

    /// The lifetime that a 423 asks for, obeyed once in a round (RFC 3261 §10.2.8).
    fn longer_life(&self, response: &Response) -> Option<u32> {
        let brief = response.status == StatusCode::INTERVAL_TOO_BRIEF && !self.lengthened;
        let least = response.headers.typed::<MinExpires>().ok().filter(|_| brief)?.0;
        (self.expires + 1..=LONGEST).contains(&least).then_some(least)
    }

    /// The first hop cannot keep flows: the bindings go out without them (RFC 5626 §4.2.1). True where there were some.
    fn drops_flows(&mut self, response: &Response) -> bool {
        let lacks = response.status == StatusCode::FIRST_HOP_LACKS_OUTBOUND_SUPPORT;
        let flows = self.asked.bindings.iter_mut().filter(|binding| lacks && binding.reg_id.is_some());
        flows.map(|binding| binding.reg_id = None).count() > 0
    }

    fn granted(&mut self, now: Instant, response: &Response) {
        let seconds = self.lifetime(response);
        if seconds == 0 {
            return self.failed(now, RegistrationError::NotBound, Duration::ZERO);
        }
        let life = Duration::from_secs(seconds.min(LONGEST).into());
        let margin = (life / 4).min(MOST_MARGIN);
        let early = margin + margin.mul_f64(self.share());
        (self.failures, self.lengthened, self.bound) = (0, false, Some(now + life));
        self.phase = Phase::Waiting(now + life.saturating_sub(early));
        self.service_route = response.headers.typed_all().flatten().collect();
        self.state = RegistrationState::Registered(Bound {
            until: now + life,
            service_route: self.service_route.clone(),
            path: response.headers.typed_all().flatten().collect(),
            flow_timer: response.headers.typed().ok().and_then(FlowTimer::limit),
        });
    }

    /// The shortest lifetime of our bindings: a contact's own goes before Expires, and that before what we asked for
    /// (RFC 3261 §10.2.4). Zero where others are listed and one of ours is not.
    fn lifetime(&self, response: &Response) -> u32 {
        let general = response.headers.typed::<Expires>().map_or(self.expires, |expires| expires.0);
        let listed: Vec<Contact> = response.headers.typed_all::<Contact>().flatten().collect();
        let Some(own) = &self.own else { return general };
        let granted = |binding: &Binding| match self.listed_as(binding, own, &listed) {
            Some(contact) => contact.expires().unwrap_or(general),
            // Some registrars list nothing.
            None if listed.is_empty() => general,
            None => 0,
        };
        self.asked.bindings.iter().map(granted).min().unwrap_or(general)
    }

    /// The contact of the list that is our binding. A NAT's registrar may have put another host and port into it: then it
    /// is the one with our user part, or the only one.
    fn listed_as<'a>(&self, binding: &Binding, own: &Uri, listed: &'a [Contact]) -> Option<&'a Contact> {
        let user = binding.uri.as_ref().unwrap_or(own).user_decoded();
        let is = |c: &&Contact| c.address().is_some_and(|address| binding.is(own, address));
        let rewritten =
            |c: &&Contact| c.address().is_some_and(|a| user.is_some() && a.uri.user_decoded() == user);
        let alone = || listed.first().filter(|_| listed.len() == 1 && self.asked.bindings.len() == 1);
        let found = listed.iter().find(is);
        found.or_else(|| listed.iter().find(rewritten)).or_else(alone)
    }

    fn failed(&mut self, now: Instant, cause: RegistrationError, at_least: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.lengthened = false;
        let share = self.share();
        let wait = self.asked.backoff.wait(self.failures, share);
        let retry_at = now + wait.max(at_least.min(Duration::from_secs(24 * 3_600)));
        self.bound = self.bound.filter(|until| *until > now);
        self.phase = Phase::Waiting(retry_at);
        let (bound_until, service_route) = (self.bound, self.service_route.clone());
        let failure = RegistrationFailure { cause, retry_at, bound_until, service_route };
        self.state = RegistrationState::Failed(failure);
    }

    /// The flow to the registrar is gone: requests to us cannot arrive until it is renewed (RFC 5626 §4.4.1). The wait is
    /// short, and longer after failures.
    pub fn flow_failed(&mut self, now: Instant) {
        if let Phase::Waiting(at) = self.phase {
            let share = self.share();
            let wait = match self.failures {
                0 => Duration::from_secs(1).mul_f64(share),
                failures => self.asked.backoff.wait(failures, share),
            };
            self.phase = Phase::Waiting(at.min(now + wait));
        }
    }

    /// Asks again at once.
    pub fn refresh(&mut self) {
        if let Phase::Waiting(_) = self.phase {
            self.phase = Phase::Due;
        }
    }

    /// Removes the bindings; a REGISTER under way is waited for.
    pub fn unregister(&mut self) {
        self.leave = true;
        self.leave_if_asked();
    }

    fn leave_if_asked(&mut self) {
        match self.phase {
            Phase::Due | Phase::Waiting(_) if self.leave && self.bound.is_some() => {
                self.phase = Phase::LeaveDue;
            }
            Phase::Due | Phase::Waiting(_) if self.leave => self.end(),
            _ => {}
        }
    }

    fn end(&mut self) {
        (self.phase, self.bound) = (Phase::Over, None);
        self.state = RegistrationState::Unregistered;
    }

    /// A random share, 0 to 1.
    fn share(&mut self) -> f64 {
        f64::from(self.random.up_to(1_000)) / 1_000.0
    }
}

/// Shows the state; addresses stay out.
impl fmt::Debug for Registering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registering({:?}, {:?})", self.phase, self.state)
    }
}
