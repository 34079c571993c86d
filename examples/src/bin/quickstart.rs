//! Both tiers and an agent in one process on loopback; with `--demo` it calls itself and reports.
//!
//! Run: `cargo run --release --bin quickstart -- --demo`. Expected: a ladder of the call, its quality, what was heard,
//! and the line `the call worked`; the exit status says the same. Without `--demo` it stays up for a softphone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use iqra_examples::quickstart::{Quickstart, demo};
use iqra_examples::{Agent, ended, init_logging, say, shutdown_signal};

/// Starts both tiers on loopback.
#[derive(Parser)]
struct Args {
    /// Place a call through both tiers, report, and leave quickstart-demo.wav.
    #[arg(long)]
    demo: bool,
    /// A proxy configuration in place of the built-in one (docs/config/proxy.toml); goes with --backend.
    #[arg(long, requires = "backend")]
    proxy: Option<PathBuf>,
    /// A backend configuration in place of the built-in one (docs/config/backend.toml); goes with --proxy.
    #[arg(long, requires = "proxy")]
    backend: Option<PathBuf>,
    /// Who answers.
    #[arg(long, value_enum, default_value = "demo")]
    agent: Agent,
}

#[tokio::main]
async fn main() -> ExitCode {
    init_logging();
    ended(run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.demo {
        let report = demo(PathBuf::from("quickstart-demo.wav")).await?;
        say(&report.to_string());
        return Ok(if report.worked() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let stop = shutdown_signal()?;
    let files = args.proxy.zip(args.backend);
    let built_in = files.is_none();
    let quickstart = Quickstart::start(files, args.agent).await?;
    say(&quickstart.ready());
    if built_in {
        say(&quickstart.how_to_call());
    }
    say(&quickstart.serve_until(stop).await);
    Ok(ExitCode::SUCCESS)
}
