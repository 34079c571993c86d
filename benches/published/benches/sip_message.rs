//! The same INVITE through this crate and the published parsers, in one process:
//! `cargo bench` in this folder.
//!
//! - `parse`: to the crate's message type. `bare_index` is the floor: it finds lines, names, values and the body.
//! - `serve`: parse, six typed headers (Via, From, To, Call-ID, CSeq, Contact), print.

#[path = "../../benches/shared/invite.rs"]
mod invite;

use bytes::Bytes;
use divan::{Bencher, black_box};
use invite::{index, invite};

fn main() {
    divan::main();
}

fn datagram() -> Bytes {
    let bytes = Bytes::from(invite());
    drop(bytes.clone());
    bytes
}

fn run<T>(bencher: Bencher<'_, '_>, work: impl Fn(Bytes) -> T) {
    let bytes = datagram();
    bencher.bench_local(|| black_box(work(black_box(bytes.clone()))));
}

#[divan::bench(sample_size = 200, sample_count = 300)]
fn bare_index(bencher: Bencher<'_, '_>) {
    let bytes = datagram();
    bencher.bench_local(|| black_box(index(black_box(&bytes))).is_some());
}

mod parse {
    use super::*;

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn iqra_sip(bencher: Bencher<'_, '_>) {
        run(bencher, |bytes| iqra_sip::Message::parse(bytes).expect("parses"));
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn rsipstack(bencher: Bencher<'_, '_>) {
        run(bencher, |bytes| ::rsipstack::sip::message::SipMessage::try_from(bytes).expect("parses"));
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn rsip(bencher: Bencher<'_, '_>) {
        run(bencher, |bytes| ::rsip::SipMessage::try_from(&bytes[..]).expect("parses"));
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn ezk(bencher: Bencher<'_, '_>) {
        run(bencher, |bytes| super::ezk::parse(&bytes));
    }
}

mod serve {
    use super::*;

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn iqra_sip(bencher: Bencher<'_, '_>) {
        use ::iqra_sip::message::header::{CSeq, CallId, Contact, From, To, Via};
        run(bencher, |bytes| {
            let message = ::iqra_sip::Message::parse(bytes).expect("parses");
            let headers = message.headers();
            black_box(headers.typed::<Via>().expect("reads"));
            black_box(headers.typed::<From>().expect("reads"));
            black_box(headers.typed::<To>().expect("reads"));
            black_box(headers.typed::<CallId>().expect("reads"));
            black_box(headers.typed::<CSeq>().expect("reads"));
            black_box(headers.typed::<Contact>().expect("reads"));
            message.to_bytes()
        });
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn rsipstack(bencher: Bencher<'_, '_>) {
        use ::rsipstack::sip::headers::untyped::ToTypedHeader;
        use ::rsipstack::sip::message::{HeadersExt, SipMessage};
        run(bencher, |bytes| {
            let message = SipMessage::try_from(bytes).expect("parses");
            black_box(message.top_via_header().expect("is there").into_typed().expect("reads"));
            black_box(message.from_header().expect("is there").typed().expect("reads"));
            black_box(message.to_header().expect("is there").typed().expect("reads"));
            black_box(message.call_id_header().expect("is there").clone());
            black_box(message.cseq_header().expect("is there").typed().expect("reads"));
            black_box(message.contact_header().expect("is there").typed().expect("reads"));
            message.to_string()
        });
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn rsip(bencher: Bencher<'_, '_>) {
        use ::rsip::prelude::{HeadersExt, ToTypedHeader};
        run(bencher, |bytes| {
            let message = ::rsip::SipMessage::try_from(&bytes[..]).expect("parses");
            black_box(message.via_header().expect("is there").typed().expect("reads"));
            black_box(message.from_header().expect("is there").typed().expect("reads"));
            black_box(message.to_header().expect("is there").typed().expect("reads"));
            black_box(message.call_id_header().expect("is there").clone());
            black_box(message.cseq_header().expect("is there").typed().expect("reads"));
            black_box(message.contact_header().expect("is there").typed().expect("reads"));
            Vec::<u8>::from(message)
        });
    }

    #[divan::bench(sample_size = 200, sample_count = 300)]
    fn ezk(bencher: Bencher<'_, '_>) {
        use ezk_sip_types::header::typed::{CSeq, CallID, Contact, FromTo, Via};
        use ezk_sip_types::{Name, print::AppendCtx};
        run(bencher, |bytes| {
            let (line, headers, body) = super::ezk::parse(&bytes);
            black_box(headers.get_named::<Via>().expect("reads"));
            black_box(headers.get::<FromTo>(Name::FROM).expect("reads"));
            black_box(headers.get::<FromTo>(Name::TO).expect("reads"));
            black_box(headers.get_named::<CallID>().expect("reads"));
            black_box(headers.get_named::<CSeq>().expect("reads"));
            black_box(headers.get_named::<Contact>().expect("reads"));
            let mut out = format!("{}\r\n{headers}\r\n", line.default_print_ctx()).into_bytes();
            out.extend_from_slice(&body);
            out
        });
    }
}

/// The crate has the parts of a parser and no whole one: put together as its own transport layer does.
mod ezk {
    use bytes::Bytes;
    use ezk_sip_types::Headers;
    use ezk_sip_types::msg::{Line, MessageLine, PullParser};
    use ezk_sip_types::parse::Parse;

    pub(super) fn parse(bytes: &Bytes) -> (MessageLine, Headers, Bytes) {
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
}
