//! Detectors on what the conversation hears: speech, tones of networks and fax machines, who answered.
//!
//! ```text
//! jitter buffer ─▶ decode or conceal ─▶ dtmf (session/receive.rs) ─▶ stretch ─▶ resample ─┬─▶ line: AudioFrame
//!                                                                                         └─▶ Ears ─▶ line: Event
//! ```
//! They hear the samples that the line is given, at its rate, all of them from the first on, in early media too. So a
//! position that a detector tells is one of the line's, the clock of [`AudioFrame::position`], and a re-INVITE to
//! another codec interrupts none. An event follows the frame in which it was found. Keys alone are heard before the
//! stretch, at the codec's rate: a joint in 40 ms of two tones may cost one.
//!
//! Who answered is asked from the answer on ([`MediaSession::answered`]), whatever the network said before. What is
//! not wanted is not made, and a session that wants nothing looks at one pointer per frame.
//!
//! [`AudioFrame::position`]: crate::conversation::AudioFrame::position
//! [`MediaSession::answered`]: super::MediaSession::answered

use std::fmt;
use std::sync::Arc;

use crate::conversation::{Event, LineEnd};
use crate::detect::machine::{self, MachineDetector};
use crate::detect::progress::ProgressDetector;
use crate::detect::voice::{self, VoiceActivity, VoiceDetector};
use crate::pcm::{RATES, UnsupportedRate};

/// What is looked for in the audio of a call; what is found comes as [`Event`]s. By default keys alone.
#[derive(Clone, Debug)]
pub struct Detect {
    /// Whether keys are heard in the audio (ITU-T Q.24) of a far end that negotiated no telephone-events:
    /// [`Event::Dtmf`]. Default yes.
    pub keys: bool,
    /// From when to when the far end speaks: [`Event::Speech`]. Default not.
    pub speech: Option<voice::Config>,
    /// Dial, ringing, busy and fax tones, beeps: [`Event::Progress`]. Default not.
    pub progress: bool,
    /// Who answered, and when a machine's greeting is over: [`Event::Machine`]. Needs neither of the two above. Default
    /// not.
    pub machine: Option<machine::Config>,
    /// Media flows before the call is answered, so that who answers is asked only from
    /// [`MediaSession::answered`](super::MediaSession::answered) on. Default not: it is answered when the session
    /// starts.
    pub early: bool,
    /// What tells speech from everything else.
    pub voice_detectors: VoiceDetectors,
}

impl Default for Detect {
    fn default() -> Self {
        Self {
            keys: true,
            speech: None,
            progress: false,
            machine: None,
            early: false,
            voice_detectors: VoiceDetectors::default(),
        }
    }
}

type Made = Box<dyn VoiceDetector + Send>;

/// Makes a voice detector for each stream. By default [`Earshot`](voice::Earshot) with feature `vad`, else
/// [`Energy`](voice::Energy).
#[derive(Clone)]
pub struct VoiceDetectors(Arc<dyn Fn() -> Made + Send + Sync>);

impl VoiceDetectors {
    /// Detectors of your own. Makes one to see its rate.
    ///
    /// # Errors
    /// [`UnsupportedRate`] where it hears a rate that is not in [`RATES`].
    pub fn new<D, F>(make: F) -> Result<Self, UnsupportedRate>
    where
        D: VoiceDetector + Send + 'static,
        F: Fn() -> D + Send + Sync + 'static,
    {
        let rate = make().rate();
        if !RATES.contains(&rate) {
            return Err(UnsupportedRate(rate));
        }
        Ok(Self(Arc::new(move || Box::new(make()))))
    }

    fn make(&self) -> Made {
        (self.0)()
    }
}

impl Default for VoiceDetectors {
    #[cfg(feature = "vad")]
    fn default() -> Self {
        Self(Arc::new(|| Box::new(voice::Earshot::new())))
    }

    #[cfg(not(feature = "vad"))]
    fn default() -> Self {
        Self(Arc::new(|| Box::new(voice::Energy::new(8_000))))
    }
}

impl fmt::Debug for VoiceDetectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VoiceDetectors")
    }
}

/// The detectors of one call.
pub(super) struct Ears {
    speech: Option<VoiceActivity<Made>>,
    progress: Option<ProgressDetector>,
    machine: Option<MachineDetector<Made>>,
    answered: bool,
    /// The line's position where the detectors began, and where that of machines did.
    began: u64,
    machine_began: u64,
}

impl Ears {
    /// `None` where nothing is wanted. A detector whose rate is another than when it was tried is left out.
    pub(super) fn new(detect: &Detect, line: &LineEnd) -> Option<Box<Self>> {
        let rate = line.hears().sample_rate();
        let voice = || detect.voice_detectors.make();
        let speech = detect.speech.and_then(|config| VoiceActivity::with(rate, voice(), config).ok());
        let machine = detect.machine.and_then(|config| MachineDetector::new(rate, voice(), config).ok());
        let progress = detect.progress.then(|| ProgressDetector::new(rate));
        let (answered, began) = (!detect.early, line.position());
        let wanted = speech.is_some() || progress.is_some() || machine.is_some();
        wanted.then(|| Box::new(Self { speech, progress, machine, answered, began, machine_began: began }))
    }

    /// Hears what the line was just given, and tells it what was found.
    pub(super) fn hear(&mut self, samples: &[i16], line: &mut LineEnd) {
        if let Some(speech) = &mut self.speech {
            speech.process(samples, |event| line.give_event(Event::Speech(event.moved(self.began))));
        }
        if let Some(progress) = &mut self.progress {
            progress.process(samples, |event| line.give_event(Event::Progress(event.moved(self.began))));
        }
        if let Some(machine) = self.machine.as_mut().filter(|_| self.answered) {
            machine.process(samples, |event| {
                line.give_event(Event::Machine(event.moved(self.machine_began)));
            });
        }
    }

    /// The call is answered; what the line is given from here on may be who answered.
    pub(super) fn answered(&mut self, line: &LineEnd) {
        if !self.answered {
            (self.answered, self.machine_began) = (true, line.position());
        }
    }

    /// Nothing more is heard for now: who speaks has ended.
    pub(super) fn pause(&mut self, line: &mut LineEnd) {
        if let Some(event) = self.speech.as_mut().and_then(VoiceActivity::finish) {
            line.give_event(Event::Speech(event.moved(self.began)));
        }
    }
}
