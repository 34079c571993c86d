//! What is different of relayed calls: their proxy ends them until the commit, goes from backend to backend, and has not
//! answered yet when another proxy sees a repeat.

use super::*;

/// Only what the proxy says of a call that is claimed differs.
#[test]
fn the_proxy_of_a_relayed_call_ends_it_until_the_commit() {
    use Cell::{No, Same, To};
    use Reason::{AlreadyAnswered as Answered, Finished};
    use State::{Canceled, Failed};
    let rows: [(&str, Event, [Cell; 8]); 2] = [
        (
            "failed by the proxy",
            by_proxy(Reason::NoBackend),
            [To(Failed), To(Failed), To(Failed), To(Failed), No(Answered), Same, No(Finished), No(Finished)],
        ),
        (
            "cancelled at the proxy",
            by_proxy(Reason::Cancelled),
            [
                To(Canceled),
                To(Canceled),
                To(Canceled),
                To(Canceled),
                No(Answered),
                No(Finished),
                Same,
                No(Finished),
            ],
        ),
    ];
    for (name, event, cells) in rows {
        for (state, expected) in State::ALL.into_iter().zip(cells) {
            assert_eq!(cell(&as_relayed(in_state(state)), &event, START), expected, "{name} in {state:?}");
        }
    }
    let over = after(&as_relayed(in_state(State::ProcessingBackend)), &by_proxy(Reason::Cancelled));
    assert_eq!(step(&over, &Event::Commit(expect(1)), START), Err(Reason::Finished));
    assert_eq!(step(&over, &claim(), START), Err(Reason::Finished));
    let late = Event::End {
        writer: Writer::Proxy { node: new().node, attempt: 2 },
        reason: Reason::RelaysExhausted,
    };
    assert_eq!(
        cell(&as_relayed(in_state(State::ProcessingBackend)), &late, START),
        No(Reason::Superseded),
        "of another attempt"
    );
}

#[test]
fn a_relayed_call_goes_from_backend_to_backend_and_one_that_was_given_up_cannot_commit() {
    let first = as_relayed(in_state(State::ProcessingBackend));
    let raised = after(&first, &raise());
    let again = |event: Event| match event {
        Event::Offer { node, backends, until, .. } => Event::Offer { node, attempt: 2, backends, until },
        Event::Claim { token, caller, holder, region } => {
            Event::Claim { token: Token { attempt: 2, ..token }, caller, holder, region }
        }
        other => other,
    };
    let offered = after(&raised, &again(offer_to(&["b2"])));
    assert_eq!(step(&offered, &Event::Commit(expect(1)), START), Err(Reason::Superseded));
    assert_eq!(step(&offered, &claim(), START), Err(Reason::Superseded), "nor claim with its old token");
    let claimed = after(&offered, &again(claim_by("b2", 6, &new().key.caller)));
    assert_eq!(step(&claimed, &Event::Commit(expect(1)), START), Err(Reason::Superseded));
    let owner = claimed.expect().unwrap();
    assert_eq!((owner.attempt, owner.claim_no), (2, 2));
    let answered = after(&claimed, &Event::Commit(owner));
    assert_eq!(step(&answered, &raise(), START), Err(Reason::AlreadyAnswered), "the answer stands");
}

/// A relayed call has its final answer when a backend's is forwarded, so its proxy is asked for longer.
#[test]
fn a_repeat_of_a_relayed_call_leaves_it_to_a_proxy_that_may_be_relaying() {
    let own = &new().branch;
    type Row<'a> = (u32, &'a str, &'a str, u64, Duration, Result<(), Option<Reason>>);
    let soon = Duration::from_millis(500);
    let rows: [Row<'_>; 8] = [
        (1, own, "p1", 1, soon, Err(None)),
        (1, own, "p2", 1, soon, Err(None)),
        (1, "other", "p1", 1, soon, Err(Some(Reason::Merged))),
        (1, "other", "p2", 1, soon, Err(Some(Reason::Merged))),
        (1, "other", "p1", 2, soon, Ok(())),
        (1, "other", "p2", 1, PROXY_LIFE, Ok(())),
        (1, "other", "p1", 1, PROXY_LIFE, Err(Some(Reason::Merged))),
        (2, "other", "p2", 1, soon, Ok(())),
    ];
    for state in [State::ProcessedProxy, State::ProcessingBackend] {
        let entry = as_relayed(in_state(state));
        for (cseq, branch, node, incarnation, later, expected) in &rows {
            let seen = match repeat(&entry, &request(2, *cseq, branch, node, *incarnation), START + *later) {
                Repeat::Adopt(_) => Ok(()),
                Repeat::Absorb => Err(None),
                Repeat::Refuse(reason) => Err(Some(reason)),
                Repeat::Same => panic!("another id is not the same insert"),
            };
            assert_eq!(
                seen, *expected,
                "{state:?} CSeq {cseq} {branch} by {node}.{incarnation} after {later:?}"
            );
        }
    }
}
