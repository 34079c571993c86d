//! What we send to Homer is read by sngrep, which unpacks HEP3 by itself, and the SIP in it by tshark.

use iqra_peers::endpoint::{LOOPBACK, SOON, Us, request};
use iqra_peers::ports;
use iqra_peers::program::Launch;
use iqra_peers::scratch::Scratch;
use iqra_peers::wait;
use iqra_sip::net::{Endpoint, HepConfig, HepExporter};
use iqra_sip::{Method, StatusCode, Transport};

/// Cell: sngrep and tshark | messages exported to Homer
#[tokio::test(flavor = "multi_thread")]
async fn sngrep_and_tshark_read_exported_messages() {
    let scratch = Scratch::new("hep");
    let (port, capture) = (ports::free(2), scratch.path().join("hep.pcap").display().to_string());
    let listen = format!("udp:127.0.0.1:{port}");
    let sngrep = Launch::new("sngrep", "sngrep").args(["-N", "-L", &listen, "-O", &capture]);
    let sngrep = sngrep.env("TERM", "dumb").start();
    wait::until("sngrep's port", SOON, || ports::is_taken(port).then_some(()));
    let exporter = HepExporter::start(HepConfig::new(([127, 0, 0, 1], port).into())).await.unwrap();
    let client = Us::bind(Endpoint::builder().udp(LOOPBACK).observe(exporter)).await;
    let mut server = Us::plain().await;
    let options = request(Method::Options, server.uri("ping", Transport::Udp));
    let serve = async { drop(server.asked().await) };
    let (answer, ()) = tokio::join!(client.ask(options), serve);
    assert_eq!(answer.status, StatusCode::OK);
    let (us, them) = (client.addr().port(), server.addr().port());
    wait::until_ok("both messages in the capture", SOON, || {
        let text = read(&capture);
        let lines = [format!("127.0.0.1 {us} {them} OPTIONS"), format!("127.0.0.1 {them} {us} 200")];
        let all = lines.iter().all(|line| text.lines().any(|one| one.replace("  ", " ").trim() == line));
        all.then_some(()).ok_or(text)
    });
    sngrep.terminate(SOON);
    client.close().await;
    server.close().await;
}

/// The SIP messages of a capture: source, ports, and method or status.
fn read(capture: &str) -> String {
    let fields = ["ip.src", "udp.srcport", "udp.dstport", "sip.Method", "sip.Status-Code"];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let tshark = Launch::new("tshark", "tshark").args(["-r", capture, "-d", "udp.port==1024-65535,sip"]);
    tshark.args(["-Y", "sip", "-T", "fields", "-E", "separator=/s"]).args(fields).start().end(SOON).output
}
