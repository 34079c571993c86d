//! The same INVITE through this crate and the published parsers, in one process and in turn:
//! `cargo bench --bench sip_message` in this folder.
//!
//! - `parse`: to the crate's message type, beside `bare index`, the floor: it finds lines, names, values and the body.
//! - `print`: a parsed message to octets.
//! - `serve`: parse, six typed headers (Via, From, To, Call-ID, CSeq, Contact), print.
//!
//! rvoip-sip-core is not here: several times slower than the slowest of these, it would be most of what is built.

#[path = "../../benches/shared/invite.rs"]
mod invite;

use std::hint::black_box;

use bytes::Bytes;
use invite::{index, invite};
use iqra_benches_published::Race;

const ROUNDS: usize = 300;
const BATCH: u32 = 200;

fn main() {
    let bytes = Bytes::from(invite());
    drop(bytes.clone()); // Shared from the first call on.
    let bytes = &bytes;
    Race::new("parse", ROUNDS, BATCH)
        .add("bare index", || index(black_box(bytes)).is_some())
        .add("iqra-sip", || ours::parse(bytes))
        .add("rsipstack", || rsipstack::parse(bytes))
        .add("rsip", || rsip::parse(bytes))
        .add("ezk-sip-types", || ezk::parse(bytes))
        .run();
    let (ours, rsipstack, rsip) = (ours::parse(bytes), rsipstack::parse(bytes), rsip::parse(bytes));
    let ezk = ezk::parse(bytes);
    Race::new("print", ROUNDS, BATCH)
        .add("iqra-sip", || black_box(&ours).to_bytes())
        .add("rsipstack", || black_box(&rsipstack).to_string())
        .add("rsip", || Vec::<u8>::from(black_box(&rsip).clone()))
        .add("ezk-sip-types", || ezk::print(black_box(&ezk)))
        .run();
    Race::new("serve", ROUNDS, BATCH)
        .add("iqra-sip", || ours::serve(bytes))
        .add("rsipstack", || rsipstack::serve(bytes))
        .add("rsip", || rsip::serve(bytes))
        .add("ezk-sip-types", || ezk::serve(bytes))
        .run();
}

mod ours {
    use bytes::Bytes;
    use iqra_sip::Message;
    use iqra_sip::message::header::{CSeq, CallId, Contact, From, To, Via};
    use std::hint::black_box;

    pub(super) fn parse(bytes: &Bytes) -> Message {
        Message::parse(black_box(bytes.clone())).expect("parses")
    }

    pub(super) fn serve(bytes: &Bytes) -> Bytes {
        let message = parse(bytes);
        let headers = message.headers();
        black_box(headers.typed::<Via>().expect("reads"));
        black_box(headers.typed::<From>().expect("reads"));
        black_box(headers.typed::<To>().expect("reads"));
        black_box(headers.typed::<CallId>().expect("reads"));
        black_box(headers.typed::<CSeq>().expect("reads"));
        black_box(headers.typed::<Contact>().expect("reads"));
        message.to_bytes()
    }
}

mod rsipstack {
    use bytes::Bytes;
    use rsipstack::sip::headers::untyped::ToTypedHeader;
    use rsipstack::sip::message::{HeadersExt, SipMessage};
    use std::hint::black_box;

    pub(super) fn parse(bytes: &Bytes) -> SipMessage {
        SipMessage::try_from(black_box(bytes.clone())).expect("parses")
    }

    pub(super) fn serve(bytes: &Bytes) -> String {
        let message = parse(bytes);
        black_box(message.top_via_header().expect("is there").into_typed().expect("reads"));
        black_box(message.from_header().expect("is there").typed().expect("reads"));
        black_box(message.to_header().expect("is there").typed().expect("reads"));
        black_box(message.call_id_header().expect("is there").clone());
        black_box(message.cseq_header().expect("is there").typed().expect("reads"));
        black_box(message.contact_header().expect("is there").typed().expect("reads"));
        message.to_string()
    }
}

mod rsip {
    use bytes::Bytes;
    use rsip::SipMessage;
    use rsip::prelude::{HeadersExt, ToTypedHeader};
    use std::hint::black_box;

    pub(super) fn parse(bytes: &Bytes) -> SipMessage {
        SipMessage::try_from(black_box(&bytes[..])).expect("parses")
    }

    pub(super) fn serve(bytes: &Bytes) -> Vec<u8> {
        let message = parse(bytes);
        black_box(message.via_header().expect("is there").typed().expect("reads"));
        black_box(message.from_header().expect("is there").typed().expect("reads"));
        black_box(message.to_header().expect("is there").typed().expect("reads"));
        black_box(message.call_id_header().expect("is there").clone());
        black_box(message.cseq_header().expect("is there").typed().expect("reads"));
        black_box(message.contact_header().expect("is there").typed().expect("reads"));
        message.into()
    }
}

/// The crate has the parts of a parser and no whole one: put together as its own transport layer does.
mod ezk {
    use bytes::Bytes;
    use ezk_sip_types::header::typed::{CSeq, CallID, Contact, FromTo, Via};
    use ezk_sip_types::msg::{Line, MessageLine, PullParser};
    use ezk_sip_types::{Headers, Name, parse::Parse, print::AppendCtx};
    use std::hint::black_box;

    type Message = (MessageLine, Headers, Bytes);

    pub(super) fn parse(bytes: &Bytes) -> Message {
        let bytes = black_box(bytes);
        let mut parser = PullParser::new(bytes, 0);
        let text = |line| std::str::from_utf8(line).expect("is UTF-8");
        let first = parser.next().expect("is there").expect("is whole");
        let (_, line) = MessageLine::parse(bytes)(text(first)).expect("reads");
        let mut headers = Headers::new();
        for header in &mut parser {
            let (_, header) = Line::parse(bytes, text(header.expect("is whole"))).expect("reads");
            headers.insert(header.name, header.value);
        }
        let body = bytes.slice(parser.head_end()..);
        (line, headers, body)
    }

    pub(super) fn print((line, headers, body): &Message) -> Vec<u8> {
        let mut out = format!("{}\r\n{headers}\r\n", line.default_print_ctx()).into_bytes();
        out.extend_from_slice(body);
        out
    }

    pub(super) fn serve(bytes: &Bytes) -> Vec<u8> {
        let message = parse(bytes);
        let headers = &message.1;
        black_box(headers.get_named::<Via>().expect("reads"));
        black_box(headers.get::<FromTo>(Name::FROM).expect("reads"));
        black_box(headers.get::<FromTo>(Name::TO).expect("reads"));
        black_box(headers.get_named::<CallID>().expect("reads"));
        black_box(headers.get_named::<CSeq>().expect("reads"));
        black_box(headers.get_named::<Contact>().expect("reads"));
        print(&message)
    }
}
