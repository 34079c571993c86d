//! The proxy's part of a call over the stores, without SIP: from what a request asks to an offer of backends.
//!
//! In: [`Asked`] and the time. Out: an [`Offer`] whose choices carry signed tokens, a call to be relayed ([`Relaying`])
//! to the one that its token names, or a refusal. The steps and their order are those of `lib.rs`; whatever fails after
//! the entry exists ends the entry with its reason and frees its slot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::backends::{BackendRegistry, BackendStatus};
use crate::decide::{self, Admitted, Facts, PlaceFacts};
use crate::handover::table::{Event, Writer};
use crate::handover::token::{Purpose, Token, TokenKeys};
use crate::identity::{Asked, BackendId, CallerKey, EntryId, Identity, IdentityFault, RegionId, identify};
use crate::limits::{Ask, PlanLimits, Slot};
use crate::number::{Found, NumberStore};
use crate::queue::{CallKey, CallQueue, Entered, Entry, Mode, NewEntry, Node, Terms};
use crate::reason::{Reason, Rejection};
use crate::select::{BackendSelector, Regions, SelectionRequest, eligible};
use crate::source::{SourceList, Standing, sender};
use crate::time::Timestamp;

mod relay;

pub use relay::Relaying;

/// How a proxy admits calls.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This proxy.
    pub node: Node,
    /// Proxies in front of it whose Via it believes.
    pub trusted_proxies: SourceList,
    /// How long an offer is valid; default 30 s, 5 s to 10 min.
    pub token_life: Duration,
    /// How many backends one offer names at most, and a relayed call is tried at; default 3.
    pub most_choices: usize,
}

/// The stores and rules that a proxy admits calls by.
pub struct Admission {
    /// Numbers and what they belong to.
    pub numbers: Arc<dyn NumberStore>,
    /// The calls.
    pub queue: Arc<dyn CallQueue>,
    /// The accounts' slots.
    pub limits: Arc<dyn PlanLimits>,
    /// The backends that live.
    pub backends: Arc<dyn BackendRegistry>,
    /// Which of them gets the call.
    pub selector: Arc<dyn BackendSelector>,
    /// The regions.
    pub regions: Regions,
    /// What signs the tokens.
    pub tokens: TokenKeys,
    /// The settings.
    pub settings: Settings,
    draining: AtomicBool,
    rng: Mutex<fastrand::Rng>,
}

/// The stores that an [`Admission`] works on.
#[derive(Clone)]
pub struct Stores {
    /// Numbers and what they belong to.
    pub numbers: Arc<dyn NumberStore>,
    /// The calls.
    pub queue: Arc<dyn CallQueue>,
    /// The accounts' slots.
    pub limits: Arc<dyn PlanLimits>,
    /// The backends that live.
    pub backends: Arc<dyn BackendRegistry>,
}

/// One backend of an offer.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The backend; its `sip_uris` are where the caller is sent.
    pub backend: Arc<BackendStatus>,
    /// The token to carry there as `X-CallQueue-Id`.
    pub token: String,
    /// The q of its Contact in thousandths, 1 to 1000; all differ.
    pub q: u16,
}

/// A call that was admitted: send the caller to one of the choices.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The backends, best first; never empty.
    pub choices: Vec<Choice>,
    /// Whether the token goes into the user part of the Contact instead of a parameter.
    pub token_in_user: bool,
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Send the caller to a backend.
    Offer(Offer),
    /// Relay the call to a backend.
    Relay(Box<Relaying>),
    /// Refuse it.
    Reject(Rejection),
    /// Send nothing: it is a retransmission of a request that is being answered.
    Absorb,
}

/// What `explain` says of a call that was not made.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The address that counts as the source, where there is one.
    pub source: Option<std::net::IpAddr>,
    /// The rules that the call passes, in order.
    pub passed: Vec<&'static str>,
    /// The rule that decides against it, and its rejection.
    pub refused: Option<(&'static str, Rejection)>,
    /// The backends that it would be offered to.
    pub backends: Vec<BackendId>,
}

/// What was looked up for a call.
struct Known {
    standing: Standing,
    identity: Result<Identity, IdentityFault>,
    found: Found,
    follows_redirects: bool,
}

/// For whom backends are looked for, and how many.
#[derive(Clone, Copy)]
struct Search<'a> {
    admin: bool,
    /// What stays the same over the call's repeats.
    key: &'a str,
    excluded: &'a [BackendId],
    most: usize,
}

impl Known {
    fn facts(&self, draining: bool) -> Facts<'_> {
        Facts {
            draining,
            standing: &self.standing,
            identity: self.identity.as_ref().map_err(|fault| *fault),
            found: &self.found,
            follows_redirects: self.follows_redirects,
        }
    }
}

impl Admission {
    /// Puts the parts together; `seed` starts the generator of ids and choices.
    pub fn new(
        stores: Stores,
        selector: Arc<dyn BackendSelector>,
        regions: Regions,
        tokens: TokenKeys,
        settings: Settings,
        seed: u64,
    ) -> Self {
        let Stores { numbers, queue, limits, backends } = stores;
        Self {
            numbers,
            queue,
            limits,
            backends,
            selector,
            regions,
            tokens,
            settings,
            draining: AtomicBool::new(false),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// From now on new calls are refused as draining.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether new calls are refused as draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Admits a call or refuses it. Stores the offer before it returns it.
    pub async fn admit(&self, asked: &Asked<'_>, now: Timestamp) -> Answer {
        self.try_admit(asked, now).await.unwrap_or_else(Answer::Reject)
    }

    async fn try_admit(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Answer, Rejection> {
        let known = self.look_up(asked).await?;
        let admitted = decide::decide(&known.facts(self.is_draining()))?;
        let new = self.new_entry(asked, &admitted, now)?;
        let entry = match self.queue.enter(new, now).await.map_err(|error| error.reason())? {
            Entered::New(entry) => entry,
            Entered::Adopted(entry) => self.taken_up(entry, now).await?,
            Entered::Absorbed => return Ok(Answer::Absorb),
            Entered::Refused(reason) => return Err(reason.into()),
        };
        let relayed = entry.terms.mode == Mode::Relay;
        let most = if relayed { 1 } else { self.settings.most_choices };
        let search = Search { admin: admitted.account.admin, key: asked.call_id, excluded: &[], most };
        match self.offer(&entry, search, now).await {
            Ok((entry, mut choices)) if relayed && !choices.is_empty() => {
                let choice = choices.swap_remove(0);
                let (admin, token_in_user) = (search.admin, admitted.token_in_user);
                Ok(Answer::Relay(Box::new(Relaying::new(entry, choice, admin, asked.call_id, token_in_user))))
            }
            Ok((entry, choices)) => {
                Ok(Answer::Offer(Offer { entry, choices, token_in_user: admitted.token_in_user }))
            }
            Err(reason) => {
                self.end_or_leave(&entry, reason, now).await;
                Err(reason.into())
            }
        }
    }

    /// The caller gave up before the offer was answered; whether the call was still the proxy's to end.
    pub async fn cancelled(&self, entry: &Entry, now: Timestamp) -> bool {
        self.end_or_leave(entry, Reason::Cancelled, now).await
    }

    /// The offer could not be sent: ends the call with this reason.
    #[cfg(feature = "proxy")]
    pub(crate) async fn failed(&self, entry: &Entry, reason: Reason, now: Timestamp) {
        self.end_or_leave(entry, reason, now).await;
    }

    /// Runs the decision for a request without entering it.
    ///
    /// # Errors
    /// [`Rejection`] with [`Reason::StoreAway`] when a store does not answer.
    pub async fn explain(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Explanation, Rejection> {
        let mut told = Explanation { source: None, passed: Vec::new(), refused: None, backends: Vec::new() };
        let known = match self.look_up(asked).await {
            Err(rejection) if rejection.reason == Reason::SourceNotAllowed => {
                told.refused = Some(("a trusted proxy says who sent the request", rejection));
                return Ok(told);
            }
            known => known?,
        };
        told.source = Some(known.standing.source);
        let facts = known.facts(self.is_draining());
        for (rule, check) in decide::RULES {
            if let Err(rejection) = check(&facts) {
                told.refused = Some((rule, rejection));
                return Ok(told);
            }
            told.passed.push(rule);
        }
        self.explain_place(&decide::decide(&facts)?, asked.call_id, told, now).await
    }

    /// The part of `explain` that a real call decides after it is entered.
    async fn explain_place(
        &self,
        admitted: &Admitted,
        key: &str,
        mut told: Explanation,
        now: Timestamp,
    ) -> Result<Explanation, Rejection> {
        let used = self.limits.used(&admitted.account.id, now).await?;
        let slot = if used < admitted.account.concurrent_calls { Slot::Reserved } else { Slot::Full };
        let regions = self.regions.order(&admitted.number.region);
        let most = self.settings.most_choices;
        let search = Search { admin: admitted.account.admin, key, excluded: &[], most };
        let backends = self.select(&regions, search, now).await?;
        let facts = PlaceFacts { slot, region_open: !regions.is_empty(), candidates: backends.len() };
        let [line, region, backend] = decide::PLACE_RULES;
        let (passed, refused): (&[_], _) = match decide::place(facts) {
            Ok(()) => (&decide::PLACE_RULES, None),
            Err(reason @ Reason::PlanLimit) => (&[], Some((line, reason.into()))),
            Err(reason @ Reason::RegionOff) => (&decide::PLACE_RULES[..1], Some((region, reason.into()))),
            Err(reason) => (&decide::PLACE_RULES[..2], Some((backend, reason.into()))),
        };
        told.passed.extend(passed);
        told.refused = refused;
        told.backends = backends.iter().map(|status| status.id.clone()).collect();
        Ok(told)
    }

    async fn look_up(&self, asked: &Asked<'_>) -> Result<Known, Rejection> {
        let source = sender(asked.peer, asked.via, &self.settings.trusted_proxies)?;
        let standing = self.numbers.standing(source).await?;
        let identity = identify(asked, standing.uri_headers());
        let found = match &identity {
            Ok(identity) => self.numbers.look_up(identity, &standing).await?,
            Err(_) => Found::default(),
        };
        let follows_redirects = match decide::asks_for_proof(&standing, &found) {
            Some(trunk) => self.queue.redirects_followed(trunk).await?,
            None => false,
        };
        Ok(Known { standing, identity, found, follows_redirects })
    }

    fn new_entry(
        &self,
        asked: &Asked<'_>,
        admitted: &Admitted,
        now: Timestamp,
    ) -> Result<NewEntry, Rejection> {
        let number = &admitted.number;
        let terms = Terms {
            account: admitted.account.id.clone(),
            concurrent_calls: admitted.account.concurrent_calls,
            region: number.region.clone(),
            route: number.route.clone().ok_or(Reason::RouteMissing)?,
            codecs: number.codecs.clone(),
            answer_delay: number.answer_delay,
            max_duration: admitted.max_duration,
            mode: admitted.mode,
            proves: admitted.proves.clone(),
        };
        let caller = CallerKey::sip(asked.call_id, asked.from_tag)?;
        Ok(NewEntry {
            id: EntryId::new(now, &mut self.rng()),
            key: CallKey { business: number.business.clone(), phone: number.phone.clone(), caller },
            source: admitted.source,
            terms: Arc::new(terms),
            node: self.settings.node.clone(),
            cseq: asked.cseq,
            branch: asked.branch.into(),
            deadline: now + self.settings.token_life,
        })
    }

    /// Slot, selection and tokens for an entered call.
    async fn offer(
        &self,
        entry: &Entry,
        search: Search<'_>,
        now: Timestamp,
    ) -> Result<(Arc<Entry>, Vec<Choice>), Reason> {
        let life = self.settings.token_life;
        let limit = entry.terms.concurrent_calls;
        let ask = Ask { lease: entry.id, account: &entry.terms.account, limit, life };
        let slot = self.limits.reserve(ask, now).await.map_err(|_| Reason::StoreAway)?;
        let regions = self.regions.order(&entry.terms.region);
        let backends = match slot {
            Slot::Full => Vec::new(),
            Slot::Reserved => {
                let chosen = self.select(&regions, search, now).await;
                chosen.map_err(|rejection| rejection.reason)?
            }
        };
        decide::place(PlaceFacts { slot, region_open: !regions.is_empty(), candidates: backends.len() })?;
        let event = Event::Offer {
            node: self.settings.node.clone(),
            attempt: entry.attempt,
            backends: backends.iter().map(|status| status.id.clone()).collect(),
            until: now + life,
        };
        let entry = self.queue.apply(entry.id, &event, now).await.map_err(|error| error.reason())?;
        let choices = self.choices(&entry, backends);
        Ok((entry, choices))
    }

    async fn select(
        &self,
        regions: &[RegionId],
        Search { admin, key, excluded, most }: Search<'_>,
        now: Timestamp,
    ) -> Result<Vec<Arc<BackendStatus>>, Rejection> {
        let request = SelectionRequest { regions, admin, excluded, key, most };
        let statuses = match regions {
            [] => return Ok(Vec::new()),
            [only] => self.backends.list(Some(only), now).await?,
            _ => self.backends.list(None, now).await?,
        };
        Ok(self.selector.order(eligible(statuses, &request), &request, &mut self.rng()))
    }

    fn choices(&self, entry: &Entry, backends: Vec<Arc<BackendStatus>>) -> Vec<Choice> {
        let token = |backend: &BackendStatus| {
            self.tokens.sign(&Token {
                entry: entry.id,
                attempt: entry.attempt,
                region: backend.region.clone(),
                server: backend.id.clone(),
                expires: entry.offered_until,
                purpose: Purpose::Start,
            })
        };
        let falling = (1..=1000u16).rev().step_by(50);
        backends
            .into_iter()
            .zip(falling)
            .map(|(backend, q)| Choice { token: token(&backend), backend, q })
            .collect()
    }

    /// Ends an entry that this proxy still writes, and frees its slot.
    async fn end(&self, entry: &Entry, reason: Reason, now: Timestamp) -> Result<(), Reason> {
        let writer = Writer::Proxy { node: self.settings.node.clone(), attempt: entry.attempt };
        let ended = self.queue.apply(entry.id, &Event::End { writer, reason }, now).await;
        ended.map_err(|error| error.reason())?;
        if let Err(error) = self.limits.free(entry.id, now).await {
            tracing::warn!(entry = %entry.id, %error, "slot not freed; it expires by itself");
        }
        Ok(())
    }

    /// The same; whether it did.
    async fn end_or_leave(&self, entry: &Entry, reason: Reason, now: Timestamp) -> bool {
        let ended = self.end(entry, reason, now).await;
        if let Err(error) = &ended {
            tracing::warn!(entry = %entry.id, %error, "entry not ended; it expires by itself");
        }
        ended.is_ok()
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, fastrand::Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
