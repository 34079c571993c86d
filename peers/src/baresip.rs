//! baresip 1.0.0 as a headless phone: it plays given samples into the call and records what it hears.
//!
//! It is driven over its `ctrl_tcp` module (JSON in netstrings), so that a test waits for events and not for
//! time. What it is known for: it follows only the first Contact of a 302, it wants the address, not the name, of
//! the interface (`-n`), and a source file that ends ends the call, hence the padding.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use iqra_sip::{Transport, Uri};

use crate::audio::{RATE, read_growing_wav, read_wav, write_wav_as};
use crate::g711::Law;
use crate::phone::{self, Act, Says};
use crate::ports;
use crate::program::{Launch, Program};
use crate::registrar::ACCOUNT;
use crate::scratch::Scratch;
use crate::talks::Talker;
use crate::wait;

/// The Debian package.
const PACKAGE: &str = "baresip-core";

/// How long an event of the phone may take before a test fails.
const EVENT: Duration = Duration::from_secs(15);

/// How much silence follows the samples, in seconds: longer than any call of the tests.
const PADDING: usize = 60;

/// A codec as baresip knows it.
#[derive(Debug, Clone, Copy)]
pub struct Codec {
    /// The module that has it.
    pub module: &'static str,
    /// Its name in an account: one without rate and channels is passed over, but for those of one form only.
    pub name: &'static str,
    /// Samples per second of what it plays and records, in Hz.
    pub rate: u32,
    /// Their channels.
    pub channels: u16,
}

impl From<Law> for Codec {
    fn from(law: Law) -> Self {
        Self { module: "g711", name: law.name(), rate: RATE, channels: 1 }
    }
}

/// What sets a phone apart; the default is a phone of no registrar that offers PCMU, is called by UDP and is silent.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The one codec.
    pub codec: Codec,
    /// Its account, with the parameters that baresip knows.
    pub account: String,
    /// How it is called.
    pub transport: Transport,
    /// Further lines of its configuration: modules that its account asks for have to come before it.
    pub config: Vec<String>,
}

impl Default for Profile {
    fn default() -> Self {
        let account = format!("<sip:{}@127.0.0.1>;regint=0", ACCOUNT.0);
        Self { codec: Law::Mu.into(), account, transport: Transport::Udp, config: Vec::new() }
    }
}

/// A running phone.
#[derive(Debug)]
pub struct Phone {
    sip: u16,
    transport: Transport,
    program: Program,
    control: TcpStream,
    buffer: Vec<u8>,
    events: Vec<String>,
    scratch: Scratch,
}

impl Phone {
    /// Starts a phone that offers only `law` and plays `samples` once the call stands.
    ///
    /// # Panics
    /// When baresip is not installed or does not come up.
    pub fn start(law: Law, samples: &[i16]) -> Self {
        Self::configured(&Profile { codec: law.into(), ..Profile::default() }, samples)
    }

    /// Starts a phone of this profile.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn configured(profile: &Profile, samples: &[i16]) -> Self {
        let scratch = Scratch::new("baresip");
        let (sip, control) = (ports::free(2), ports::free(2));
        write_profile(&scratch, profile, samples, sip, control);
        let directory = scratch.path().display().to_string();
        let program = Launch::new("baresip", PACKAGE).args(["-f", &directory, "-n", "127.0.0.1"]).start();
        let control = wait::until("baresip's control port", EVENT, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, control)).ok()
        });
        program.line("baresip is ready", EVENT);
        let transport = profile.transport;
        Self { sip, transport, program, control, buffer: Vec::new(), events: Vec::new(), scratch }
    }

    /// Quits the phone; only for one that is not registered.
    ///
    /// # Panics
    /// When it does not end.
    pub fn quit(mut self) {
        self.order("quit", "");
        self.program.end(EVENT);
    }

    /// Quits the phone while `serve` answers the end of its registration.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn quit_after<T>(mut self, serve: impl Future<Output = T>) -> T {
        self.order("quit", "");
        let served = serve.await;
        self.program.end(EVENT);
        served
    }

    /// Calls a URI.
    pub fn dial(&mut self, uri: &str) {
        self.order("dial", uri);
    }

    /// Ends the call and waits until the phone says that it is over.
    pub fn hang_up(&mut self) {
        self.order("hangup", "");
        self.event("CALL_CLOSED");
    }

    /// Waits for an event of that type (`CALL_ESTABLISHED`, `CALL_CLOSED`) and returns its JSON.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn event(&mut self, kind: &str) -> String {
        let deadline = Instant::now() + EVENT;
        let wanted = format!(r#""type":"{kind}""#);
        loop {
            if let Some(at) = self.events.iter().position(|event| event.contains(&wanted)) {
                return self.events.drain(..=at).next_back().expect("a found event");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "baresip: no {kind}; {:?}\n{}", self.events, self.program.text());
            self.read_events(left);
        }
    }

    /// Waits until the phone has recorded `seconds` of the call.
    ///
    /// # Panics
    /// When the recording does not grow.
    pub fn hear(&self, seconds: f64) {
        let bytes = (seconds * f64::from(RATE)) as u64 * 2;
        let within = EVENT + Duration::from_secs_f64(2.0 * seconds);
        wait::until("the recording of baresip to grow", within, || {
            let length = std::fs::metadata(self.recording_path()?).ok()?.len();
            (length >= bytes).then_some(())
        });
    }

    /// Quits the phone and returns what it heard: the decoded samples of its last call.
    ///
    /// # Panics
    /// When there was no audio at all.
    pub fn heard(mut self) -> Vec<i16> {
        self.order("quit", "");
        let recording = self.recording_path();
        let ended = self.program.end(EVENT);
        let path = recording.unwrap_or_else(|| panic!("baresip recorded nothing\n{}", ended.output));
        let samples = read_wav(&path);
        // The recording lives as long as the scratch directory.
        drop(self.scratch);
        samples
    }

    fn recording_path(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.scratch.path()).ok()?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.to_string_lossy().ends_with("-dec.wav")).max()
    }

    /// Gives a command of its menu.
    fn order(&mut self, command: &str, params: &str) {
        let json = format!(r#"{{"command":"{command}","params":"{params}"}}"#);
        let sent = write!(self.control, "{}:{json},", json.len());
        sent.unwrap_or_else(|why| panic!("baresip is gone: {why}\n{}", self.program.text()));
    }

    fn read_events(&mut self, within: Duration) {
        self.control.set_read_timeout(Some(within)).expect("not zero");
        let mut bytes = [0; 4096];
        if let Ok(length) = self.control.read(&mut bytes) {
            assert_ne!(length, 0, "baresip closed its control port\n{}", self.program.text());
            self.buffer.extend(&bytes[..length]);
        }
        while let Some(json) = take_netstring(&mut self.buffer) {
            if json.contains(r#""event":true"#) {
                self.events.push(json);
            }
        }
    }
}

impl phone::Phone for Phone {
    fn uri(&self) -> Uri {
        let (port, transport) = match self.transport {
            Transport::Udp => (self.sip, String::new()),
            Transport::Tls => (self.sip + 1, ";transport=tls".to_owned()),
            other => (self.sip, format!(";transport={}", other.as_param())),
        };
        format!("sip:{}@127.0.0.1:{port}{transport}", ACCOUNT.0).parse().expect("a URI")
    }

    fn act(&mut self, act: Act<'_>) {
        match act {
            Act::Call(uri) => self.order("dial", uri),
            Act::Answer => self.order("accept", ""),
            Act::HangUp => self.order("hangup", ""),
            Act::Hold => self.order("hold", ""),
            Act::Resume => self.order("resume", ""),
            Act::Transfer(uri) => self.order("transfer", uri),
            Act::Options(uri) => self.order("options", uri),
            other => panic!("baresip cannot {other:?}"),
        }
    }

    fn says(&mut self, what: Says) {
        self.event(match what {
            Says::Ringing => "CALL_INCOMING",
            Says::Established => "CALL_ESTABLISHED",
            Says::Over => "CALL_CLOSED",
        });
    }
}

impl Talker for Phone {
    fn begin_recording(&mut self) {
        while let Some(path) = self.recording_path() {
            std::fs::remove_file(path).expect("a recording of its own");
        }
    }

    fn recording(&self) -> Option<(Vec<i16>, u32)> {
        read_growing_wav(&self.recording_path()?)
    }

    fn press_five(&mut self) {
        self.order("sndcode", "5");
    }

    fn gets_key(&mut self, key: char) {
        let event = self.event("CALL_DTMF_START");
        assert!(event.contains(&format!(r#""param":"{key}""#)), "{event}");
    }
}

fn write_profile(scratch: &Scratch, profile: &Profile, samples: &[i16], sip: u16, control: u16) {
    let source = scratch.path().join("source.wav");
    let Codec { module, name, rate, channels } = profile.codec;
    let mut padded = samples.to_vec();
    padded.resize((samples.len() + PADDING * rate as usize).next_multiple_of(rate as usize / 50), 0);
    write_wav_as(&source, &padded, rate, channels);
    let rtp = ports::free(16);
    let lines = [
        format!("sip_listen 127.0.0.1:{sip}"),
        format!("rtp_ports {rtp}-{}", rtp + 15),
        format!("ctrl_tcp_listen 127.0.0.1:{control}"),
        format!("audio_source aufile,{}", source.display()),
        format!("audio_player aufile,{}", scratch.path().join("player.wav").display()),
        "audio_alert aufile,/dev/null".to_owned(),
        format!("snd_path {}", scratch.path().display()),
        "audio_level no".to_owned(),
        "module_path /usr/lib/baresip/modules".to_owned(),
    ];
    let modules = [module, "aufile", "sndfile", "account", "menu", "uuid", "ctrl_tcp"];
    let modules = modules.map(|module| format!("module {module}.so"));
    scratch.write("config", [&lines[..], &profile.config[..], &modules[..]].concat().join("\n") + "\n");
    scratch.write("accounts", format!("{};audio_codecs={}\n", profile.account, name));
    scratch.write("contacts", "");
}

/// Takes the first whole `length:payload,` off the front.
fn take_netstring(buffer: &mut Vec<u8>) -> Option<String> {
    let colon = buffer.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&buffer[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    (buffer.len() > end).then(|| {
        let taken: Vec<u8> = buffer.drain(..=end).collect();
        String::from_utf8_lossy(&taken[colon + 1..end]).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings_are_taken_whole() {
        let mut buffer = b"5:hello,3:a,b,4:cu".to_vec();
        assert_eq!(take_netstring(&mut buffer).as_deref(), Some("hello"));
        assert_eq!(take_netstring(&mut buffer).as_deref(), Some("a,b"));
        assert_eq!(take_netstring(&mut buffer), None);
        assert_eq!(buffer, b"4:cu");
    }
}
