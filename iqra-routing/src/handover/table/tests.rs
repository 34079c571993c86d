//! The table of [`super`], cell by cell: every event in every state, and what it leaves or answers.

use std::sync::Arc;
use std::time::Duration;

use crate::handover::outcome::{CallRecord, EndedBy, Outcome};
use crate::handover::table::{CLAIM_LIFE, Event, Expect, PROXY_LIFE, Repeat, Writer, repeat, step};
use crate::handover::token::{Purpose, Token};
use crate::identity::{BackendId, CallerKey, EntryId, Incarnation};
use crate::queue::{Entry, Holder, MAX_LOG, Mode, NewEntry, Node, State, Terms, sample};
use crate::reason::Reason;
use crate::time::Timestamp;

mod relayed;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIFE: Duration = Duration::from_secs(30);

fn new() -> NewEntry {
    sample::new_entry("call", START + LIFE)
}

fn expect(claim_no: u32) -> Expect {
    Expect { attempt: 1, claim_no, incarnation: Incarnation(5) }
}

fn offer_to(backends: &[&str]) -> Event {
    let backends = backends.iter().map(|id| id.parse().unwrap()).collect();
    Event::Offer { node: new().node, attempt: 1, backends, until: START + LIFE }
}

fn offer() -> Event {
    offer_to(&["b1", "b2"])
}

fn raise() -> Event {
    Event::Raise { node: new().node, attempt: 1 }
}

fn token(server: &str) -> Token {
    Token {
        entry: EntryId(1),
        attempt: 1,
        region: "eu".parse().unwrap(),
        server: server.parse().unwrap(),
        expires: START + LIFE,
        purpose: Purpose::Start,
    }
}

fn claim_by(backend: &str, incarnation: u64, caller: &CallerKey) -> Event {
    let holder = Holder { backend: backend.parse().unwrap(), incarnation: Incarnation(incarnation) };
    Event::Claim { token: token(backend), caller: caller.clone(), holder, region: "eu".parse().unwrap() }
}

fn claim() -> Event {
    claim_by("b1", 5, &new().key.caller)
}

fn release(claim_no: u32, status: u16) -> Event {
    Event::Release { expect: expect(claim_no), status, reason: Reason::BackendFull }
}

fn by_proxy(reason: Reason) -> Event {
    Event::End { writer: Writer::Proxy { node: new().node, attempt: 1 }, reason }
}

fn by_owner(reason: Reason) -> Event {
    Event::End { writer: Writer::Owner(expect(1)), reason }
}

fn finish(outcome: Outcome) -> Event {
    Event::Finish { expect: expect(1), outcome }
}

const DONE: Outcome = Outcome::Completed(EndedBy::Caller);

fn after_at(entry: &Entry, event: &Event, now: Timestamp) -> Entry {
    step(entry, event, now).unwrap().unwrap_or_else(|| entry.clone())
}

fn after(entry: &Entry, event: &Event) -> Entry {
    after_at(entry, event, START)
}

/// A call in this state, along the shortest way there.
fn in_state(state: State) -> Entry {
    let begun = Entry::begin(&new(), START);
    let way = match state {
        State::Queued => return Entry { state, ..begun },
        State::ProcessingProxy => vec![],
        State::ProcessedProxy => vec![offer()],
        State::ProcessingBackend => vec![offer(), claim()],
        State::ProcessedBackend => vec![offer(), claim(), Event::Commit(expect(1))],
        State::Failed => vec![by_proxy(Reason::NoBackend)],
        State::Canceled => vec![by_proxy(Reason::Cancelled)],
        State::Expired => return after_at(&begun, &Event::Expire, START + LIFE),
    };
    let entry = way.iter().fold(begun, |entry, event| after(&entry, event));
    assert_eq!(entry.state, state);
    entry
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Cell {
    /// The state after it.
    To(State),
    /// It succeeds and changes nothing.
    Same,
    /// It is refused.
    No(Reason),
}

fn cell(entry: &Entry, event: &Event, now: Timestamp) -> Cell {
    match step(entry, event, now) {
        Ok(Some(next)) => Cell::To(next.state),
        Ok(None) => Cell::Same,
        Err(reason) => Cell::No(reason),
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    use Cell::{No, Same, To};
    use Reason::{AlreadyAnswered as Answered, Finished, Superseded as Late, TokenExpired};
    use State::{
        Canceled, Expired, Failed, ProcessedBackend, ProcessedProxy, ProcessingBackend, ProcessingProxy,
    };
    // In the order of State::ALL: queued, deciding, offered, claimed, committed, failed, canceled, expired.
    let rows: [(&str, Event, [Cell; 8]); 12] = [
        (
            "offer",
            offer_to(&["b3"]),
            [
                To(ProcessedProxy),
                To(ProcessedProxy),
                To(ProcessedProxy),
                To(ProcessingBackend),
                No(Answered),
                No(Finished),
                No(Finished),
                No(Finished),
            ],
        ),
        (
            "raise",
            raise(),
            [
                To(ProcessingProxy),
                To(ProcessingProxy),
                To(ProcessingProxy),
                To(ProcessingProxy),
                No(Answered),
                No(Finished),
                No(Finished),
                No(Finished),
            ],
        ),
        (
            "claim",
            claim(),
            [
                No(Late),
                No(Late),
                To(ProcessingBackend),
                Same,
                No(Answered),
                No(Finished),
                No(Finished),
                No(TokenExpired),
            ],
        ),
        (
            "commit",
            Event::Commit(expect(1)),
            [
                No(Late),
                No(Late),
                No(Late),
                To(ProcessedBackend),
                Same,
                No(Finished),
                No(Finished),
                No(Finished),
            ],
        ),
        (
            "release with 503",
            release(1, 503),
            [
                No(Late),
                No(Late),
                No(Late),
                To(ProcessedProxy),
                No(Late),
                No(Finished),
                No(Finished),
                No(Finished),
            ],
        ),
        (
            "release with 603",
            release(1, 603),
            [No(Late), No(Late), No(Late), To(Failed), No(Late), No(Finished), No(Finished), No(Finished)],
        ),
        (
            "release with 407",
            release(1, 407),
            [No(Late), No(Late), No(Late), Same, No(Late), No(Finished), No(Finished), No(Finished)],
        ),
        (
            "failed by the proxy",
            by_proxy(Reason::NoBackend),
            [To(Failed), To(Failed), To(Failed), No(Late), No(Answered), Same, No(Finished), No(Finished)],
        ),
        (
            "cancelled at the proxy",
            by_proxy(Reason::Cancelled),
            [
                To(Canceled),
                To(Canceled),
                To(Canceled),
                No(Late),
                No(Answered),
                No(Finished),
                Same,
                No(Finished),
            ],
        ),
        (
            "cancelled at the backend",
            by_owner(Reason::Cancelled),
            [No(Late), No(Late), No(Late), To(Canceled), No(Answered), No(Finished), Same, No(Finished)],
        ),
        (
            "expire, not due",
            Event::Expire,
            [No(Late), No(Late), No(Late), No(Late), No(Answered), No(Finished), No(Finished), Same],
        ),
        (
            "finish",
            finish(DONE),
            [
                No(Late),
                No(Late),
                No(Late),
                No(Late),
                To(ProcessedBackend),
                No(Finished),
                No(Finished),
                No(Finished),
            ],
        ),
    ];
    for (name, event, cells) in rows {
        for (state, expected) in State::ALL.into_iter().zip(cells) {
            assert_eq!(cell(&in_state(state), &event, START), expected, "{name} in {state:?}");
        }
    }
    let due = START + CLAIM_LIFE;
    for state in State::ALL.into_iter().filter(|state| state.is_uncommitted()) {
        assert_eq!(cell(&in_state(state), &Event::Expire, due), To(Expired), "{state:?} when due");
    }
}

/// The same call, relayed.
fn as_relayed(entry: Entry) -> Entry {
    Entry { terms: Arc::new(Terms { mode: Mode::Relay, ..sample::terms() }), ..entry }
}

#[test]
fn what_was_applied_can_be_repeated() {
    let rows: [(Vec<Event>, Event); 8] = [
        (vec![], offer()),
        (vec![], raise()),
        (vec![offer()], claim()),
        (vec![offer(), claim()], Event::Commit(expect(1))),
        (vec![offer(), claim()], release(1, 503)),
        (vec![offer(), claim()], release(1, 603)),
        (vec![offer(), claim()], by_owner(Reason::Cancelled)),
        (vec![offer(), claim(), Event::Commit(expect(1))], finish(DONE)),
    ];
    for (way, event) in rows {
        let entry = way.iter().fold(Entry::begin(&new(), START), |entry, event| after(&entry, event));
        let once = after(&entry, &event);
        assert_ne!(once, entry);
        assert_eq!(step(&once, &event, START + PROXY_LIFE), Ok(None), "{event:?}");
    }
}

#[test]
fn another_caller_server_region_or_a_late_one_cannot_claim() {
    let offered = in_state(State::ProcessedProxy);
    let refused = |entry: &Entry, event: &Event, now| step(entry, event, now).expect_err("refused");
    let other = CallerKey::sip("other", "tag").unwrap();
    assert_eq!(
        refused(&in_state(State::ProcessingBackend), &claim_by("b1", 5, &other), START),
        Reason::ClaimedByAnother
    );
    let mut claims: Vec<Event> = vec![claim(), claim(), claim()];
    if let [Event::Claim { holder, .. }, Event::Claim { region, .. }, Event::Claim { token, .. }] =
        &mut claims[..]
    {
        holder.backend = "b2".parse().unwrap();
        *region = "us".parse().unwrap();
        token.attempt = 2;
    }
    let reasons: Vec<_> = claims.iter().map(|claim| refused(&offered, claim, START)).collect();
    assert_eq!(reasons, [Reason::WrongServer, Reason::WrongServer, Reason::Superseded]);
    let last = START + LIFE;
    assert!(step(&offered, &claim(), last).is_ok());
    assert_eq!(refused(&offered, &claim(), last + Duration::from_millis(1)), Reason::TokenExpired);
}

#[test]
fn the_caller_stays_bound_after_a_release() {
    let released = after(&in_state(State::ProcessingBackend), &release(1, 503));
    let other = CallerKey::sip("other", "tag").unwrap();
    assert_eq!(step(&released, &claim_by("b2", 6, &other), START), Err(Reason::ClaimedByAnother));
    let again = after(&released, &claim_by("b2", 6, &new().key.caller));
    assert_eq!((again.state, again.claim_no), (State::ProcessingBackend, 2));
}

#[test]
fn the_same_caller_takes_an_uncommitted_claim_over_and_the_displaced_backend_cannot_commit() {
    let claimed = in_state(State::ProcessingBackend);
    for taker in [claim_by("b2", 9, &new().key.caller), claim_by("b1", 6, &new().key.caller)] {
        let taken = after(&claimed, &taker);
        assert_eq!(taken.claim_no, 2);
        assert_eq!(step(&taken, &Event::Commit(expect(1)), START), Err(Reason::Superseded));
        let owner = taken.expect().unwrap();
        assert_eq!(after(&taken, &Event::Commit(owner)).state, State::ProcessedBackend);
    }
}

#[test]
fn a_raised_attempt_voids_tokens_and_claims() {
    let raised = after(&in_state(State::ProcessingBackend), &raise());
    assert_eq!((raised.attempt, raised.state), (2, State::ProcessingProxy));
    assert_eq!(step(&raised, &Event::Commit(expect(1)), START), Err(Reason::Superseded));
    assert_eq!(step(&raised, &claim(), START), Err(Reason::Superseded));
}

#[test]
fn the_last_contact_that_gives_a_call_back_ends_it_unless_it_is_relayed() {
    let caller = new().key.caller;
    let first = after(&in_state(State::ProcessingBackend), &release(1, 486));
    let second = after(&first, &claim_by("b2", 5, &caller));
    let end = after(&second, &release(2, 486));
    assert_eq!((end.state, end.reason), (State::Failed, Some(Reason::BackendFull)));
    let relayed = after(&as_relayed(second.clone()), &release(2, 486));
    assert_eq!(relayed.state, State::ProcessedProxy);
    let late = START + LIFE;
    assert_eq!(after_at(&in_state(State::ProcessingBackend), &release(1, 486), late).state, State::Failed);
}

#[test]
fn only_a_provider_or_a_resume_token_goes_on_with_an_answered_call_and_only_at_its_owner() {
    let answered = in_state(State::ProcessedBackend);
    let mut resume = claim();
    if let Event::Claim { token, .. } = &mut resume {
        token.purpose = Purpose::Resume;
    }
    assert_eq!(step(&answered, &resume, START + LIFE * 2), Ok(None));
    assert_eq!(step(&in_state(State::ProcessedProxy), &resume, START), Err(Reason::Superseded));
    let provider = CallerKey::provider("account", "call").unwrap();
    let way = [offer(), claim_by("b1", 5, &provider), Event::Commit(expect(1))];
    let streaming = way.iter().fold(Entry::begin(&new(), START), |entry, event| after(&entry, event));
    assert_eq!(step(&streaming, &claim_by("b1", 5, &provider), START), Ok(None));
    assert_eq!(step(&streaming, &claim_by("b2", 5, &provider), START), Err(Reason::AlreadyAnswered));
    assert_eq!(step(&after(&streaming, &finish(DONE)), &resume, START), Err(Reason::Finished));
}

#[test]
fn the_outcome_is_written_once_and_a_lost_one_is_corrected_once() {
    let ended = START + Duration::from_secs(90);
    let lost = after_at(&in_state(State::ProcessedBackend), &finish(Outcome::Lost), ended);
    let corrected = after(&lost, &finish(DONE));
    assert_eq!((corrected.outcome, corrected.correction), (Some(Outcome::Lost), Some(DONE)));
    assert_eq!(step(&corrected, &finish(DONE), START), Ok(None));
    let other = finish(Outcome::Completed(EndedBy::Network));
    assert_eq!(step(&corrected, &other, START), Err(Reason::Finished));
    let record = CallRecord::of(&corrected).unwrap();
    assert_eq!((record.outcome, record.talked), (Some(DONE), Duration::from_secs(90)));
    assert_eq!(CallRecord::of(&in_state(State::ProcessedBackend)), None);
}

fn request(id: u128, cseq: u32, branch: &str, node: &str, incarnation: u64) -> NewEntry {
    let node = Node { id: node.parse().unwrap(), incarnation: Incarnation(incarnation) };
    NewEntry { id: EntryId(id), cseq, branch: branch.into(), node, ..new() }
}

#[test]
fn a_repeat_is_absorbed_merged_adopted_or_late() {
    let own = &new().branch;
    // state, CSeq, branch, proxy, its start, after so long: what becomes of it
    type Row<'a> = (State, u32, &'a str, &'a str, u64, Duration, Result<(), Option<Reason>>);
    let soon = Duration::from_millis(500);
    let rows: [Row<'_>; 14] = [
        (State::ProcessingProxy, 1, own, "p1", 1, soon, Err(None)),
        (State::ProcessingProxy, 1, own, "p2", 1, soon, Err(None)),
        (State::ProcessingProxy, 1, "other", "p1", 1, soon, Err(Some(Reason::Merged))),
        (State::ProcessingProxy, 1, "other", "p2", 1, soon, Err(Some(Reason::Merged))),
        (State::ProcessingProxy, 1, "other", "p1", 2, soon, Ok(())),
        (State::ProcessingProxy, 1, "other", "p2", 1, PROXY_LIFE, Ok(())),
        (State::ProcessingProxy, 2, "other", "p1", 1, soon, Ok(())),
        (State::ProcessedProxy, 1, "other", "p1", 1, soon, Err(Some(Reason::Merged))),
        (State::ProcessedProxy, 1, "other", "p2", 1, soon, Ok(())),
        (State::ProcessedProxy, 2, "other", "p1", 1, soon, Ok(())),
        (State::ProcessedProxy, 0, "other", "p1", 1, soon, Err(Some(Reason::Merged))),
        (State::ProcessingBackend, 2, "other", "p1", 1, soon, Ok(())),
        (State::ProcessedBackend, 1, own, "p1", 1, soon, Err(Some(Reason::AlreadyAnswered))),
        (State::ProcessedBackend, 2, "other", "p1", 1, soon, Err(Some(Reason::AlreadyAnswered))),
    ];
    for (state, cseq, branch, node, incarnation, later, expected) in rows {
        let entry = in_state(state);
        let seen = match repeat(&entry, &request(2, cseq, branch, node, incarnation), START + later) {
            Repeat::Adopt(adopted) => {
                assert_eq!((adopted.id, adopted.attempt, adopted.state), (entry.id, entry.attempt, state));
                assert_eq!((adopted.cseq, &*adopted.branch), (cseq, branch));
                Ok(())
            }
            Repeat::Absorb => Err(None),
            Repeat::Refuse(reason) => Err(Some(reason)),
            Repeat::Same => panic!("another id is not the same insert"),
        };
        assert_eq!(seen, expected, "{state:?} CSeq {cseq} {branch} by {node}.{incarnation} after {later:?}");
    }
    assert_eq!(repeat(&in_state(State::ProcessedProxy), &new(), START), Repeat::Same);
}

#[test]
fn an_adopted_call_is_offered_again_at_the_same_attempt_and_its_former_proxy_writes_no_more() {
    let entry = in_state(State::ProcessedProxy);
    let other = request(2, 2, "b", "p2", 1);
    let Repeat::Adopt(adopted) = repeat(&entry, &other, START) else { panic!("a higher CSeq adopts") };
    let backends: Arc<[BackendId]> = ["b3".parse().unwrap()].into();
    let again = Event::Offer { node: other.node, attempt: 1, backends, until: START + LIFE * 2 };
    let offered = after(&adopted, &again);
    assert_eq!((offered.attempt, offered.offered_until), (1, START + LIFE * 2));
    assert_eq!(step(&adopted, &by_proxy(Reason::NoBackend), START), Err(Reason::Superseded));
}

#[test]
fn the_log_is_bounded() {
    let mut entry = in_state(State::ProcessedProxy);
    for n in 0..100u64 {
        let event = Event::Offer {
            node: new().node,
            attempt: 1,
            backends: [].into(),
            until: Timestamp::from_millis(n),
        };
        entry = after(&entry, &event);
    }
    assert_eq!(entry.log.len(), MAX_LOG);
    assert_eq!(entry.log.len() + entry.log_dropped as usize, 102);
}
