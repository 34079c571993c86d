//! Reads a folder of torture messages (RFC 4475, RFC 5118) and says for each whether it was judged as expected.
//!
//! `cargo run -p iqra-sip --example torture -- FOLDER`
//!
//! FOLDER holds `index.tsv` (dir, file, section, `valid` or `invalid`, note), `truth.tsv` (for each valid file: start,
//! Vias, top branch, To tag, From tag, CSeq number, CSeq method, Call-ID, Max-Forwards, Contacts, body length) and
//! the messages as `dir/file`. A message whose note lets a liberal receiver accept it may go either way.
//! The last line is `N passed, N failed`; any failure gives a non-zero exit.
#![allow(clippy::print_stdout)] // What it prints is what it is for.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use iqra_sip::message::header::{CSeq, CallId, Contact, From, MaxForwards, To, Via};
use iqra_sip::{Engine, EngineConfig, Flow, Headers, Message, Transport};

fn main() -> std::io::Result<ExitCode> {
    let Some(folder) = std::env::args().nth(1) else {
        println!("usage: torture FOLDER");
        return Ok(ExitCode::from(2));
    };
    let folder = Path::new(&folder);
    let index = std::fs::read_to_string(folder.join("index.tsv"))?;
    let truth = std::fs::read_to_string(folder.join("truth.tsv"))?;
    let truth = truths(&truth);
    let (mut passed, mut failed) = (0, 0);
    for line in index.lines().skip(1).filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [dir, file, section, expect, note] = columns[..] else { continue };
        let bytes = std::fs::read(folder.join(dir).join(file))?;
        let answer = answer(bytes.clone());
        let (mut good, mut what) = judge(bytes, expect, note, truth.get(file));
        let due = ANSWERS.iter().find(|(name, _)| *name == file).map(|(_, status)| *status);
        if answer != due {
            good = false;
            what += &format!("; answered {answer:?}, to be {due:?}");
        }
        println!("{} {dir} §{section} {file}: {what}", if good { "pass" } else { "FAIL" });
        *(if good { &mut passed } else { &mut failed }) += 1;
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// File name to its row of expected values.
fn truths(text: &str) -> HashMap<&str, Vec<&str>> {
    let rows = text.lines().skip(1).filter_map(|line| line.split_once('\t'));
    rows.map(|(file, values)| (file, values.split('\t').collect())).collect()
}

/// What must come of the messages that are not simply handed on, by name: the status they are answered with, or 0 for
/// silence. What a program decides by itself (401, 406, 415, 483) is handed on.
const ANSWERS: [(&str, u16); 31] = [
    // What can be read of its topmost Via is the way back.
    ("badinv01.dat", 400),
    ("clerr.dat", 400),
    ("ncl.dat", 400),
    ("scalar02.dat", 400),
    ("scalarlg.dat", 0),
    ("quotbal.dat", 400),
    ("ltgtruri.dat", 400),
    ("lwsruri.dat", 400),
    ("lwsstart.dat", 400),
    ("trws.dat", 400),
    ("badaspec.dat", 400),
    ("baddn.dat", 400),
    ("regbadct.dat", 400),
    // Its Via, too, is of the unknown version.
    ("badvers.dat", 505),
    ("mismatch01.dat", 400),
    ("mismatch02.dat", 400),
    ("bigcode.dat", 0),
    // From, To and Call-ID are missing in the answer, too.
    ("insuf.dat", 400),
    ("unkscm.dat", 416),
    ("novelsc.dat", 416),
    ("bext01.dat", 420),
    ("multi01.dat", 400),
    ("mcl01.dat", 400),
    ("ipv6-bad.dat", 400),
    ("ipv6-bug-abnf-3-colons.dat", 400),
    // Well-formed, with a To tag of no dialog that a fresh engine has.
    ("wsinv.dat", 481),
    ("via-received-param-with-delim.dat", 481),
    ("mult-ip-in-header.dat", 481),
    // Well-formed responses to what a fresh engine never sent.
    ("unreason.dat", 0),
    ("noreason.dat", 0),
    ("bcast.dat", 0),
];

/// What an engine does with the message: the status of its answer, 0 for silence, `None` where it hands it on.
fn answer(bytes: Vec<u8>) -> Option<u16> {
    let now = Instant::now();
    let (local, remote) = (([127, 0, 0, 1], 5060).into(), ([127, 0, 0, 2], 5060).into());
    let mut engine = Engine::new(EngineConfig::default(), 1);
    engine.handle_message(
        now,
        &Flow { transport: Transport::Udp, local, remote, connection: None },
        bytes.into(),
    );
    if let Some(sent) = engine.poll_transmit() {
        // It echoes what was malformed, so it is not parsed again.
        let code = sent.bytes.get(8..11).and_then(|code| std::str::from_utf8(code).ok());
        return Some(code.and_then(|code| code.parse().ok()).unwrap_or(0));
    }
    engine.poll_event().is_none().then_some(0)
}

fn judge(bytes: Vec<u8>, expect: &str, note: &str, truth: Option<&Vec<&str>>) -> (bool, String) {
    match (Message::parse(bytes.into()), expect) {
        (Ok(message), "valid") => {
            let found = values(&message);
            match truth {
                Some(truth) if *truth == found => (true, "accepted, all values right".to_owned()),
                Some(truth) => (false, format!("accepted, but {}", difference(truth, &found))),
                None => (false, "accepted, but no values to compare with".to_owned()),
            }
        }
        (Err(error), "valid") => (false, format!("refused: {error}")),
        (Err(error), _) if error.reply.is_some() => (true, format!("refused with {}: {error}", error.status)),
        (Err(error), _) => (true, format!("discarded: {error}")),
        (Ok(_), _) => (note.contains("liberal"), "accepted".to_owned()),
    }
}

fn difference(truth: &[&str], found: &[String]) -> String {
    let unlike = truth.iter().zip(found).find(|(truth, found)| truth != found);
    unlike.map_or_else(
        || "column counts differ".to_owned(),
        |(truth, found)| format!("{found:?} is not {truth:?}"),
    )
}

/// The columns of `truth.tsv` as this crate reads them.
fn values(message: &Message) -> Vec<String> {
    let headers = message.headers();
    let start = match message {
        Message::Request(request) => request.method.to_string(),
        Message::Response(response) => response.status.to_string(),
    };
    let cseq = headers.typed::<CSeq>();
    let branch = headers.typed::<Via>().ok().and_then(|via| via.branch().map(Cow::into_owned));
    vec![
        start,
        headers.typed_all::<Via>().filter(Result::is_ok).count().to_string(),
        branch.unwrap_or_default(),
        tag(headers.typed::<To>().map(|to| to.0)),
        tag(headers.typed::<From>().map(|from| from.0)),
        cseq.as_ref().map_or_else(|_| "-".to_owned(), |cseq| cseq.number.to_string()),
        cseq.map_or_else(|_| "-".to_owned(), |cseq| cseq.method.to_string()),
        headers.typed::<CallId>().map_or_else(|_| "-".to_owned(), |id| id.to_string()),
        headers.typed::<MaxForwards>().map_or_else(|_| "-".to_owned(), |hops| hops.to_string()),
        contacts(headers).to_string(),
        message.body().len().to_string(),
    ]
}

fn tag<E>(address: Result<iqra_sip::message::NameAddr, E>) -> String {
    address.ok().and_then(|address| address.tag().map(Cow::into_owned)).unwrap_or_default()
}

fn contacts(headers: &Headers) -> usize {
    headers.typed_all::<Contact>().filter(Result::is_ok).count()
}
