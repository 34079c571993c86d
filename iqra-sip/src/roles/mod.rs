//! The roles an element plays above transactions and dialogs: a client that repeats what it is told to repeat, a
//! server that redirects, a proxy that relays (RFC 3261 §8.1.3, §8.3, §16).

pub mod advice;
pub mod redirect;
pub mod relay;
pub mod uac;
