//! What a program cannot start with is one line on standard error that says where and what would do.

use std::net::UdpSocket;
use std::path::Path;

use super::process::{BACKEND, ECHO, Over, PROXY, QUICKSTART, folder, run, tiers, write};

#[test]
fn help_mentions_every_flag() {
    let programs: [(&str, &[&str]); 4] = [
        (ECHO, &["--listen", "--agent"]),
        (PROXY, &["--config", "docs/config/proxy.toml"]),
        (BACKEND, &["--config", "--agent", "docs/config/backend.toml"]),
        (QUICKSTART, &["--demo", "--proxy", "--backend", "--agent", "quickstart-demo.wav"]),
    ];
    for (program, flags) in programs {
        let over = run(program, &["--help"], &folder("help"));
        assert!(over.status.success(), "{program}");
        for flag in flags {
            assert!(over.stdout.contains(flag), "{program}: no {flag} in\n{}", over.stdout);
        }
    }
}

/// The line of standard error, when it is one line and the exit status is 1.
fn refusal(over: &Over) -> &str {
    assert_eq!(over.status.code(), Some(1), "{}", over.stderr);
    let line = over.stderr.strip_suffix('\n').expect("a line ends");
    assert!(!line.contains('\n'), "more than one line:\n{line}");
    assert_eq!(over.stdout, "");
    line.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {line}"))
}

/// Changes a good configuration in one place: what the program says, without the file, and the line that was changed.
fn changed(program: &str, from: &str, to: &str, folder: &Path) -> (String, usize) {
    let (proxy, backend) = tiers(folder, "memory");
    let file = if program == PROXY { proxy } else { backend };
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find(from).unwrap_or_else(|| panic!("no {from} in {file}"));
    let line = 1 + text[..at].matches('\n').count();
    std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    let over = run(program, &["--config", &file], folder);
    let said = refusal(&over).strip_prefix(&file).unwrap_or_else(|| panic!("no file: {}", over.stderr));
    (said.to_owned(), line)
}

#[test]
fn a_bad_configuration_is_refused_with_file_line_key_and_remedy() {
    let folder = folder("bad-configurations");
    let cases = [
        (PROXY, "keys = ", "life_s = 3\nkeys = ", "tokens.life_s", "write 5 to 600"),
        (PROXY, "127.0.0.0/8", "127.0.0.0/99", "trunks.allowed_sources", "write for instance 192.0.2.7"),
        (PROXY, "region = \"eu\"", "region = \"us\"", "numbers.region", "define it, or correct the name"),
        (BACKEND, "capacity = 2", "capacity = 0", "backend.capacity", "write 1 to 100000"),
        (BACKEND, "store = \"memory\"", "store = \"papyrus\"", "store", "write"),
    ];
    for (program, from, to, key, remedy) in cases {
        let (said, line) = changed(program, from, to, &folder);
        let expected = format!(":{line}: {key}: ");
        assert!(
            said.starts_with(&expected) && said.contains(remedy),
            "{to}: {said}, not {expected}…{remedy}"
        );
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line_and_the_sample() {
    let folder = folder("no-configurations");
    let cases = [
        (PROXY, "[node]", "[node", "docs/config"),
        (PROXY, "concurrent_calls", "concurent_calls", "unknown field `concurent_calls`"),
        (BACKEND, "capacity = 2", "capacity = \"two\"", "docs/config"),
    ];
    for (program, from, to, remedy) in cases {
        let (said, line) = changed(program, from, to, &folder);
        assert!(said.starts_with(&format!(":{line}: ")) && said.contains(remedy), "{to}: {said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for program in [PROXY, BACKEND] {
        let over = run(program, &["--config", "absent.toml"], &folder("absent"));
        let said = refusal(&over);
        assert!(said.starts_with("absent.toml: cannot be read") && said.contains("check the path"), "{said}");
    }
}

#[test]
fn token_keys_that_are_not_set_are_asked_for_by_their_variable() {
    let folder = folder("no-keys");
    let (proxy, _) = tiers(&folder, "memory");
    let text = std::fs::read_to_string(&proxy).unwrap();
    let keys = text.lines().find(|line| line.starts_with("keys")).unwrap();
    let file = write(&folder, "env.toml", &text.replace(keys, "env = \"IQRA_TOKEN_KEYS\""));
    let over = run(PROXY, &["--config", &file], &folder);
    assert_eq!(refusal(&over).matches("IQRA_TOKEN_KEYS").count(), 1, "{}", over.stderr);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = folder("port-taken");
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let echo = run(ECHO, &["--listen", &taken], &folder);
    let (proxy, _) = tiers(&folder, "memory");
    let text = std::fs::read_to_string(&proxy).unwrap().replacen("127.0.0.1:0", &taken, 1);
    let proxy = run(PROXY, &["--config", &write(&folder, "taken.toml", &text)], &folder);
    for over in [echo, proxy] {
        let said = refusal(&over);
        assert!(
            said.starts_with("cannot listen") && said.contains(&taken) && said.contains("in use"),
            "{said}"
        );
    }
}

#[test]
fn one_of_two_files_is_not_enough_for_quickstart() {
    let folder = folder("half");
    let (proxy, _) = tiers(&folder, "memory");
    let over = run(QUICKSTART, &["--proxy", &proxy], &folder);
    assert_eq!(over.status.code(), Some(2));
    assert!(over.stderr.contains("--backend"), "{}", over.stderr);
}
