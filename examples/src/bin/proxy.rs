//! The proxy tier: decides which backend gets a call and sends the caller there with 302.
//!
//! Run: `cargo run --release --bin proxy -- --config docs/config/proxy.toml`. Expected: a line `ready: proxy udp:…`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use iqra_examples::counts::Counted;
use iqra_examples::{ended, init_logging, reload_on_hangup, say, shutdown_signal};
use iqra_routing::config::ProxyConfig;
use iqra_routing::proxy::Proxy;
use iqra_routing::start::listeners_line;

/// Takes INVITEs, decides, answers 302.
#[derive(Parser)]
struct Args {
    /// The configuration, as documented in docs/config/proxy.toml.
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    init_logging();
    ended(run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = shutdown_signal()?;
    let config = ProxyConfig::load(args.config)?;
    let accounts = config.numbers.accounts();
    let proxy = Proxy::bind(config, None, None).await?;
    let mut counted = Counted::of_endpoint(proxy.endpoint());
    counted.admission = Some((proxy.admission().clone(), accounts));
    counted.on_signal()?;
    reload_on_hangup(proxy.endpoint())?;
    say(&format!("ready: proxy {}", listeners_line(proxy.endpoint().listeners())));
    proxy.serve_until(stop).await;
    say(&counted.line().await);
    Ok(ExitCode::SUCCESS)
}
