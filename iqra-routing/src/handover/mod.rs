//! From the proxy to the backend: the token, the table of what may follow what, the claim and the outcome.

pub mod claim;
pub mod outcome;
pub mod relay;
pub mod table;
pub mod token;
