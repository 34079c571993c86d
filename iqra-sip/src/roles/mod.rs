//! The parts that a SIP element plays beyond those of an endpoint (RFC 3261 §8.1.3.4, §8.3, §16).

pub mod uac;
