//! A program under test: started in a folder of its own, its lines read as they come, signalled, and never left behind.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub(crate) const ECHO: &str = env!("CARGO_BIN_EXE_echo");
pub(crate) const PROXY: &str = env!("CARGO_BIN_EXE_proxy");
pub(crate) const BACKEND: &str = env!("CARGO_BIN_EXE_backend");
pub(crate) const QUICKSTART: &str = env!("CARGO_BIN_EXE_quickstart");

/// How long a test waits for anything a program should do at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// An empty folder for one test.
pub(crate) fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a program left when it was over.
pub(crate) struct Over {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn run(program: &str, args: &[&str], folder: &Path) -> Over {
    let mut command = command(program, args, folder);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Over { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A backtrace is asked for, so that a test sees it where a program would show one.
fn command(program: &str, args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command.env_remove("RUST_LOG").env_remove("IQRA_TOKEN_KEYS");
    command
}

/// A program that runs.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start(program: &str, args: &[&str], folder: &Path) -> Self {
        let mut command = command(program, args, folder);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The next line that begins like this.
    pub(crate) fn line(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line \"{start}…\"; standard error:\n{}", self.kill()),
            }
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Stops it with SIGTERM: its exit code and its last line of counts.
    pub(crate) fn terminate(mut self) -> (Option<i32>, Counts) {
        self.signal("TERM");
        let counts = Counts(self.line("counts:"));
        (self.child.wait().unwrap().code(), counts)
    }

    fn kill(&mut self) -> String {
        let _ = self.child.kill();
        let mut said = String::new();
        let _ = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said));
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line `counts: name=number …`.
#[derive(Debug)]
pub(crate) struct Counts(pub(crate) String);

impl Counts {
    pub(crate) fn count(&self, name: &str) -> u64 {
        let found = self.pairs().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    /// What a program still holds: every count but the totals and its tasks.
    pub(crate) fn held(&self) -> Vec<(&str, u64)> {
        let held = self.pairs().filter(|(name, count)| *count > 0 && !name.ends_with("_total"));
        held.filter(|(name, _)| *name != "tasks").collect()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, u64)> {
        let words = self.0.strip_prefix("counts:").unwrap().split_whitespace();
        words.map(|word| word.split_once('=').unwrap()).map(|(name, count)| (name, count.parse().unwrap()))
    }
}

/// The two configuration files of a proxy and a backend on one store, with one number that is dialled 100.
pub(crate) fn tiers(folder: &Path, store: &str) -> (String, String) {
    let head = |node: &str| {
        format!(
            "store = \"{store}\"\n{node}\n[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n[tokens]\n\
             keys = [\"0123456789abcdef0123456789abcdef\"]\n"
        )
    };
    let proxy = head("[node]\nid = \"proxy\"")
        + r#"
        [[accounts]]
        id = "acme"
        concurrent_calls = 2
        [[businesses]]
        id = "7"
        account = "acme"
        [[trunks]]
        id = "loopback"
        allowed_sources = ["127.0.0.0/8"]
        [[regions]]
        id = "eu"
        [[numbers]]
        business = "7"
        id = "desk"
        dialled = "100"
        region = "eu"
        route = "front"
        trunk = "loopback"
    "#;
    let backend = head("[backend]\nid = \"backend\"\nregion = \"eu\"\ncapacity = 2")
        + "[media.overload]\nrefuse = false\n";
    (write(folder, "proxy.toml", &proxy), write(folder, "backend.toml", &backend))
}

/// Writes a file and gives its path.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}
