//! The ladder of every scenario: who sent what to whom and when, compared with the one that is committed under
//! `ladders/<module>/<scenario>.txt`.
//!
//! A world draws while it lives and compares when it ends; a scenario with several worlds has them one after the other
//! in its file. Tags, branches and the parameters of URIs are left out, so that only what happens makes a difference.
//! `LADDERS=write cargo test -p iqra-sip --all-features --test sim` writes the files anew; look at what changed before
//! it is committed.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use iqra_sip::{Flow, Transmit, Transport};

/// Worlds of a scenario that are drawn; further ones differ by their seed alone.
const MOST_WORLDS: usize = 4;
/// Messages of a world that are drawn.
const MOST_RUNGS: usize = 120;

thread_local! {
    /// Worlds that this scenario has drawn.
    static DRAWN: Cell<usize> = const { Cell::new(0) };
}

/// What is drawn of one world.
#[derive(Default)]
pub(crate) struct Ladder {
    began: Option<Instant>,
    rails: Vec<SocketAddr>,
    rungs: Vec<Rung>,
    said: HashSet<(SocketAddr, SocketAddr, String)>,
}

struct Rung {
    ms: u128,
    from: usize,
    to: usize,
    lost: bool,
    label: String,
}

impl Ladder {
    /// Takes a message on its way.
    pub(crate) fn note(
        &mut self,
        now: Instant,
        [from, to]: [SocketAddr; 2],
        transport: Transport,
        text: &str,
        lost: bool,
    ) {
        if self.rungs.len() > MOST_RUNGS || scenario().is_none() {
            return;
        }
        let again = if self.said.insert((from, to, text.to_owned())) { "" } else { " (again)" };
        let by = if transport == Transport::Udp { String::new() } else { format!(" [{transport}]") };
        let ms = (now - *self.began.get_or_insert(now)).as_millis();
        let (from, to) = (self.rail(from), self.rail(to));
        self.rungs.push(Rung { ms, from, to, lost, label: format!("{}{by}{again}", label(text)) });
    }

    /// Takes what an engine sends.
    pub(crate) fn sends(&mut self, now: Instant, transmit: &Transmit) {
        let Flow { transport, local, remote, .. } = transmit.flow;
        self.note(now, [local, remote], transport, &String::from_utf8_lossy(&transmit.bytes), false);
    }

    /// Takes what an engine hears.
    pub(crate) fn hears(&mut self, now: Instant, flow: &Flow, bytes: &[u8]) {
        self.note(now, [flow.remote, flow.local], flow.transport, &String::from_utf8_lossy(bytes), false);
    }

    fn rail(&mut self, addr: SocketAddr) -> usize {
        self.rails.iter().position(|known| *known == addr).unwrap_or_else(|| {
            self.rails.push(addr);
            self.rails.len() - 1
        })
    }

    fn draw(&self) -> String {
        let width = self.rails.iter().map(|rail| rail.to_string().len() + 2).max().unwrap_or_default();
        let mut text = format!("{:>8} ", "ms");
        for rail in &self.rails {
            let _ = write!(text, " {:<1$}", rail.to_string(), width - 1);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for Rung { ms, from, to, lost, label } in self.rungs.iter().take(MOST_RUNGS) {
            let rail = format!("{:<width$}", "|");
            let mut rails: Vec<char> = rail.repeat(self.rails.len()).chars().collect();
            let (left, right) = (from.min(to) * width, from.max(to) * width);
            rails.iter_mut().take(right).skip(left + 1).for_each(|place| *place = '-');
            let (tip, head) = if to > from { (right - 1, '>') } else { (left + 1, '<') };
            rails[tip] = if *lost { 'x' } else { head };
            let rails: String = rails.iter().collect();
            let _ = writeln!(text, "{ms:>8}  {} {label}", rails.trim_end());
        }
        if self.rungs.len() > MOST_RUNGS {
            text.push_str("          and more\n");
        }
        text
    }
}

/// The start line without the parameters of its URI, the method of a response, and the type of a body.
fn label(text: &str) -> String {
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let line = text.lines().next().unwrap_or_default();
    let method = header("CSeq").and_then(|cseq| cseq.split(' ').nth(1)).unwrap_or_default();
    let body =
        header("Content-Type").map(|kind| format!(" + {}", kind.split(';').next().unwrap_or_default()));
    let start = match line.strip_prefix("SIP/2.0 ") {
        Some(status) => format!("{status} ({method})"),
        None => line.trim_end_matches(" SIP/2.0").split(';').next().unwrap_or_default().to_owned(),
    };
    start + &body.unwrap_or_default()
}

/// The test that this thread runs; none for the search, which no ladder holds.
fn scenario() -> Option<String> {
    let name = std::thread::current().name()?.to_owned();
    (name.contains("::") && !name.starts_with("seeds::")).then_some(name)
}

/// Whether the ladders are to be taken as they are.
fn writes() -> bool {
    std::env::var("LADDERS").is_ok_and(|value| value == "write")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/ladders")
}

impl Drop for Ladder {
    fn drop(&mut self) {
        let Some(name) = scenario().filter(|_| !std::thread::panicking() && !self.rungs.is_empty()) else {
            return;
        };
        let world = DRAWN.replace(DRAWN.get() + 1);
        if world >= MOST_WORLDS {
            return;
        }
        let path = folder().join(name.replace("::", "/") + ".txt");
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let mut worlds: Vec<&str> =
            known.split("\n\n").map(str::trim_end).filter(|one| !one.is_empty()).collect();
        let drawn = self.draw();
        if writes() {
            worlds.truncate(world);
            worlds.push(drawn.trim_end());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            return std::fs::write(&path, worlds.join("\n\n") + "\n").unwrap();
        }
        let expected = worlds.get(world).copied().unwrap_or("no ladder");
        assert!(
            expected == drawn.trim_end(),
            "the ladder is another one than in {}; LADDERS=write takes it\nexpected:\n{expected}\n\ndrawn:\n{drawn}",
            path.display()
        );
    }
}

#[test]
fn every_ladder_is_of_a_scenario() {
    if writes() {
        return; // They are not all there yet.
    }
    let read = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut folders = vec![folder()];
    let tests = folder().parent().unwrap().to_owned();
    let mut seen = 0;
    while let Some(at) = folders.pop() {
        for path in read(&at) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let module = at.strip_prefix(folder()).unwrap();
            let source = std::fs::read_to_string(tests.join(module).with_extension("rs")).unwrap_or_default();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(source.contains(&format!("fn {name}(")), "no scenario draws {}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} ladders");
}
