//! Tests of the programs and of `iqra_sip::net` against real programs, unchanged, over loopback.
//!
//! This crate is the harness; the scenarios are in `tests/`, one family per file, and `scenarios/` (sipp).
//! What a test needs is a module each:
//!
//! ```text
//!  tests/*.rs ─┬─ ours      builds and starts the programs under test, reads their ready and counts lines
//!              ├─ endpoint  our SIP endpoint in this process, the other end of what a peer does; registrar lets peers in
//!              ├─ media     our media side: a driver's session that plays a melody, hears another, and keys
//!              ├─ talks     calls with a phone in which both sides hear each other's melody and keys
//!              ├─ sipp      runs a scenario, bounded in calls and time, and reads its statistics
//!              ├─ rtpengine between two sides: takes SRTP off and puts it on, transcodes
//!              ├─ kamailio  a proxy and registrar with a configuration of the test's own; pki makes certificates
//!              ├─ phone     what every phone of others does, and the calls that go the same way with each of them
//!              ├─ baresip   a headless phone: dial, hang up, the recording of what it heard
//!              ├─ linphone  another, by its console; jssip, a third, over WebSocket
//!              ├─ postgres  a server of its own, stopped and started again; SQL to it by psql
//!              ├─ caller    a scripted caller over a bare socket, for what no real program would send
//!              ├─ rtp       one side of a G.711 stream with known content
//!              ├─ relay     a UDP path that loses, repeats, reorders and delays, seeded and counted
//!              └─ audio     makes tones and sweeps and finds them again; melody, notes in their order; g711 is its own
//!                           coding of both laws
//!  below:         program (start, wait for a line, stop), ports, scratch, wait
//! ```
//!
//! Apart from `endpoint`, `media`, `registrar`, `phone`, `talks` and `pki`, which are our side, the harness shares no code with the crates
//! under test, so that a common mistake cannot hide: its SIP text and its G.711 are its own. It panics when something is
//! not as expected, with the output of the programs: it has no other user than tests. A missing program is such a panic,
//! naming the Debian package; nothing is skipped.
//!
//! Nothing leaves loopback. Every wait has a deadline.

pub mod audio;
pub mod baresip;
pub mod caller;
pub mod endpoint;
pub mod ffmpeg;
pub mod g711;
pub mod jssip;
pub mod kamailio;
pub mod kernel_time;
pub mod linphone;
pub mod media;
pub mod melody;
pub mod ours;
pub mod phone;
pub mod pjsua2;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod program;
pub mod registrar;
pub mod relay;
pub mod rtp;
pub mod rtpengine;
pub mod scratch;
pub mod sip_text;
pub mod sipp;
pub mod talks;
pub mod wait;
