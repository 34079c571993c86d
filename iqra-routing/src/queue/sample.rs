//! Values that suites and tests start from.

use std::sync::Arc;
use std::time::Duration;

use super::{CallKey, Mode, NewEntry, Node, Terms};
use crate::identity::{CallerKey, EntryId, Incarnation};
use crate::number;
use crate::source;
use crate::time::Timestamp;

/// The terms of a call to [`number::sample::number`], redirected.
pub fn terms() -> Terms {
    let (number, account) = (number::sample::number(), number::sample::account());
    Terms {
        account: account.id,
        concurrent_calls: account.concurrent_calls,
        region: number.region,
        route: number.route.expect("the sample number has a route"),
        codecs: number.codecs,
        answer_delay: Duration::ZERO,
        max_duration: None,
        mode: Mode::Redirect,
        proves: None,
    }
}

/// A new call with this Call-ID to [`number::sample::number`], from its trunk, by proxy `p1`.
///
/// # Panics
/// When `call_id` is no Call-ID.
pub fn new_entry(call_id: &str, deadline: Timestamp) -> NewEntry {
    let (number, trunk) = (number::sample::number(), number::sample::trunk());
    let from = "192.0.2.1".parse().expect("a test address");
    NewEntry {
        id: EntryId(1),
        source: source::check(from, &number, Some(&trunk)).expect("the trunk lists the address"),
        key: CallKey {
            business: number.business,
            phone: number.phone,
            caller: CallerKey::sip(call_id, "tag").expect("a test key"),
        },
        terms: Arc::new(terms()),
        node: Node { id: "p1".parse().expect("a test id"), incarnation: Incarnation(1) },
        cseq: 1,
        branch: "z9hG4bK1".into(),
        deadline,
    }
}
