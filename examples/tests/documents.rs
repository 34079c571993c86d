//! The documents point at files that exist.

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
