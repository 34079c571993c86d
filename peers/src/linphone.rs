//! linphonec, the console of linphone, as a headless phone: it is typed to, and judged by what it sends.
//!
//! Its sound card is files. What it is known for: it rewrites To after a redirect.

use std::path::Path;
use std::time::Duration;

use crate::audio::write_wav;
use crate::end::ACCOUNT;
use crate::ports;
use crate::program::{Ended, Launch, Program};
use crate::scratch::Scratch;

/// The Debian package.
const PACKAGE: &str = "linphone-cli";

/// How long the phone may take to quit before a test fails.
const QUIT: Duration = Duration::from_secs(15);

/// A running phone.
#[derive(Debug)]
pub struct Linphone {
    program: Program,
    sip: u16,
    _scratch: Scratch,
}

impl Linphone {
    /// Starts a silent phone that knows the password of [`ACCOUNT`].
    ///
    /// # Panics
    /// When linphonec is not installed or does not come up.
    pub fn start() -> Self {
        let scratch = Scratch::new("linphone");
        let sip = ports::free(2);
        let config = scratch.write("linphonerc", settings(sip, ports::free(2)));
        std::fs::create_dir_all(scratch.path().join(".local/share/linphone")).expect("a scratch directory");
        let silence = scratch.path().join("silence.wav");
        write_wav(&silence, &[0; 8_000]);
        let home = scratch.path().display().to_string();
        let launch = Launch::new("linphonec", PACKAGE).args([Path::new("-c"), &config]);
        let program = launch.env("HOME", &home).dir(scratch.path()).typed().start();
        let mut phone = Self { program, sip, _scratch: scratch };
        phone.order("soundcard use files");
        phone.order(&format!("play {}", silence.display()));
        phone
    }

    /// Where it listens by UDP.
    pub fn sip_port(&self) -> u16 {
        self.sip
    }

    /// Types a command: `call`, `terminate`, `answer`.
    pub fn order(&mut self, command: &str) {
        self.program.type_line(command);
    }

    /// Quits it and returns what it printed.
    ///
    /// # Panics
    /// When it does not end.
    pub fn quit(mut self) -> Ended {
        self.order("quit");
        self.program.end(QUIT)
    }
}

fn settings(sip: u16, rtp: u16) -> String {
    let (user, password) = ACCOUNT;
    format!(
        "[sip]\nsip_port={sip}\nsip_tcp_port=0\nsip_tls_port=0\nbind_address=127.0.0.1\nguess_hostname=0\n\
         contact=\"phone\" <sip:phone@127.0.0.1:{sip}>\ndefault_proxy=-1\nregister_only_when_network_is_up=0\n\
         auto_net_state_mon=0\nuse_ipv6=0\nmedia_encryption=none\n\
         [rtp]\naudio_rtp_port={rtp}\n[net]\nmtu=1300\nfirewall_policy=0\ndns_srv_enabled=0\n\
         [sound]\nechocancellation=0\n[video]\nenabled=0\ncapture=0\ndisplay=0\n[misc]\nstore_files=0\n\
         [auth_info_0]\nusername={user}\npasswd={password}\nrealm=voice.example\n"
    )
}
