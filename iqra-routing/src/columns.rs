//! Values of this crate as columns of an SQL table, the same in every SQL store.

use crate::queue::State;
use crate::time::Timestamp;

/// A moment as a column: milliseconds since the Unix epoch.
pub(crate) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A 64-bit number as a column, bit for bit.
pub(crate) fn bits(number: u64) -> i64 {
    i64::from_ne_bytes(number.to_ne_bytes())
}

/// The number that [`bits`] stored.
#[cfg(feature = "sqlite")]
pub(crate) fn from_bits(column: i64) -> u64 {
    u64::from_ne_bytes(column.to_ne_bytes())
}

/// A state's name as it is stored.
pub(crate) fn state_name(state: State) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(&state)?.trim_matches('"').to_owned())
}
