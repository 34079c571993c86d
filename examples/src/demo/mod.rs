//! The demo's two parties: an agent that greets, listens, is interrupted and answers, and the phone that calls it.
//!
//! Both speak in notes rather than words, so that the demo needs no synthesiser and can tell by ear, that is by tone
//! detection, whether what was said came through.

pub mod agent;
pub mod phone;
pub mod report;
pub mod voice;
