//! A registration on a socket: one task that lends [`Registering`] a clock and an endpoint; and the calls and requests that
//! go out by it: the way that the registrar wants (RFC 3608), with its credentials.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Error;
use super::builder::os_seed;
use super::endpoint::Endpoint;
use super::outgoing::OutgoingCall;
use super::pursue::CallPolicy;
use super::shared::{Handle, now};
use crate::auth::{Registering, Registration, RegistrationState};
use crate::engine::flow::Hop;
use crate::event::{Failure, OutgoingInvite};
use crate::message::header::ServiceRoute;
use crate::message::{HeaderName, Headers, Request, Response};

/// A registration that is kept up. Dropping it removes the bindings as far as the endpoint lives on for it.
pub struct Registered {
    endpoint: Endpoint,
    asked: Registration,
    states: watch::Receiver<RegistrationState>,
    orders: Arc<Orders>,
    leave: DropGuard,
}

/// What the program wants of the task.
#[derive(Default)]
struct Orders {
    refresh: Notify,
    flow_failed: Notify,
}

impl Registered {
    pub(super) fn start(endpoint: Endpoint, handle: &Handle, asked: Registration) -> Result<Self, Error> {
        let closing = handle.enter(|core, _| core.router.is_closing());
        let (calls, reached) = (endpoint.clone(), asked.clone());
        let seed = os_seed().ok().filter(|_| !closing).ok_or(Error::Closed)?;
        let machine = Registering::new(asked, seed);
        let (sender, states) = watch::channel(machine.state().clone());
        let registrations = &handle.shared().registrations;
        let leave = registrations.leaving.child_token();
        let keeper = Keeper {
            endpoint,
            machine,
            states: sender,
            orders: Arc::default(),
            leave: leave.clone(),
            stop: handle.shared().stop.clone(),
        };
        let orders = keeper.orders.clone();
        registrations.tasks.spawn(keeper.run());
        Ok(Self { endpoint: calls, asked: reached, states, orders, leave: leave.drop_guard() })
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        self.states.borrow().clone()
    }

    /// Waits for a change of state; `None` once the registration is over. Cancel-safe.
    pub async fn changed(&mut self) -> Option<RegistrationState> {
        self.states.changed().await.ok()?;
        Some(self.states.borrow_and_update().clone())
    }

    /// The hops that the registrar wants requests of ours to take (RFC 3608), as long as the bindings last; empty where it
    /// wants none. [`call`](Self::call) and [`request`](Self::request) take them by themselves.
    #[must_use]
    pub fn service_route(&self) -> Vec<ServiceRoute> {
        self.states.borrow().service_route(now()).to_vec()
    }

    /// Places a call by this registration, as [`Endpoint::call`]: over its outbound proxy and the registrar's service
    /// route, and with its credentials where the policy has none. A call that has Route headers goes by those.
    ///
    /// # Errors
    /// As there.
    pub async fn call(
        &self,
        mut call: OutgoingInvite,
        mut policy: CallPolicy,
    ) -> Result<OutgoingCall, Error> {
        self.steer(&mut call.headers, &mut call.hops);
        if policy.credentials.is_empty() {
            policy.credentials = self.asked.credentials.clone();
        }
        self.endpoint.call(call, policy).await
    }

    /// Sends a request outside a dialog by this registration, the way that a [`call`](Self::call) takes, and waits for its
    /// final answer.
    ///
    /// # Errors
    /// As [`Endpoint::request`].
    pub async fn request(&self, mut request: Request) -> Result<Arc<Response>, Error> {
        let mut hops = Vec::new();
        self.steer(&mut request.headers, &mut hops);
        self.endpoint.request_with(request, hops, self.asked.credentials.clone()).await
    }

    fn steer(&self, headers: &mut Headers, hops: &mut Vec<Hop>) {
        if headers.contains(HeaderName::ROUTE) {
            return;
        }
        let routes = self.asked.routes_by(self.states.borrow().service_route(now()));
        routes.iter().for_each(|route| headers.push_typed(route));
        if hops.is_empty() {
            hops.extend(self.asked.next_hop.clone());
        }
    }

    /// Registers anew now.
    pub fn refresh(&self) {
        self.orders.refresh.notify_one();
    }

    /// Registers anew soon, for the flow to the registrar is gone, as [`KeepAlive::failed`](super::KeepAlive::failed)
    /// tells (RFC 5626 §4.4).
    pub fn flow_failed(&self) {
        self.orders.flow_failed.notify_one();
    }

    /// Removes the bindings and waits until the registrar has answered, or 64*T1 have passed.
    pub async fn unregister(self) {
        let Self { mut states, leave, .. } = self;
        drop(leave);
        while states.changed().await.is_ok() {}
    }
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registered({:?})", *self.states.borrow())
    }
}

/// The registrations of an endpoint.
#[derive(Default)]
pub(crate) struct Registrations {
    leaving: CancellationToken,
    tasks: TaskTracker,
}

impl Registrations {
    /// Removes them all, by `end` at the latest.
    pub(super) async fn leave(&self, end: Instant) {
        self.leaving.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout_at(end, self.tasks.wait()).await;
    }
}

struct Keeper {
    endpoint: Endpoint,
    machine: Registering,
    states: watch::Sender<RegistrationState>,
    orders: Arc<Orders>,
    leave: CancellationToken,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(mut self) {
        while !self.machine.is_over() && !self.stop.is_cancelled() {
            self.tell();
            if self.leave.is_cancelled() {
                self.machine.unregister();
            }
            match self.machine.poll_timeout(now()) {
                Some(at) if at <= now() => self.ask().await,
                Some(at) => self.wait(at).await,
                None => break,
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let state = self.machine.state();
        self.states.send_if_modified(|told| {
            let news = told != state;
            told.clone_from(state);
            news
        });
    }

    async fn wait(&mut self, at: std::time::Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = self.orders.refresh.notified() => self.machine.refresh(),
            () = self.orders.flow_failed.notified() => self.machine.flow_failed(now()),
            () = self.leave.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn ask(&mut self) {
        match self.register().await {
            Some(Ok(response)) => self.machine.handle_response(now(), &response),
            Some(Err(Error::Unproven)) => self.machine.handle_failure(now(), Failure::Unproven),
            Some(Err(Error::Timeout)) => self.machine.handle_failure(now(), Failure::Timeout),
            Some(Err(_)) => self.machine.handle_failure(now(), Failure::Transport),
            None => {}
        }
    }

    async fn register(&mut self) -> Option<Result<Arc<Response>, Error>> {
        let asked = self.machine.registration().clone();
        let headers = asked.route_headers();
        let hops = match asked.next_hop.clone() {
            Some(hop) => Ok(vec![hop]),
            None => self.endpoint.hops(&headers, &asked.registrar).await,
        };
        let user = asked.address.uri.user();
        let own = hops.and_then(|mut hops| {
            let first = hops.first().cloned();
            // The Contact that is registered holds for the transport of the first.
            hops.retain(|hop| first.as_ref().is_some_and(|first| first.transport == hop.transport));
            Ok((hops, self.endpoint.own_contact(first, &headers, &asked.registrar, user)?))
        });
        let (hops, own) = match own {
            Ok(found) => found,
            Err(error) => {
                // The machine has to learn that a REGISTER was due and could not be worded.
                self.machine.poll_request(now(), &asked.registrar)?;
                return Some(Err(error));
            }
        };
        let request: Request = self.machine.poll_request(now(), &own)?;
        Some(self.endpoint.request_with(request, hops, asked.credentials).await)
    }
}
