//! The server side of a transaction over UDP, through this crate and published stacks, in one process and in turn:
//! `cargo bench --bench round_trip` in this folder.
//!
//! - `options`: OPTIONS, 200.
//! - `redirect`: INVITE, 302 with a Contact, ACK.
//!
//! Each stack serves with its defaults, stateful, on a tokio runtime of one worker thread; what is finished is kept for
//! its timers. The client is the same for all: a bare socket that writes prepared requests, 64 at a time, and reads as
//! many answers, so that a figure is of 64 round trips with the client's part in it; `null` is that part with a server
//! that answers a fixed text. The rounds are so few that nobody's limit of transactions is met (INVITE transactions
//! live for 32 s).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iqra_benches_published::Race;
use tokio::runtime::Runtime;

const AT_ONCE: usize = 64;

const ROUNDS: usize = 150;

fn main() {
    let servers =
        [("null", null()), ("iqra-sip", iqra_sip()), ("rsipstack", rsipstack()), ("ezk-sip-core", ezk())];
    race("options", "OPTIONS", "SIP/2.0 200", &servers);
    race("redirect", "INVITE", "SIP/2.0 302", &servers);
}

fn race(title: &'static str, method: &str, status: &str, servers: &[(&'static str, SocketAddr)]) {
    let mut race = Race::new(title, ROUNDS, 1);
    for &(name, server) in servers {
        let client = Client::of(server);
        race.add(name, move || client.round(method, status));
    }
    race.run();
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
});

/// The side that asks.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    fn of(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
        Self { socket, server }
    }

    fn request(&self, method: &str, branch: u64, to_tag: &str) -> String {
        let (us, server) = (self.socket.local_addr().expect("bound"), self.server);
        format!(
            "{method} sip:+15550100@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {us};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@example.org>;tag=c{branch}\r\n\
             To: <sip:+15550100@{server}>{to_tag}\r\nCall-ID: call-{branch}@example.org\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:caller@{us}>\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// Sends requests and reads their answers, each of which has to be of this status.
    fn round(&self, method: &str, status: &str) {
        static BRANCH: AtomicU64 = AtomicU64::new(1);
        let mut buffer = [0; 2_048];
        for _ in 0..AT_ONCE {
            let branch = BRANCH.fetch_add(1, Ordering::Relaxed);
            self.send(&self.request(method, branch, ""));
        }
        let mut answered = 0;
        while answered < AT_ONCE {
            let length = self.socket.recv(&mut buffer).expect("an answer");
            let answer = std::str::from_utf8(&buffer[..length]).expect("text");
            if answer.starts_with("SIP/2.0 1") {
                continue;
            }
            assert!(answer.starts_with(status), "{answer}");
            answered += 1;
            if method == "INVITE" {
                let after = |text: &str| answer.split(text).nth(1).expect("as it was sent").to_owned();
                let branch = after("branch=z9hG4bK");
                let branch = branch.split(|c: char| !c.is_ascii_digit()).next().and_then(|b| b.parse().ok());
                let to = answer.lines().find(|line| line.starts_with("To:")).expect("To");
                let tag = to.split(";tag=").nth(1).map(|tag| format!(";tag={tag}")).unwrap_or_default();
                self.send(&self.request("ACK", branch.expect("a branch of ours"), &tag));
            }
        }
    }

    fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.server).expect("sent");
    }
}

fn iqra_sip() -> SocketAddr {
    use iqra_sip::event::Reply;
    use iqra_sip::net::{Endpoint, IncomingRequest};
    use iqra_sip::{HeaderName, StatusCode};
    let bound = RUNTIME.block_on(Endpoint::builder().udp((Ipv4Addr::LOCALHOST, 0)).bind());
    let (endpoint, mut incoming) = bound.expect("bound");
    let addr = endpoint.listeners()[0].addr;
    RUNTIME.spawn(async move {
        let _kept = endpoint;
        while let Some(request) = incoming.next().await {
            match request {
                IncomingRequest::Invite(invite) => {
                    let reply = Reply::new(StatusCode::MOVED_TEMPORARILY);
                    invite.reject(reply.header(HeaderName::CONTACT, "<sip:backend@192.0.2.9:5080>"));
                }
                IncomingRequest::Other(other) => other.respond(Reply::new(StatusCode::OK)),
            }
        }
    });
    addr
}

fn rsipstack() -> SocketAddr {
    use ::rsipstack::EndpointBuilder;
    use ::rsipstack::sip::{Header, Method, StatusCode};
    use ::rsipstack::transport::udp::UdpConnection;
    use ::rsipstack::transport::{SipConnection, TransportLayer};
    use tokio_util::sync::CancellationToken;
    let here = (Ipv4Addr::LOCALHOST, 0).into();
    let bound = RUNTIME.block_on(UdpConnection::create_connection(here, None, None)).expect("bound");
    let connection: SipConnection = bound.into();
    let addr = connection.get_addr().addr.to_string().parse().expect("an address");
    let layer = TransportLayer::new(CancellationToken::new());
    layer.add_transport(connection);
    let endpoint = EndpointBuilder::new().with_transport_layer(layer).build();
    RUNTIME.spawn(async move {
        let mut incoming = endpoint.incoming_transactions().expect("the receiver");
        let serving = async {
            while let Some(mut transaction) = incoming.recv().await {
                tokio::spawn(async move {
                    if transaction.original.method == Method::Invite {
                        let contact = Header::Contact("<sip:backend@192.0.2.9:5080>".into());
                        let moved = StatusCode::MovedTemporarily;
                        drop(transaction.reply_with(moved, vec![contact], None).await);
                        while transaction.receive().await.is_some() {}
                    } else {
                        drop(transaction.reply(StatusCode::OK).await);
                    }
                });
            }
        };
        tokio::join!(endpoint.serve(), serving);
    });
    addr
}

fn ezk() -> SocketAddr {
    use ezk_sip_core::{Endpoint, IncomingRequest, Layer, MayTake};
    use ezk_sip_types::{Method, Name, StatusCode};

    struct Server;

    #[async_trait::async_trait]
    impl Layer for Server {
        fn name(&self) -> &'static str {
            "server"
        }

        async fn receive(&self, endpoint: &Endpoint, request: MayTake<'_, IncomingRequest>) {
            let (endpoint, mut request) = (endpoint.clone(), request.take());
            if request.line.method == Method::INVITE {
                let transaction = endpoint.create_server_inv_tsx(&mut request);
                let mut response = endpoint.create_response(&request, StatusCode::MOVED_TEMPORARILY, None);
                response.msg.headers.insert(Name::CONTACT, "<sip:backend@192.0.2.9:5080>");
                tokio::spawn(transaction.respond_failure(response));
            } else if request.line.method != Method::ACK {
                let transaction = endpoint.create_server_tsx(&mut request);
                let response = endpoint.create_response(&request, StatusCode::OK, None);
                drop(transaction.respond(response).await);
            }
        }
    }

    RUNTIME.block_on(async {
        let mut builder = Endpoint::builder();
        let bound = builder.bind_udp((Ipv4Addr::LOCALHOST, 0).into()).await.expect("bound");
        builder.add_layer(Server);
        let endpoint = builder.build();
        RUNTIME.spawn(async move {
            let _kept = endpoint;
            std::future::pending::<()>().await;
        });
        bound.bound()
    })
}

/// Answers by the text of the request alone.
fn null() -> SocketAddr {
    let bound = RUNTIME.block_on(tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
    let socket = bound.expect("bound");
    let addr = socket.local_addr().expect("bound");
    RUNTIME.spawn(async move {
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let request = std::str::from_utf8(&buffer[..length]).expect("text");
            let (method, rest) = request.split_once(' ').expect("a request");
            let status = match method {
                "ACK" => continue,
                "INVITE" => "302 Moved Temporarily",
                _ => "200 OK",
            };
            let headers = rest.split_once("\r\n").expect("headers").1;
            let answer = format!("SIP/2.0 {status}\r\n{headers}");
            socket.send_to(answer.as_bytes(), from).await.expect("sent");
        }
    });
    addr
}
