//! What happened in the demo's call, for a person to read.

use std::fmt::{self, Write as _};
use std::time::Duration;

use iqra_media::quality::MediaReport;
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

    /// As the backend saw it, which knows who of the two hung up; else as the phone did.
    fn ended(&self) -> String {
        let Some(backend) = &self.backend else { return format!("{}, as the phone saw it", self.end) };
        format!("{} after {:.1} s", backend.cause, backend.duration.as_secs_f64())
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

/// The figures of a call's media, one to a line.
fn media_lines(media: &MediaReport) -> String {
    let ms = |length: Duration| format!("{:.1} ms", length.as_secs_f64() * 1e3);
    let after = |first: Option<Duration>| first.map_or_else(|| String::from("never"), ms);
    let kilobytes = |bytes: u64| bytes as f64 / 1e3;
    let sent = format!("{} packets, {:.1} kB", media.packets_sent, kilobytes(media.bytes_sent));
    let received = format!("{} packets, {:.1} kB", media.packets_received, kilobytes(media.bytes_received));
    let lost = format!("{} packets, {:.2} %", media.lost, media.loss() * 100.0);
    let late = format!("{}, {}, {} packets", media.late, media.reordered, media.duplicate);
    let keys = format!("{} received, {} sent", media.dtmf_received, media.dtmf_sent);
    let rows = [
        ("codec", media.codec.to_owned()),
        ("sent", sent),
        ("received", received),
        ("lost", lost),
        ("late, reordered, duplicate", late),
        ("jitter", ms(media.jitter)),
        ("wait in the jitter buffer", ms(media.delay)),
        ("concealed", ms(media.concealed)),
        ("answer to first audio in", after(media.first_audio_in)),
        ("answer to first audio out", after(media.first_audio_out)),
        ("keys", keys),
    ];
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("  {name:<27} {value}")).collect();
    lines.join("\n")
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.ladder)?;
        let set_up = self.set_up.map(|set_up| format!("{:.1} ms", set_up.as_secs_f64() * 1e3));
        writeln!(f, "set-up (first INVITE to answer): {}", set_up.as_deref().unwrap_or("not answered"))?;
        writeln!(f, "ended: {}", self.ended())?;
        match self.backend.as_ref().and_then(|report| report.media.as_ref()) {
            Some(media) => writeln!(f, "\nmedia, as the backend saw it:\n{}", media_lines(media))?,
            None => writeln!(f, "\nno media")?,
        }
        writeln!(f, "\nwhat was heard:\n{}", self.heard())?;
        if let Some(missed) = &self.phone.missed {
            writeln!(f, "the phone gave up: {missed}\n")?;
        }
        writeln!(f, "recording: {} (left the agent, right the caller)", self.recording.display())?;
        f.write_str(if self.worked() { "the call worked" } else { "the call did NOT work" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iqra_providers::lifecycle::EndCause;

    /// A call in which everything went well.
    fn good() -> DemoReport {
        let mut media = MediaReport::default();
        (media.codec, media.packets_sent, media.packets_received) = ("PCMU", 200, 150);
        (media.lost, media.first_audio_in) = (50, Some(Duration::from_micros(61_400)));
        let after = Some(Duration::from_millis(300));
        let duration = Duration::from_secs(4);
        DemoReport {
            ladder: String::new(),
            set_up: Some(Duration::from_millis(3)),
            end: String::from("agent hung up"),
            backend: Some(CallReport {
                cause: EndCause::CallerHungUp,
                duration,
                media: Some(media),
                conversation_error: None,
            }),
            phone: PhoneNotes {
                first_audio: after,
                stopped_after: after,
                answered_after: after,
                greeting: true,
                confirmations: KEYS.len(),
                missed: None,
            },
            agent: AgentNotes { interrupted_after: after, turns_heard: 1, keys_heard: 3 },
            recording: "demo.wav".into(),
        }
    }

    #[test]
    fn a_call_that_did_everything_worked() {
        let report = good();
        assert!(report.worked());
        assert!(report.to_string().ends_with("\nthe call worked"), "{report}");
    }

    #[test]
    fn a_call_that_missed_any_one_thing_did_not_work() {
        type Fault = (&'static str, fn(&mut DemoReport));
        let faults: [Fault; 9] = [
            ("no greeting", |report| report.phone.greeting = false),
            ("the agent talked on", |report| report.phone.stopped_after = None),
            ("no answer", |report| report.phone.answered_after = None),
            ("a key unconfirmed", |report| report.phone.confirmations -= 1),
            ("a key unheard", |report| report.agent.keys_heard -= 1),
            ("not interrupted", |report| report.agent.interrupted_after = None),
            ("never answered", |report| report.backend = None),
            ("no media", |report| report.backend.as_mut().unwrap().media = None),
            ("one way audio", |report| {
                report.backend.as_mut().unwrap().media.as_mut().unwrap().packets_received = 0;
            }),
        ];
        for (what, plant) in faults {
            let mut report = good();
            plant(&mut report);
            assert!(!report.worked(), "{what}");
            assert!(report.to_string().ends_with("\nthe call did NOT work"), "{what}: {report}");
        }
    }

    #[test]
    fn figures_stand_under_each_other_with_their_units() {
        let text = good().to_string();
        assert!(text.contains("\n  lost                        50 packets, 25.00 %\n"), "{text}");
        assert!(text.contains("\n  answer to first audio in    61.4 ms\n"), "{text}");
        assert!(text.contains("\n  answer to first audio out   never\n"), "{text}");
    }

    #[test]
    fn what_the_phone_waited_for_in_vain_is_said() {
        let mut report = good();
        report.phone.missed = Some(String::from("the answer was not heard"));
        assert!(report.to_string().contains("the phone gave up: the answer was not heard"), "{report}");
    }
}
