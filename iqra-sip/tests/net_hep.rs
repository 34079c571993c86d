//! Capture for Homer: what an endpoint sends to a collector.

use std::time::Duration;

use iqra_sip::net::{Endpoint, HepConfig, HepExporter, IncomingRequest};
use iqra_sip::observe::hep::HepPacket;
use tokio::net::UdpSocket;

#[tokio::test]
async fn a_collector_gets_both_directions_without_credentials() {
    let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = HepConfig {
        agent: 7,
        key: Some(String::from("password")),
        ..HepConfig::new(collector.local_addr().unwrap())
    };
    assert!(!format!("{config:?}").contains("password"));
    let exporter = HepExporter::start(config).await.unwrap();
    let (endpoint, mut incoming) =
        Endpoint::builder().udp(([127, 0, 0, 1], 0)).observe(exporter.clone()).bind().await.unwrap();
    let ours = endpoint.listeners()[0].addr;
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let options = "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bK1\r\n\
                   From: <sip:b@c>;tag=1\r\nTo: <sip:a@c>\r\nCall-ID: captured\r\nCSeq: 1 OPTIONS\r\n\
                   Max-Forwards: 70\r\nAuthorization: Digest response=\"secret\"\r\nContent-Length: 0\r\n\r\n";
    phone.send_to(options.as_bytes(), ours).await.unwrap();
    let Some(IncomingRequest::Other(request)) = incoming.next().await else { panic!("no request") };
    drop(request);
    for (source, target, start) in
        [(phone.local_addr().unwrap(), ours, "OPTIONS "), (ours, phone.local_addr().unwrap(), "SIP/2.0 200")]
    {
        let mut buffer = [0; 2_048];
        let length = collector.recv(&mut buffer).await.unwrap();
        let (packet, key) = HepPacket::decode(&buffer[..length]).unwrap();
        assert_eq!((packet.source, packet.target, packet.agent, packet.udp), (source, target, 7, true));
        assert_eq!((packet.correlation.as_deref(), key.as_deref()), (Some("captured"), Some("password")));
        let text = String::from_utf8(packet.payload.to_vec()).unwrap();
        assert!(text.starts_with(start) && !text.contains("secret"), "{text}");
    }
    assert_eq!(exporter.lost(), 0);
    endpoint.shutdown(Duration::ZERO).await;
}
