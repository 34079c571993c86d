//! What happened in the demo's call, for a person to read.

use std::fmt::{self, Write as _};
use std::time::Duration;

use iqra_providers::sip::CallReport;

use super::agent::AgentNotes;
use super::phone::{KEYS, PhoneNotes};

/// Everything that is known when the demo's call is over.
#[derive(Debug)]
pub struct DemoReport {
    /// The SIP messages of the call as a ladder.
    pub ladder: String,
    /// From the first INVITE to the answer.
    pub set_up: Option<Duration>,
    /// How the call ended, as the phone saw it.
    pub end: String,
    /// What the backend saw; `None` when it never answered.
    pub backend: Option<CallReport>,
    /// What the phone heard.
    pub phone: PhoneNotes,
    /// What the agent noticed.
    pub agent: AgentNotes,
    /// Where the recording is.
    pub recording: std::path::PathBuf,
}

impl DemoReport {
    /// Whether the call did everything that it should: this decides the exit status.
    #[must_use]
    pub fn worked(&self) -> bool {
        let packets = self.backend.as_ref().and_then(|report| report.media.as_ref());
        self.phone.worked()
            && self.agent.interrupted_after.is_some()
            && self.agent.keys_heard as usize == KEYS.len()
            && packets.is_some_and(|media| media.packets_received > 0 && media.packets_sent > 0)
    }

    fn heard(&self) -> String {
        let mut text = String::new();
        let phone = &self.phone;
        let mut step = |done: bool, what: &str, when: Option<Duration>| {
            let mark = if done { "yes" } else { "NO " };
            let when = when.map(|when| format!(" ({} ms)", when.as_millis())).unwrap_or_default();
            let _ = writeln!(text, "  {mark}  {what}{when}");
        };
        step(phone.first_audio.is_some(), "first audio after the answer", phone.first_audio);
        step(phone.greeting, "the phone heard the greeting's four notes", None);
        step(
            self.agent.interrupted_after.is_some(),
            "the agent was interrupted in its greeting, which had played for",
            self.agent.interrupted_after,
        );
        step(
            phone.stopped_after.is_some(),
            "the agent fell silent after the phone began to speak",
            phone.stopped_after,
        );
        step(
            phone.answered_after.is_some(),
            "the agent answered after the phone had spoken",
            phone.answered_after,
        );
        let keys = format!(
            "the agent heard {} of {} keys and confirmed {}",
            self.agent.keys_heard,
            KEYS.len(),
            phone.confirmations
        );
        step(phone.confirmations == KEYS.len(), &keys, None);
        text
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.ladder)?;
        let set_up = self.set_up.map(|set_up| format!("{:.1} ms", set_up.as_secs_f64() * 1e3));
        writeln!(f, "set-up (first INVITE to answer): {}", set_up.as_deref().unwrap_or("not answered"))?;
        writeln!(f, "ended: {}", self.end)?;
        match self.backend.as_ref().and_then(|report| report.media.as_ref()) {
            Some(media) => writeln!(f, "\nmedia, as the backend saw it:\n{media}")?,
            None => writeln!(f, "\nno media")?,
        }
        writeln!(f, "\nwhat was heard:\n{}", self.heard())?;
        writeln!(f, "recording: {} (left the agent, right the caller)", self.recording.display())?;
        f.write_str(if self.worked() { "the call worked" } else { "the call did NOT work" })
    }
}
