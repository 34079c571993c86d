//! Records a call on a simulated line, writes the capsule, replays it and draws the ladder:
//! `cargo run -p iqra-sip --example replay`. With the name of a file it replays that capsule instead.
//!
//! ```text
//!       ms  198.51.100.7:5060                                      192.0.2.1:5060
//!        0  |- INVITE sip:desk@192.0.2.1 ------------------------->|
//!        0  |<----------------------------------- 200 OK (INVITE) -|
//!       20  |- ACK sip:desk@192.0.2.1 ---------------------------->|
//!     3000  |- BYE sip:desk@192.0.2.1 ---------------------------->|
//!     3000  |<-------------------------------------- 200 OK (BYE) -|
//! the replay does the same
//! ```

#![allow(clippy::print_stdout)] // It is there to show something.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use iqra_sip::event::{Event, Reply};
use iqra_sip::observe::capsule::{Capsule, CapsuleConfig};
use iqra_sip::observe::ladder::Style;
use iqra_sip::observe::{Direction, Observer, TraceRecord, Traces};
use iqra_sip::{Engine, EngineConfig, Flow, Listener, StatusCode, Transport};

const CALL: &str = "a-call";

fn flow() -> Result<Flow, Box<dyn Error>> {
    let (local, remote) = ("192.0.2.1:5060".parse()?, "198.51.100.7:5060".parse()?);
    Ok(Flow { transport: Transport::Udp, local, remote, connection: None })
}

fn request(method: &str, number: u32, tag: &str) -> String {
    format!(
        "{method} sip:desk@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=1\r\nTo: <sip:desk@192.0.2.1>{tag}\r\n\
         Call-ID: {CALL}\r\nCSeq: {number} {method}\r\nContact: <sip:caller@198.51.100.7>\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What was said, for the ladder; a simulated line has a clock of its own.
fn show(
    traces: &Traces,
    since: Duration,
    direction: Direction,
    bytes: &bytes::Bytes,
) -> Result<(), Box<dyn Error>> {
    let at = SystemTime::UNIX_EPOCH + since;
    traces.message(&TraceRecord { at, direction, flow: flow()?, bytes: bytes.clone() });
    Ok(())
}

fn record(traces: &Arc<Traces>) -> Result<Capsule, Box<dyn Error>> {
    let (start, flow) = (Instant::now(), flow()?);
    let mut engine = Engine::new(EngineConfig::default(), 7);
    engine.add_listener(Listener::new(Transport::Udp, flow.local, None));
    engine.keep_capsules(CapsuleConfig::default());
    let mut tag = String::new();
    for (number, method, wait) in [(1, "INVITE", 0), (1, "ACK", 20), (2, "BYE", 3_000)] {
        let since = Duration::from_millis(wait);
        let message = bytes::Bytes::from(request(method, number, &tag));
        show(traces, since, Direction::In, &message)?;
        engine.handle_message(start + since, &flow, message);
        while let Some(event) = engine.poll_event() {
            if let Event::Invite { tx, .. } = event {
                let dialog = engine.accept(start + since, tx, Reply::new(StatusCode::OK))?;
                tag = format!(";tag={}", dialog.local_tag());
            }
        }
        while let Some(transmit) = engine.poll_transmit() {
            show(traces, since, Direction::Out, &transmit.bytes)?;
        }
    }
    engine.capsule(CALL).ok_or_else(|| "the call is not kept".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(file) = std::env::args().nth(1) {
        Capsule::parse(&std::fs::read_to_string(file)?)?.replay(&EngineConfig::default())?;
    } else {
        let traces = Arc::new(Traces::default());
        let file = std::env::temp_dir().join(format!("call-{}.capsule", std::process::id()));
        std::fs::write(&file, record(&traces)?.to_string())?;
        let read = Capsule::parse(&std::fs::read_to_string(&file)?);
        std::fs::remove_file(&file)?;
        read?.replay(&EngineConfig::default())?;
        print!("{}", traces.ladder(CALL, Style::default()));
    }
    println!("the replay does the same");
    Ok(())
}
