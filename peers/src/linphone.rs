//! linphonec, the console of linphone, as a headless phone: it is typed to, and tells by lines how its call stands.
//!
//! Its sound card is files. What it is known for: it rewrites To after a redirect.

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use iqra_sip::{Transport, Uri};

use crate::audio::write_wav;
use crate::endpoint::SOON;
use crate::phone::{self, Act, Says};
use crate::pki::Pki;
use crate::ports;
use crate::program::{Ended, Launch, Program};
use crate::registrar::{ACCOUNT, REALM};
use crate::scratch::Scratch;
use crate::wait;

/// The Debian package.
const PACKAGE: &str = "linphone-cli";

/// What sets a phone apart; the default is called by UDP.
#[derive(Debug, Default)]
pub struct Profile<'a> {
    /// The one transport that it has, where that is not UDP.
    pub transport: Option<Transport>,
    /// Whom it trusts.
    pub pki: Option<&'a Pki>,
    /// Further lines of its section `[sip]`.
    pub sip: &'a [&'a str],
}

/// A running phone.
#[derive(Debug)]
pub struct Linphone {
    program: Program,
    sip: u16,
    transport: Transport,
    read: usize,
    _scratch: Scratch,
}

impl Linphone {
    /// Starts a silent phone that knows the password of [`ACCOUNT`].
    ///
    /// # Panics
    /// When linphonec is not installed or does not come up.
    pub fn start() -> Self {
        Self::configured(&Profile::default())
    }

    /// Starts a phone of this profile.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn configured(profile: &Profile<'_>) -> Self {
        let scratch = Scratch::new("linphone");
        let sip = ports::free(2);
        let transport = profile.transport.unwrap_or(Transport::Udp);
        let config = scratch.write("linphonerc", settings(profile, transport, sip, ports::free(2)));
        std::fs::create_dir_all(scratch.path().join(".local/share/linphone")).expect("a scratch directory");
        let silence = scratch.path().join("silence.wav");
        write_wav(&silence, &[0; 8_000]);
        let home = scratch.path().display().to_string();
        let launch = Launch::new("linphonec", PACKAGE).args([Path::new("-c"), &config]);
        let program = launch.env("HOME", &home).dir(scratch.path()).typed().start();
        let mut phone = Self { program, sip, transport, read: 0, _scratch: scratch };
        phone.order("soundcard use files");
        phone.prints(&["Using wav files"]); // It listens before it reads.
        phone.order(&format!("play {}", silence.display()));
        phone
    }

    /// Types a command.
    pub fn order(&mut self, command: &str) {
        self.program.type_line(command);
    }

    /// Registers with a server under [`ACCOUNT`], while `serve` answers, and waits until it knows that it is registered.
    ///
    /// # Panics
    /// When it does not get to know.
    pub async fn register<T>(&mut self, server: SocketAddr, serve: impl Future<Output = T>) -> T {
        let (user, password) = ACCOUNT;
        self.order(&format!("register sip:{user}@{server} sip:{server} {password}"));
        let served = serve.await;
        // Between two orders it has to get to its network.
        wait::until_ok_every(Duration::from_millis(200), "its registration", SOON, || {
            self.order("status register");
            let status = self.prints(&["registered=", "registered,"]);
            if status.contains("identity") { Ok(()) } else { Err(status) }
        });
        served
    }

    /// Waits until it prints a line that contains one of these, and gives the line.
    ///
    /// # Panics
    /// When it does not in time.
    fn prints(&mut self, needles: &[&str]) -> String {
        let (read, line) = self.program.next_line(self.read, needles, SOON);
        self.read = read;
        line
    }

    /// Quits it and returns what it printed.
    ///
    /// # Panics
    /// When it does not end.
    pub fn quit(mut self) -> Ended {
        self.order("quit");
        self.program.end(SOON)
    }
}

impl phone::Phone for Linphone {
    fn uri(&self) -> Uri {
        let parameter = match self.transport {
            Transport::Udp => String::new(),
            other => format!(";transport={}", other.as_param()),
        };
        format!("sip:{}@127.0.0.1:{}{parameter}", ACCOUNT.0, self.sip).parse().expect("a URI")
    }

    fn act(&mut self, act: Act<'_>) {
        match act {
            Act::Call(uri) => self.order(&format!("call {uri}")),
            Act::Answer => self.order("answer"),
            Act::HangUp => self.order("terminate"),
            Act::Hold => self.order("pause"),
            Act::Resume => {
                self.prints(&["paused"]);
                self.order("resume");
            }
            Act::Transfer(uri) => self.order(&format!("transfer {uri}")),
            Act::Redirect(uri) => self.order(&format!("redirect all {uri}")),
            Act::Digit => self.order("5"),
            other => panic!("linphone cannot {other:?}"),
        }
    }

    fn says(&mut self, what: Says) {
        self.prints(match what {
            Says::Ringing => &["new incoming call"],
            Says::Established => &["connected"],
            Says::Over => &["ended", " error."],
        });
    }
}

fn settings(profile: &Profile<'_>, transport: Transport, sip: u16, rtp: u16) -> String {
    let (user, password) = ACCOUNT;
    let port = |one: Transport| if one == transport { sip } else { 0 };
    let mut settings = format!(
        "[rtp]\naudio_rtp_port={rtp}\n[net]\nmtu=1300\nfirewall_policy=0\ndns_srv_enabled=0\n\
         [sound]\nechocancellation=0\n[video]\nenabled=0\ncapture=0\ndisplay=0\n[misc]\nstore_files=0\n\
         [auth_info_0]\nusername={user}\npasswd={password}\nrealm={REALM}\n\
         [sip]\nsip_port={}\nsip_tcp_port={}\nsip_tls_port={}\nbind_address=127.0.0.1\nguess_hostname=0\n\
         contact=\"{user}\" <sip:{user}@127.0.0.1:{sip}>\ndefault_proxy=-1\nregister_only_when_network_is_up=0\n\
         auto_net_state_mon=0\nuse_ipv6=0\nmedia_encryption=none\nuse_info=1\nuse_rfc2833=0\n",
        port(Transport::Udp),
        port(Transport::Tcp),
        port(Transport::Tls)
    );
    if let Some(pki) = profile.pki {
        // It looks for host names alone in a certificate.
        let _ = writeln!(settings, "root_ca={}\nverify_server_cn=0", pki.roots().display());
    }
    for line in profile.sip {
        let _ = writeln!(settings, "{line}");
    }
    settings
}
