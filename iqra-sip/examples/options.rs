//! A SIP endpoint on a UDP port of this machine that answers OPTIONS; it asks itself once and stops.
//!
//! Run: `cargo run -p iqra-sip --example options`. Expected:
//! ```text
//! asked: OPTIONS by UDP
//! answered: 200 I am here, allows INVITE, ACK, BYE, CANCEL, OPTIONS
//! left: 0 transactions
//! ```
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use std::time::Duration;

use iqra_sip::event::Reply;
use iqra_sip::net::{Endpoint, Incoming, IncomingRequest};
use iqra_sip::{HeaderName, Method, Request, StatusCode, Uri};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (endpoint, incoming) = Endpoint::builder().udp(([127, 0, 0, 1], 0)).bind().await?;
    let serving = tokio::spawn(serve(incoming));

    let us = endpoint.listeners()[0];
    let mut options = Request::new(Method::Options, Uri::sip(Some("us"), us.addr.ip(), Some(us.addr.port())));
    options.headers.push(HeaderName::FROM, "<sip:monitor@127.0.0.1>");
    let answer = endpoint.request(options, None).await?;
    let allow = answer.headers.get(HeaderName::ALLOW).unwrap_or_default();
    println!("answered: {} {}, allows {allow}", answer.status, answer.reason);

    endpoint.clone().shutdown(Duration::from_secs(1)).await;
    serving.await?;
    let left = endpoint.counts();
    println!("left: {} transactions", left.server_transactions + left.client_transactions);
    Ok(())
}

/// Answers until the endpoint is shut down. Retransmissions, matching and timers are the endpoint's business.
async fn serve(mut incoming: Incoming) {
    while let Some(request) = incoming.next().await {
        match request {
            IncomingRequest::Other(asked) if asked.request().method == Method::Options => {
                println!("asked: {} by {}", asked.request().method, asked.source().transport.as_str());
                let reply = Reply::new(StatusCode::OK).reason("I am here");
                asked.respond(reply.header(HeaderName::ALLOW, "INVITE, ACK, BYE, CANCEL, OPTIONS"));
            }
            // What is dropped unanswered is refused: an INVITE with 500, other methods with 405.
            refused => drop(refused),
        }
    }
}
