//! One engine among several of a process that share the calls (`net::shards`): what tells their numbers apart, which
//! Call-IDs are whose, and what an INVITE asks of a call that a sister has.
//!
//! An engine by itself is the first of one. All messages of a Call-ID come to the same engine, so transactions, dialogs,
//! merged requests and subscriptions are found as if there were no other. Only Replaces names the Call-ID of another
//! call: the driver asks the engine that has it before it hands the INVITE over ([`Engine::judge_replaces`]), and tells
//! it when the INVITE was accepted ([`Engine::replace`]).

#![cfg_attr(not(feature = "tokio"), allow(dead_code, reason = "only a driver has several engines"))]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Engine;
use super::flow::{Flow, Owner};
use crate::dialog::DialogId;
use crate::dialog::replaces::{self, Replaced};
use crate::event::ClientTx;
use crate::message::StatusCode;
use crate::message::header::Replaces;

/// Numbers of the first engine have the upper 16 bits clear, those of the others their place there: a number names its
/// engine, and observers never see one twice.
const PLACE: u32 = 48;
/// Most engines of a process.
pub(crate) const MOST: usize = 1 << (u64::BITS - PLACE);

/// Which Call-IDs are an engine's.
pub(crate) type Owns = Arc<dyn Fn(&str) -> bool + Send + Sync>;
/// What a sister says of the dialog that a Replaces names.
pub(crate) type Judged = Result<Replaced, StatusCode>;

/// What an engine knows of being one of several.
#[derive(Default)]
pub(super) struct Share {
    pub(super) place: usize,
    owns: Option<Owns>,
    /// About the message under way.
    judged: Option<Judged>,
}

impl Owner {
    /// The place of the engine that the number is of.
    pub(crate) fn place(self) -> usize {
        let (Owner::Server(number)
        | Owner::Client(number)
        | Owner::Dialog(number)
        | Owner::Relay(number)
        | Owner::Subscription(number)
        | Owner::Lookup(number)) = self;
        usize::try_from(number >> PLACE).unwrap_or_default()
    }
}

impl Engine {
    /// Makes a new engine one of several, the one at `place`, and its guard that of the first.
    #[cfg(feature = "tokio")]
    pub(crate) fn join(&mut self, place: usize, owns: Owns, first: Option<&Engine>) {
        self.share = Share { place, owns: Some(owns), judged: None };
        self.serial = (place as u64) << PLACE;
        if let Some(first) = first {
            self.share_guard(first.guard_of_all());
        }
    }

    /// A Call-ID of ours, whose answers come back to this engine.
    pub(super) fn draw_call_id(&mut self) -> String {
        let Self { random, share, .. } = self;
        random.call_id_that(|drawn| share.owns.as_ref().is_none_or(|owns| owns(drawn)))
    }

    /// Takes one framed message whose Replaces names a dialog of a sister, which has judged it.
    pub(crate) fn handle_judged(&mut self, now: Instant, flow: &Flow, bytes: Bytes, judged: Option<Judged>) {
        self.share.judged = judged;
        self.handle_message(now, flow, bytes);
        self.share.judged = None;
    }

    /// Whether the dialog that a Replaces names may be replaced now (RFC 3891 §3).
    pub(crate) fn judge_replaces(&self, asked: &Replaces) -> Judged {
        let named = asked.dialog();
        // A tag of 0 also stands for none.
        let untagged = || DialogId::new(named.call_id(), named.local_tag(), "");
        let old = || self.dialogs.named(&untagged()).filter(|_| named.remote_tag() == "0");
        replaces::judge(self.dialogs.named(&named).or_else(old), asked.is_early_only())
    }

    /// The same about the INVITE under way: a sister's word, where the driver has asked one. A replay is told.
    pub(super) fn judge_replaces_anywhere(&mut self, asked: &Replaces) -> Judged {
        let word = self.share.judged.take();
        let word = self.random.facts.seldom('j', || word.as_ref().map(write));
        word.and_then(|word| read(&word)).unwrap_or_else(|| self.judge_replaces(asked))
    }
}

fn write(judged: &Judged) -> String {
    match judged {
        Ok(Replaced::Call(id)) => format!("call {} {} {}", id.call_id(), id.local_tag(), id.remote_tag()),
        Ok(Replaced::Ringing(tx)) => format!("ringing {}", tx.0),
        Err(status) => format!("refused {}", status.code()),
    }
}

fn read(word: &str) -> Option<Judged> {
    let words: Vec<_> = word.split(' ').collect();
    Some(match words[..] {
        ["call", call_id, local, remote] => Ok(Replaced::Call(DialogId::new(call_id, local, remote))),
        ["ringing", number] => Ok(Replaced::Ringing(ClientTx(number.parse().ok()?))),
        ["refused", code] => Err(StatusCode::new(code.parse().ok()?)?),
        _ => return None,
    })
}
