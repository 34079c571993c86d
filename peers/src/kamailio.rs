//! Kamailio 5.6 with a configuration of the test's own: listeners on loopback, a few worker processes, no database.
//!
//! It runs in the foreground under the test. Its own way to end takes seconds, and now and then forever: it and its
//! workers are killed, each by its process id.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::pki::Pki;
use crate::ports;
use crate::program::{Launch, Program};
use crate::scratch::Scratch;
use crate::wait;

/// The Debian packages.
const PACKAGE: &str = "kamailio kamailio-tls-modules";

/// Where Debian puts it, off the PATH of ordinary users.
const PROGRAM: &str = "/usr/sbin/kamailio";

/// How long it may take to come up.
const OPENING: Duration = Duration::from_secs(20);

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    program: Option<Program>,
    port: u16,
    tls_port: u16,
    _scratch: Scratch,
}

impl Kamailio {
    /// Starts one with `modules` and their parameters, and `routes`, whose `request_route` decides everything, in
    /// Kamailio's own language. UDP and TCP share a port; TLS has its own where there are certificates.
    ///
    /// # Panics
    /// When Kamailio or a module is not installed, or it refuses the configuration.
    pub fn start(modules: &[&str], routes: &str, pki: Option<&Pki>) -> Self {
        let scratch = Scratch::new("kamailio");
        let (port, tls_port) = (ports::free(2), ports::free(2));
        let mut config = head(port);
        if let Some(pki) = pki {
            config.push_str(&tls(tls_port, pki));
        }
        for module in modules {
            let _ = writeln!(config, "{module}");
        }
        config.push_str(routes);
        let file = scratch.write("kamailio.cfg", config);
        let program = launch(&file, scratch.path()).start();
        let last = if pki.is_some() { tls_port } else { port };
        let mut this = Self { program: Some(program), port, tls_port, _scratch: scratch };
        wait::until_ok("Kamailio to listen", OPENING, || {
            let program = this.program.as_mut().expect("until it is dropped");
            assert!(program.is_running(), "Kamailio ended\n{}", program.text());
            // UDP is bound before TCP, and a connection can wait for the worker that takes it.
            let up = [port, last].iter().all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok());
            if up { Ok(()) } else { Err(program.text()) }
        });
        this
    }

    /// Where it listens for UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Where it listens for TLS.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port))
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        let Some(mut program) = self.program.take() else { return };
        if program.is_running() {
            // It may still be starting workers, which would be missed.
            program.signal("STOP");
        }
        let workers = children(program.pid());
        drop(program);
        let kill = format!("kill -KILL {}", workers.join(" "));
        // Those that ended with their parent are gone already.
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    }
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| parent(name) == Some(pid)).collect()
}

/// The parent of a process, from what follows its name in `stat`.
fn parent(process: &str) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

fn launch(config: &Path, folder: &Path) -> Launch {
    let program = if Path::new(PROGRAM).exists() { PROGRAM } else { "kamailio" };
    let (config, folder) = (config.display().to_string(), folder.display().to_string());
    let words = ["-DD", "-E", "-m", "32", "-M", "4", "-f", &config, "-Y", &folder, "-w", &folder];
    Launch::new(program, PACKAGE).args(words)
}

/// What every configuration needs: few workers, no names looked up, the stateful modules.
fn head(port: u16) -> String {
    format!(
        r#"#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
dns=no
rev_dns=no
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib64/kamailio/modules/:/usr/lib/aarch64-linux-gnu/kamailio/modules/"
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
modparam("rr", "enable_full_lr", 1)
"#
    )
}

/// Shows a certificate of its own and demands one that the same authority signed.
fn tls(port: u16, pki: &Pki) -> String {
    let identity = pki.sign("kamailio", &["127.0.0.1"]);
    format!(
        r#"enable_tls=yes
listen=tls:127.0.0.1:{port}
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{}")
modparam("tls", "private_key", "{}")
modparam("tls", "ca_list", "{}")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 1)
"#,
        identity.certificate.display(),
        identity.key.display(),
        pki.roots().display()
    )
}
