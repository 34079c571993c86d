//! A phone of pjsua2 2.15 (PyPI's pjsua2-python), as `pjsua2/phone.py` makes one: told by lines what to do, and telling by
//! lines how its call stands.
//!
//! It is installed into `pjsua2/venv` by `python3 -m venv peers/pjsua2/venv` and
//! `peers/pjsua2/venv/bin/pip install -r peers/pjsua2/requirements.txt`. It has no Opus, and SRTP by keys in
//! the SDP alone.

use std::path::{Path, PathBuf};

use iqra_sip::Uri;

use crate::audio::{read_growing_wav, write_wav_as};
use crate::endpoint::SOON;
use crate::phone::{self, Act, Says};
use crate::ports;
use crate::program::{Launch, Program};
use crate::registrar::ACCOUNT;
use crate::scratch::Scratch;
use crate::talks::Talker;

/// How its Python comes to be.
const PACKAGE: &str = "python3-venv, then ./test.sh --install";

/// What sets a phone apart.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// The one codec, as it names it: `G722/16000`.
    pub codec: &'a str,
    /// Samples per second of what it plays and records, in Hz.
    pub rate: u32,
    /// Whether its media is to be protected, by keys in the SDP.
    pub secured: bool,
}

/// A running phone.
#[derive(Debug)]
pub struct Pjsua2 {
    program: Program,
    sip: u16,
    read: usize,
    recordings: usize,
    scratch: Scratch,
}

impl Pjsua2 {
    /// Starts a phone of this profile that plays these samples.
    ///
    /// # Panics
    /// When pjsua2 is not installed or does not come up.
    pub fn start(profile: &Profile<'_>, samples: &[i16]) -> Self {
        let scratch = Scratch::new("pjsua2");
        let (sip, rtp) = (ports::free(2), ports::free(8));
        let source = scratch.path().join("source.wav");
        write_wav_as(&source, samples, profile.rate, 1);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pjsua2");
        let words = [
            folder.join("phone.py").display().to_string(),
            format!("--port={sip}"),
            format!("--rtp={rtp}"),
            format!("--play={}", source.display()),
            format!("--codec={}", profile.codec),
            format!("--rate={}", profile.rate),
        ];
        let encryption = Some(String::from("--srtp")).filter(|_| profile.secured);
        let launch = Launch::new(folder.join("venv/bin/python"), PACKAGE);
        let program = launch.args(words.into_iter().chain(encryption)).dir(scratch.path()).typed().start();
        program.line("=> ready", SOON);
        Self { program, sip, read: 0, recordings: 0, scratch }
    }

    /// Quits it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn quit(mut self) {
        self.program.type_line("quit");
        self.program.end(SOON);
    }

    fn prints(&mut self, line: &str) {
        (self.read, _) = self.program.next_line(self.read, &[&format!("=> {line}")], SOON);
    }

    fn recording_path(&self) -> PathBuf {
        self.scratch.path().join(format!("heard-{}.wav", self.recordings))
    }
}

impl phone::Phone for Pjsua2 {
    fn uri(&self) -> Uri {
        format!("sip:{}@127.0.0.1:{}", ACCOUNT.0, self.sip).parse().expect("a URI")
    }

    fn act(&mut self, act: Act<'_>) {
        let order = match act {
            Act::Call(uri) => format!("call {uri}"),
            Act::Answer => "answer".to_owned(),
            Act::HangUp => "hangup".to_owned(),
            other => panic!("this phone is not told to {other:?}"),
        };
        self.program.type_line(&order);
    }

    fn says(&mut self, what: Says) {
        self.prints(match what {
            Says::Ringing => "ringing",
            Says::Established => "established",
            Says::Over => "over",
        });
    }
}

impl Talker for Pjsua2 {
    fn begin_recording(&mut self) {
        self.recordings += 1;
        self.program.type_line(&format!("record {}", self.recording_path().display()));
    }

    fn recording(&self) -> Option<(Vec<i16>, u32)> {
        read_growing_wav(&self.recording_path())
    }

    fn press_five(&mut self) {
        self.program.type_line("press 5");
    }

    fn gets_key(&mut self, key: char) {
        self.prints(&format!("key {key}"));
    }
}
