//! Telephone audio.

pub mod codec;
pub mod detect;
pub mod jitter;
pub mod pcm;
pub mod rtp;
pub mod sdp;
