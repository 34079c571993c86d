//! Our media as one side of a test: a session of the driver that plays a melody until it is heard, and keeps what it
//! hears itself: audio, keys.
//!
//! It is the side that faces the peer, never the one that judges it: what was heard is looked through by
//! [`Melody`], which shares no code with it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iqra_media::codec::{CodecSpec, Registry, l16};
use iqra_media::conversation::{Direction, Event, Formats, Heard, Hearing, Limits, Speaking};
use iqra_media::net::{CallOptions, Leg, MediaConfig, MediaDriver, MediaPort, Overload, PortReserves};
use iqra_media::quality::MediaReport;
use iqra_media::rtp::dtls::Certificate;
use iqra_media::sdp::{
    self, Agreement, Capabilities, CryptoSuite, Fingerprint, LocalDtls, Negotiated, SecurityPolicy,
    SecuritySettings, SrtpKey,
};

use crate::melody::Melody;
use crate::ports;
use crate::wait;

/// How long a melody may take to be heard: many passes.
const HEARD: Duration = Duration::from_secs(15);

/// How often a recording is looked through: less than a note.
const LOOK: Duration = Duration::from_millis(250);

/// How much of a melody waits to be played, which keys have to wait for, too.
const AHEAD: Duration = Duration::from_millis(600);

/// Packets that a peer may send before it protects them, or before we have its keys.
const EARLY: u64 = 10;

/// Calls that may be open at once, a pair of ports each.
const CALLS: u16 = 8;

/// How the audio is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Not at all.
    None,
    /// By keys in the SDP, required, in every suite that we have.
    Sdes,
    /// By keys in the SDP, required, in one suite.
    SdesBy(CryptoSuite),
    /// By a handshake of DTLS, required.
    Dtls,
}

/// Our media driver.
#[derive(Debug)]
pub struct Media {
    driver: MediaDriver,
    certificate: Certificate,
}

impl Media {
    /// Starts it, with every codec that there is.
    ///
    /// # Panics
    /// When the system refuses it.
    pub fn start() -> Self {
        let mut codecs = Registry::default();
        l16::register(&mut codecs);
        let certificate = Certificate::generate().expect("made");
        let first = ports::free(2 * CALLS);
        let config = MediaConfig {
            ports: first..=first + 2 * CALLS - 1,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            codecs,
            certificate: Some(certificate.clone()),
            // All ports for calls of one direction, and none refused: the machine that tests may be as slow as it likes.
            reserves: PortReserves { inbound_percent: 0, outbound_percent: 0 },
            overload: Overload { refuse: false, ..Overload::default() },
            ..MediaConfig::default()
        };
        Self { driver: MediaDriver::start(config).expect("started"), certificate }
    }

    /// The side of a call that has this codec alone, by name and clock rate in Hz.
    ///
    /// # Panics
    /// When there is no such codec.
    pub fn side(&self, codec: (&str, u32), keys: Keys) -> Side {
        let known = self.driver.codecs().specs();
        let found = known.into_iter().find(|spec| (spec.name, spec.clock_rate) == codec);
        let codec: CodecSpec = found.unwrap_or_else(|| panic!("no codec {codec:?}"));
        let port = self.driver.reserve(Direction::Outbound).expect("a free port");
        let at = port.local_addr();
        let mut ours = Capabilities::new(vec![codec], at.ip(), at.port(), fastrand::u64(1..1 << 40));
        ours.security = self.security(keys);
        ours.rtcp_mux = true;
        Side { driver: self.driver.clone(), port, ours }
    }

    fn security(&self, keys: Keys) -> SecuritySettings {
        let sdes = |suites: &[CryptoSuite]| {
            SecuritySettings::sdes(SecurityPolicy::Required, suites.iter().copied().map(key).collect())
        };
        match keys {
            Keys::None => SecuritySettings::default(),
            Keys::Sdes => sdes(&CryptoSuite::ALL),
            Keys::SdesBy(suite) => sdes(&[suite]),
            Keys::Dtls => {
                let local = LocalDtls::new(Fingerprint(self.certificate.fingerprint()));
                SecuritySettings::dtls(SecurityPolicy::Required, local)
            }
        }
    }
}

fn key(suite: CryptoSuite) -> SrtpKey {
    let random: Vec<u8> = (0..suite.material_len()).map(|_| fastrand::u8(..)).collect();
    SrtpKey::new(suite, &random).expect("of its length")
}

/// One side of a call, before its SDP is exchanged.
#[derive(Debug)]
pub struct Side {
    driver: MediaDriver,
    port: MediaPort,
    /// What it can do.
    pub ours: Capabilities,
}

impl Side {
    /// Our offer.
    pub fn offer(&self) -> String {
        sdp::offer(&self.ours)
    }

    /// Answers an offer: the answer, and the call, in which `melody` is played.
    ///
    /// # Panics
    /// When the offer cannot be taken.
    pub fn answer(self, offer: &[u8], melody: Melody) -> (String, Talk) {
        let agreed = sdp::answer(offer, &self.ours);
        let agreed = agreed.unwrap_or_else(|why| panic!("{why}:\n{}", String::from_utf8_lossy(offer)));
        (agreed.local(), self.talk(agreed, melody))
    }

    /// The call that comes of the answer to our offer.
    ///
    /// # Panics
    /// When the answer is none to it.
    pub fn answered(self, offer: &str, answer: &[u8], melody: Melody) -> Talk {
        let agreed = sdp::accept_answer(&self.ours, offer, answer);
        let agreed = agreed.unwrap_or_else(|why| panic!("{why}:\n{}", String::from_utf8_lossy(answer)));
        self.talk(agreed, melody)
    }

    fn talk(self, agreed: Agreement, melody: Melody) -> Talk {
        let negotiated = agreed.negotiated;
        let formats = Formats::of_codec(&negotiated);
        let limits = Limits { speaking: AHEAD, ..Limits::default() };
        let options = CallOptions { limits, ..CallOptions::default() };
        let opened = self.driver.open_with(self.port, negotiated.clone(), formats, options);
        let (line, leg) = opened.expect("a codec of the driver's");
        let (hearing, speaking) = line.split();
        let ear = Arc::new(Mutex::new(Ear::default()));
        tokio::spawn(listen(hearing, ear.clone()));
        tokio::spawn(play(speaking.clone(), melody));
        Talk { negotiated, leg, rate: formats.hears.sample_rate(), ear, speaking }
    }
}

/// A call whose media flows.
#[derive(Debug)]
pub struct Talk {
    /// What both sides agreed on.
    pub negotiated: Negotiated,
    leg: Leg,
    rate: u32,
    ear: Arc<Mutex<Ear>>,
    speaking: Speaking,
}

#[derive(Debug, Default)]
struct Ear {
    samples: Vec<i16>,
    keys: String,
}

impl Talk {
    /// Waits until a melody was heard.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn hears(&self, melody: Melody) {
        let heard = || self.with(|ear| melody.find(&ear.samples, self.rate));
        wait::until_ok_every(LOOK, "the melody of the far end", HEARD, heard);
    }

    /// Waits until these keys were heard, and no others.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn hears_keys(&self, keys: &str) {
        let heard = || self.with(|ear| if ear.keys == keys { Ok(()) } else { Err(ear.keys.clone()) });
        wait::until_ok("the keys of the far end", HEARD, heard);
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When one of them is none.
    pub async fn presses(&self, keys: &str) {
        self.speaking.send_dtmf(keys).await.expect("keys");
    }

    /// Ends the media; nothing of it was out of form, and all but the first packets, which may come before the keys do,
    /// were authentic.
    ///
    /// # Panics
    /// When not.
    pub async fn close(self) -> MediaReport {
        let report = self.leg.close().await;
        assert!(report.not_authentic <= EARLY && report.malformed == 0, "{report:?}");
        report
    }

    fn with<T>(&self, look: impl FnOnce(&Ear) -> T) -> T {
        look(&self.ear.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits until a peer's recording holds a melody.
///
/// # Panics
/// When it does not in time.
pub fn recorded(melody: Melody, recording: impl Fn() -> Option<(Vec<i16>, u32)>) {
    let look = || match recording() {
        Some((samples, rate)) => melody.find(&samples, rate),
        None => Err(String::from("no recording")),
    };
    wait::until_ok_every(LOOK, "our melody in the recording of the peer", HEARD, look);
}

async fn listen(mut hearing: Hearing, ear: Arc<Mutex<Ear>>) {
    while let Some(heard) = hearing.next().await {
        let mut ear = ear.lock().unwrap_or_else(PoisonError::into_inner);
        match heard {
            Heard::Audio(frame) => ear.samples.extend_from_slice(&frame),
            Heard::Event(Event::Dtmf(digit)) => ear.keys.push(digit.as_char()),
            Heard::Event(_) => {}
        }
    }
}

/// Plays it again and again until the line ends, in small pieces: keys wait until a piece was taken.
async fn play(speaking: Speaking, melody: Melody) {
    let format = speaking.format();
    let samples = melody.samples(format.sample_rate(), 30);
    for piece in samples.chunks_exact(format.samples_in_millis(100)).cycle() {
        if speaking.play_all(piece).await < piece.len() {
            return;
        }
    }
}
