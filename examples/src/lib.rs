//! What the programs share: logging, the stop signal, and the demo's two parties.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context;
use iqra_media::conversation::{CallContext, ConversationFactory, ConversationSink, Echo, SinkRefusal, Tone};

/// The code in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod counts;
pub mod demo;
pub mod quickstart;

/// A redirected call makes and frees dozens of small things that outlive their thread's turn: the system's allocator
/// costs several microseconds more for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Logs to standard error, by `RUST_LOG` (default: warnings).
pub fn init_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// How a program ends: what went wrong is one line on standard error, and the exit status is 1.
#[must_use]
#[allow(clippy::print_stderr, reason = "an error is for whoever started the program, whatever RUST_LOG says")]
pub fn ended(program: anyhow::Result<ExitCode>) -> ExitCode {
    program.unwrap_or_else(|error| {
        eprintln!("error: {}", one_line(&error));
        ExitCode::FAILURE
    })
}

/// An error and its causes, each said once: some errors say their cause themselves.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.contains(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

/// Prints a line on standard output, where programs and tests read it.
#[allow(clippy::print_stdout, reason = "the one place where programs print what they are asked for")]
pub fn say(line: &str) {
    println!("{line}");
}

/// The conversation that `--agent` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Agent {
    /// Greets, listens, can be interrupted, answers; speaks in notes.
    Demo,
    /// Says what it hears.
    Echo,
    /// A steady tone of 440 Hz.
    Tone,
}

#[async_trait::async_trait]
impl ConversationFactory for Agent {
    async fn conversation(&self, _call: &CallContext) -> Result<Box<dyn ConversationSink>, SinkRefusal> {
        Ok(match self {
            Self::Demo => Box::new(demo::agent::DemoAgent::default()),
            Self::Echo => Box::new(Echo::default()),
            Self::Tone => Box::new(Tone::new(440.0)),
        })
    }
}

/// Resolves on SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Reads the certificate of an endpoint again whenever SIGHUP comes and says how that went: calls go on, new connections
/// are shown the new one; what cannot be read leaves the old one in use. Without a certificate SIGHUP does nothing.
///
/// # Errors
/// When the handler cannot be installed.
pub fn reload_on_hangup(endpoint: &iqra_sip::net::Endpoint) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let tls = endpoint.tls_config();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let Some(tls) = tls.clone() else { continue };
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(())) => say("reloaded: listen.identity"),
                Ok(Err(error)) => say(&format!("not reloaded: listen.identity: {error}")),
                Err(error) => tracing::error!(%error, "the certificate was not read again"),
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_of_its_causes_once() {
        let error = anyhow::anyhow!("the port is taken").context("cannot bind: the port is taken");
        assert_eq!(one_line(&error.context("no start")), "no start: cannot bind: the port is taken");
    }
}
