//! What we send to Homer is read by sngrep, which unpacks HEP3 by itself, and the SIP in it by tshark.

use std::time::Duration;

use iqra_peers::end::{End, LOOPBACK};
use iqra_peers::ports;
use iqra_peers::program::Launch;
use iqra_peers::scratch::Scratch;
use iqra_peers::wait;
use iqra_sip::net::{Endpoint, HepConfig, HepExporter};
use iqra_sip::{Method, StatusCode, Transport};

const SOON: Duration = Duration::from_secs(15);

/// Cell: sngrep and tshark | messages exported to Homer
#[test]
fn sngrep_and_tshark_read_exported_messages() {
    let scratch = Scratch::new("hep");
    let (port, capture) = (ports::free(2), scratch.path().join("hep.pcap").display().to_string());
    let listen = format!("udp:127.0.0.1:{port}");
    let sngrep = Launch::new("sngrep", "sngrep").args(["-N", "-L", &listen, "-O", &capture]);
    let sngrep = sngrep.env("TERM", "dumb").start();
    wait::until("sngrep's port", SOON, || ports::is_taken(port).then_some(()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let exporter = HepExporter::start(HepConfig::new(([127, 0, 0, 1], port).into()));
    let exporter = runtime.block_on(exporter).unwrap();
    let client = End::bind(Endpoint::builder().udp(LOOPBACK).observe(exporter));
    let mut server = End::udp();
    let target = server.uri("ping", Transport::Udp);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.ask(Method::Options, &target));
        drop(server.other());
        assert_eq!(asked.join().unwrap(), StatusCode::OK);
    });
    let (us, them) = (client.addr(Transport::Udp).port(), server.addr(Transport::Udp).port());
    wait::until_ok("both messages in the capture", SOON, || {
        let text = read(&capture);
        let lines = [format!("127.0.0.1 {us} {them} OPTIONS"), format!("127.0.0.1 {them} {us} 200")];
        let all = lines.iter().all(|line| text.lines().any(|one| one.replace("  ", " ").trim() == line));
        all.then_some(()).ok_or(text)
    });
    sngrep.terminate(SOON);
    client.close();
    server.close();
}

/// The SIP messages of a capture: source, ports, and method or status.
fn read(capture: &str) -> String {
    let fields = ["ip.src", "udp.srcport", "udp.dstport", "sip.Method", "sip.Status-Code"];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let tshark = Launch::new("tshark", "tshark").args(["-r", capture, "-d", "udp.port==1024-65535,sip"]);
    tshark.args(["-Y", "sip", "-T", "fields", "-E", "separator=/s"]).args(fields).start().end(SOON).output
}
