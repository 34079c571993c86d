//! The documents point at files that exist, and what they call a test is one.
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The targets of `[text](target)` links, without those that lead elsewhere.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or(target))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn links_are_found_in_text() {
    assert_eq!(links("[a](b.md) [c](https://d) [e](f/g.rs#L1) [h](#i)"), ["b.md", "f/g.rs"]);
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/dependencies.md",
        "docs/observing.md",
        "docs/rfc.md",
        "docs/rfc-media.md",
        "examples/README.md",
    ];
    let mut seen = 0;
    for document in documents {
        let path = root().join(document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{document}: {error}"));
        for link in links(&text) {
            let target = path.parent().unwrap().join(link);
            assert!(target.exists(), "{document} links to {link}, which is not there");
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} links were found: is the search broken?");
}

/// Every `.rs` file of the repository that is ours: its path, and its text.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && name != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// The names of the tests in a source text.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    source.lines().map(str::trim).filter(|line| !line.starts_with("//")).filter_map(move |line| {
        if line.starts_with("#[") {
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            return None;
        }
        let name = line.split_once("fn ")?.1.split(['(', '<']).next()?;
        std::mem::take(&mut marked).then_some(name)
    })
}

/// The last cells of a document's tables, which say what shows a requirement; of a matrix all cells but the first.
fn shown_by(document: &str, cells: usize) -> impl Iterator<Item = &str> {
    let rows = document.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    rows.flat_map(move |row| row.trim_matches('|').split('|').skip(cells))
}

/// The words of a cell that name something in the sources: `a_test_of_ours`, `net_ws`, the `early` of `sim early`.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    let words = cell.split(|c: char| !c.is_ascii_alphanumeric() && !"_/.…".contains(c));
    let modules = cell.split("sim ").skip(1).filter_map(|rest| rest.split([':', ',', ';', ' ']).next());
    words.filter(|word| word.contains('_') || word.contains(".rs") || word.contains('…')).chain(modules)
}

/// What a document claims and the sources do not hold.
fn unknown(document: &str, cells: usize, sources: &[(PathBuf, String)]) -> Vec<String> {
    let known: HashSet<&str> = sources.iter().flat_map(|(_, text)| tests(text)).collect();
    let file = |name: &str| sources.iter().any(|(path, _)| path.ends_with(name));
    let module = |name: &str| file(&format!("{name}.rs")) || file(&format!("{name}/mod.rs"));
    let is_there = |name: &str| known.contains(name) || file(name) || module(name);
    let claimed = shown_by(document, cells).flat_map(names).map(|name| name.trim_end_matches('.'));
    claimed.filter(|name| !is_there(name.trim_start_matches("src/"))).map(String::from).collect()
}

#[test]
fn tests_and_files_that_a_table_names_are_looked_for() {
    let source = "// #[test]\n#[test]\n#[ignore]\nfn it_is_so() {}\nfn a_helper_only() {}\n\
                  #[tokio::test(x)]\nasync fn it_waits() {}";
    assert_eq!(tests(source).collect::<Vec<_>>(), ["it_is_so", "it_waits"]);
    let sources = [(PathBuf::from("/x/tests/sim/early.rs"), source.to_owned())];
    let table = "| what | where | shown by |\n|---|---|---|\n\
                 | a | no/such.rs | sim early::{it_is_so, it_waits}; tests/sim/early.rs |\n\
                 | b | | a_helper_only, tests/late.rs, it_is_…, sim late |";
    assert_eq!(unknown(table, 2, &sources), ["a_helper_only", "tests/late.rs", "it_is_…", "late"]);
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    for (document, cells) in [("docs/rfc.md", 2), ("docs/rfc-media.md", 2), ("docs/interop.md", 1)] {
        let Ok(text) = std::fs::read_to_string(root().join(document)) else { continue };
        let unknown = unknown(&text, cells, &found);
        assert!(unknown.is_empty(), "{document} names what is not in the sources: {unknown:#?}");
        let named = shown_by(&text, cells).flat_map(names).count();
        assert!(document != "docs/rfc.md" || named > 100, "{document}: only {named} names were found");
    }
}

#[test]
fn every_requirement_that_is_met_says_what_shows_it() {
    let text =
        ["docs/rfc.md", "docs/rfc-media.md"].map(|name| std::fs::read_to_string(root().join(name)).unwrap());
    for row in text
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| line.starts_with("| ") && !line.starts_with("| requirement"))
    {
        let shown = shown_by(row, 2).next().unwrap_or_default().trim();
        assert!(row.contains("not met") || !shown.is_empty(), "nothing shows this requirement: {row}");
    }
}
