//! Telephone audio for AI voice agents: from SDP and RTP packets to samples a conversation hears and speaks, and back.
//!
//! It does **not** speak SIP (`iqra-sip` carries the SDP as bytes), choose who takes a call (`iqra-routing`), or know
//! any provider or AI service (`iqra-providers`). Not supported: video, ICE beyond the lite side.
//!
//! The way in is [`sdp::answer`]: it says what was negotiated, and everything else is made from that.
//!
//! # The data path
//! ```text
//!  SDP offer ──▶ sdp::answer ──▶ Agreement ──▶ Negotiated {codec, payload types, packet time, remote, direction, keys}
//!
//!            net (sockets, ticks)                                          session, conversation
//!  datagram ──▶ rtp::srtp ──▶ rtp::source ──▶ rtp::reception ─┬─▶ jitter ──▶ codec ──▶ pcm::Resampler ──▶ heard
//!               authentic?    our peer?       which place?    │   even      decode    the AI's rate
//!                                                             └─▶ rtp::telephone_event ──▶ key presses
//!
//!  datagram ◀── rtp::srtp ◀── rtp::packet ◀─┬─ codec ◀── pcm::Resampler ◀── spoken
//!                                           └─ rtp::telephone_event ◀── keys to send
//!
//!  datagram ◀─▶ rtp::srtp ◀─▶ rtp::rtcp ──▶ quality: loss, round trip, marks of both directions
//! ```
//!
//! # Contract
//! - No module but `net` knows a socket, a clock or a thread: time comes in as an argument and never goes back, so a
//!   call runs the same on a virtual clock.
//! - Nothing that comes from the network panics. What is malformed is an error or dropped and counted.
//! - No allocation per packet or frame in steady state: buffers are the caller's or keep their memory.
//! - Everything that grows has a limit, a constant with its reason beside it.
//! - Durations of audio are RTP clock units in [`rtp`] and [`jitter`], samples in [`codec`], [`pcm`] and [`detect`].
//!
//! # Features
//! - `tokio` (default): `conversation`, the line between a call and its AI, and `net`, ports and media threads. Without
//!   it the protocol and audio modules build alone, without a runtime.
//! - `encryption`: recordings that are encrypted on disk (`session::recording::sealed`).
//! - `webrtc`: keys of SRTP by DTLS (`rtp::dtls`) and answers to the checks of ICE (`rtp::ice`), for far ends that
//!   speak as browsers do.
//! - `opus`: the codec Opus by libopus 1.6, which is built from source with CMake and a C compiler.
//! - `vad` (default): [`detect::voice::Earshot`](detect::voice), a voice detector by a small network.

pub mod codec;
#[cfg(feature = "tokio")]
pub mod conversation;
pub mod detect;
pub mod jitter;
#[cfg(feature = "tokio")]
pub mod net;
pub mod pcm;
pub mod quality;
pub mod rtp;
pub mod sdp;
#[cfg(feature = "tokio")]
pub mod session;
