//! The border between a call's audio and whoever talks on it.
//!
//! ```text
//!  media thread                                      the conversation's task
//!  session ── LineEnd ── frames, events ───────────▶ Hearing ──▶ ┌──────────────────┐
//!     ▲          └────── samples, marks, digits ◀─── Speaking ◀── │ ConversationSink │
//!  the leg's owner ◀──── commands ◀───────────────── Speaking ◀── └──────────────────┘
//! ```
//!
//! [`line()`] makes the three ends of one call: the [`Line`] for the conversation, the [`LineEnd`] for the media
//! thread, [`Commands`] for the leg's owner. No call on the [`LineEnd`] blocks, takes a lock or, once warm,
//! allocates; a slow conversation is the conversation's problem alone.

mod bridge;
mod collect;
mod command;
pub mod consent;
mod echo;
mod hearing;
mod lend;
mod line;
mod patch;
mod play;
mod playout;
mod queue;
mod record;
mod run;
mod sink;
mod speaking;
mod switch;
mod tone;
mod underruns;

pub use bridge::{Bridge, Bridged, Party};
pub use command::{Command, Commands, HangUpReason, TransferOutcome, TransferReply, TransferTarget};
pub use consent::Consent;
pub use echo::Echo;
pub use hearing::{AudioFrame, EndReason, Event, Heard, Hearing, HearingCounts};
pub use lend::{Lend, Lent};
pub use line::{Limits, Line, LineEnd, line};
pub use play::{Play, UnplayableFile};
pub use record::Record;
pub use run::{END_GRACE, run};
pub use sink::{
    AudioFormat, CallContext, ConversationFactory, ConversationSink, Direction, Formats, SinkError,
    SinkRefusal, UnsupportedRate,
};
pub use speaking::{Cleared, Extent, Mark, NotADigit, Played, Speaking, Utterance};
pub use switch::{RecordingWish, Secret};
pub use tone::Tone;
pub use underruns::SpeakingCounts;
