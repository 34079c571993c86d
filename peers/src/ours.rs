//! The programs under test: built by cargo, started with a configuration of the test's own, read by their lines.
//!
//! Each prints `ready: proxy udp:IP:PORT tcp:IP:PORT .. backend udp:IP:PORT ..` (the tiers that it has) once it
//! listens, and `counts: name=number ..` on SIGUSR1 and at its end. What the numbers mean is in its own documentation; a test
//! asks that those of calls go back to zero.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::caller::Caller;
use crate::g711::Law;
use crate::ports;
use crate::program::{Ended, Launch, Program};
use crate::scratch::Scratch;
use crate::sip_text::Text;
use crate::sipp::Sipp;
use crate::wait;

/// How long the program may take to come up, and to answer a signal.
const PROMPT: Duration = Duration::from_secs(15);

/// How long what a finished call held may stay: longer than the 32 s of a transaction's last timer (RFC 3261
/// §17, 64·T1).
const FORGETTING: Duration = Duration::from_secs(60);

/// How many media ports a program gets: for a little over a hundred calls, two each.
const MEDIA_PORTS: u16 = 240;

/// How long a proxy waits at its end for transactions that are over but for their last timer.
const PROXY_DRAIN_S: u32 = 1;

/// The token key of all tests.
const KEY: &str = "a key that only these tests know, of many characters";

/// What the test wants different from an echo that answers at once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many calls the backend takes.
    pub capacity: u32,
    /// How long a drain waits for calls.
    pub drain_limit: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self { capacity: 120, drain_limit: Duration::from_secs(20) }
    }
}

/// A started program of this workspace.
#[derive(Debug)]
pub struct Server {
    program: Program,
    proxy: Listeners,
    backend: Listeners,
    /// The counts that calls raise and that have to go back to zero.
    held: &'static [&'static str],
    scratch: Scratch,
}

/// What a proxy holds for calls.
const BY_PROXY: &[&str] = &["entries_live", "slots"];

/// What a backend without a proxy holds for calls.
const BY_ECHO: &[&str] = &["calls", "ports", "media_sessions", "dialogs"];

/// What both tiers together hold for calls.
const BY_BOTH: &[&str] = &["calls", "entries_live", "slots", "ports", "media_sessions", "dialogs"];

#[derive(Debug, Default)]
struct Listeners {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

impl Server {
    /// Both tiers in one process, over a store in memory.
    pub fn quickstart(setup: &Setup) -> Self {
        let scratch = Scratch::new("quickstart");
        let proxy = scratch.write("proxy.toml", proxy_file("memory"));
        let backend = scratch.write("backend.toml", backend_file(setup, "memory"));
        let words = [
            "--proxy".into(),
            path(&proxy),
            "--backend".into(),
            path(&backend),
            "--agent".into(),
            "echo".into(),
        ];
        Self::start("quickstart", &words, BY_BOTH, scratch)
    }

    /// The two tiers as a process each, over a store in one file.
    pub fn proxy_and_backend(setup: &Setup) -> (Self, Self) {
        let scratch = Scratch::new("backend");
        let store = format!("sqlite:{}", path(&scratch.path().join("calls.db")));
        let file = scratch.write("backend.toml", backend_file(setup, &store));
        let words = ["--config".into(), path(&file), "--agent".into(), "echo".into()];
        let backend = Self::start("backend", &words, BY_ECHO, scratch);
        let scratch = Scratch::new("proxy");
        let file = scratch.write("proxy.toml", proxy_file(&store));
        let proxy = Self::start("proxy", &["--config".into(), path(&file)], BY_PROXY, scratch);
        (proxy, backend)
    }

    /// A backend without a proxy that echoes every call.
    pub fn echo() -> Self {
        Self::start("echo", &["--listen".into(), "127.0.0.1:0".into()], BY_ECHO, Scratch::new("echo"))
    }

    fn start(program: &str, words: &[String], held: &'static [&'static str], scratch: Scratch) -> Self {
        let launch = Launch::new(built(program), "nothing: cargo build -p iqra-examples --bins makes it");
        let program = launch.args(words).env("RUST_LOG", "info").start();
        let ready = program.line("ready: ", PROMPT);
        let (proxy, backend) = ready.split_once("backend").unwrap_or((&ready, &ready));
        Self { program, proxy: Listeners::read(proxy), backend: Listeners::read(backend), held, scratch }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// A UDP address of the proxy: 0 is the first listener, 1 the second. Without a proxy it is that of the program.
    pub fn proxy(&self, listener: usize) -> SocketAddr {
        self.proxy.udp[listener]
    }

    /// The TCP address of the proxy.
    pub fn proxy_tcp(&self) -> SocketAddr {
        self.proxy.tcp[0]
    }

    /// The UDP address of the backend.
    pub fn backend(&self) -> SocketAddr {
        self.backend.udp[0]
    }

    /// The TCP address of the backend.
    pub fn backend_tcp(&self) -> SocketAddr {
        self.backend.tcp[0]
    }

    /// The Request-URI that calls this number of this business by the first listener.
    pub fn uri(&self, business: &str, phone: &str) -> String {
        format!("sip:+15550100@{};X-Business-Id={business};X-Phone-Id={phone}", self.proxy(0))
    }

    /// A number that answers at once.
    pub fn open_uri(&self) -> String {
        self.uri("open", "p1")
    }

    /// A number that answers after two seconds.
    pub fn slow_uri(&self) -> String {
        self.uri("open", "slow")
    }

    /// A number that rings and does not answer in the time of a test.
    pub fn ringing_uri(&self) -> String {
        self.uri("open", "rings")
    }

    /// Calls the open number in both steps and leaves the call standing: the caller and the answer. The offer
    /// names this audio port and law.
    pub fn standing_call(&self, audio_port: u16, law: Law) -> (Caller, Text) {
        let mut caller = Caller::udp(self.proxy(0)).offering(audio_port, &[law]);
        caller.invite(&self.open_uri());
        let redirect = caller.final_response();
        let mut caller = caller.following(&redirect);
        let answer = caller.answered();
        (caller, answer)
    }

    /// A run of sipp that calls a number of "open" through `server`.
    pub fn sipp(&self, server: SocketAddr, scenario: &'static str, law: Law, phone: &str) -> Sipp {
        self.sipp_for("open", phone, server, scenario, law)
    }

    /// A run of sipp that calls a number through `server`.
    pub fn sipp_for(
        &self,
        business: &str,
        phone: &str,
        server: SocketAddr,
        scenario: &'static str,
        law: Law,
    ) -> Sipp {
        let file = if law == Law::Mu { "tone.mu" } else { "tone.a" };
        let sipp = Sipp::calling(server, scenario).key("business", business).key("phone", phone);
        let sipp = sipp.key("user", "+15550100").key("law", law.name()).key("payload", law.payload_type());
        sipp.key("file", file)
    }

    /// The numbers of the `counts:` line, asked for now.
    ///
    /// # Panics
    /// When the program does not answer.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let before = self.program.printed();
        self.program.signal("USR1");
        counts(&self.program.line_after(before, "counts: ", PROMPT))
    }

    /// One of these numbers.
    ///
    /// # Panics
    /// When there is no such number.
    pub fn count(&self, name: &str) -> u64 {
        let counts = self.counts();
        *counts.get(name).unwrap_or_else(|| panic!("no {name} in {counts:?}"))
    }

    /// Waits until nothing of any call is left: no call, entry, slot, port, media session or dialog, as far as the
    /// program holds them.
    ///
    /// # Panics
    /// When something stays.
    pub fn assert_no_call_left(&self) {
        self.assert_zero(self.held, PROMPT);
    }

    /// Waits until no transaction is left either, which takes their last timers.
    ///
    /// # Panics
    /// When something stays.
    pub fn assert_nothing_left(&self) {
        self.assert_no_call_left();
        self.assert_zero(&["transactions"], FORGETTING);
    }

    fn assert_zero(&self, names: &[&str], within: Duration) {
        wait::until_ok(&format!("{names:?} to become zero"), within, || {
            let counts = self.counts();
            if names.iter().all(|&name| counts.get(name) == Some(&0)) { Ok(()) } else { Err(counts) }
        });
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// What it has printed so far.
    pub fn text(&self) -> String {
        self.program.text()
    }

    /// Waits for it to end after a signal, and asserts that it exits 0, that nothing panicked, and that its last
    /// counts are zero.
    ///
    /// # Panics
    /// When not.
    pub fn assert_clean_end(self, within: Duration) {
        let ended = self.program.end(within);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
        assert_no_panic(&ended);
        let last = ended.output.lines().rfind(|line| line.contains("counts: "));
        let counts = counts(last.unwrap_or_else(|| panic!("no counts at the end\n{}", ended.output)));
        for name in self.held {
            assert_eq!(counts.get(*name), Some(&0), "{name} at the end: {counts:?}\n{}", ended.output);
        }
        drop(self.scratch);
    }

    /// SIGTERM with nothing in progress, then [`Server::assert_clean_end`].
    ///
    /// # Panics
    /// When it does not end cleanly.
    pub fn stop(self) {
        self.signal("TERM");
        self.assert_clean_end(PROMPT);
    }
}

impl Listeners {
    /// Reads `udp:IP:PORT` and `tcp:IP:PORT` words.
    fn read(words: &str) -> Self {
        let of = |prefix: &str| {
            words.split(' ').filter_map(|word| word.strip_prefix(prefix)?.parse().ok()).collect()
        };
        Self { udp: of("udp:"), tcp: of("tcp:") }
    }
}

fn counts(line: &str) -> BTreeMap<String, u64> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    line.split(' ').filter_map(pair).collect()
}

fn assert_no_panic(ended: &Ended) {
    assert!(!ended.output.contains("panicked at"), "{}", ended.output);
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Builds the programs once per test process, in the profile of the tests, and gives the path of one.
fn built(program: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(program)
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).args([
        "build",
        "-q",
        "-p",
        "iqra-examples",
        "--bins",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command.status().expect("cargo runs these tests");
    assert!(built.success(), "the programs under test do not build");
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors().nth(2).expect("target/<profile>/deps/<test>").to_owned()
}

/// Accounts, businesses and numbers of the tests. "open" has numbers that answer at once (`p1`), after 2 s (`slow`)
/// and after a time no test waits for (`rings`); of "single" one call is allowed at a time; "inactive" is switched
/// off; "elsewhere" is called from a network that is not this one.
fn proxy_file(store: &str) -> String {
    let mut file = format!(
        r#"
store = "{store}"
[node]
id = "proxy-1"
drain_limit_s = {PROXY_DRAIN_S}
[listen]
udp = ["127.0.0.1:0", "127.0.0.1:0"]
tcp = ["127.0.0.1:0"]
[tokens]
keys = ["{KEY}"]
life_s = 5
[[accounts]]
id = "large"
concurrent_calls = 1000
[[accounts]]
id = "small"
concurrent_calls = 1
[[regions]]
id = "eu"
[[trunks]]
id = "loopback"
allowed_sources = ["127.0.0.0/8"]
[[trunks]]
id = "far"
allowed_sources = ["192.0.2.0/24"]
"#
    );
    for (business, account, active) in [
        ("open", "large", true),
        ("single", "small", true),
        ("inactive", "large", false),
        ("elsewhere", "large", true),
    ] {
        file += &format!("[[businesses]]\nid = \"{business}\"\naccount = \"{account}\"\nactive = {active}\n");
        let trunk = if business == "elsewhere" { "far" } else { "loopback" };
        for (number, delay) in [("p1", 0), ("slow", 2_000), ("rings", 30_000)] {
            file += &format!(
                "[[numbers]]\nbusiness = \"{business}\"\nid = \"{number}\"\ndialled = \"{business}-{number}\"\nprovider = \"sip\"\nregion = \"eu\"\n\
                 route = \"echo\"\ntrunk = \"{trunk}\"\nanswer_delay_ms = {delay}\n"
            );
        }
    }
    file
}

fn backend_file(setup: &Setup, store: &str) -> String {
    let first = ports::free(MEDIA_PORTS);
    format!(
        r#"
store = "{store}"
[backend]
id = "backend-1"
region = "eu"
capacity = {capacity}
drain_limit_s = {drain}
[listen]
udp = ["127.0.0.1:0"]
tcp = ["127.0.0.1:0"]
[tokens]
keys = ["{KEY}"]
[media]
ports = "{first}-{last}"
outbound_reserve_percent = 0
[media.overload]
refuse = false
"#,
        capacity = setup.capacity,
        drain = setup.drain_limit.as_secs(),
        last = first + MEDIA_PORTS - 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_program_are_read() {
        let line = "ready: proxy udp:127.0.0.1:5060 udp:127.0.0.1:5062 tcp:127.0.0.1:5060";
        let listeners = Listeners::read(line);
        assert_eq!((listeners.udp.len(), listeners.tcp.len()), (2, 1));
        let counts = counts("counts: calls=0 tasks=17");
        assert_eq!((counts.get("calls"), counts.get("tasks")), (Some(&0), Some(&17)));
    }
}
