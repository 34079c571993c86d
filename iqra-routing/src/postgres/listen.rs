//! Listening for what others change: one connection of its own that the server sends notifications on.
//!
//! While it is lost nobody knows what changed, so both the loss and the return are told as [`Change::All`]. A server that
//! is gone without a word is noticed by a question every few seconds.

use std::future::poll_fn;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;

use super::{Database, Fault, Shared, locked, told};
use crate::number::Change;

/// How long it rests before it connects again.
const REST: Duration = Duration::from_secs(1);
/// How often the server is asked whether it is there.
const ASK: Duration = Duration::from_secs(5);

impl Database {
    /// Tells every change of accounts, businesses, trunks and numbers, for as long as this is polled. The first thing that
    /// it tells is [`Change::All`], when it begins to listen.
    pub async fn follow(&self, mut tell: impl FnMut(Change) + Send) {
        loop {
            if let Err(fault) = self.0.listen(&mut tell).await {
                let error = fault.of("numbers");
                tracing::warn!(%error, "changes of numbers are not heard of; copies age until they are again");
            }
            tell(Change::All);
            sleep(REST).await;
        }
    }
}

impl Shared {
    /// Listens until the connection is lost.
    async fn listen(&self, tell: &mut (impl FnMut(Change) + Send)) -> Result<(), Fault> {
        let limit = self.settings.connect;
        let (client, mut connection) = self.dial().await?;
        let tell = Mutex::new(tell); // both sides tell; neither waits while it does
        let reading = async {
            loop {
                match poll_fn(|context| connection.poll_message(context)).await {
                    Some(Ok(AsyncMessage::Notification(change))) => {
                        locked(&tell)(Change::parse(change.payload()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(error = told(&error), "the connection that listened ended");
                        return;
                    }
                    None => return,
                }
            }
        };
        let asking = async {
            timeout(limit, client.batch_execute("LISTEN iqra_numbers"))
                .await
                .map_err(|_| Fault::Late(limit))??;
            locked(&tell)(Change::All);
            loop {
                sleep(ASK).await;
                timeout(limit, client.batch_execute("")).await.map_err(|_| Fault::Late(limit))??;
            }
        };
        tokio::select! {
            () = reading => Ok(()),
            asked = asking => asked,
        }
    }
}
