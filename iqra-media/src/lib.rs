//! Telephone audio.

pub mod codec;
#[cfg(feature = "tokio")]
pub mod conversation;
pub mod detect;
pub mod jitter;
pub mod pcm;
pub mod rtp;
pub mod sdp;
