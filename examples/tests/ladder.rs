//! The ladder in examples/README.md names every example and program, each with a run command that its head has too.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources() -> Vec<PathBuf> {
    let folders = ["iqra-sip", "iqra-media", "iqra-providers", "iqra-routing"]
        .map(|library| root().join(library).join("examples"))
        .into_iter()
        .chain([root().join("examples/src/bin")]);
    let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

fn name(source: &Path) -> &str {
    source.file_stem().and_then(|stem| stem.to_str()).expect("examples have plain names")
}

#[test]
fn the_ladder_names_every_example() {
    let readme = std::fs::read_to_string(root().join("examples/README.md")).expect("the ladder is there");
    let sources = sources();
    assert!(sources.len() >= 10, "only {} examples were found", sources.len());
    for source in &sources {
        assert!(readme.contains(&format!("[{}](", name(source))), "{} is not in the ladder", name(source));
    }
}

#[test]
fn every_rung_runs_as_its_head_says() {
    let readme = std::fs::read_to_string(root().join("examples/README.md")).expect("the ladder is there");
    let rungs: Vec<_> = readme.lines().filter(|line| line.contains("| `cargo run")).collect();
    let sources = sources();
    for rung in &rungs {
        let named = rung.split(['[', ']']).nth(1).expect("a rung links its example");
        let command = rung.split('`').nth(1).expect("a rung has a command");
        let source = sources.iter().find(|source| name(source) == named);
        let head = std::fs::read_to_string(source.unwrap_or_else(|| panic!("there is no example {named}")))
            .expect("an example is readable");
        assert!(head.contains(&format!("`{command}")), "{named}: its head does not say `{command}`");
    }
    assert!(rungs.len() >= 10, "only {} rungs", rungs.len());
}

#[test]
fn the_first_three_rungs_and_the_programs_are_short() {
    for source in sources() {
        let short = ["parse", "options", "echo", "proxy", "backend", "quickstart"].contains(&name(&source));
        let text = std::fs::read_to_string(&source).expect("an example is readable");
        let lines = text.lines().count();
        assert!(!short || lines < 60, "{}: {lines} lines, sixty are too many", name(&source));
    }
}
