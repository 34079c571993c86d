//! Telephone audio.

pub mod codec;
pub mod jitter;
pub mod rtp;
pub mod sdp;
