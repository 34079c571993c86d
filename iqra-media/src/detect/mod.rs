//! What is in the audio: tones.

pub mod goertzel;
