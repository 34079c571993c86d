//! The sample configurations are read, and every fault is answered with file, line, key and remedy.

#![allow(clippy::unwrap_used, reason = "helpers of a test, too, fail it by unwrapping")]

use std::path::PathBuf;
use std::time::Duration;

use iqra_routing::config::{
    BackendConfig, ConfigError, Edge, KeySource, Media, NumbersIn, Postgres, ProxyConfig, SipSettings,
    Socket, Srtp, SrtpKeys, Store,
};
use iqra_routing::identity::{Dialled, Identity};
use iqra_routing::number::{HandOver, NumberStore};
use iqra_routing::proxy::RelaySettings;
use iqra_sip::guard::{Action, GuardConfig, Part, Rate, Signature};
use iqra_sip::roles::relay::RelayTimings;
use iqra_sip::{Hop, Transport};

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
    let media = config.media;
    assert_eq!((media.ports, media.threads), (10_000..=19_999, 1));
    assert_eq!((media.inbound_reserve_percent, media.outbound_reserve_percent), (10, 10));
    assert_eq!(media.tick, Some(Duration::from_millis(5)));
    let overload = media.overload;
    assert_eq!((overload.refuse, overload.busy, overload.late), (true, 0.8, Duration::from_millis(20)));
}

/// What a backend's `[media]` becomes.
fn media(lines: &str) -> Result<Media, ConfigError> {
    let rest =
        "[backend]\nid = \"b1\"\nregion = \"eu\"\ncapacity = 1\n[listen]\nudp = [\"127.0.0.1:0\"]\n[media]\n";
    BackendConfig::parse("b.toml", &format!("{rest}{lines}\n")).map(|config| config.media)
}

#[test]
fn media_is_left_at_its_defaults_or_set() {
    let default = media("").unwrap();
    assert_eq!(default, media("ports = \"10000-19999\"\ntick_ms = 5\nthreads = 1").unwrap());
    assert_eq!(media("tick_ms = 0").unwrap().tick, None, "by events");
    assert_eq!(media("threads = 4").unwrap().threads, 4);
    assert_eq!(media("outbound_reserve_percent = 0").unwrap().outbound_reserve_percent, 0);
    let overload =
        media("[media.overload]\nrefuse = false\nbusy_percent = 60\nlate_ms = 30").unwrap().overload;
    assert_eq!((overload.refuse, overload.busy, overload.late), (false, 0.6, Duration::from_millis(30)));
}

#[test]
fn faults_of_media_name_the_key_and_the_remedy() {
    let rows = [
        ("tick_ms = 21", "media.tick_ms", "0 to 20"),
        ("threads = 0", "media.threads", "1 to 256"),
        ("inbound_reserve_percent = 101", "media.inbound_reserve_percent", "0 to 100"),
        ("inbound_reserve_percent = 95", "media.inbound_reserve_percent", "lower one"),
        (
            "inbound_reserve_percent = 50\noutbound_reserve_percent = 51",
            "media.outbound_reserve_percent",
            "lower one",
        ),
        ("ports = \"4001-4002\"", "media.ports", "10000-19999"),
        ("ports = \"80-90\"", "media.ports", "10000-19999"),
        ("keys = []", "media.keys", "[\"sdes\"]"),
        ("[media.overload]\nbusy_percent = 9", "media.overload.busy_percent", "10 to 100"),
        ("[media.overload]\nlate_ms = 0", "media.overload.late_ms", "1 to 1000"),
    ];
    for (lines, key, remedy) in rows {
        let error = media(lines).unwrap_err();
        assert!(error.key == key && error.why.contains(remedy) && error.line >= Some(8), "{error}");
    }
}

#[test]
fn media_is_encrypted_as_its_section_says() {
    let default = media("").unwrap();
    assert_eq!((default.srtp, &*default.keys, default.ice_lite), (Srtp::Never, &[SrtpKeys::Sdes][..], false));
    let in_sdp = media("srtp = \"required\"\nkeys = [\"sdes\"]\nice_lite = false").unwrap();
    assert_eq!((in_sdp.srtp, in_sdp.ice_lite), (Srtp::Required, false));
    let browser = "srtp = \"optional\"\nkeys = [\"dtls\", \"sdes\"]";
    if cfg!(feature = "webrtc") {
        let both = media(browser).unwrap();
        assert_eq!((&*both.keys, both.ice_lite), (&[SrtpKeys::Dtls, SrtpKeys::Sdes][..], true));
        assert!(!media(&format!("{browser}\nice_lite = false")).unwrap().ice_lite);
        assert!(media("ice_lite = true").unwrap().ice_lite, "beside keys in the SDP, too");
    } else {
        for (lines, key) in [(browser, "media.keys"), ("ice_lite = true", "media.ice_lite")] {
            let refused = media(lines).unwrap_err();
            assert!(refused.key == key && refused.why.contains("\"webrtc\""), "{refused}");
        }
    }
    let unknown = media("keys = [\"zrtp\"]").unwrap_err().to_string();
    assert!(unknown.contains("sdes") && unknown.contains("dtls"), "{unknown}");
}

/// The sample with its section of recordings as it stands there, and with one line of it changed.
fn recording(line: &str, instead: &str) -> Result<BackendConfig, ConfigError> {
    let text = std::fs::read_to_string(sample("backend.toml")).unwrap();
    let shown = ["[recording]", "folder", "consent", "max_age_days", "max_gib", "key"];
    let uncommented = |row: &str| match row.strip_prefix("# ") {
        Some(rest) if shown.iter().any(|start| rest.starts_with(start)) => rest.to_owned(),
        _ => row.to_owned(),
    };
    let text: Vec<_> = text.lines().map(uncommented).collect();
    let text = text.join("\n");
    assert!(text.contains(line), "{line}");
    BackendConfig::parse("b.toml", &text.replacen(line, instead, 1))
}

#[test]
fn recordings_are_kept_as_their_section_says() {
    assert_eq!(BackendConfig::load(sample("backend.toml")).unwrap().recording, None);
    let key = "key = { id = \"2026-11\", env = \"IQRA_RECORDING_KEY\" }";
    if cfg!(not(feature = "encryption")) {
        let refused = recording(key, key).unwrap_err();
        assert!(refused.key == "recording.key" && refused.why.contains("\"encryption\""), "{refused}");
    }
    let config = recording(key, "").unwrap().recording.unwrap();
    assert_eq!((config.consent, config.max_age, config.max_octets, config.key), (false, None, None, None));
    let config = recording("max_age_days = 0", "max_age_days = 30");
    if cfg!(feature = "encryption") {
        let config = config.unwrap().recording.unwrap();
        assert_eq!(config.max_age, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(config.key, Some(("2026-11".to_owned(), "IQRA_RECORDING_KEY".to_owned())));
    }
    let refused = recording("max_age_days = 0", "max_age_days = 99999").unwrap_err();
    assert_eq!(
        refused.key,
        if cfg!(feature = "encryption") { "recording.max_age_days" } else { "recording.key" }
    );
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

/// [`PROXY`] with these lines of its number, and then these sections.
fn relaying(lines: &str) -> ProxyConfig {
    ProxyConfig::parse("p.toml", &format!("{PROXY}{lines}\n")).unwrap()
}

#[tokio::test]
async fn a_mode_is_the_trunk_s_or_the_number_s() {
    let config = relaying("mode = \"auto\"\n[relay]\nkeys = [\"0123456789abcdef0123456789abcdef\"]");
    let standing = config.numbers.standing("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!(standing.trunks[0].hand_over, HandOver::Redirect);
    let dialled = Identity::Dialled(Dialled::parse("1000").unwrap());
    let found = config.numbers.look_up(&dialled, &standing).await.unwrap();
    assert_eq!(found.number.unwrap().hand_over, Some(HandOver::Auto));
    let sample = ProxyConfig::load(sample("proxy.toml")).unwrap();
    let standing = sample.numbers.standing("198.51.100.9".parse().unwrap()).await.unwrap();
    assert_eq!(standing.trunks[0].hand_over, HandOver::Redirect);
}

#[test]
fn a_pool_is_left_at_its_defaults_or_set() {
    let default = relaying("[relay]").relay.unwrap();
    assert_eq!(default, ProxyConfig::load(sample("proxy.toml")).unwrap().relay.unwrap());
    assert_eq!(default.serving, RelaySettings::default());
    assert_eq!(default.keys, KeySource::Env("IQRA_RELAY_KEYS".to_owned()));
    assert_eq!(relaying("").relay, None);
    let set = relaying(
        "[relay]\nkeys = [\"0123456789abcdef0123456789abcdef\"]\npool = [\"udp:sip.example.org:5060\", \
         \"tls:[2001:db8::1]:5061\"]\nnetworks = [\"198.51.100.0/24\"]\nsilent_ms = 500\ntrying_ms = 900\n\
         heartbeat_ms = 200\nmost = 7\n[relay.peers]\np2 = \"tcp:192.0.2.11:5062\"",
    );
    let (relay, node) = (set.relay.unwrap(), set.node);
    let pool = relay.pool(&node).unwrap();
    let named: Vec<_> =
        pool.pool.iter().map(|name| (name.transport, name.host.as_str(), name.port)).collect();
    let names = [(Transport::Udp, "sip.example.org", 5060), (Transport::Tls, "[2001:db8::1]", 5061)];
    assert_eq!(named, names);
    assert_eq!(pool.peers["p2"], Hop::from((Transport::Tcp, "192.0.2.11:5062".parse().unwrap())));
    let timings = RelayTimings { silent: Duration::from_millis(500), trying: Duration::from_millis(900) };
    assert_eq!(relay.serving, RelaySettings { timings, heartbeat: Duration::from_millis(200), most: 7 });
    assert!(!format!("{relay:?}").contains("0123456789abcdef"), "no key is shown");
}

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
        ("udp = [\"127.0.0.1:0\"]", "udp = [\"0.0.0.0:5060\"]", 5, "listen.advertise", "add advertise"),
        (
            "udp = [\"127.0.0.1:0\"]",
            "udp = [\"[::]:5060\"]\nadvertise = \"192.0.2.1\"",
            5,
            "listen.advertise",
            "of its family",
        ),
        (
            "udp = [\"127.0.0.1:0\"]",
            "udp = [{ bind = \"127.0.0.1:0\", advertise = \"[2001:db8::1]:5060\" }]",
            5,
            "listen.udp",
            "same family",
        ),
        (
            "udp = [\"127.0.0.1:0\"]",
            "udp = [\"127.0.0.1:0\"]\nadvertise = [\"192.0.2.1\", \"192.0.2.2\"]",
            6,
            "listen.advertise",
            "keep one",
        ),
        (
            "udp = [\"127.0.0.1:0\"]",
            "udp = [\"127.0.0.1:0\"]\nadvertise = \"0.0.0.0\"",
            6,
            "listen.advertise",
            "this node's address",
        ),
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
            "need the section [relay]",
        ),
        ("trunk = \"carrier\"", "mode = \"both\"", 24, "numbers.mode", "write \"redirect\""),
        ("trunk = \"carrier\"", "mode = \"auto\"\n[relay]", 24, "numbers.mode", "add trunk"),
        ("trunk = \"carrier\"", "[relay]\nkeys = [\"short\"]", 25, "relay.keys", "openssl rand"),
        ("trunk = \"carrier\"", "[relay]\nenv = \"A\"\nkeys = []", 25, "relay", "keep one"),
        ("trunk = \"carrier\"", "[relay]\npool = [\"sip.example\"]", 25, "relay.pool", "udp:sip.example"),
        ("trunk = \"carrier\"", "[relay.peers]\np2 = \"udp:p2:5060\"", 25, "relay.peers", "192.0.2.11"),
        ("trunk = \"carrier\"", "[relay]\nnetworks = [\"x\"]", 25, "relay.networks", "x"),
        ("trunk = \"carrier\"", "[relay]\nsilent_ms = 1", 25, "relay.silent_ms", "100 to 30000"),
        (
            "trunk = \"carrier\"",
            "[relay]\ntrying_ms = 60000",
            25,
            "relay.trying_ms",
            "tokens.life_s has to be longer",
        ),
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

#[test]
fn the_samples_show_the_defaults_of_the_guard() {
    let (shown, backend) = (sample("proxy.toml"), sample("backend.toml"));
    let shown = ProxyConfig::load(shown).unwrap().edge.guard.unwrap();
    let peers = shown.peers.clone();
    assert_eq!(shown, GuardConfig { peers: peers.clone(), ..GuardConfig::default() });
    assert!(peers.contains("198.51.100.9".parse().unwrap()), "a carrier has no rate and is never banned");
    assert!(!peers.contains("192.0.2.1".parse().unwrap()));
    let shown = BackendConfig::load(&backend).unwrap().edge.guard.unwrap();
    let text = std::fs::read_to_string(&backend).unwrap();
    let bare = text.split_once("[guard]").unwrap().0.to_owned() + "[guard]\n";
    assert_eq!(BackendConfig::parse("b.toml", &bare).unwrap().edge.guard.unwrap(), shown);
}

#[test]
fn a_backend_lets_one_source_fill_it() {
    let text = std::fs::read_to_string(sample("backend.toml"))
        .unwrap()
        .replace("capacity = 100 ", "capacity = 5000 ");
    let bare = text.split_once("[guard]").unwrap().0.to_owned() + "[guard]\n";
    let guard = BackendConfig::parse("b.toml", &bare).unwrap().edge.guard.unwrap();
    assert_eq!(guard.new_requests, Rate { per_second: 5_000, burst: 10_000 });
    assert_eq!(guard.in_dialog, Rate { per_second: 50_000, burst: 100_000 });
}

#[test]
fn guard_and_export_are_read_and_off_without_their_sections() {
    assert_eq!(ProxyConfig::parse("p.toml", PROXY).unwrap().edge, Edge::default());
    let text = format!(
        "{PROXY}[guard]\nallow = [\"192.0.2.9\"]\nabove_rate = \"ban\"\nban_s = 60\nknown_scanners = false\n\
         signatures = [{{ part = \"head\", text = \"x-scan\", action = \"forbid\" }}]\n\
         new_requests = {{ per_second = 7 }}\ntotal_requests = {{ per_second = 900 }}\noverload = {{ refuse = false }}\n\
         [hep]\ncollector = \"192.0.2.40:9060\"\ncapture_id = 9\npassword = \"hush\"\n"
    );
    let edge = ProxyConfig::parse("p.toml", &text).unwrap().edge;
    let (guard, hep) = (edge.guard.clone().unwrap(), edge.hep.clone().unwrap());
    assert!(guard.allow.contains("192.0.2.9".parse().unwrap()));
    assert_eq!(guard.above_rate, Action::Ban(Duration::from_secs(60)));
    assert_eq!(guard.signatures, [Signature::new(Part::Head, "X-Scan", Action::Forbid)]);
    assert_eq!((guard.new_requests, guard.overload), (Rate { per_second: 7, burst: 200 }, None));
    assert_eq!(guard.total_requests, Some(Rate { per_second: 900, burst: 1_800 }));
    assert_eq!((hep.collector, hep.agent), ("192.0.2.40:9060".parse().unwrap(), 9));
    assert_eq!(hep.key.as_deref(), Some("hush"));
    assert!(!format!("{edge:?}").contains("hush"));
}

#[test]
fn faults_of_guard_and_export_name_line_key_and_remedy() {
    let rows = [
        ("[guard]\npeers = [\"carrier\"]", 1, "guard.peers", "write an address"),
        ("[guard]\nabove_rate = \"403\"", 1, "guard.above_rate", "\"forbid\""),
        ("[guard]\nban_s = 0\nabove_rate = \"ban\"", 2, "guard.above_rate", "raise it"),
        ("[guard]\nnew_requests = { burst = 0 }", 1, "guard.new_requests.burst", "1 to 1000000"),
        ("[guard]\nsignatures = [{ part = \"body\", text = \"x\" }]", 1, "guard.signatures.part", "\"head\""),
        ("[guard]\nsignatures = [{ part = \"head\", text = \"\" }]", 1, "guard.signatures.text", "remove"),
        ("[guard.overload]\nwaiting = 0", 1, "guard.overload.waiting", "1 to 1000000"),
        ("[guard.overload]\nfill_percent = 101", 1, "guard.overload.fill_percent", "1 to 100"),
        (
            "[guard]\ntotal_requests = { per_second = 0 }",
            1,
            "guard.total_requests.per_second",
            "1 to 1000000",
        ),
        ("[guard]\nban_s = 999999", 1, "guard.ban_s", "0 to 604800"),
        ("[hep]\ncollector = \"homer\"", 1, "hep.collector", "192.0.2.40:9060"),
        (
            "[hep]\ncollector = \"192.0.2.40:9060\"\ncapture_id = 4294967296",
            2,
            "hep.capture_id",
            "0 to 4294967295",
        ),
    ];
    let before = PROXY.lines().count();
    for (section, at, key, remedy) in rows {
        let error = ProxyConfig::parse("p.toml", &format!("{PROXY}{section}\n")).expect_err(section);
        assert_eq!((error.line, error.key.as_str()), (Some(before + 1 + at), key), "{error}");
        assert!(error.why.contains(remedy), "{error}");
    }
}

#[test]
fn the_samples_show_the_defaults_of_the_stack() {
    assert_eq!(ProxyConfig::load(sample("proxy.toml")).unwrap().edge.sip, SipSettings::default());
    assert_eq!(BackendConfig::load(sample("backend.toml")).unwrap().edge.sip, SipSettings::default());
}

#[test]
fn settings_of_the_stack_and_its_sockets_are_read() {
    let text = PROXY.replacen(
        "udp = [\"127.0.0.1:0\"]",
        "udp = [\"[::]:5060\", { bind = \"0.0.0.0:5060\", advertise = \"198.51.100.7:6060\" }]\n\
         advertise = [\"192.0.2.1\", \"2001:db8::1\"]",
        1,
    );
    let text = format!(
        "{text}[sip]\nsips_by_tls_only = false\nmax_datagram = 9000\nproduct = \"pbx/1\"\ntransactions = 10\n\
         dialogs = 5\nmax_message = 9000\nmax_head = 5000\nmax_headers = 99\nmax_uri = 88\ntarget_limit_s = 4\nname_wait_s = 0\n\
         [connections]\nmost = 7\nmost_per_source = 3\nmost_per_wide_source = 5\nidle_s = 60\norigins = [\"https://phone.example.org\"]\n"
    );
    let config = ProxyConfig::parse("p.toml", &text).unwrap();
    let forwarded = Socket {
        bind: "0.0.0.0:5060".parse().unwrap(),
        advertise: Some("198.51.100.7:6060".parse().unwrap()),
    };
    assert_eq!(config.listen.udp[1], forwarded);
    assert_eq!((config.listen.udp[0].advertise, config.listen.advertise.len()), (None, 2));
    let (engine, net) = (config.edge.sip.engine(), config.edge.sip.net(None));
    assert_eq!((engine.sips_by_tls_only, engine.max_datagram_request), (false, 9_000));
    assert_eq!(
        (engine.product.as_deref(), engine.max_transactions, engine.max_dialogs),
        (Some("pbx/1"), 10, 5)
    );
    let limits = &engine.limits;
    assert_eq!(
        (limits.message_bytes, limits.head_bytes, limits.headers, limits.uri_bytes),
        (9_000, 5_000, 99, 88)
    );
    assert_eq!((engine.timings.target_limit, engine.name_wait), (Duration::from_secs(4), Duration::ZERO));
    assert_eq!((net.max_connections, net.max_connections_per_source), (7, 3));
    assert_eq!(net.max_connections_per_wide_source, 5);
    assert_eq!(
        (net.idle, net.origins),
        (Duration::from_secs(60), vec!["https://phone.example.org".to_owned()])
    );
}

#[test]
fn faults_of_the_stack_s_settings_name_line_key_and_remedy() {
    let rows = [
        ("[sip]\nmax_datagram = 70000", "sip.max_datagram", "0 to 65535"),
        ("[sip]\nproduct = \"a\\nb\"", "sip.product", "example-pbx"),
        ("[sip]\ntransactions = 0", "sip.transactions", "1 to 10000000"),
        ("[sip]\nmax_message = 99", "sip.max_message", "1024 to 1048576"),
        ("[sip]\nname_wait_s = 60", "sip.name_wait_s", "0 to 16"),
        ("[sip]\ntarget_limit_s = 33", "sip.target_limit_s", "1 to 32"),
        ("[connections]\nidle_s = 1", "connections.idle_s", "10 to 86400"),
        ("[connections]\nmost = 0", "connections.most", "1 to 1000000"),
        ("[connections]\norigins = [\"phone\"]", "connections.origins", "https://phone.example.org"),
    ];
    let before = PROXY.lines().count();
    for (section, key, remedy) in rows {
        let error = ProxyConfig::parse("p.toml", &format!("{PROXY}{section}\n")).expect_err(section);
        assert_eq!((error.line, error.key.as_str()), (Some(before + 2), key), "{error}");
        assert!(error.why.contains(remedy), "{error}");
    }
    let error = fault("udp = [\"127.0.0.1:0\"]", "udp = [5060]");
    assert!(error.line == Some(5) && error.why.contains("write an address with a port"), "{error}");
}

#[cfg(feature = "dns")]
#[test]
fn name_servers_are_read_and_their_faults_named() {
    let dns = |section: &str| ProxyConfig::parse("p.toml", &format!("{PROXY}{section}\n"));
    let read =
        dns("[dns]\nservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\npatience_s = 2").unwrap().edge.dns;
    let read = read.unwrap();
    assert_eq!(read.servers, ["192.0.2.53:53".parse().unwrap(), "[2001:db8::53]:5353".parse().unwrap()]);
    assert_eq!(read.patience, Duration::from_secs(2));
    assert!(dns("[dns]").unwrap().edge.dns.unwrap().servers.is_empty(), "those of the system");
    for (section, key, remedy) in [
        ("[dns]\nservers = [\"ns.example\"]", "dns.servers", "192.0.2.53"),
        ("[dns]\npatience_s = 60", "dns.patience_s", "1 to 30"),
    ] {
        let error = dns(section).expect_err(section);
        assert!(error.key == key && error.why.contains(remedy), "{error}");
    }
}

#[cfg(not(feature = "dns"))]
#[test]
fn name_servers_without_the_feature_are_a_fault() {
    let error = ProxyConfig::parse("p.toml", &format!("{PROXY}[dns]\n")).expect_err("no feature");
    assert!(error.key == "dns" && error.why.contains("feature dns"), "{error}");
}

/// A proxy's configuration that begins with these lines.
fn proxy_with(lines: &str) -> Result<ProxyConfig, ConfigError> {
    let rest = "[node]\nid = \"p1\"\n[listen]\nudp = [\"127.0.0.1:0\"]\n";
    ProxyConfig::parse("p.toml", &format!("{lines}\n{rest}"))
}

#[test]
fn a_database_is_read_with_its_bounds() {
    let url = "postgres://iqra:hidden@db1,db2/iqra?target_session_attrs=read-write";
    let file = proxy_with(&format!(
        "store = \"{url}\"\nnumbers_in = \"store\"\n[database]\npassword_file = \"p\"\nroots = \"r.pem\"\n\
         connections = 20\nacquire_ms = 500\nconnect_ms = 700\nstatement_ms = 900\n[cache]\nstale_s = 0\nage_s = 5"
    ));
    let config = file.unwrap();
    let Store::Postgres(settings) = &config.store else { panic!("{:?}", config.store) };
    let expected = Postgres {
        password_file: Some("p".into()),
        roots: Some("r.pem".into()),
        connections: 20,
        acquire: Duration::from_millis(500),
        connect: Duration::from_millis(700),
        statement: Duration::from_millis(900),
        ..Postgres::new(url)
    };
    assert_eq!(**settings, expected);
    assert_eq!((config.numbers_in, config.cache.stale), (NumbersIn::Store, Duration::ZERO));
    assert_eq!(config.cache.age, Duration::from_secs(5));
    assert!(!format!("{config:?}").contains("hidden"));
    let plain = proxy_with("store = \"postgresql://localhost/iqra\"").unwrap();
    assert_eq!(plain.store, Store::Postgres(Box::new(Postgres::new("postgresql://localhost/iqra"))));
    assert_eq!(plain.numbers_in, NumbersIn::File);
}

#[test]
fn faults_of_the_store_name_the_key_and_the_remedy() {
    let postgres = "store = \"postgres://localhost/iqra\"\n";
    let rows = [
        ("store = \"mysql:x\"".to_owned(), "store", "postgres://USER@HOST/DATABASE"),
        ("store = \"memory\"\n[database]".to_owned(), "database", "postgres://"),
        (format!("{postgres}[database]\nconnections = 0"), "database.connections", "1 to 1000"),
        (format!("{postgres}[database]\nacquire_ms = 1"), "database.acquire_ms", "50 to 30000"),
        (format!("{postgres}[database]\nstatement_ms = 60001"), "database.statement_ms", "50 to 60000"),
        (format!("{postgres}[cache]\nentries = 0"), "cache.entries", "1 to 10000000"),
        ("numbers_in = \"store\"".to_owned(), "numbers_in", "sqlite:PATH"),
        (
            format!("{postgres}numbers_in = \"store\"\n[[accounts]]\nid = \"a\"\nconcurrent_calls = 1"),
            "numbers_in",
            "move them to the store",
        ),
    ];
    for (lines, key, remedy) in rows {
        let error = proxy_with(&lines).unwrap_err();
        assert_eq!(error.key, key, "{error}");
        assert!(error.why.contains(remedy) && error.line.is_some(), "{error}");
    }
    let error = proxy_with("store = \"mysql://iqra:hidden@db/iqra\"").unwrap_err();
    assert!(!error.to_string().contains("hidden"), "{error}");
}
