//! Calls that the backend records.

use std::fs;
use std::path::{Path, PathBuf};

use iqra_media::conversation::Event;
use iqra_media::detect::goertzel::purity;
use iqra_media::pcm::wav::{self, Wav};
use iqra_media::session::recording::Start;
use iqra_media::session::recording::folder::{Folder, Retention};
use iqra_routing::backend::{BackendSettings, Recordings};

use crate::phone::{Phone, Voice};
use crate::world::{AGENT_HZ, CALLER_HZ, Note, Setup, World};

/// A folder of the test's own, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("iqra-{name}-{}", std::process::id()));
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn recording(folder: &Path, start: Start) -> Setup {
    let setup = Setup::default();
    let recordings = Recordings {
        folder: Folder::open(folder, Retention::default()).unwrap(),
        start,
        #[cfg(feature = "encryption")]
        key: None,
    };
    Setup { serving: BackendSettings { recordings: Some(recordings), ..setup.serving }, ..setup }
}

/// A call in which both sides hear each other.
async fn call(world: &mut World) {
    let (mut phone, driver) = (Phone::new().await, Voice::driver());
    let mut voice = Voice::new(&driver);
    phone.body.0 = voice.offer();
    let ok = phone.connected(world.proxies[0]).await;
    voice.hears_the_agent(&ok.body).await;
    world.noted(Note::HeardTone).await;
    phone.bye().await;
    while !matches!(world.note().await, Note::Event(Event::End(_))) {}
    world.empty().await;
}

/// Whether as much of this channel as a packet holds is this note alone.
fn hums(wav: &Wav, channel: usize, hz: f64) -> bool {
    let side: Vec<i16> = wav.samples.chunks_exact(2).map(|pair| pair[channel]).collect();
    side.windows(160).step_by(20).any(|part| purity(part, wav.sample_rate, hz) > 0.8)
}

#[tokio::test]
async fn a_recorded_call_is_a_file_with_its_id_the_caller_left_and_the_conversation_right() {
    let place = Place::new("recorded");
    let mut world = World::with(recording(&place.0, Start::AtOnce)).await;
    call(&mut world).await;
    let path = place.0.join(format!("call-{}.wav", world.entry().await.id));
    world
        .until("the recording is whole", async || wav::read(&path).is_ok_and(|wav| hums(&wav, 0, CALLER_HZ)))
        .await;
    let wav = wav::read(&path).unwrap();
    assert_eq!((wav.channels, wav.sample_rate), (2, 8_000));
    assert!(hums(&wav, 1, AGENT_HZ) && !hums(&wav, 0, AGENT_HZ) && !hums(&wav, 1, CALLER_HZ));
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 1);
    world.close().await;
}

#[tokio::test]
async fn a_conversation_that_never_allows_it_is_not_recorded() {
    let place = Place::new("unrecorded");
    let mut world = World::with(recording(&place.0, Start::Allowed)).await;
    call(&mut world).await;
    world.close().await;
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);
}
