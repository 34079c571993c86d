//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `check` until it gives a value and returns that.
///
/// # Panics
/// When `within` has passed; the message names `what` was awaited.
pub fn until<T>(what: &str, within: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    until_ok(what, within, || check().ok_or("nothing of it"))
}

/// As [`until`], for a `check` that tells how things stand instead.
///
/// # Panics
/// When `within` has passed; the message holds the last thing that `check` told.
pub fn until_ok<T, E: std::fmt::Debug>(
    what: &str,
    within: Duration,
    check: impl FnMut() -> Result<T, E>,
) -> T {
    until_ok_every(INTERVAL, what, within, check)
}

/// As [`until_ok`], for a `check` that takes the machine some time, with a pause between two looks.
///
/// # Panics
/// As [`until_ok`].
pub fn until_ok_every<T, E: std::fmt::Debug>(
    pause: Duration,
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match check() {
            Ok(value) => return value,
            Err(state) => {
                assert!(Instant::now() < deadline, "waited {within:?} in vain for {what}: {state:?}");
            }
        }
        std::thread::sleep(pause);
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
