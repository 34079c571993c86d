//! Faults to plant into an engine, for tests of the tests: a search that finds none of them proves nothing.
//!
//! Only with the feature `faults`, which no program switches on; without it every question here is a constant `false`.

use crate::engine::Engine;

/// What an engine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A request is repeated once and no more.
    TimerNotRestarted,
    /// Timer B ends nothing.
    InviteNeverTimesOut,
    /// A 2xx of a further branch is answered with the ACK of the first.
    AckOfOtherBranch,
    /// A CANCEL does not leave.
    CancelLost,
    /// A 2xx to INVITE is sent once.
    SuccessNotRepeated,
    /// A repeated 2xx is not acknowledged again.
    AckNotRepeated,
    /// A 2xx to a re-INVITE that comes after the end of its dialog is not acknowledged.
    LateSuccessIgnored,
    /// A response is matched by its branch alone.
    MethodIgnored,
    /// A BYE of the peer is answered, and the dialog kept.
    DialogKept,
    /// A reliable provisional response is not acknowledged.
    PrackNotSent,
    /// What met a 491 is not sent again.
    GlareNotRetried,
    /// A session is not refreshed.
    RefreshNotSent,
    /// A nonce count does not rise.
    NonceCountStays,
    /// A target that a relay gives up goes on ringing.
    FailoverNotCancelled,
    /// A relayed response keeps our Via.
    ViaKept,
    /// The same request by another path is taken as a new one.
    MergedAccepted,
    /// The program is not told that its caller gave up.
    CancelledNotTold,
    /// The program is not told of the ACK.
    ConfirmedNotTold,
    /// A dialog that ends by itself is dropped without a BYE.
    ByeNotSent,
    /// A 2xx that nobody acknowledges ends nothing.
    AckAwaitedForEver,
    /// The ACK to an offer in a 2xx leaves without the program's answer.
    AnswerLost,
    /// An offer in a 2xx that the program never answers ends nothing.
    AnswerAwaitedForEver,
    /// The program is not told that nobody answered a request outside a dialog, INVITE aside.
    SilenceNotTold,
    /// A request of ours inside a dialog that has no part in the session ends the dialog where it is refused.
    RefusalEndsCall,
    /// A request that no connection takes waits for its answer all the same.
    UnsentIgnored,
    /// A response whose connection is gone goes nowhere else.
    ReplyNotRedialled,
    /// A relay tries one hop of a target and no more.
    HopsForgotten,
    /// What a guard drops is not counted.
    DropNotCounted,
    /// A request that was answered still counts as one that waits for the program.
    WaitingKept,
    /// A relay leaves its Record-Route in the Request-URI where a strict router put it.
    StrictUriKept,
    /// A relay sends to a strict router as to a loose one.
    StrictRouterIgnored,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 31] = [
        Fault::TimerNotRestarted,
        Fault::InviteNeverTimesOut,
        Fault::AckOfOtherBranch,
        Fault::CancelLost,
        Fault::SuccessNotRepeated,
        Fault::AckNotRepeated,
        Fault::LateSuccessIgnored,
        Fault::MethodIgnored,
        Fault::DialogKept,
        Fault::PrackNotSent,
        Fault::GlareNotRetried,
        Fault::RefreshNotSent,
        Fault::NonceCountStays,
        Fault::FailoverNotCancelled,
        Fault::ViaKept,
        Fault::MergedAccepted,
        Fault::CancelledNotTold,
        Fault::ConfirmedNotTold,
        Fault::ByeNotSent,
        Fault::AckAwaitedForEver,
        Fault::AnswerLost,
        Fault::AnswerAwaitedForEver,
        Fault::SilenceNotTold,
        Fault::RefusalEndsCall,
        Fault::UnsentIgnored,
        Fault::ReplyNotRedialled,
        Fault::HopsForgotten,
        Fault::DropNotCounted,
        Fault::WaitingKept,
        Fault::StrictUriKept,
        Fault::StrictRouterIgnored,
    ];
}

impl Engine {
    /// Plants a fault, in place of the one before.
    #[cfg(feature = "faults")]
    pub fn plant(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    #[cfg(feature = "faults")]
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    #[cfg(not(feature = "faults"))]
    #[allow(clippy::unused_self)] // It has none.
    pub(crate) const fn has(&self, _: Fault) -> bool {
        false
    }
}
