//! The backend tier: answers the calls that a proxy hands over.
//!
//! Run: `cargo run --release --bin backend -- --config docs/config/backend.toml --agent echo`. Expected: a line
//! `ready: backend udp:…`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use iqra_examples::counts::Counted;
use iqra_examples::{Agent, ended, init_logging, reload_on_hangup, say, shutdown_signal};
use iqra_routing::backend::Backend;
use iqra_routing::config::BackendConfig;
use iqra_routing::start::listeners_line;

/// Claims calls, answers them, holds conversations.
#[derive(Parser)]
struct Args {
    /// The configuration, as documented in docs/config/backend.toml.
    #[arg(long)]
    config: PathBuf,
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
    let stop = shutdown_signal()?;
    let backend = Backend::bind(BackendConfig::load(args.config)?, None, None, args.agent).await?;
    let mut counted = Counted::of_endpoint(backend.endpoint());
    counted.media = Some(backend.media().driver().clone());
    counted.on_signal()?;
    reload_on_hangup(backend.endpoint())?;
    say(&format!("ready: backend {}", listeners_line(backend.endpoint().listeners())));
    backend.on_end(counted.on_end()).serve_until(stop).await;
    say(&counted.line().await);
    Ok(ExitCode::SUCCESS)
}
