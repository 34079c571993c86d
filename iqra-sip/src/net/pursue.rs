//! A call that is led from place to place: what `roles::uac` decides, carried out (RFC 3261 §8.1.3.4).

use super::Error;
use super::endpoint::Endpoint;
use super::outgoing::{Attempt, OutgoingEvent};
use crate::auth::Keyring;
use crate::event::{Body, OutgoingInvite};
use crate::roles::uac::{Outcome, Pursuit, Redirects};

/// How a call is placed. All fields have defaults.
#[derive(Debug, Clone, Default)]
pub struct CallPolicy {
    /// What challenges are answered with, in the call too; none means those of the endpoint.
    pub credentials: Keyring,
    /// How redirects are followed. Default: within the limits of [`Redirects::default`].
    pub redirects: Redirects,
    /// Bodies to send where the INVITE's own is of a type that is not taken (415) or too large (413), best first.
    /// Default none: the program hears of the refusal.
    pub alternatives: Vec<Body>,
}

/// The rest of a call's way.
pub(super) struct Chase {
    endpoint: Endpoint,
    credentials: Keyring,
    pursuit: Option<Pursuit>,
    /// The INVITE that is to be sent next; kept until it is, so that waiting for it may be given up.
    due: Option<(OutgoingInvite, Outcome)>,
}

impl Chase {
    pub(super) fn new(endpoint: Endpoint, pursuit: Pursuit, credentials: Keyring) -> Self {
        Self { endpoint, credentials, pursuit: Some(pursuit), due: None }
    }

    /// Sends the INVITE that is due, if one is. Cancel-safe.
    pub(super) async fn set_out(&mut self) -> Option<Result<Attempt, Error>> {
        let (invite, _) = self.due.as_ref()?;
        let attempt = self.endpoint.attempt(invite.clone(), self.credentials.clone()).await;
        self.due = None;
        Some(attempt)
    }

    /// What the program sees of an event: the end of one place is the end of the call where there is no other.
    pub(super) fn judge(&mut self, event: OutgoingEvent) -> OutgoingEvent {
        let Some(mut pursuit) = self.pursuit.take() else { return event };
        let outcome = match event {
            OutgoingEvent::Redirected(response) | OutgoingEvent::Failed(response) => {
                Outcome::Refused(response)
            }
            OutgoingEvent::Timeout => Outcome::Timeout,
            OutgoingEvent::TransportError => Outcome::Unsent,
            other => {
                self.pursuit = Some(pursuit);
                return other;
            }
        };
        let Some(next) = pursuit.next(outcome.clone()) else {
            return last(pursuit.result().unwrap_or(outcome));
        };
        let uri = next.uri.clone();
        self.due = Some((next, outcome.clone()));
        self.pursuit = Some(pursuit);
        OutgoingEvent::Following { after: outcome, uri }
    }

    /// The end of the call where no INVITE is under way.
    pub(super) fn give_up(self) -> Option<OutgoingEvent> {
        self.due.map(|(_, after)| last(after))
    }
}

fn last(outcome: Outcome) -> OutgoingEvent {
    match outcome {
        Outcome::Refused(response) if response.status.is_redirect() => OutgoingEvent::Redirected(response),
        Outcome::Refused(response) => OutgoingEvent::Failed(response),
        Outcome::Timeout => OutgoingEvent::Timeout,
        Outcome::Unsent => OutgoingEvent::TransportError,
    }
}
