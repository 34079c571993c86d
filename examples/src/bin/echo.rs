//! A backend without a proxy: any INVITE is answered and echoed.
//!
//! Run: `cargo run --release --bin echo -- --listen 127.0.0.1:5080`, then call `sip:anyone@127.0.0.1:5080` from any
//! softphone: you hear yourself. Expected: a line `ready: echo udp:127.0.0.1:5080 tcp:127.0.0.1:5080`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use iqra_examples::counts::Counted;
use iqra_examples::{Agent, ended, init_logging, say, shutdown_signal};
use iqra_media::net::{MediaConfig, MediaDriver, Reading};
use iqra_providers::sip::SipMedia;
use iqra_routing::backend::Backend;
use iqra_routing::start::listeners_line;
use iqra_sip::net::Endpoint;

/// Answers any INVITE and echoes.
#[derive(Parser)]
struct Args {
    /// Where to listen, UDP and TCP.
    #[arg(long, default_value = "127.0.0.1:5080")]
    listen: SocketAddr,
    /// Every how many milliseconds audio is read and sent, 1 to 20; 0: whenever some comes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=20))]
    tick_ms: u64,
    /// Who answers.
    #[arg(long, value_enum, default_value = "echo")]
    agent: Agent,
}

#[tokio::main]
async fn main() -> ExitCode {
    init_logging();
    ended(run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = shutdown_signal()?;
    let endpoint = Endpoint::builder().udp(args.listen).tcp(args.listen).bind().await;
    let (endpoint, incoming) = endpoint.context("cannot listen; name another address with --listen")?;
    let reading = match args.tick_ms {
        0 => Reading::Events,
        tick => Reading::Tick(Duration::from_millis(tick)),
    };
    let media =
        MediaDriver::start(MediaConfig { bind: args.listen.ip(), reading, ..MediaConfig::default() })?;
    let mut counted = Counted::of_endpoint(&endpoint);
    counted.media = Some(media.clone());
    counted.on_signal()?;
    say(&format!("ready: echo {}", listeners_line(endpoint.listeners())));
    let media = SipMedia::new(media, args.listen.ip());
    let backend = Backend::without_proxy((endpoint, incoming), media, args.agent);
    backend.on_end(counted.on_end()).serve_until(stop).await;
    say(&counted.line().await);
    Ok(ExitCode::SUCCESS)
}
