//! sipp 3.6.1: one run of a scenario, bounded in calls and in time, and its figures.
//!
//! The exit code of sipp is 0 only when every call did what the scenario says; 1, 97, 99, 253, 254 and 255 are
//! all failures (97, 99: stopped early; above: fatal errors). The statistics file tells how many calls there were,
//! so that a run of none is no success either. This version knows no TLS and only MD5.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::audio::tone;
use crate::endpoint::Us;
use crate::g711::Law;
use crate::ports;
use crate::program::{Launch, Program};
use crate::scratch::Scratch;
use crate::wait;

/// The Debian package.
const PACKAGE: &str = "sip-tester";

/// How long sipp may take to come up.
const OPENING: Duration = Duration::from_secs(10);

/// The frequency of `tone.mu` and `tone.a`, which scenarios may stream.
pub const STREAMED_HZ: f64 = 440.0;

/// The name of the filled-in scenario in the working directory.
const SCENARIO: &str = "scenario.xml";

/// When a run of one call has to be over.
pub const LIMIT: Duration = Duration::from_secs(25);

/// sipp calls us.
///
/// # Panics
/// As [`Sipp::start`].
pub fn caller(us: &Us, scenario: &'static str) -> Running {
    caller_of(us, scenario).start()
}

/// The same, to be told more. The credentials of sipp are for `sip:<address>` where it is not told what it calls.
pub fn caller_of(us: &Us, scenario: &'static str) -> Sipp {
    let service = format!("service@{}", us.addr());
    Sipp::calling(us.addr(), scenario).within(LIMIT).option(&["-auth_uri", &service])
}

/// sipp is called: one call, and it ends.
///
/// # Panics
/// As [`Sipp::start`].
pub fn called(scenario: &'static str) -> Running {
    called_by(scenario).start()
}

/// The same, to be told more.
pub fn called_by(scenario: &'static str) -> Sipp {
    Sipp::answering(scenario).within(LIMIT).option(&["-m", "1", "-recv_timeout", "20000"])
}

/// Waits for the end of a run of one call, in which all must go as the scenario says.
///
/// # Panics
/// When it does not.
pub fn finish(run: Running) {
    run.finish(LIMIT + Duration::from_secs(5)).assert_all_succeeded();
}

/// A run that is being prepared.
#[derive(Debug)]
pub struct Sipp {
    scenario: &'static str,
    server: Option<SocketAddr>,
    ip: IpAddr,
    tcp: bool,
    calls: u32,
    rate: u32,
    hold: Duration,
    within: Duration,
    keys: Vec<(String, String)>,
    files: Vec<(&'static str, Vec<u8>)>,
    options: Vec<String>,
}

impl Sipp {
    /// Calls `server` by `scenarios/<scenario>.xml`: one call, unless told otherwise.
    pub fn calling(server: SocketAddr, scenario: &'static str) -> Self {
        Self { server: Some(server), ..Self::of(scenario) }
    }

    /// Answers calls by `scenarios/<scenario>.xml`.
    pub fn answering(scenario: &'static str) -> Self {
        Self::of(scenario)
    }

    fn of(scenario: &'static str) -> Self {
        Self {
            scenario,
            server: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            tcp: false,
            calls: 1,
            rate: 10,
            hold: Duration::from_millis(500),
            within: Duration::from_secs(60),
            keys: Vec::new(),
            files: Vec::new(),
            options: Vec::new(),
        }
    }

    /// How many calls, and how many of them start in a second.
    pub fn calls(self, calls: u32, rate: u32) -> Self {
        Self { calls, rate, ..self }
    }

    /// The length of the scenario's pause.
    pub fn hold(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// When the run has to be over.
    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    /// Over IPv6, at `::1`.
    pub fn ipv6(self) -> Self {
        Self { ip: Ipv6Addr::LOCALHOST.into(), ..self }
    }

    /// Over TCP, a caller with one connection per call, instead of one UDP socket for all.
    pub fn tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// Puts a value in place of the scenario's `%name%`.
    pub fn key(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.keys.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sends what follows a 302 to `relay` instead of to the Contact, which stays the Request-URI.
    pub fn following_through(self, relay: SocketAddr) -> Self {
        self.key("host", relay.ip()).key("port", relay.port())
    }

    /// Puts a file beside the scenario, for it to play.
    pub fn file(mut self, name: &'static str, bytes: Vec<u8>) -> Self {
        self.files.push((name, bytes));
        self
    }

    /// Adds an option of sipp itself.
    pub fn option(mut self, words: &[&str]) -> Self {
        self.options.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When sipp is not installed or does not end in time.
    pub fn run(self) -> Report {
        let within = self.within;
        self.start().finish(within + Duration::from_secs(10))
    }

    /// Starts it: a caller to run beside others, or an answering side, which then has its port open.
    ///
    /// # Panics
    /// When sipp is not installed or does not open its port.
    pub fn start(self) -> Running {
        let scratch = Scratch::new(self.scenario);
        for (name, law) in [("tone.mu", Law::Mu), ("tone.a", Law::A)] {
            let samples = tone(STREAMED_HZ, 8.0);
            scratch.write(name, samples.iter().map(|&sample| law.encode(sample)).collect::<Vec<u8>>());
        }
        for (name, bytes) in &self.files {
            scratch.write(name, bytes);
        }
        scratch.write(SCENARIO, self.scenario_text());
        let (port, media) = (ports::free(2), ports::free(4));
        let launch = Launch::new("sipp", PACKAGE).args(self.arguments(port, media)).dir(scratch.path());
        let program = launch.start();
        if self.server.is_none() {
            wait::until("sipp to open its port", OPENING, || ports::is_taken(port).then_some(()));
        }
        let address = SocketAddr::from((self.ip, port));
        Running { program, address, media, scenario: self.scenario, calls: self.calls, scratch }
    }

    /// The scenario with its values filled in; a 302 is followed to its Contact unless told otherwise.
    fn scenario_text(&self) -> String {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(self.scenario).with_extension("xml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let fill = |text: String, (name, value): &(String, String)| text.replace(&format!("%{name}%"), value);
        let text = self.keys.iter().fold(text, fill);
        text.replace("%host%", "[$host]").replace("%port%", "[$port]")
    }

    /// sipp can change the destination of a call over TCP only with a socket per call, and listen only with one.
    fn transport(&self) -> &'static str {
        match (self.tcp, self.server) {
            (false, _) => "u1",
            (true, None) => "t1",
            (true, Some(_)) => "tn",
        }
    }

    fn arguments(&self, port: u16, media: u16) -> Vec<String> {
        let mut words: Vec<String> = self.server.iter().map(ToString::to_string).collect();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("-sf", SCENARIO.to_owned());
        add("-i", self.ip.to_string());
        add("-mi", self.ip.to_string());
        add("-p", port.to_string());
        add("-mp", media.to_string());
        add("-t", self.transport().to_owned());
        add("-max_socket", "1000".to_owned());
        add("-d", self.hold.as_millis().to_string());
        add("-timeout", format!("{}s", self.within.as_secs()));
        add("-stf", "figures.csv".to_owned());
        add("-error_file", "errors.log".to_owned());
        if self.server.is_some() {
            add("-m", self.calls.to_string());
            add("-l", self.calls.to_string());
            add("-r", self.rate.to_string());
            add("-recv_timeout", "20000".to_owned());
        }
        words.extend(
            ["-nostdin", "-trace_stat", "-trace_err", "-timeout_error", "-fd", "1"].map(str::to_owned),
        );
        words.extend(self.options.iter().cloned());
        words
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Running {
    program: Program,
    address: SocketAddr,
    media: u16,
    scenario: &'static str,
    calls: u32,
    scratch: Scratch,
}

impl Running {
    /// Where it sends from and listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many RTP packets have come back so far to the media port, which all calls of a run share. This version
    /// of sipp streams from that port and never reads it, so the kernel counts all but the first few hundred as
    /// dropped.
    pub fn audio_returned(&self) -> u64 {
        ports::dropped(self.media)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn finish(self, within: Duration) -> Report {
        let ended = self.program.end(within);
        let figures = read(self.scratch.path(), "figures.csv");
        let errors = read(self.scratch.path(), "errors.log");
        let code = ended.status.code();
        let report = Report::new(self.scenario, self.calls, code, &figures, errors, ended.output);
        Report { scratch: Some(self.scratch), ..report }
    }
}

/// The figures of a finished run.
#[derive(Debug)]
pub struct Report {
    scenario: &'static str,
    asked: u32,
    code: Option<i32>,
    columns: Vec<(String, String)>,
    /// Unexpected messages and timeouts, as sipp logged them.
    pub errors: String,
    screen: String,
    /// Its files stay when the test fails.
    scratch: Option<Scratch>,
}

impl Report {
    fn new(
        scenario: &'static str,
        asked: u32,
        code: Option<i32>,
        figures: &str,
        errors: String,
        screen: String,
    ) -> Self {
        let mut lines = figures.lines();
        let names = lines.next().unwrap_or_default().split(';');
        let values = lines.next_back().unwrap_or_default().split(';');
        let columns = names.zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { scenario, asked, code, columns, errors, screen, scratch: None }
    }

    /// A cumulative figure by sipp's name without `(C)`: `SuccessfulCall`, `FailedCall`, `Retransmissions`.
    ///
    /// # Panics
    /// When the statistics hold no such figure.
    pub fn figure(&self, name: &str) -> u64 {
        let column = format!("{name}(C)");
        let value =
            self.columns.iter().find(|known| known.0 == column).and_then(|known| known.1.parse().ok());
        value.unwrap_or_else(|| panic!("sipp {}: no figure {column}\n{}", self.scenario, self.screen))
    }

    /// Asserts that every call asked for was made and went as the scenario says.
    ///
    /// # Panics
    /// When not, with sipp's log of unexpected messages.
    pub fn assert_all_succeeded(&self) -> &Self {
        let files = self.scratch.as_ref().map(Scratch::path);
        let told = format!(
            "sipp {}: exit {:?}, {files:?}\n{}\n{}",
            self.scenario, self.code, self.errors, self.screen
        );
        assert_eq!(self.code, Some(0), "{told}");
        assert_eq!(
            (self.figure("SuccessfulCall"), self.figure("FailedCall")),
            (self.asked.into(), 0),
            "{told}"
        );
        self
    }
}

fn read(directory: &Path, name: &str) -> String {
    // sipp writes the error file only when there is an error.
    std::fs::read_to_string(directory.join(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: &str =
        "StartTime;SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);\nx;1;1;0;\ny;2;3;0;\n";

    fn report(code: i32, figures: &str) -> Report {
        Report::new("own", 3, Some(code), figures, String::new(), String::new())
    }

    #[test]
    fn the_last_line_of_the_figures_counts() {
        report(0, FIGURES).assert_all_succeeded();
    }

    #[test]
    fn any_other_exit_code_fails() {
        for code in [1, 97, 99, 253, 254, 255] {
            let failed = std::panic::catch_unwind(|| {
                report(code, FIGURES).assert_all_succeeded();
            });
            assert!(failed.is_err(), "{code}");
        }
    }

    #[test]
    #[should_panic(expected = "left: (2, 0)")]
    fn fewer_calls_than_asked_fail() {
        report(0, "SuccessfulCall(C);FailedCall(C);\n2;0;\n").assert_all_succeeded();
    }

    #[test]
    #[should_panic(expected = "no figure SuccessfulCall(C)")]
    fn no_figures_fail() {
        report(0, "").assert_all_succeeded();
    }
}
