//! Third step of a call at the proxy: the decision, as a table of rules over facts that were looked up before.
//!
//! In: [`Facts`]. Out: an [`Admission`](Admitted) or the reason of the first rule that refuses. Pure, so `explain` runs
//! the same rules dry, and every rule is a row of the test.
//!
//! The order matters: a source that no list has hears 403 whatever it names, before it can learn what exists; and what
//! is looked up later (slot, region, backends) is decided by [`place`], when the entry exists.

use std::sync::Arc;
use std::time::Duration;

use crate::identity::{Identity, IdentityFault, TrunkId};
use crate::limits::Slot;
use crate::number::{Account, Found, HandOver, Number, Provider, Trunk};
use crate::queue::Mode;
use crate::reason::{Reason, Rejection};
use crate::source::{self, Standing, TrustedSource};

/// What is known of a call before it is entered.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Whether this node drains.
    pub draining: bool,
    /// What is known of the source.
    pub standing: &'a Standing,
    /// What the call asked for.
    pub identity: Result<&'a Identity, IdentityFault>,
    /// What the look-up found; empty when there was no identity.
    pub found: &'a Found,
    /// Whether the trunk that [`asks_for_proof`] names is known to follow redirects; false where it names none.
    pub follows_redirects: bool,
}

/// A call that may be entered.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The number.
    pub number: Arc<Number>,
    /// Who pays.
    pub account: Arc<Account>,
    /// Where it came from, checked.
    pub source: TrustedSource,
    /// How long it may last: the number's limit or what is left of the plan's minutes, whichever is shorter.
    pub max_duration: Option<Duration>,
    /// Whether the token goes into the user part of the Contact.
    pub token_in_user: bool,
    /// How it reaches its backend.
    pub mode: Mode,
    /// The trunk that this call shows to follow redirects if it is claimed.
    pub proves: Option<TrunkId>,
}

/// A rule: its name, as `explain` shows it, and its check.
pub type Rule = (&'static str, fn(&Facts<'_>) -> Result<(), Rejection>);

/// The rules before the entry, in order; the first that refuses decides.
pub const RULES: &[Rule] = &[
    ("the source is in some list, or the number takes any source", source_is_known),
    ("this node takes new calls", takes_calls),
    ("the request names a number", is_identified),
    ("the business exists", |facts| require(facts.found.business.is_some(), Reason::BusinessUnknown)),
    ("the business is active", |facts| {
        require(
            facts.found.business.as_ref().is_some_and(|business| business.active),
            Reason::BusinessInactive,
        )
    }),
    ("the number exists", |facts| require(facts.found.number.is_some(), Reason::NumberUnknown)),
    ("the number is reached by SIP", |facts| {
        require(number(facts).is_some_and(|number| number.provider == Provider::Sip), Reason::OtherProvider)
    }),
    ("the number has a route", |facts| {
        require(number(facts).is_some_and(|number| number.route.is_some()), Reason::RouteMissing)
    }),
    ("the source may call this number", |facts| trusted(facts).map(drop)),
    ("the number takes voice calls", |facts| {
        require(number(facts).is_some_and(|number| number.voice), Reason::VoiceDisabled)
    }),
    ("the account is active", |facts| {
        require(facts.found.account.as_ref().is_some_and(|account| account.active), Reason::AccountInactive)
    }),
    ("the account has minutes left", |facts| {
        let spent = facts.found.account.as_ref().is_some_and(|account| account.minutes_left == Some(0));
        require(!spent, Reason::MinutesSpent)
    }),
];

/// The rules after the entry, as `explain` shows them, in the order of [`place`].
pub const PLACE_RULES: [&str; 3] =
    ["the account has a free line", "the number's region takes calls", "a backend has room for the call"];

fn require(holds: bool, reason: Reason) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(reason.into()) }
}

fn number<'a>(facts: &Facts<'a>) -> Option<&'a Number> {
    facts.found.number.as_deref()
}

fn source_is_known(facts: &Facts<'_>) -> Result<(), Rejection> {
    let open = number(facts).is_some_and(|number| number.allow_any_source);
    require(facts.standing.is_listed() || open, Reason::SourceNotAllowed)
}

fn takes_calls(facts: &Facts<'_>) -> Result<(), Rejection> {
    require(!facts.draining, Reason::Draining)
}

/// A dialled number that was not found is `number_unknown`, not `business_unknown`: the call named no business.
fn is_identified(facts: &Facts<'_>) -> Result<(), Rejection> {
    match facts.identity {
        Err(fault) => Err(fault.into()),
        Ok(Identity::Dialled(_)) => require(facts.found.number.is_some(), Reason::NumberUnknown),
        Ok(Identity::Named { .. }) => Ok(()),
    }
}

fn trusted(facts: &Facts<'_>) -> Result<TrustedSource, Rejection> {
    let number = number(facts).ok_or(Reason::NumberUnknown)?;
    Ok(source::check(facts.standing.source, number, facts.found.trunk.as_deref())?)
}

/// The trunk that a call came from: its number's, where it lists the source.
fn trunk_of<'a>(standing: &Standing, found: &'a Found) -> Option<&'a Arc<Trunk>> {
    let trunk = found.trunk.as_ref()?;
    standing.trunks.iter().any(|listed| listed.id == trunk.id).then_some(trunk)
}

/// The trunk that has to be known to follow redirects for a call to be decided by [`HandOver::Auto`], or that a
/// redirected call of a number of its own mode would show to do so.
pub fn asks_for_proof<'a>(standing: &Standing, found: &'a Found) -> Option<&'a TrunkId> {
    let trunk = trunk_of(standing, found)?;
    let own = found.number.as_ref().and_then(|number| number.hand_over);
    [Some(trunk.hand_over), own].contains(&Some(HandOver::Auto)).then_some(&trunk.id)
}

/// How a call reaches its backend: as its number says, else its trunk, else by redirect. A caller that no trunk lists
/// is not known to follow anything.
fn mode(facts: &Facts<'_>) -> Mode {
    let own = number(facts).and_then(|number| number.hand_over);
    match own.or_else(|| facts.found.trunk.as_ref().map(|trunk| trunk.hand_over)).unwrap_or_default() {
        HandOver::Redirect => Mode::Redirect,
        HandOver::Auto if facts.follows_redirects => Mode::Redirect,
        HandOver::Auto | HandOver::Relay => Mode::Relay,
    }
}

/// Decides whether a call may be entered.
///
/// # Errors
/// The rejection of the first of [`RULES`] that refuses.
pub fn decide(facts: &Facts<'_>) -> Result<Admitted, Rejection> {
    for (_, check) in RULES {
        check(facts)?;
    }
    let number = facts.found.number.clone().ok_or(Reason::NumberUnknown)?;
    let account = facts.found.account.clone().ok_or(Reason::AccountInactive)?;
    let mode = mode(facts);
    let unproven = asks_for_proof(facts.standing, facts.found).filter(|_| !facts.follows_redirects);
    let left = account.minutes_left.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    Ok(Admitted {
        source: trusted(facts)?,
        max_duration: [number.max_duration, left].into_iter().flatten().min(),
        token_in_user: facts.found.trunk.as_ref().is_some_and(|trunk| trunk.token_in_user),
        proves: unproven.filter(|_| mode == Mode::Redirect).cloned(),
        mode,
        number,
        account,
    })
}

/// What is known once the call is entered.
#[derive(Debug, Clone, Copy)]
pub struct PlaceFacts {
    /// Whether the account had a slot free.
    pub slot: Slot,
    /// Whether the number's region is known and takes calls.
    pub region_open: bool,
    /// How many backends may take the call.
    pub candidates: usize,
}

/// Decides whether an entered call can be placed.
///
/// # Errors
/// [`Reason::PlanLimit`], [`Reason::RegionOff`] or [`Reason::NoBackend`].
pub fn place(facts: PlaceFacts) -> Result<(), Reason> {
    match facts {
        PlaceFacts { slot: Slot::Full, .. } => Err(Reason::PlanLimit),
        PlaceFacts { region_open: false, .. } => Err(Reason::RegionOff),
        PlaceFacts { candidates: 0, .. } => Err(Reason::NoBackend),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Dialled;
    use crate::number::{Business, sample};
    use crate::source::Admitted as By;

    /// Everything that a call is decided by, ready to be spoilt.
    struct World {
        draining: bool,
        standing: Standing,
        identity: Result<Identity, IdentityFault>,
        found: Found,
        follows_redirects: bool,
    }

    impl World {
        /// A call that is admitted.
        fn good() -> Self {
            let trunk = Arc::new(sample::trunk());
            Self {
                draining: false,
                standing: Standing {
                    source: "192.0.2.1".parse().unwrap(),
                    trunks: vec![trunk.clone()],
                    in_a_number_list: false,
                },
                identity: Ok(Identity::Named {
                    business: "7".parse().unwrap(),
                    phone: "desk".parse().unwrap(),
                }),
                found: Found {
                    business: Some(Arc::new(sample::business())),
                    account: Some(Arc::new(sample::account())),
                    number: Some(Arc::new(sample::number())),
                    trunk: Some(trunk),
                },
                follows_redirects: false,
            }
        }

        fn unlist(&mut self) {
            self.standing.trunks.clear();
            self.standing.source = "203.0.113.1".parse().unwrap();
        }

        fn number(&mut self, change: impl FnOnce(&mut Number)) {
            change(Arc::make_mut(self.found.number.as_mut().unwrap()));
        }

        fn account(&mut self, change: impl FnOnce(&mut Account)) {
            change(Arc::make_mut(self.found.account.as_mut().unwrap()));
        }

        fn decide(&self) -> Result<Admitted, Rejection> {
            decide(&Facts {
                draining: self.draining,
                standing: &self.standing,
                identity: self.identity.as_ref().map_err(|fault| *fault),
                found: &self.found,
                follows_redirects: self.follows_redirects,
            })
        }
    }

    type Row = (&'static str, fn(&mut World), Reason);

    const TABLE: &[Row] = &[
        ("unlisted source", World::unlist, Reason::SourceNotAllowed),
        ("draining", |w| w.draining = true, Reason::Draining),
        ("malformed identity", |w| w.identity = Err(IdentityFault::HalfNamed), Reason::Malformed),
        ("business missing", |w| w.found.business = None, Reason::BusinessUnknown),
        (
            "business inactive",
            |w| w.found.business = Some(Arc::new(Business { active: false, ..sample::business() })),
            Reason::BusinessInactive,
        ),
        ("number missing", |w| w.found.number = None, Reason::NumberUnknown),
        (
            "dialled number missing",
            |w| {
                w.identity = Ok(Identity::Dialled(Dialled::parse("999").unwrap()));
                w.found = Found::default();
            },
            Reason::NumberUnknown,
        ),
        ("other provider", |w| w.number(|n| n.provider = Provider::Twilio), Reason::OtherProvider),
        ("no route", |w| w.number(|n| n.route = None), Reason::RouteMissing),
        (
            "source of another trunk",
            |w| w.standing.source = "198.51.100.1".parse().unwrap(),
            Reason::SourceNotAllowed,
        ),
        ("no list at all", |w| w.found.trunk = None, Reason::SourceNotAllowed),
        ("voice disabled", |w| w.number(|n| n.voice = false), Reason::VoiceDisabled),
        ("account missing", |w| w.found.account = None, Reason::AccountInactive),
        ("account inactive", |w| w.account(|a| a.active = false), Reason::AccountInactive),
        ("minutes spent", |w| w.account(|a| a.minutes_left = Some(0)), Reason::MinutesSpent),
    ];

    #[test]
    fn each_rule_refuses_with_its_reason() {
        for (name, spoil, reason) in TABLE {
            let mut world = World::good();
            spoil(&mut world);
            assert_eq!(world.decide().map(drop).map_err(|r| r.reason), Err(*reason), "{name}");
        }
        assert!(World::good().decide().is_ok());
    }

    #[test]
    fn an_unlisted_source_hears_403_whatever_else_is_wrong() {
        for (name, spoil, _) in TABLE {
            let mut world = World::good();
            spoil(&mut world);
            world.unlist();
            assert_eq!(world.decide().unwrap_err().reason, Reason::SourceNotAllowed, "{name}");
        }
    }

    #[test]
    fn a_number_that_takes_any_source_admits_an_unlisted_one() {
        let mut world = World::good();
        world.number(|n| n.allow_any_source = true);
        world.unlist();
        assert_eq!(world.decide().unwrap().source.rule(), By::ByAnySource);
    }

    #[test]
    fn the_shorter_of_number_limit_and_minutes_left_counts() {
        let mut world = World::good();
        assert_eq!(world.decide().unwrap().max_duration, None);
        world.account(|a| a.minutes_left = Some(2));
        assert_eq!(world.decide().unwrap().max_duration, Some(Duration::from_secs(120)));
        world.number(|n| n.max_duration = Some(Duration::from_secs(30)));
        assert_eq!(world.decide().unwrap().max_duration, Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_mode_is_the_number_s_else_the_trunk_s_and_auto_needs_a_proof() {
        use HandOver::{Auto, Redirect, Relay};
        // the trunk's, the number's, whether the trunk is proven: the mode, and whether the call proves the trunk
        type Row = (HandOver, Option<HandOver>, bool, Mode, bool);
        let rows: [Row; 14] = [
            (Redirect, None, false, Mode::Redirect, false),
            (Redirect, Some(Relay), false, Mode::Relay, false),
            (Redirect, Some(Auto), false, Mode::Relay, false),
            (Redirect, Some(Auto), true, Mode::Redirect, false),
            (Relay, None, false, Mode::Relay, false),
            (Relay, None, true, Mode::Relay, false),
            (Relay, Some(Redirect), false, Mode::Redirect, false),
            (Relay, Some(Auto), true, Mode::Redirect, false),
            (Auto, None, false, Mode::Relay, false),
            (Auto, None, true, Mode::Redirect, false),
            (Auto, Some(Redirect), false, Mode::Redirect, true),
            (Auto, Some(Redirect), true, Mode::Redirect, false),
            (Auto, Some(Relay), false, Mode::Relay, false),
            (Auto, Some(Relay), true, Mode::Relay, false),
        ];
        for (of_trunk, of_number, proven, mode, proves) in rows {
            let mut world = World::good();
            let trunk = Arc::new(Trunk { hand_over: of_trunk, ..sample::trunk() });
            (world.standing.trunks, world.found.trunk) = (vec![trunk.clone()], Some(trunk.clone()));
            world.number(|number| number.hand_over = of_number);
            world.follows_redirects = proven;
            let decided = world.decide().unwrap();
            let row = (of_trunk, of_number, proven);
            assert_eq!((decided.mode, decided.proves), (mode, proves.then(|| trunk.id.clone())), "{row:?}");
            let asked = of_trunk == Auto || of_number == Some(Auto);
            assert_eq!(asks_for_proof(&world.standing, &world.found).is_some(), asked, "{row:?}");
        }
    }

    #[test]
    fn a_source_that_the_trunk_does_not_list_neither_has_its_proof_nor_gives_one() {
        let mut world = World::good();
        world.found.trunk = Some(Arc::new(Trunk { hand_over: HandOver::Auto, ..sample::trunk() }));
        world.number(|number| number.allow_any_source = true);
        world.unlist();
        assert_eq!(asks_for_proof(&world.standing, &world.found), None);
        assert_eq!(world.decide().unwrap().mode, Mode::Relay);
        world.number(|number| number.hand_over = Some(HandOver::Redirect));
        assert_eq!(world.decide().unwrap().proves, None);
    }

    #[test]
    fn placing_refuses_in_order() {
        let good = PlaceFacts { slot: Slot::Reserved, region_open: true, candidates: 1 };
        let rows = [
            (good, Ok(())),
            (PlaceFacts { slot: Slot::Full, region_open: false, candidates: 0 }, Err(Reason::PlanLimit)),
            (PlaceFacts { region_open: false, candidates: 0, ..good }, Err(Reason::RegionOff)),
            (PlaceFacts { candidates: 0, ..good }, Err(Reason::NoBackend)),
        ];
        for (facts, verdict) in rows {
            assert_eq!(place(facts), verdict, "{facts:?}");
        }
    }
}
