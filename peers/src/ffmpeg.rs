//! ffmpeg 5.1 as a far end that sends, or receives, one stream of RTP; it knows no SIP, and is told by a description.
//!
//! A sender paces its frames by a filter (`arealtime`), as it would send what it reads at once in bursts.

use std::path::PathBuf;

use crate::audio::{read_growing_wav, write_wav_as};
use crate::ports;
use crate::program::{Launch, Program};
use crate::scratch::Scratch;

/// The Debian package.
const PACKAGE: &str = "ffmpeg";

/// A codec as ffmpeg knows it.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// What encodes.
    pub encoder: &'static str,
    /// Its rtpmap.
    pub rtpmap: &'static str,
    /// Its payload type.
    pub payload: u8,
    /// Samples per second, in Hz.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
}

/// A stream from or to a port of ffmpeg.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    port: u16,
    scratch: Scratch,
}

/// An ffmpeg that records.
#[derive(Debug)]
pub struct Receiver {
    recording: PathBuf,
    _program: Program,
    _scratch: Scratch,
}

impl Stream {
    /// A stream of this codec, at a free port.
    pub fn new(codec: Codec) -> Self {
        Self { codec, port: ports::free(2), scratch: Scratch::new("ffmpeg") }
    }

    /// It as SDP, with the keys of an `a=crypto`, where there are any.
    pub fn description(&self, crypto: Option<&str>) -> String {
        let (Codec { payload, rtpmap, .. }, port) = (self.codec, self.port);
        let profile = if crypto.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
        let keys = crypto.map(|line| format!("a=crypto:{line}\r\n")).unwrap_or_default();
        format!(
            "v=0\r\no=ffmpeg 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} {profile} {payload}\r\na=rtpmap:{payload} {rtpmap}\r\na=ptime:20\r\n{keys}"
        )
    }

    /// Sends these samples to a port; `crypto` is the `a=crypto` under which.
    ///
    /// # Panics
    /// When ffmpeg is not installed.
    pub fn send(self, samples: &[i16], to: u16, crypto: Option<&str>) -> (Program, Scratch) {
        let Codec { encoder, payload, rate, channels, .. } = self.codec;
        let source = self.scratch.path().join("source.wav");
        write_wav_as(&source, samples, rate, channels);
        let mut words = vec!["-i".to_owned(), source.display().to_string(), "-af".to_owned()];
        words.push(format!("asetnsamples=n={}:p=0,arealtime", rate / 50));
        words
            .extend(["-c:a", encoder, "-payload_type", &payload.to_string(), "-f", "rtp"].map(str::to_owned));
        let mut scheme = "rtp";
        if let Some(Keys { suite, key }) = crypto.map(Keys::of) {
            scheme = "srtp";
            words.extend(["-srtp_out_suite", suite, "-srtp_out_params", key].map(str::to_owned));
        }
        words.push(format!("{scheme}://127.0.0.1:{to}?localport={}", self.port));
        (launch(words), self.scratch)
    }

    /// Records what comes to its port; `crypto` is the `a=crypto` of the sender.
    ///
    /// # Panics
    /// When ffmpeg is not installed.
    pub fn receive(self, crypto: Option<&str>) -> Receiver {
        let description = self.scratch.write("stream.sdp", self.description(crypto));
        let recording = self.scratch.path().join("heard.wav");
        let words = ["-protocol_whitelist", "file,udp,rtp,srtp", "-i"].map(str::to_owned).into_iter();
        let words = words.chain([description.display().to_string()]);
        let words = words.chain(["-c:a", "pcm_s16le", "-flush_packets", "1"].map(str::to_owned));
        let program = launch(words.chain([recording.display().to_string()]));
        Receiver { recording, _program: program, _scratch: self.scratch }
    }
}

impl Receiver {
    /// What it has heard so far, with the samples per second.
    pub fn recording(&self) -> Option<(Vec<i16>, u32)> {
        read_growing_wav(&self.recording)
    }
}

/// What an `a=crypto` says: `1 SUITE inline:KEY`.
struct Keys<'a> {
    suite: &'a str,
    key: &'a str,
}

impl<'a> Keys<'a> {
    fn of(line: &'a str) -> Self {
        let mut words = line.split_whitespace().skip(1);
        let suite = words.next().expect("a suite");
        let key = words.next().and_then(|word| word.strip_prefix("inline:")).expect("a key");
        Self { suite, key: key.split_once('|').map_or(key, |(key, _)| key) }
    }
}

fn launch(words: impl IntoIterator<Item = String>) -> Program {
    let usual = ["-nostdin", "-hide_banner", "-loglevel", "warning"].map(str::to_owned);
    Launch::new("ffmpeg", PACKAGE).args(usual.into_iter().chain(words)).start()
}
