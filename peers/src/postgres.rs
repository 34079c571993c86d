//! A PostgreSQL server of the test's own: in a fresh directory, on a free loopback port and a Unix socket, without fsync.
//!
//! It can be stopped and started again. Servers refuse to run as root, so then it runs as Debian's user `postgres`. It asks
//! for a password over TCP, and `auto_explain` lets its log tell the plan of every statement.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ports;
use crate::program::{Launch, Program};
use crate::scratch::Scratch;
use crate::wait;

/// The Debian package.
const PACKAGE: &str = "postgresql";
/// Where it puts the programs, by version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The password of its user `postgres`.
pub const PASSWORD: &str = "of the test";
/// How long it may take to come up or down.
const OPENING: Duration = Duration::from_secs(60);

/// A server, running or stopped. The program, where it runs, is killed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    program: Option<Program>,
    port: u16,
    secure: bool,
    scratch: Scratch,
}

impl Postgres {
    /// Makes a database cluster and starts its server.
    ///
    /// # Panics
    /// When the package is not installed, or the server does not come up.
    pub fn start() -> Self {
        let mut server = Self::new();
        server.resume();
        server
    }

    /// The same with TLS for whoever asks for it, by this certificate and its key.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_secure(certificate: &Path, key: &Path) -> Self {
        let mut server = Self::new();
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = server.scratch.path().join("data").join(to);
            let copied = as_server(Path::new("install")).args(["-m", "600"]).args([from, &to]).status();
            assert!(copied.expect("install is there").success(), "{}", to.display());
        }
        server.secure = true;
        server.resume();
        server
    }

    fn new() -> Self {
        let scratch = Scratch::new("postgres");
        let open = std::fs::Permissions::from_mode(0o777); // the server's user writes here
        std::fs::set_permissions(scratch.path(), open).expect("the directory is ours");
        let password = scratch.write("password", PASSWORD);
        let init = as_server(&program("initdb"))
            .args([
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--username=postgres",
                "--encoding=UTF8",
            ])
            .args(["--locale=C", "--no-sync", "--pwfile"])
            .args([&password, Path::new("-D"), &scratch.path().join("data")])
            .output()
            .expect("setpriv is there, of the package util-linux");
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        Self { program: None, port: ports::free(1), secure: false, scratch }
    }

    /// The URL of a database of its own on this server, over TCP; its password is [`PASSWORD`].
    ///
    /// # Panics
    /// When the server refuses.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres:{}@127.0.0.1:{}/{name}", PASSWORD.replace(' ', "%20"), self.port)
    }

    /// What a database answers to statements, one row a line.
    ///
    /// # Panics
    /// When it refuses.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let output = Command::new(program("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.scratch.path())
            .args(["-p", &self.port.to_string(), "-d", database, "-c", statements])
            .output()
            .expect("psql is there, of the package postgresql");
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Stops it as an administrator would who does not wait for its clients.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let program = self.program.take().expect("it runs");
        program.signal("INT");
        program.end(OPENING);
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn resume(&mut self) {
        let (folder, port) = (self.scratch.path().display().to_string(), self.port.to_string());
        let data = format!("{folder}/data");
        let settings = [
            "listen_addresses=127.0.0.1",
            &format!("unix_socket_directories={folder}"),
            "fsync=off",
            "max_connections=200",
            "shared_preload_libraries=auto_explain",
            &format!("ssl={}", if self.secure { "on" } else { "off" }),
        ];
        let (command, arguments) = server_command(&program("postgres"));
        let mut launch = Launch::new(command, PACKAGE).args(arguments).args(["-D", &data, "-p", &port]);
        for setting in settings {
            launch = launch.args(["-c", setting]);
        }
        let program = launch.start();
        program.line("database system is ready to accept connections", OPENING);
        self.program = Some(program);
        wait::until("an answer of the server", OPENING, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()
        });
    }

    /// Freezes the server: its sockets stay open and nothing is answered. [`thaw`](Self::thaw) ends it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Ends [`freeze`](Self::freeze).
    ///
    /// # Panics
    /// When it does not run.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// A signal to the server and the processes that it made for its clients.
    fn signal_all(&self, name: &str) {
        let pid = self.program.as_ref().expect("it runs").pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let kill = format!("kill -{name} {pid} {children}");
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("sh is there");
        assert!(sent.success(), "{kill}");
    }

    /// What the server wrote to its log so far.
    ///
    /// # Panics
    /// When it does not run.
    pub fn log(&self) -> String {
        self.program.as_ref().expect("it runs").text()
    }
}

impl Drop for Postgres {
    /// Lets a running server end by itself: one that is killed leaves shared memory behind.
    fn drop(&mut self) {
        if self.program.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

/// A program of the newest version that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists());
    let number = |path: &PathBuf| -> Option<u32> { path.iter().nth(4)?.to_str()?.parse().ok() };
    found.max_by_key(number).unwrap_or_else(|| {
        panic!("{name} is not in {VERSIONS}; these tests need it: apt-get install {PACKAGE}")
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// How a program is run that refuses to run as root.
fn server_command(program: &Path) -> (PathBuf, Vec<PathBuf>) {
    if !is_root() {
        return (program.to_owned(), Vec::new());
    }
    let change = ["--reuid=postgres", "--regid=postgres", "--clear-groups"].map(PathBuf::from);
    ("setpriv".into(), change.into_iter().chain([program.to_owned()]).collect())
}

fn as_server(program: &Path) -> Command {
    let (command, arguments) = server_command(program);
    let mut command = Command::new(command);
    command.args(arguments);
    command
}
