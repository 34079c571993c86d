//! A program run by a test: started, awaited by a line of its output, stopped by its own pid.
//!
//! Standard output and error are collected together, line by line, and shown when the test fails.
//! A program still running when its handle is dropped is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What to start.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    package: &'static str,
}

impl Launch {
    /// `program` is a name on the PATH or a path; `package` is the Debian package to name when it is missing.
    pub fn new(program: impl AsRef<Path>, package: &'static str) -> Self {
        let mut command = Command::new(program.as_ref());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, package }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Has it read what [`Program::type_line`] writes.
    pub fn typed(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the program is not installed.
    pub fn start(mut self) -> Program {
        let name = Path::new(self.command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut child = match self.command.spawn() {
            Ok(child) => child,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                panic!("{name} is not installed; these tests need it: apt-get install {}", self.package)
            }
            Err(why) => panic!("cannot start {name}: {why}"),
        };
        let output = Arc::new(Output::default());
        output.collect(child.stdout.take());
        output.collect(child.stderr.take());
        Program { name, child, output }
    }
}

/// A started program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

impl Program {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many lines it has printed; a position for [`Program::line_after`].
    pub fn printed(&self) -> usize {
        self.output.lines().len()
    }

    /// The first line that contains `needle`.
    ///
    /// # Panics
    /// When it does not come `within` that time.
    pub fn line(&self, needle: &str, within: Duration) -> String {
        self.line_after(0, needle, within)
    }

    /// The first line from position `from` on that contains `needle`.
    ///
    /// # Panics
    /// When it does not come `within` that time.
    pub fn line_after(&self, from: usize, needle: &str, within: Duration) -> String {
        let found = self.output.wait_for(from, &[needle], within);
        found.map(|(_, line)| line).unwrap_or_else(|| self.lacks(&[needle], within))
    }

    /// The first line from position `from` on that contains one of `needles`, and the position behind it.
    ///
    /// # Panics
    /// When none comes `within` that time.
    pub fn next_line(&self, from: usize, needles: &[&str], within: Duration) -> (usize, String) {
        let found = self.output.wait_for(from, needles, within);
        found.map(|(at, line)| (at + 1, line)).unwrap_or_else(|| self.lacks(needles, within))
    }

    fn lacks(&self, needles: &[&str], within: Duration) -> ! {
        panic!("{}: no {needles:?} within {within:?}\n{}", self.name, self.text())
    }

    /// All that it printed so far.
    pub fn text(&self) -> String {
        self.output.lines().join("\n")
    }

    /// Writes a line to its standard input; only for one that was [`Launch::typed`].
    ///
    /// # Panics
    /// When the program reads no more.
    pub fn type_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("started to be typed to");
        let written = writeln!(input, "{line}").and_then(|()| input.flush());
        written.unwrap_or_else(|why| panic!("{} reads no more: {why}\n{}", self.name, self.text()));
    }

    /// Sends a signal by name (`TERM`, `USR1`).
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("sh is there");
        assert!(sent.success(), "{} was gone before SIG{name}\n{}", self.name, self.text());
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// Waits for its end and returns the status and all output.
    ///
    /// # Panics
    /// When it runs longer than `within`.
    pub fn end(mut self, within: Duration) -> Ended {
        let deadline = Instant::now() + within;
        while self.is_running() {
            assert!(Instant::now() < deadline, "{} still runs after {within:?}\n{}", self.name, self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.output.wait_closed(Duration::from_secs(2));
        let status = self.child.wait().expect("the child is ours");
        Ended { status, output: self.text() }
    }

    /// SIGTERM, then [`Program::end`].
    pub fn terminate(self, within: Duration) -> Ended {
        self.signal("TERM");
        self.end(within)
    }
}

#[allow(clippy::print_stderr)] // The one way to tell the reader of a failed test.
impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}\n", self.name, self.text());
        }
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `code()` is `None` when a signal ended it.
    pub status: ExitStatus,
    /// Standard output and error together.
    pub output: String,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    open: usize,
}

impl Output {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    fn collect(self: &Arc<Self>, pipe: Option<impl Read + Send + 'static>) {
        let pipe = BufReader::new(pipe.expect("the pipe was asked for"));
        self.state().open += 1;
        let output = Arc::clone(self);
        std::thread::spawn(move || output.read(pipe));
    }

    fn read(&self, mut pipe: impl BufRead) {
        let mut bytes = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut bytes), Ok(1..)) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            self.state().lines.push(line);
            self.changed.notify_all();
            bytes.clear();
        }
        self.state().open -= 1;
        self.changed.notify_all();
    }

    /// The first line from a position on that contains one of these, with its position.
    fn wait_for(&self, from: usize, needles: &[&str], within: Duration) -> Option<(usize, String)> {
        let wanted = |line: &String| needles.iter().any(|needle| line.contains(needle));
        let found = |state: &State| {
            let mut lines = state.lines.iter().enumerate().skip(from);
            lines.find(|(_, line)| wanted(line)).map(|(at, line)| (at, line.clone()))
        };
        let waiting = |state: &mut State| found(state).is_none() && state.open > 0;
        let waited = self.changed.wait_timeout_while(self.state(), within, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        found(&state)
    }

    fn wait_closed(&self, within: Duration) {
        // A grandchild may hold the pipe open: then what was read so far has to do.
        let waited = self.changed.wait_timeout_while(self.state(), within, |state| state.open > 0);
        drop(waited);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Program {
        Launch::new("sh", "dash").args(["-c", script]).start()
    }

    #[test]
    fn a_line_is_found_and_the_rest_collected() {
        let program = shell("echo one; echo ready: 5; echo three >&2");
        assert_eq!(program.line("ready", SOON), "ready: 5");
        let ended = program.end(SOON);
        assert!(ended.status.success());
        assert!(ended.output.contains("three"), "{}", ended.output);
    }

    #[test]
    #[should_panic(expected = "no [\"ready\"] within")]
    fn a_program_that_ends_without_the_line_is_reported_at_once() {
        shell("echo broken").line("ready", Duration::from_secs(3600));
    }

    #[test]
    #[should_panic(expected = "apt-get install no-such-package")]
    fn a_missing_program_names_its_package() {
        Launch::new("no-such-program-here", "no-such-package").start();
    }

    #[test]
    fn terminate_lets_the_program_finish() {
        let program = shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        program.line("ready", SOON);
        let ended = program.terminate(SOON);
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.output.contains("bye"));
    }

    #[test]
    fn a_dropped_program_is_killed() {
        let program = shell("echo ready; exec sleep 600");
        program.line("ready", SOON);
        let proc = format!("/proc/{}", program.pid());
        drop(program);
        assert!(!Path::new(&proc).exists());
    }
}
