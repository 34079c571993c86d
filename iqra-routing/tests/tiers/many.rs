//! Many calls at once.

use iqra_routing::handover::outcome::{EndedBy, Outcome};

use crate::phone::Phone;
use crate::world::{Acts, Setup, World};

const CALLS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_once_end_with_nothing_left() {
    let world = World::with(Setup { acts: Acts::Completes, ..Setup::default() }).await;
    let proxies = world.proxies;
    let calls: Vec<_> = (0..CALLS)
        .map(|n| {
            tokio::spawn(async move {
                let mut phone = Phone::new().await;
                phone.connected(proxies[n % 2]).await;
                phone.hung_up().await;
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    world.empty().await;
    let entries = world.entries().await;
    let done = Some(Outcome::Completed(EndedBy::Conversation));
    assert_eq!(entries.len(), CALLS);
    assert!(entries.iter().all(|entry| entry.outcome == done));
    world.close().await;
}
