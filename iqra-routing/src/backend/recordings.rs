//! Where a backend records its calls: a file for each call, named by its queue entry, and a sweep of what is too old.
//!
//! In: the section `[recording]` of the configuration. Out: settings for each call's recording. A call whose recording
//! cannot be made goes on without one.

use std::time::{Duration, SystemTime};

use iqra_media::session::recording::folder::{Folder, Retention};
#[cfg(feature = "encryption")]
use iqra_media::session::recording::sealed::Key;
use iqra_media::session::recording::{Settings, Start};
use tokio::time::MissedTickBehavior;

use crate::config::RecordingConfig;
use crate::identity::EntryId;
use crate::start::StartError;

/// How often old recordings are looked for.
const SWEEP: Duration = Duration::from_secs(3_600);

/// How calls are recorded: `call-ID.wav` with the queue entry's id, stereo: left the caller, right the conversation.
#[derive(Debug, Clone)]
pub struct Recordings {
    /// Where, and for how long.
    pub folder: Folder,
    /// Whether each conversation has to allow it first.
    pub start: Start,
    /// The key that files are sealed with.
    #[cfg(feature = "encryption")]
    pub key: Option<Key>,
}

impl Recordings {
    /// Makes the folder where it is missing.
    pub(super) fn open(config: &RecordingConfig) -> Result<Self, StartError> {
        let retention = Retention { max_age: config.max_age, max_octets: config.max_octets };
        let refused = |error| StartError::Recording(format!("{}: {error}", config.folder.display()));
        Ok(Self {
            folder: Folder::open(&config.folder, retention).map_err(refused)?,
            start: if config.consent { Start::Allowed } else { Start::AtOnce },
            #[cfg(feature = "encryption")]
            key: key(config)?,
        })
    }

    /// How the call of an entry is recorded.
    pub(super) fn of(&self, entry: EntryId) -> Option<Settings> {
        let path = self.folder.path_of(&entry.to_string());
        let path = path.map_err(|error| tracing::warn!(%entry, %error, "the call is not recorded")).ok()?;
        Some(Settings {
            start: self.start,
            #[cfg(feature = "encryption")]
            key: self.key.clone(),
            ..Settings::new(path)
        })
    }

    /// Removes what is too old, now and every hour, for as long as it is polled.
    pub(super) async fn keep_sweeping(self) {
        let mut sweeps = tokio::time::interval(SWEEP);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            sweeps.tick().await;
            let folder = self.folder.clone();
            match tokio::task::spawn_blocking(move || folder.sweep(SystemTime::now())).await {
                Ok(Ok(swept)) if swept.removed > 0 => {
                    tracing::info!(
                        files = swept.removed,
                        octets = swept.freed,
                        "old recordings were removed"
                    );
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the folder of recordings cannot be read"),
            }
        }
    }
}

/// The key that the configuration names, from its environment variable: 64 hexadecimal digits.
#[cfg(feature = "encryption")]
fn key(config: &RecordingConfig) -> Result<Option<Key>, StartError> {
    let Some((id, env)) = &config.key else { return Ok(None) };
    let wrong = |what: &str| StartError::Recording(format!("recording.key: {what}"));
    let hex = std::env::var(env).map_err(|_| wrong(&format!("set {env} to 64 hexadecimal digits")))?;
    let octets = data_encoding::HEXLOWER_PERMISSIVE.decode(hex.trim().as_bytes());
    let secret: Option<[u8; 32]> = octets.ok().and_then(|octets| octets.try_into().ok());
    let secret = secret.ok_or_else(|| wrong(&format!("{env} is not 64 hexadecimal digits")))?;
    Key::new(id, secret).map(Some).map_err(|error| wrong(&error.to_string()))
}
