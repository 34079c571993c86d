//! The sample configurations are read, and every fault is answered with file, line, key and remedy.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::path::PathBuf;
use std::time::Duration;

use iqra_routing::config::{BackendConfig, ConfigError, KeySource, ProxyConfig, Store};
use iqra_routing::identity::{Dialled, Identity};
use iqra_routing::number::NumberStore;

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/config").join(name)
}

#[tokio::test]
async fn the_sample_proxy_is_ready_to_route() {
    let config = ProxyConfig::load(sample("proxy.toml")).unwrap();
    assert_eq!(config.token_keys, KeySource::Env("IQRA_TOKEN_KEYS".to_owned()));
    assert_eq!(config.regions.order(&"eu".parse().unwrap()).len(), 2);
    let standing = config.numbers.standing("198.51.100.9".parse().unwrap()).await.unwrap();
    let dialled = Identity::Dialled(Dialled::parse("12025550100").unwrap());
    let number = config.numbers.look_up(&dialled, &standing).await.unwrap().number.unwrap();
    assert_eq!(number.max_duration, Some(Duration::from_secs(3600)));
    assert_eq!(*number.codecs, ["PCMU", "PCMA"]);
}

#[test]
fn the_sample_backend_is_read() {
    let config = BackendConfig::load(sample("backend.toml")).unwrap();
    assert_eq!((config.capacity, config.store), (100, Store::Memory));
    assert_eq!(config.media.ports, 10_000..=19_999);
}

/// A proxy that is read as it is; each line is a place for a fault.
const PROXY: &str = r#"store = "sqlite:calls.db"
[node]
id = "p1"
[listen]
udp = ["127.0.0.1:0"]
[tokens]
keys = ["0123456789abcdef0123456789abcdef"]
[[accounts]]
id = "acme"
concurrent_calls = 2
[[businesses]]
id = "7"
account = "acme"
[[trunks]]
id = "carrier"
allowed_sources = ["192.0.2.0/24"]
[[regions]]
id = "eu"
[[numbers]]
business = "7"
id = "desk"
dialled = "1000"
region = "eu"
trunk = "carrier"
"#;

/// What is said of [`PROXY`] with one line changed.
fn fault(line: &str, instead: &str) -> ConfigError {
    assert!(PROXY.contains(line), "{line}");
    ProxyConfig::parse("p.toml", &PROXY.replacen(line, instead, 1)).expect_err(instead)
}

#[test]
fn faults_name_line_key_and_remedy() {
    let rows = [
        ("store = \"sqlite:calls.db\"", "store = \"redis\"", 1, "store", "sqlite:PATH"),
        ("udp = [\"127.0.0.1:0\"]", "udp = []", 4, "listen", "0.0.0.0:5060"),
        ("udp = [\"127.0.0.1:0\"]", "tls = [\"127.0.0.1:0\"]", 4, "listen.identity", "need a certificate"),
        ("udp = [\"127.0.0.1:0\"]", "udp = [\"0.0.0.0:5060\"]", 4, "listen.advertise", "add advertise"),
        (
            "keys = [\"0123456789abcdef0123456789abcdef\"]",
            "keys = [\"short\"]",
            7,
            "tokens.keys",
            "openssl rand",
        ),
        ("account = \"acme\"", "account = \"acne\"", 13, "businesses.account", "no account \"acne\""),
        ("[\"192.0.2.0/24\"]", "[\"192.0.2.0/99\"]", 16, "trunks.allowed_sources", "192.0.2.7"),
        ("business = \"7\"", "business = \"8\"", 20, "numbers.business", "define it"),
        ("region = \"eu\"", "region = \"us\"", 23, "numbers.region", "no region \"us\""),
        ("trunk = \"carrier\"", "trunk = \"x\"", 24, "numbers.trunk", "no trunk \"x\""),
        (
            "trunk = \"carrier\"",
            "trunk = \"carrier\"\nmode = \"relay\"",
            25,
            "numbers.mode",
            "write \"redirect\"",
        ),
        ("trunk = \"carrier\"", "mode = \"auto\"", 24, "numbers.mode", "write \"redirect\""),
        ("trunk = \"carrier\"", "answer_delay_ms = 90000", 24, "numbers.answer_delay_ms", "0 to 60000"),
        (
            "trunk = \"carrier\"",
            "allow_any_source = true\nallowed_sources = []",
            21,
            "numbers.allow_any_source",
            "keep one",
        ),
        ("[[numbers]]", "[[regions]]\nid = \"eu\"\n[[numbers]]", 20, "regions.id", "first in line 18"),
    ];
    for (line, instead, at, key, remedy) in rows {
        let error = fault(line, instead);
        let shown = error.to_string();
        assert_eq!((error.line, error.key.as_str()), (Some(at), key), "{shown}");
        assert!(shown.starts_with(&format!("p.toml:{at}: {key}: ")) && shown.contains(remedy), "{shown}");
    }
}

#[test]
fn unknown_keys_and_broken_toml_are_pointed_at() {
    let unknown = fault("concurrent_calls = 2", "concurent_calls = 2");
    assert!(unknown.line == Some(10) && unknown.why.contains("concurrent_calls"), "{unknown}");
    assert_eq!(fault("id = \"acme\"", "id = \"acme").line, Some(9));
    let bad_id = fault("id = \"p1\"", "id = \"p 1\"");
    assert!(bad_id.line == Some(3) && bad_id.why.contains("letters, digits"), "{bad_id}");
}

#[test]
fn two_numbers_cannot_be_dialled_alike_on_one_trunk() {
    let second = "[[numbers]]\nbusiness = \"7\"\nid = \"till\"\ndialled = \"+1000\"\nregion = \"eu\"\ntrunk = \"carrier\"\n";
    let error = ProxyConfig::parse("p.toml", &format!("{PROXY}{second}")).expect_err("taken");
    assert!(error.line == Some(28) && error.why.contains("7/desk") && !error.why.contains("1000"), "{error}");
    let twin = second.replace("till", "desk");
    assert_eq!(ProxyConfig::parse("p.toml", &format!("{PROXY}{twin}")).expect_err("twice").key, "numbers.id");
}

#[test]
fn keys_do_not_show_and_missing_files_are_named() {
    let config = ProxyConfig::parse("p.toml", PROXY).unwrap();
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    let missing = BackendConfig::load("no/such.toml").expect_err("missing");
    assert!(missing.to_string().starts_with("no/such.toml: cannot be read"), "{missing}");
}
