//! What a store can fail with besides saying no: it is away, or it holds as much as it may.

/// A store could not do what its contract promises. The call hears 503 without Retry-After.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store could not be reached or answered with an error of its own.
    #[error("the {store} store did not answer: {why}; check that it is reachable and writable")]
    Away {
        /// Which store: `numbers`, `queue`, `limits` or `backends`.
        store: &'static str,
        /// What it said.
        why: String,
    },
    /// What the store holds for this key is not readable, for instance written by another version.
    #[error(
        "the {store} store holds something unreadable: {why}; check that every node runs the same version"
    )]
    Unreadable {
        /// Which store.
        store: &'static str,
        /// What could not be read.
        why: String,
    },
}
