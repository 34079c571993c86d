//! From a URI to the sockets to try, in order: the procedure of RFC 3263 as a state machine without a resolver.
//!
//! [`Target`] is what a URI or Route says, [`Means`] what we can send by. A [`Resolution`] asks questions
//! ([`Resolution::poll_question`]), takes their answers in any order, and ends with a list of
//! [`Hop`]s that the engine tries one after the other. `net::resolve` asks the DNS for it; a test answers by hand.

mod order;
mod procedure;
mod record;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

pub use record::{Data, Kind, LookupError, Naptr, Question, Record, Srv};

use crate::engine::flow::{Hop, Listener, Transport};
use crate::engine::random::{Random, Seed};
use crate::message::{Host, Scheme, Uri};
use procedure::Walk;
use record::Known;

/// How much one resolution may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveLimits {
    /// Most hops. Default 16.
    pub hops: usize,
    /// Most records of one answer that are looked at, in the order in which they are to be used. Default 16.
    pub records: usize,
    /// Most questions. Default 64.
    pub questions: usize,
    /// How long all of it may take; what is known then is used. Default 5 s.
    pub patience: Duration,
}

impl Default for ResolveLimits {
    fn default() -> Self {
        Self { hops: 16, records: 16, questions: 64, patience: Duration::from_secs(5) }
    }
}

/// What we can send by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// Transports, the most liked first: that order decides where the DNS leaves the choice to us.
    pub transports: Vec<Transport>,
    /// Whether IPv4 addresses can be reached.
    pub v4: bool,
    /// Whether IPv6 addresses can be reached.
    pub v6: bool,
}

impl Means {
    /// What these listeners can send by; `streams` are transports that need no listener, for connections of ours.
    #[must_use]
    pub fn of(listeners: &[Listener], streams: &[Transport]) -> Self {
        let has = |t: &Transport| streams.contains(t) || listeners.iter().any(|l| l.transport == *t);
        Self {
            transports: Transport::ALL.into_iter().filter(has).collect(),
            v4: listeners.iter().any(|listener| listener.addr.is_ipv4()),
            v6: listeners.iter().any(|listener| listener.addr.is_ipv6()),
        }
    }
}

/// What is looked for (RFC 3263 §4): the host, and what the URI says of port and transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(crate) host: TargetHost,
    /// What the peer's certificate has to name (RFC 5922 §4): the domain of the URI, whatever `maddr` says.
    pub(crate) domain: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) transport: Option<Transport>,
    pub(crate) secure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetHost {
    Ip(IpAddr),
    Name(String),
}

/// A host cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot resolve {host}: {why}")]
pub struct ResolveError {
    /// The host, or the whole URI where it has none.
    pub host: String,
    /// What was tried, and what helps.
    pub why: String,
}

impl ResolveError {
    fn new(host: impl Into<String>, why: impl Into<String>) -> Self {
        Self { host: host.into(), why: why.into() }
    }
}

impl Target {
    /// What a Request-URI or the URI of a Route says; `maddr` stands in for its host.
    ///
    /// # Errors
    /// The URI is neither `sip` nor `sips`, or its transport is unknown or not secure enough for `sips`.
    pub fn of(uri: &Uri) -> Result<Self, ResolveError> {
        let host = match uri.target_host() {
            Some(Host::Ip(ip)) => TargetHost::Ip(ip),
            Some(Host::Name(name)) => TargetHost::Name(record::plain(name)),
            None => return Err(ResolveError::new(uri.as_str(), "it is no sip or sips URI: give hops")),
        };
        let domain = match (uri.host(), &host) {
            (Some(Host::Name(name)), _) => Some(record::plain(name)),
            (_, TargetHost::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let fail = |why| ResolveError::new(host.text(), why);
        let unknown = || fail("its transport is unknown: use udp, tcp, tls, ws or none");
        let asked = uri.transport().map(|word| Transport::named(word).ok_or_else(unknown)).transpose()?;
        let transport = match (uri.scheme(), asked) {
            (Scheme::Sip, asked) => asked,
            (Scheme::Sips, None) => None,
            (Scheme::Sips, Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
            (Scheme::Sips, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
            (Scheme::Sips, Some(Transport::Udp)) => {
                return Err(fail("a sips URI cannot go over UDP: drop its transport parameter"));
            }
            _ => return Err(fail("it is no sip or sips URI: give hops")),
        };
        Ok(Self { port: uri.port(), transport, secure: uri.scheme() == Scheme::Sips, host, domain })
    }

    /// The same, over secure transports only: for a `sips` Request-URI whose first Route is `sip`
    /// (RFC 3261 §26.2.2).
    #[must_use]
    pub fn secured(mut self) -> Self {
        self.secure = true;
        self.transport = self.transport.map(|transport| match transport {
            Transport::Tcp => Transport::Tls,
            Transport::Ws => Transport::Wss,
            other => other,
        });
        self
    }
}

impl TargetHost {
    fn text(&self) -> String {
        match self {
            TargetHost::Ip(ip) => ip.to_string(),
            TargetHost::Name(name) => name.clone(),
        }
    }
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Sockets in the order to try them; never empty, never one twice.
    pub hops: Vec<Hop>,
    /// How long the list holds: the shortest life of any record that it rests on. `None` for a numeric host.
    pub ttl: Option<Duration>,
}

/// One run of the procedure.
///
/// # Driving it
/// Ask what [`poll_question`](Self::poll_question) yields, as many at a time as you like; hand every answer in; call
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is reached; stop as soon as
/// [`outcome`](Self::outcome) gives something.
pub struct Resolution {
    target: Target,
    means: Means,
    limits: ResolveLimits,
    random: Random,
    answers: HashMap<Question, Known>,
    asked: HashSet<Question>,
    questions: VecDeque<Question>,
    deadline: Instant,
    outcome: Option<Result<Resolved, ResolveError>>,
}

impl Resolution {
    /// Starts one. The seed draws among SRV records by their weights.
    #[must_use]
    pub fn new(
        now: Instant,
        target: Target,
        means: Means,
        limits: ResolveLimits,
        seed: impl Into<Seed>,
    ) -> Self {
        let mut resolution = Self {
            target,
            means,
            deadline: now + limits.patience,
            limits,
            random: Random::new(seed.into()),
            answers: HashMap::new(),
            asked: HashSet::new(),
            questions: VecDeque::new(),
            outcome: None,
        };
        resolution.advance(false);
        resolution
    }

    /// The next question to ask.
    pub fn poll_question(&mut self) -> Option<Question> {
        self.questions.pop_front()
    }

    /// Takes an answer: the records of its answer section, aliases included. What was not asked is not heard.
    pub fn handle_answer(&mut self, question: &Question, answer: Result<Vec<Record>, LookupError>) {
        if self.outcome.is_some() || !self.asked.contains(question) || self.answers.contains_key(question) {
            return;
        }
        let known = Known::read(question, answer, self.limits.records, &mut self.random);
        self.answers.insert(question.clone(), known);
        self.advance(false);
    }

    /// When to give up waiting.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.deadline)
    }

    /// Once the time is up, takes every open question for unanswered.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_none() && now >= self.deadline {
            self.advance(true);
        }
    }

    /// The end of it, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<&Result<Resolved, ResolveError>> {
        self.outcome.as_ref()
    }

    /// Goes through the procedure with what is known; asks on, or settles the outcome.
    fn advance(&mut self, late: bool) {
        loop {
            let mut walk = Walk::new(&self.target, &self.means, &self.limits, &self.answers);
            let hops = walk.run();
            let Walk { missing, ttl, failure, .. } = walk;
            if missing.is_empty() {
                self.outcome = Some(self.settle(hops, ttl, failure));
                return self.questions.clear();
            }
            let mut given_up = false;
            for question in missing {
                if late || (self.asked.len() >= self.limits.questions && !self.asked.contains(&question)) {
                    let why = if late { "no answer in time" } else { "too many questions" };
                    self.answers.insert(question, Known::failed(why));
                    given_up = true;
                } else if self.asked.insert(question.clone()) {
                    self.questions.push_back(question);
                }
            }
            if !given_up {
                return;
            }
        }
    }

    fn settle(
        &self,
        hops: Vec<Hop>,
        ttl: Option<Duration>,
        failure: Option<String>,
    ) -> Result<Resolved, ResolveError> {
        if !hops.is_empty() {
            return Ok(Resolved { hops, ttl });
        }
        let fail = |why: String| Err(ResolveError::new(self.target.host.text(), why));
        let asked = |t: &Transport| self.target.transport.is_none_or(|asked| asked == *t);
        let usable = |t: &Transport| asked(t) && (t.is_secure() || !self.target.secure);
        if !self.means.transports.iter().any(usable) {
            let wanted = match (self.target.transport, self.target.secure) {
                (Some(transport), _) => transport.as_str(),
                (None, true) => "TLS or WSS",
                (None, false) => "UDP or TCP",
            };
            return fail(format!("no transport of ours may carry it: set {wanted} up"));
        }
        let families = match (self.means.v4, self.means.v6) {
            (true, true) => "",
            (true, false) => " of IPv4",
            (false, true) => " of IPv6",
            (false, false) => return fail(String::from("no listener to send from: bind one")),
        };
        fail(match failure {
            Some(failure) => format!("{failure}; check the resolver, or give hops"),
            None => format!("the DNS has no address{families} for it; check the name, or give hops"),
        })
    }
}

#[cfg(test)]
mod tests;
