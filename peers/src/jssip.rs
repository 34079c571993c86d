//! JsSIP under node as a phone without media, over WebSocket: `node/phone.js` reads what it shall do and prints what
//! happens.
//!
//! It registers as it starts; that connection is the only way to it.

use std::path::Path;

use iqra_sip::message::header::Contact;
use iqra_sip::{Hop, Transport, Uri};

use crate::endpoint::{SOON, Us};
use crate::phone::{self, Act, Says};
use crate::pki::Pki;
use crate::program::{Launch, Program};
use crate::registrar::{ACCOUNT, Binding, Registrar, bind};

/// A running phone.
#[derive(Debug)]
pub struct Jssip {
    program: Program,
    contact: Uri,
    hop: Hop,
    read: usize,
}

impl Jssip {
    /// Starts a phone that registers with us over WebSocket, challenged where there is a
    /// registrar. `pki` is whom it trusts besides the usual.
    ///
    /// # Panics
    /// When node or JsSIP is not installed, or it does not register.
    pub async fn start(us: &mut Us, pki: Option<&Pki>, registrar: Option<&mut Registrar>) -> Self {
        let program = launch(us, pki);
        let Binding { request, flow } = register(us, registrar).await;
        program.line("registered", SOON);
        let contact: Contact = request.headers.typed().expect("where it is");
        let contact = contact.address().expect("one address").uri.clone();
        Self { program, contact, hop: Hop::from(flow), read: 0 }
    }

    /// Ends its registration and itself.
    ///
    /// # Panics
    /// When it does not.
    pub async fn quit(mut self, us: &mut Us, registrar: Option<&mut Registrar>) {
        self.program.type_line("quit");
        register(us, registrar).await;
        let ended = self.program.end(SOON);
        assert!(ended.status.success(), "{}", ended.output);
    }

    /// Waits until it prints a line that contains this.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn prints(&mut self, needle: &str) {
        (self.read, _) = self.program.next_line(self.read, &[needle], SOON);
    }
}

impl phone::Phone for Jssip {
    fn uri(&self) -> Uri {
        self.contact.clone()
    }

    fn hops(&self) -> Vec<Hop> {
        vec![self.hop.clone()]
    }

    fn act(&mut self, act: Act<'_>) {
        self.program.type_line(&match act {
            Act::Call(uri) => format!("call {uri}"),
            Act::Answer => "answer".to_owned(),
            Act::HangUp => "hangup".to_owned(),
            Act::Hold => "hold".to_owned(),
            Act::Resume => "resume".to_owned(),
            Act::Transfer(uri) => format!("transfer {uri}"),
            Act::Digit => "digit".to_owned(),
            Act::Message(uri) => format!("message {uri}"),
            Act::Options(uri) => format!("options {uri}"),
            Act::Update => "update".to_owned(),
            other @ Act::Redirect(_) => panic!("JsSIP cannot {other:?}"),
        });
    }

    fn says(&mut self, what: Says) {
        self.prints(match what {
            Says::Ringing => "ringing",
            Says::Established => "established",
            Says::Over => "over",
        });
    }

    fn settles(&mut self) {
        self.prints("done");
    }
}

async fn register(us: &mut Us, registrar: Option<&mut Registrar>) -> Binding {
    match registrar {
        Some(registrar) => registrar.register(us).await,
        None => bind(us.asked().await),
    }
}

fn launch(us: &Us, pki: Option<&Pki>) -> Program {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(folder.join("node_modules").exists(), "run npm ci in {}", folder.display());
    let listener = us.endpoint.listeners().iter().find(|one| one.transport.is_websocket()).expect("bound");
    let scheme = if listener.transport == Transport::Wss { "wss" } else { "ws" };
    let (user, password) = ACCOUNT;
    let server = format!("{scheme}://{}", listener.addr);
    let account = format!("sip:{user}@127.0.0.1");
    let roots = pki.map(|pki| pki.roots().display().to_string()).unwrap_or_default();
    let launch = Launch::new("node", "nodejs").args(["phone.js", &server, &account, password]);
    launch.env("NODE_EXTRA_CA_CERTS", &roots).dir(&folder).typed().start()
}
