//! Keeps the floors of the house, which crate of the workspace may depend on which, and the manifests in order.
//!
//! Reads `cargo metadata` and the manifests of the working copy; dependencies of every kind count (normal, dev and
//! build), because a test that needs a higher floor belongs to that floor. The figure is in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{Metadata, MetadataCommand};

/// Each member and the members that it may depend on. A member that is not listed here fails the test.
const ARROWS: &[(&str, &[&str])] = &[
    ("iqra-sip", &[]),
    ("iqra-media", &[]),
    ("iqra-providers", &["iqra-sip", "iqra-media"]),
    ("iqra-routing", &["iqra-sip", "iqra-media", "iqra-providers"]),
    ("iqra-examples", &["iqra-sip", "iqra-media", "iqra-providers", "iqra-routing"]),
    ("iqra-benches", &["iqra-sip", "iqra-media", "iqra-providers", "iqra-routing"]),
    ("iqra-peers", &["iqra-sip", "iqra-media", "iqra-providers", "iqra-routing", "iqra-examples"]),
];

/// Member name to the members that it names as dependencies.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Says, one line each, what in `edges` the table does not allow, and which members the table or the workspace lacks.
fn violations(edges: &Edges, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = allowed.iter().copied().collect();
    let mut found = Vec::new();
    for (member, dependencies) in edges {
        let Some(may) = allowed.get(member.as_str()) else {
            found.push(format!("{member} is not listed: add it to ARROWS with what it may depend on"));
            continue;
        };
        let wrong = dependencies.iter().filter(|name| !may.contains(&name.as_str()));
        found.extend(wrong.map(|name| format!("{member} may not depend on {name}")));
    }
    let gone = allowed.keys().filter(|name| !edges.contains_key(**name));
    found.extend(gone.map(|name| format!("{name} is listed but is no member")));
    found
}

/// The edges between members of the workspace that this test was compiled from.
fn edges(metadata: &Metadata) -> Edges {
    let members = metadata.workspace_packages();
    let names: BTreeSet<String> = members.iter().map(|package| package.name.to_string()).collect();
    let inside = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.clone())
            .filter(|name| names.contains(name))
            .collect()
    };
    members.iter().map(|package| (package.name.to_string(), inside(package))).collect()
}

/// Whether a manifest takes the lints of the workspace and sets none of its own.
fn inherits_lints(manifest: &str) -> bool {
    let manifest: toml::Table = manifest.parse().expect("cargo has read this manifest already");
    let lints = manifest.get("lints").and_then(toml::Value::as_table);
    lints.is_some_and(|lints| lints.len() == 1 && lints.get("workspace") == Some(&toml::Value::Boolean(true)))
}

fn workspace() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .expect("cargo metadata reads the workspace")
}

fn root_manifest(metadata: &Metadata) -> toml::Table {
    let manifest = std::fs::read_to_string(metadata.workspace_root.join("Cargo.toml"))
        .expect("the root manifest is readable");
    manifest.parse().expect("cargo has read this manifest already")
}

#[test]
fn the_crate_arrows_point_down() {
    let found = violations(&edges(&workspace()), ARROWS);
    assert!(found.is_empty(), "crate arrows broken:\n{}", found.join("\n"));
}

#[test]
fn every_member_inherits_the_workspace_lints() {
    for package in workspace().workspace_packages() {
        let manifest =
            std::fs::read_to_string(&package.manifest_path).expect("the manifest of a member is readable");
        assert!(
            inherits_lints(&manifest),
            "{} needs `[lints] workspace = true` and no lints of its own",
            package.manifest_path
        );
    }
}

#[test]
fn every_crate_at_the_top_level_is_a_member_or_excluded() {
    let metadata = workspace();
    let manifests: BTreeSet<_> =
        metadata.workspace_packages().iter().map(|package| package.manifest_path.as_std_path()).collect();
    let root_manifest = root_manifest(&metadata);
    let excluded = root_manifest["workspace"]["exclude"].as_array().expect("`exclude` is a list");
    for folder in std::fs::read_dir(&metadata.workspace_root).expect("the root is readable").flatten() {
        let manifest = folder.path().join("Cargo.toml");
        let named = excluded.iter().any(|name| name.as_str() == folder.file_name().to_str());
        let listed = named || manifests.contains(manifest.as_path());
        assert!(!manifest.is_file() || listed, "{} is neither a member nor excluded", manifest.display());
    }
}

#[test]
fn every_workspace_dependency_is_named_by_a_member() {
    let metadata = workspace();
    let members = metadata.workspace_packages();
    let named: BTreeSet<&str> = members
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| dependency.name.as_str())
        .collect();
    let root_manifest = root_manifest(&metadata);
    let offered = root_manifest["workspace"]["dependencies"].as_table().expect("`dependencies` is a table");
    let unused: Vec<_> = offered.keys().filter(|name| !named.contains(name.as_str())).collect();
    assert!(unused.is_empty(), "no member names {unused:?}: remove them from the root manifest");
}

fn planted(list: &[(&str, &[&str])]) -> Edges {
    list.iter()
        .map(|(name, to)| ((*name).to_owned(), to.iter().map(|name| (*name).to_owned()).collect()))
        .collect()
}

#[test]
fn an_arrow_that_turns_round_is_reported() {
    let allowed: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
    assert!(violations(&planted(&[("low", &[]), ("high", &["low"])]), allowed).is_empty());
    assert_eq!(
        violations(&planted(&[("low", &["high"]), ("high", &["low"])]), allowed),
        ["low may not depend on high"]
    );
}

#[test]
fn a_member_that_nobody_listed_is_reported() {
    let allowed: &[(&str, &[&str])] = &[("low", &[]), ("left", &[])];
    let found = violations(&planted(&[("low", &[]), ("new", &[])]), allowed);
    assert_eq!(
        found,
        ["new is not listed: add it to ARROWS with what it may depend on", "left is listed but is no member"]
    );
}

#[test]
fn a_manifest_with_lints_of_its_own_is_reported() {
    assert!(inherits_lints("[lints]\nworkspace = true\n"));
    assert!(!inherits_lints("[package]\nname = \"x\"\n"));
    assert!(!inherits_lints("[lints.rust]\nunsafe_code = \"allow\"\n"));
}
