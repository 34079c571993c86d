//! Every example without arguments prints what its head promises.

use std::path::PathBuf;
use std::process::Command;

/// The text between the fences of a head: `//! ```text` and `//! ```.
fn promised(source: &str) -> String {
    let head = source.lines().map_while(|line| line.strip_prefix("//!"));
    let fenced = head.skip_while(|line| line.trim() != "```text").skip(1);
    let lines = fenced.take_while(|line| line.trim() != "```");
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n").collect()
}

fn prints_what_it_promises(name: &str) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).with_extension("rs");
    let promised = promised(&std::fs::read_to_string(source).expect("the example is there"));
    assert!(!promised.is_empty(), "{name}: its head shows no output between ```text and ```");
    let tests = std::env::current_exe().expect("a test knows its own path");
    let built = tests.parent().and_then(|deps| deps.parent()).expect("tests are built two folders deep");
    let program = built.join("examples").join(name);
    let ran = Command::new(&program).output();
    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}; cargo test builds it", program.display()));
    assert!(ran.status.success(), "{name}: {}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        promised,
        "{name}: left what it printed, right its head"
    );
}

#[test]
fn g711() {
    prints_what_it_promises("g711");
}

#[test]
fn negotiate() {
    prints_what_it_promises("negotiate");
}

#[test]
fn conversation() {
    prints_what_it_promises("conversation");
}

#[cfg(feature = "encryption")]
#[test]
fn unseal() {
    prints_what_it_promises("unseal");
}
