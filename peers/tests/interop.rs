//! The matrices of docs/interop.md are what the tests against real peers declare, no more and no less.
//!
//! A test declares its cells in its comment, a line each: `/// Cell: peer | behaviour`. Which matrix they are in says the
//! name of its file. `IQRA_WRITE_MATRIX=1 cargo test --release -p iqra-peers --test interop` writes the tables anew.

#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A table of docs/interop.md.
struct Matrix {
    /// How the names of the files begin that hold its cells.
    files: &'static str,
    /// The mark that stands before it.
    begin: &'static str,
    /// The columns, as the cells name them.
    peers: &'static [&'static str],
    /// The rows.
    behaviours: &'static [&'static str],
}

const SIGNALLING: Matrix = Matrix {
    files: "sip_",
    begin: "<!-- matrix: written by `cargo test -p iqra-peers --test interop` -->\n",
    peers: &PEERS,
    behaviours: BEHAVIOURS,
};

const MEDIA: Matrix = Matrix {
    files: "media_",
    begin: "<!-- media matrix: written by `cargo test -p iqra-peers --test interop` -->\n",
    peers: &["baresip", "rtpengine", "sipp", "pjsua2", "ffmpeg"],
    behaviours: &[
        "PCMU",
        "PCMA",
        "G.722",
        "L16",
        "Opus",
        "keys by RFC 4733",
        "SRTP, keys in the SDP",
        "SRTP, keys by DTLS",
        "another codec on the other side",
    ],
};

/// The columns of the signalling.
const PEERS: [&str; 7] = ["sipp", "Kamailio", "baresip", "linphone", "sipsak", "JsSIP", "sngrep and tshark"];

/// The rows of the signalling: what happens, always between this endpoint and the peer.
const BEHAVIOURS: &[&str] = &[
    "call from the peer, its BYE",
    "call from the peer, our BYE",
    "call to the peer, its BYE",
    "call to the peer, our BYE",
    "call over TCP",
    "call over TLS",
    "call over WebSocket",
    "call over secure WebSocket",
    "CANCEL by the peer before the answer",
    "CANCEL by us before the answer",
    "2xx that crosses a CANCEL",
    "call refused by us",
    "call refused by the peer",
    "re-INVITE by the peer",
    "re-INVITE by us",
    "offer in the 2xx",
    "ACK that never comes",
    "reliable provisional responses of the peer",
    "reliable provisional responses of ours",
    "UPDATE by the peer",
    "UPDATE by us",
    "session interval refused by the peer",
    "session interval refused by us",
    "session refreshed by the peer",
    "session refreshed by us",
    "digest: we ask a caller",
    "digest: the peer asks our caller",
    "digest: we ask a request other than INVITE",
    "registration of the peer at us",
    "registration of ours at the peer",
    "REFER by the peer",
    "REFER by us",
    "Replaces by the peer",
    "Replaces by us",
    "OPTIONS by the peer",
    "OPTIONS by us",
    "INFO with DTMF by the peer",
    "INFO with DTMF by us",
    "MESSAGE by the peer",
    "MESSAGE by us",
    "redirect by us, followed by the peer",
    "redirect by the peer, followed by us",
    "several Contacts of a redirect tried in turn",
    "503 of one server, the next is tried",
    "loose routing",
    "call through the peer's record-routing proxy",
    "CANCEL through the peer's proxy",
    "call through our record-routing proxy",
    "CANCEL through our record-routing proxy",
    "unknown extension, refused by us",
    "call over IPv6",
    "2xx of several branches, one is kept",
    "call forked, one branch answers",
    "datagrams lost, repeated and out of order",
    "flood that the guard drops",
    "messages exported to Homer",
];

const END: &str = "<!-- end of the matrix -->";

#[derive(Debug)]
struct Cell {
    peer: String,
    behaviour: String,
    file: String,
    test: String,
}

#[test]
fn the_matrices_are_what_the_tests_declare() {
    let path = folder().join("../docs/interop.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let new = MEDIA.written_into(&SIGNALLING.written_into(&text));
    if std::env::var_os("IQRA_WRITE_MATRIX").is_some() {
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert!(text == new, "docs/interop.md is out of date: write it anew with IQRA_WRITE_MATRIX=1");
}

#[test]
fn every_cell_has_a_row_and_a_column_and_a_test_that_runs() {
    for matrix in [SIGNALLING, MEDIA] {
        let cells = matrix.cells();
        assert!(!cells.is_empty());
        for cell in &cells {
            assert!(matrix.peers.contains(&cell.peer.as_str()), "no column for {cell:?}");
            assert!(matrix.behaviours.contains(&cell.behaviour.as_str()), "no row for {cell:?}");
        }
    }
}

#[test]
fn every_row_and_column_of_the_media_has_a_cell() {
    let cells = MEDIA.cells();
    for peer in MEDIA.peers {
        assert!(cells.iter().any(|cell| cell.peer == *peer), "{peer}");
    }
    for behaviour in MEDIA.behaviours {
        assert!(cells.iter().any(|cell| cell.behaviour == *behaviour), "{behaviour}");
    }
}

#[test]
fn every_test_against_a_peer_declares_a_cell() {
    for matrix in [SIGNALLING, MEDIA] {
        let cells = matrix.cells();
        for (file, text) in matrix.sources() {
            for test in tests_in(&text) {
                assert!(cells.iter().any(|cell| cell.file == file && cell.test == test), "{file}: {test}");
            }
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The functions that carry a test attribute and are not ignored.
fn tests_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut attributes = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push_str(line);
        } else if let Some(name) = function(line) {
            let runs = attributes.contains("test") && !attributes.contains("ignore");
            found.extend(runs.then(|| name.to_owned()));
            attributes.clear();
        } else if !line.starts_with("//") {
            attributes.clear();
        }
    }
    found
}

fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))?;
    rest.split_once(['(', '<']).map(|(name, _)| name)
}

impl Matrix {
    /// The files of tests that hold its cells, in the order of their names.
    fn sources(&self) -> Vec<(String, String)> {
        let entries = std::fs::read_dir(folder().join("tests")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with(self.files) && name.ends_with(".rs")).collect();
        names.sort();
        let read = |name: String| {
            let text = std::fs::read_to_string(folder().join("tests").join(&name)).unwrap();
            (name, text)
        };
        names.into_iter().map(read).collect()
    }

    /// The declared cells; those above a function that is no test declare nothing.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (file, text) in self.sources() {
            let tests = tests_in(&text);
            let mut declared: Vec<(String, String)> = Vec::new();
            for line in text.lines().map(str::trim) {
                if let Some(cell) = line.strip_prefix("/// Cell: ") {
                    let (peer, behaviour) =
                        cell.split_once(" | ").unwrap_or_else(|| panic!("{file}: {line}"));
                    declared.push((peer.to_owned(), behaviour.to_owned()));
                } else if let Some(test) = function(line) {
                    let own = declared.drain(..).filter(|_| tests.iter().any(|one| one == test));
                    cells.extend(own.map(|(peer, behaviour)| Cell {
                        peer,
                        behaviour,
                        file: file.clone(),
                        test: test.to_owned(),
                    }));
                }
            }
        }
        cells
    }

    /// A document with this table in its place.
    fn written_into(&self, text: &str) -> String {
        let begin = self.begin;
        let (head, rest) = text.split_once(begin).expect("the mark where the matrix begins");
        let (_, tail) = rest.split_once(END).expect("the mark where the matrix ends");
        format!("{head}{begin}{}{END}{tail}", self.table())
    }

    fn table(&self) -> String {
        let cells = self.cells();
        let mut text = String::from("\n| behaviour |");
        self.peers.iter().for_each(|peer| write!(text, " {peer} |").unwrap());
        text.push_str("\n|---|");
        self.peers.iter().for_each(|_| text.push_str("---|"));
        for behaviour in self.behaviours {
            write!(text, "\n| {behaviour} |").unwrap();
            for peer in self.peers {
                let own = cells.iter().filter(|cell| cell.peer == *peer && cell.behaviour == *behaviour);
                let links: Vec<_> = own.map(link).collect();
                write!(text, " {} |", links.join("<br>")).unwrap();
            }
        }
        text.push_str("\n\n");
        text
    }
}

fn link(cell: &Cell) -> String {
    format!("[`{}`](../peers/tests/{})", cell.test, cell.file)
}
