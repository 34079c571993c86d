//! Over loopback sockets: a registration and a call that are challenged, a redirect that is followed.

#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // Helpers of a test are tests.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use iqra_sip::auth::{
    Authenticator, AuthenticatorConfig, Credentials, Keyring, Qop, Registration, RegistrationState, Secret,
};
use iqra_sip::event::{Body, OutgoingInvite, Reply};
use iqra_sip::message::NameAddr;
use iqra_sip::message::header::Expires;
use iqra_sip::net::{Answer, CallPolicy, Endpoint, Incoming, IncomingRequest, OutgoingEvent};
use iqra_sip::{HeaderName, Headers, Request, StatusCode, Uri};

/// Guards a server, and counts what it granted.
struct Server {
    auth: Authenticator,
    registered: Arc<Mutex<Vec<u32>>>,
}

impl Server {
    fn check(&mut self, request: &Request) -> Result<(), Box<Reply>> {
        let accounts = |user: &str, _: &str| (user == "alice").then(|| Secret::password("opensesame"));
        let checked = self.auth.check(SystemTime::now(), request, &accounts);
        checked.map(drop).map_err(|denied| Box::new(denied.reply))
    }

    fn bind(&self, request: &Request) -> Reply {
        let seconds = request.headers.typed::<Expires>().unwrap().0;
        self.registered.lock().unwrap().push(seconds);
        let contact = request.headers.get(HeaderName::CONTACT).unwrap();
        Reply::new(StatusCode::OK).header(HeaderName::CONTACT, format!("{contact};expires={seconds}"))
    }

    /// Registers whom it knows, redirects `sip:moved`, answers the rest of those it knows and hangs up with them.
    async fn serve(mut self, mut incoming: Incoming, own: Uri) {
        while let Some(request) = incoming.next().await {
            match request {
                IncomingRequest::Other(other) => {
                    let reply = self
                        .check(other.request())
                        .map_or_else(|reply| *reply, |()| self.bind(other.request()));
                    other.respond(reply);
                }
                IncomingRequest::Invite(invite) if invite.request().uri.user() == Some("moved") => {
                    let reply = Reply::new(StatusCode::MOVED_TEMPORARILY);
                    invite.reject(reply.header(HeaderName::CONTACT, format!("<{own}>")));
                }
                IncomingRequest::Invite(invite) => match self.check(invite.request()) {
                    Err(reply) => drop(invite.reject(*reply)),
                    Ok(()) => {
                        let mut call = invite.accept(Answer::sdp("v=0\r\n")).await.unwrap();
                        call.next().await;
                        call.hangup(Headers::new()).await.unwrap();
                    }
                },
            }
        }
    }
}

async fn bound() -> (Endpoint, Incoming) {
    Endpoint::builder().udp(([127, 0, 0, 1], 0)).bind().await.unwrap()
}

fn uri(user: &str, endpoint: &Endpoint) -> Uri {
    format!("sip:{user}@{}", endpoint.listeners()[0].addr).parse().unwrap()
}

fn alice() -> Keyring {
    Credentials::new("alice", "opensesame").for_realm("voice.example").into()
}

fn invite(to: Uri) -> OutgoingInvite {
    OutgoingInvite {
        uri: to.clone(),
        hops: Vec::new(),
        from: NameAddr::new("sip:alice@voice.example".parse().unwrap()),
        to: NameAddr::new(to),
        call_id: None,
        cseq: 1,
        headers: Headers::new(),
        body: Some(Body::sdp("v=0\r\n")),
        options: Default::default(),
    }
}

/// A server on loopback; its endpoint, and what it registered.
async fn server() -> (Endpoint, Arc<Mutex<Vec<u32>>>) {
    let (endpoint, incoming) = bound().await;
    let registered = Arc::default();
    let auth = Authenticator::new(AuthenticatorConfig::new("voice.example"), [5; 32]);
    let server = Server { auth, registered: Arc::clone(&registered) };
    tokio::spawn(server.serve(incoming, uri("here", &endpoint)));
    (endpoint, registered)
}

#[tokio::test]
async fn a_registration_lasts_until_the_endpoint_shuts_down() {
    let (server, registered) = server().await;
    let (client, _incoming) = bound().await;
    let registrar = format!("sip:{}", server.listeners()[0].addr).parse().unwrap();
    let asked = Registration::new(registrar, "sip:alice@voice.example".parse().unwrap()).credentials(alice());
    let mut handle = client.register(asked).unwrap();
    assert!(matches!(handle.changed().await, Some(RegistrationState::Registered(_))));
    handle.refresh();
    while registered.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    client.shutdown(Duration::from_secs(5)).await;
    assert_eq!(handle.state(), RegistrationState::Unregistered);
    assert_eq!(*registered.lock().unwrap(), [3_600, 3_600, 0]);
    server.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn unregistering_waits_for_the_registrar() {
    let (server, registered) = server().await;
    let (client, _incoming) = bound().await;
    let registrar = format!("sip:{}", server.listeners()[0].addr).parse().unwrap();
    let asked = Registration::new(registrar, "sip:alice@voice.example".parse().unwrap()).credentials(alice());
    let mut handle = client.register(asked).unwrap();
    handle.changed().await.unwrap();
    handle.unregister().await;
    assert_eq!(*registered.lock().unwrap(), [3_600, 0]);
    client.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_call_is_led_through_a_redirect_and_a_challenge_to_its_answer() {
    let (server, _) = server().await;
    let (client, _incoming) = bound().await;
    let policy = CallPolicy { credentials: alice(), ..CallPolicy::default() };
    let mut call = client.call(invite(uri("moved", &server)), policy).await.unwrap();
    let Some(OutgoingEvent::Following { uri: next, .. }) = call.next().await else { panic!("not led on") };
    assert_eq!(next, uri("here", &server));
    let answered = loop {
        match call.next().await {
            Some(OutgoingEvent::Answered(answered, _)) => break answered,
            Some(OutgoingEvent::Provisional { .. }) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(call.next().await.is_none());
    answered.hangup(Headers::new()).await.ok();
    client.shutdown(Duration::from_secs(5)).await;
    server.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_call_without_credentials_ends_with_the_challenge_and_a_plain_invite_is_not_led_on() {
    let (server, _) = server().await;
    let (client, _incoming) = bound().await;
    let mut call = client.call(invite(uri("moved", &server)), CallPolicy::default()).await.unwrap();
    assert!(matches!(call.next().await, Some(OutgoingEvent::Following { .. })));
    let Some(OutgoingEvent::Failed(response)) = call.next().await else { panic!("no end") };
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
    assert!(call.next().await.is_none());
    let mut plain = client.invite(invite(uri("moved", &server))).await.unwrap();
    assert!(matches!(plain.next().await, Some(OutgoingEvent::Redirected(_))));
    client.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_call_that_is_given_up_between_two_places_ends() {
    let (server, _) = server().await;
    let (client, _incoming) = bound().await;
    let mut call = client.call(invite(uri("moved", &server)), CallPolicy::default()).await.unwrap();
    assert!(matches!(call.next().await, Some(OutgoingEvent::Following { .. })));
    call.cancel(Headers::new()).await;
    assert!(matches!(call.next().await, Some(OutgoingEvent::Redirected(_))));
    assert!(call.next().await.is_none());
    client.shutdown(Duration::ZERO).await;
    server.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_server_proves_itself_and_an_impostor_is_hung_up() {
    for honest in [true, false] {
        let (server, mut incoming) = bound().await;
        let (client, _) = bound().await;
        let policy = CallPolicy { credentials: alice(), ..CallPolicy::default() };
        let mut call = client.call(invite(uri("here", &server)), policy).await.unwrap();
        let mut config = AuthenticatorConfig::new("voice.example");
        config.qop = vec![Qop::AuthInt];
        let mut auth = Authenticator::new(config, [5; 32]);
        let accounts = |_: &str, _: &str| Some(Secret::password("opensesame"));
        let taken = loop {
            let Some(IncomingRequest::Invite(invite)) = incoming.next().await else { panic!("no call") };
            match auth.check(SystemTime::now(), invite.request(), &accounts) {
                Err(denied) => drop(invite.reject(denied.reply)),
                Ok(identity) => {
                    let mut answer = Answer::sdp("v=0\r\n");
                    identity.vouch(&mut answer.headers, answer.body.as_ref());
                    if !honest {
                        answer.body = Some(Body::sdp("v=0\r\ns=another\r\n"));
                    }
                    break invite.accept(answer).await.unwrap();
                }
            }
        };
        match call.next().await {
            Some(OutgoingEvent::Answered(..)) if honest => {}
            Some(OutgoingEvent::Unproven) if !honest => {}
            other => panic!("{other:?}"),
        }
        assert!(call.next().await.is_none());
        drop(taken);
        client.shutdown(Duration::from_secs(5)).await;
        server.shutdown(Duration::from_secs(5)).await;
    }
}
