//! Waiting for a condition, with a deadline: the only place of the harness that sleeps.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `check` until it gives a value and returns that.
///
/// # Panics
/// When `within` has passed; the message names `what` was awaited.
pub fn until<T>(what: &str, within: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}");
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_as_soon_as_there_is_one() {
        let mut left = 3;
        let value = until("a countdown", Duration::from_secs(5), || {
            left -= 1;
            (left == 0).then_some("done")
        });
        assert_eq!(value, "done");
    }

    #[test]
    #[should_panic(expected = "in vain for the moon")]
    fn names_what_did_not_come() {
        until("the moon", Duration::from_millis(20), || None::<()>);
    }
}
