//! Glare: a re-INVITE or UPDATE of ours that was answered 491 goes out again after a wait that the two sides draw from
//! different ranges (RFC 3261 §14.1, RFC 3311 §5.2). How often is `glare_retries`; the program hears of
//! the 491 after the last.
//!
//! A session refresh that meets 491 waits likewise ([`super::session`]), and goes out anew until the session ends.
//!
//! The request keeps its name for the program; its transaction lives on under another to absorb repeats.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::event::{ClientTx, Event};
use super::flow::Owner;
use super::outbound::Purpose;
use super::update;
use crate::dialog::{Dialog, Glare, has_session};
use crate::fault::Fault;
use crate::message::{HeaderName, Method, Response, StatusCode};
use crate::transaction::timer::{Clocks, Timer};

/// The waits come in steps of 10 ms.
const STEP: Duration = Duration::from_millis(10);
/// 2 s of them.
pub(super) const STEPS: u32 = 200;

impl Engine {
    /// Looks at the final response of a request inside a dialog; true where the request goes out again later.
    pub(super) fn retries_glare(&mut self, now: Instant, id: u64, response: &Arc<Response>) -> bool {
        let refused = response.status == StatusCode::REQUEST_PENDING;
        refused && self.config.glare_retries > 0 && self.plan_retry(now, id, response).is_some()
    }

    fn plan_retry(&mut self, now: Instant, id: u64, response: &Arc<Response>) -> Option<()> {
        let client = self.clients.get(id)?;
        let (serial, method) = (client.dialog?, client.method().clone());
        let ours = client.purpose == Purpose::Program && client.cancel == super::client_table::Cancel::No;
        let kind = matches!(method, Method::Invite | Method::Update);
        let request = client.request()?;
        let (steps, most) = (self.random.up_to(STEPS), self.config.glare_retries);
        let dialog = self.dialogs.get_mut(serial)?;
        let tried = dialog.glare.as_ref().filter(|glare| glare.client == id).map_or(0, |glare| glare.tried);
        let free = dialog.glare.as_ref().is_none_or(|glare| glare.client == id);
        if !(ours && kind && free) || tried >= most || !dialog.phase.is_open() {
            return None;
        }
        (dialog.invite_out, dialog.update_out) = (
            dialog.invite_out.filter(|&invite| invite != id),
            dialog.update_out.filter(|update| update.client != id),
        );
        let wait = wait(dialog, steps);
        let mut clocks = Clocks::default();
        self.timers.start_for(now, Owner::Dialog(serial), &mut clocks, Timer::Glare, wait);
        let refusal = Some(response.clone());
        dialog.glare = Some(Box::new(Glare { client: id, request, tried: tried + 1, refusal, clocks }));
        self.move_client(now, id);
        Some(())
    }

    /// The wait is over. Where another offer is under way by now, the request waits for as long again.
    pub(super) fn retry_fired(&mut self, now: Instant, serial: u64) {
        if self.has(Fault::GlareNotRetried) {
            return;
        }
        let steps = self.random.up_to(STEPS);
        let Some(dialog) = self.dialogs.get_mut(serial) else { return };
        if !dialog.phase.is_open() {
            return self.drop_retry(serial);
        }
        let Some(mut glare) = dialog.glare.take() else { return };
        glare.clocks.fire(Timer::Glare);
        let offer = has_session(&glare.request.headers, &glare.request.body);
        if update::check_glare(dialog, &glare.request.method, offer).is_err() {
            let wait = wait(dialog, steps);
            self.timers.start_for(now, Owner::Dialog(serial), &mut glare.clocks, Timer::Glare, wait);
            dialog.glare = Some(glare);
            return;
        }
        let (id, mut request) = (glare.client, glare.request.clone());
        let anew = dialog.next_request(request.method.clone());
        request.uri = anew.uri;
        request.headers.remove(HeaderName::VIA);
        request.headers.remove(HeaderName::ROUTE);
        request.headers.copy_from(&anew.headers, &[HeaderName::ROUTE]);
        request
            .headers
            .set(HeaderName::CSEQ, anew.headers.get(HeaderName::CSEQ).unwrap_or_default().into_owned());
        glare.refusal = None;
        dialog.glare = Some(glare);
        let method = request.method.clone();
        let Some(way) = self.dialogs.get(serial).map(|dialog| self.way_within(dialog)) else { return };
        let proof = self.proof_within(Some(serial));
        self.open_client_as(now, id, request, way, Some(serial), Purpose::Program, proof);
        self.note_glare(serial, id, &method, offer);
    }

    /// A dialog ends while a request waits in it: the program hears of the refusal.
    pub(super) fn drop_retry(&mut self, serial: u64) {
        let Some(mut glare) = self.dialogs.get_mut(serial).and_then(|dialog| dialog.glare.take()) else {
            return;
        };
        self.timers.forget(Owner::Dialog(serial), &mut glare.clocks);
        if let Some(response) = glare.refusal {
            let tx = ClientTx(glare.client);
            self.events.push_back(Event::Response { tx, response, early: None, offer: false });
        }
    }
}

/// 2.1 to 4 s for the side that drew the Call-ID, 0 to 2 s for the other (RFC 3261 §14.1), by a number that was drawn up to
/// [`STEPS`].
pub(super) fn wait(dialog: &Dialog, steps: u32) -> Duration {
    match dialog.owns_call_id {
        true => Duration::from_millis(2_100) + STEP * (steps * 190 / STEPS),
        false => STEP * steps,
    }
}
