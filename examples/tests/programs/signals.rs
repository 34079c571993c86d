//! Every program says when it is ready, prints its counts on SIGUSR1, and ends well on SIGTERM and SIGINT.

use super::process::{BACKEND, Counts, ECHO, PROXY, Process, QUICKSTART, folder, tiers};

/// Each program on free ports.
fn start(name: &str, test: &str) -> Process {
    let folder = folder(&format!("{test}-{name}"));
    let (proxy, backend) = tiers(&folder, "memory");
    let (program, args): (&str, &[&str]) = match name {
        "echo" => (ECHO, &["--listen", "127.0.0.1:0"]),
        "proxy" => (PROXY, &["--config", &proxy]),
        "backend" => (BACKEND, &["--config", &backend, "--agent", "echo"]),
        _ => (QUICKSTART, &["--proxy", &proxy, "--backend", &backend]),
    };
    let mut process = Process::start(program, args, &folder);
    process.line(&format!("ready: {}", if name == "quickstart" { "proxy" } else { name }));
    process
}

const PROGRAMS: [&str; 4] = ["echo", "proxy", "backend", "quickstart"];

#[test]
fn sigterm_ends_every_program_with_nothing_held() {
    for name in PROGRAMS {
        let (code, counts) = start(name, "sigterm").terminate();
        assert_eq!(code, Some(0), "{name}");
        assert_eq!(counts.held(), [], "{name}: {counts:?}");
        assert_eq!(counts.count("transactions"), 0, "{name}: {counts:?}");
    }
}

#[test]
fn sigint_ends_a_program_just_as_well() {
    let mut echo = start("echo", "sigint");
    echo.signal("INT");
    assert_eq!(Counts(echo.line("counts:")).count("calls"), 0);
}

#[test]
fn sigusr1_prints_the_counts_and_the_program_goes_on() {
    for name in PROGRAMS {
        let mut process = start(name, "sigusr1");
        for _ in 0..2 {
            process.signal("USR1");
            let counts = Counts(process.line("counts:"));
            assert_eq!(counts.held(), [], "{name}: {counts:?}");
        }
    }
}
