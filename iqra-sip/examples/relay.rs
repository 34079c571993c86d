//! A proxy in front of two backends, all on UDP ports of this machine: the first backend is busy with other things, so
//! the call goes to the second, and its BYE passes the proxy too.
//!
//! Run: `cargo run -p iqra-sip --example relay`. Expected:
//! ```text
//! trying target 1
//! target 1 failed, target 2 is next
//! trying target 2
//! answered: 200
//! the caller hung up
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use std::time::Duration;

use iqra_sip::event::{OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::net::{Answer, CallEvent, Endpoint, Incoming, IncomingInvite, IncomingRequest, OutgoingEvent};
use iqra_sip::roles::relay::{Plan, RelayConfig, RelayEvent, RelayKeys, Target};
use iqra_sip::{EngineConfig, Headers, StatusCode, Uri};

type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let here = ([127, 0, 0, 1], 0);
    let (full, full_calls) = Endpoint::builder().udp(here).bind().await?;
    let (idle, idle_calls) = Endpoint::builder().udp(here).bind().await?;
    let relay = RelayConfig::new("proxy-1", RelayKeys::new([b"a secret of thirty-two bytes ..."])?);
    let config = EngineConfig { relay: Some(relay), ..EngineConfig::default() };
    let (proxy, proxy_calls) = Endpoint::builder().udp(here).config(config).bind().await?;
    let (caller, _none) = Endpoint::builder().udp(here).bind().await?;

    let targets = [&full, &idle].map(|backend| Target { uri: Some(uri(backend)), ..Target::default() });
    tokio::spawn(async move {
        Some(first(full_calls).await?.reject(Reply::new(StatusCode::SERVICE_UNAVAILABLE)))
    });
    let relayed = tokio::spawn(forward(proxy_calls, Plan::new(targets)));
    let served = tokio::spawn(serve(idle_calls));

    let mut call = caller.invite(to(&proxy)).await?;
    while let Some(event) = call.next().await {
        if let OutgoingEvent::Answered(call, _) = event {
            relayed.await??;
            call.hangup(Headers::new()).await?;
            break;
        }
    }
    served.await??;
    for endpoint in [caller, proxy, full, idle] {
        endpoint.shutdown(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Relays one call and says how it went.
async fn forward(calls: Incoming, plan: Plan) -> Result<(), Failed> {
    let Some(invite) = first(calls).await else { return Ok(()) };
    let mut call = invite.relay(plan).await?;
    while let Some(event) = call.next().await {
        match event {
            RelayEvent::Trying { attempt } => println!("trying target {attempt}"),
            RelayEvent::NextTarget { attempt, target: Some(target), .. } => {
                println!("target {attempt} failed, target {} is next", attempt + 1);
                call.try_target(*target).await?;
            }
            RelayEvent::NextTarget { target: None, .. } => call.best()?,
            RelayEvent::Answered(response) => println!("answered: {}", response.status),
            _ => {}
        }
    }
    Ok(())
}

/// Takes one call until its end.
async fn serve(calls: Incoming) -> Result<(), Failed> {
    let Some(invite) = first(calls).await else { return Ok(()) };
    let mut call = invite.accept(Answer::default()).await?;
    while let Some(event) = call.next().await {
        if let CallEvent::Ended(_) = event {
            println!("the caller hung up");
        }
    }
    Ok(())
}

async fn first(mut calls: Incoming) -> Option<IncomingInvite> {
    match calls.next().await? {
        IncomingRequest::Invite(invite) => Some(invite),
        IncomingRequest::Other(_) => None,
    }
}

fn uri(endpoint: &Endpoint) -> Uri {
    let at = endpoint.listeners()[0].addr;
    Uri::sip(Some("callee"), at.ip(), Some(at.port()))
}

fn to(proxy: &Endpoint) -> OutgoingInvite {
    OutgoingInvite {
        uri: uri(proxy),
        hops: Vec::new(),
        from: NameAddr::new(Uri::sip(Some("caller"), "example.org", None)),
        to: NameAddr::new(uri(proxy)),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: None,
        options: Default::default(),
    }
}
