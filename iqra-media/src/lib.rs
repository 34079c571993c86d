//! Telephone audio.

pub mod codec;
pub mod rtp;
pub mod sdp;
