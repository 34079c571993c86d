//! A folder of recordings: names without phone numbers, and how long files stay.
//!
//! A file of a recording is called `call-ID.wav`, its further parts `call-ID.2.wav` and so on, each with `.sealed` behind
//! it where it is encrypted. [`Folder::sweep`] removes files of these names that are too old, then the oldest until the
//! rest is small enough. It touches nothing else: no other names, no folders, no links, and no file that was written to
//! within the last [`IN_USE`].

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was written to since then may be of a call that goes on; recordings are written to every second.
pub const IN_USE: Duration = Duration::from_secs(600);
/// The shortest id, longer than every phone number (15 digits, ITU-T E.164), and the longest.
const ID_LENGTH: std::ops::RangeInclusive<usize> = 16..=64;

/// How long recordings stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Files that were last written to longer ago are removed. Default `None`: they stay.
    pub max_age: Option<Duration>,
    /// The oldest files are removed until all together have no more octets. Default `None`: there may be any number.
    pub max_octets: Option<u64>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Files that it removed.
    pub removed: usize,
    /// Octets in them.
    pub freed: u64,
    /// Files that stayed.
    pub kept: usize,
    /// Octets in them.
    pub left: u64,
    /// Files that should have gone and could not be removed; they count as kept.
    pub stuck: usize,
}

/// An id that names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the id of a recording has 16 to 64 characters, each of them a-z, 0-9 or '-', and is no phone number"
)]
pub struct BadId;

/// A folder of recordings.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    retention: Retention,
}

impl Folder {
    /// Makes the folder where it is missing; on Unix only its owner may look into it then.
    ///
    /// # Errors
    /// When it cannot be made, or something else has its name.
    pub fn open(path: impl AsRef<Path>, retention: Retention) -> io::Result<Self> {
        let path = path.as_ref();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)?;
        Ok(Self { path: path.to_owned(), retention })
    }

    /// Where the call of this id is recorded: a random id, such as that of a queue's entry.
    ///
    /// # Errors
    /// [`BadId`] where the id cannot be in a name, or might be a phone number.
    pub fn path_of(&self, id: &str) -> Result<PathBuf, BadId> {
        if is_id(id) { Ok(self.path.join(format!("call-{id}.wav"))) } else { Err(BadId) }
    }

    /// Removes what has been there for too long. It reads the whole folder and blocks; once an hour is often enough.
    ///
    /// # Errors
    /// When the folder cannot be read. A file that cannot be removed is counted instead.
    pub fn sweep(&self, now: SystemTime) -> io::Result<Swept> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            files.extend(own(&entry?, now));
        }
        files.sort_by_key(|file| std::cmp::Reverse(file.age));
        let mut swept =
            Swept { kept: files.len(), left: files.iter().map(|f| f.octets).sum(), ..Swept::default() };
        for file in files.iter().filter(|file| file.age >= IN_USE) {
            if self.is_over(file, swept.left) {
                remove(file, &mut swept);
            }
        }
        Ok(swept)
    }

    fn is_over(&self, file: &Own, left: u64) -> bool {
        let Retention { max_age, max_octets } = self.retention;
        max_age.is_some_and(|most| file.age > most) || max_octets.is_some_and(|most| left > most)
    }
}

/// A file of a recording.
struct Own {
    path: PathBuf,
    age: Duration,
    octets: u64,
}

fn own(entry: &DirEntry, now: SystemTime) -> Option<Own> {
    let name = entry.file_name();
    if !is_own_name(name.to_str()?) {
        return None;
    }
    // Of the entry itself: a link leads elsewhere.
    let metadata: Metadata = entry.metadata().ok().filter(Metadata::is_file)?;
    let age = now.duration_since(metadata.modified().ok()?).unwrap_or_default();
    Some(Own { path: entry.path(), age, octets: metadata.len() })
}

fn remove(file: &Own, swept: &mut Swept) {
    match fs::remove_file(&file.path) {
        Ok(()) => {
            swept.removed += 1;
            swept.freed += file.octets;
            swept.kept -= 1;
            swept.left -= file.octets;
        }
        Err(error) => {
            tracing::warn!(%error, file = %file.path.display(), "an old recording cannot be removed");
            swept.stuck += 1;
        }
    }
}

fn is_own_name(name: &str) -> bool {
    let name = name.strip_suffix(".sealed").unwrap_or(name);
    let Some(name) = name.strip_prefix("call-").and_then(|name| name.strip_suffix(".wav")) else {
        return false;
    };
    let (id, part) = name.split_once('.').unwrap_or((name, "2"));
    is_id(id) && part.parse::<u32>().is_ok_and(|number| number > 1 && number.to_string() == part)
}

fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // A name of digits alone may be a number with something around it, however long it is.
    let is_number = id.chars().filter(char::is_ascii_lowercase).count() == 0 && id.len() < 32;
    ID_LENGTH.contains(&id.len()) && id.chars().all(allowed) && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("iqra-folder-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, octets: usize, age: Duration) {
            let path = self.0.join(name);
            fs::write(&path, vec![0; octets]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let name = |entry: io::Result<DirEntry>| entry.unwrap().file_name().into_string().unwrap();
            let mut names: Vec<_> = fs::read_dir(&self.0).unwrap().map(name).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id(c: char) -> String {
        std::iter::repeat_n(c, 32).collect()
    }

    #[test]
    fn names_have_no_phone_numbers() {
        let scratch = Scratch::new("names");
        let folder = Folder::open(&scratch.0, Retention::default()).unwrap();
        let good = "0193a8e5d2c14f6b8a7e9d0c1b2a3f4e";
        assert_eq!(folder.path_of(good).unwrap(), scratch.0.join(format!("call-{good}.wav")));
        for bad in [
            "15550100",
            "+155501000000000",
            "155501000000001555",
            "a/../../../etc/passwd",
            "A234567890123456",
        ] {
            assert_eq!(folder.path_of(bad), Err(BadId), "{bad}");
        }
        assert_eq!(folder.path_of(&"a".repeat(65)), Err(BadId));
    }

    #[test]
    fn old_files_go_and_others_are_let_be() {
        let scratch = Scratch::new("old");
        let retention = Retention { max_age: Some(HOUR), max_octets: None };
        let folder = Folder::open(&scratch.0, retention).unwrap();
        for name in ["call-*.wav", "call-*.2.wav", "call-*.17.wav.sealed"] {
            scratch.file(&name.replace('*', &id('a')), 10, 2 * HOUR);
            scratch.file(&name.replace('*', &id('b')), 10, HOUR / 2);
        }
        let others =
            ["notes.txt", "call-short.wav", "call-*.1.wav", "call-*.02.wav", "call-*.wav.bak", "xcall-*.wav"];
        others.iter().for_each(|name| scratch.file(&name.replace('*', &id('a')), 10, 2 * HOUR));
        fs::create_dir(scratch.0.join(format!("call-{}.wav", id('c')))).unwrap();
        let before = scratch.names().len();
        let swept = folder.sweep(SystemTime::now()).unwrap();
        assert_eq!((swept.removed, swept.freed, swept.kept, swept.stuck), (3, 30, 3, 0));
        assert_eq!(scratch.names().len(), before - 3);
        assert!(!scratch.names().iter().any(|name| name == &format!("call-{}.2.wav", id('a'))));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_no_file_of_ours() {
        let (scratch, elsewhere) = (Scratch::new("link"), Scratch::new("linked"));
        elsewhere.file("dear", 10, 2 * HOUR);
        let link = scratch.0.join(format!("call-{}.wav", id('a')));
        std::os::unix::fs::symlink(elsewhere.0.join("dear"), &link).unwrap();
        let retention = Retention { max_age: Some(Duration::ZERO), max_octets: Some(0) };
        let swept = Folder::open(&scratch.0, retention).unwrap().sweep(SystemTime::now() + 3 * HOUR).unwrap();
        assert_eq!(swept, Swept::default());
        assert!(link.exists());
    }

    #[test]
    fn the_oldest_go_until_the_rest_is_small_enough() {
        let scratch = Scratch::new("size");
        for (n, c) in ['a', 'b', 'c', 'd'].into_iter().enumerate() {
            scratch.file(&format!("call-{}.wav", id(c)), 100, HOUR * (n as u32 + 1));
        }
        let retention = Retention { max_age: None, max_octets: Some(250) };
        let folder = Folder::open(&scratch.0, retention).unwrap();
        let swept = folder.sweep(SystemTime::now()).unwrap();
        assert_eq!((swept.removed, swept.left), (2, 200));
        assert_eq!(scratch.names(), ['a', 'b'].map(|c| format!("call-{}.wav", id(c))));
    }

    #[test]
    fn a_file_in_use_stays_whatever_its_size() {
        let scratch = Scratch::new("use");
        scratch.file(&format!("call-{}.wav", id('a')), 100, IN_USE / 2);
        let retention = Retention { max_age: Some(Duration::ZERO), max_octets: Some(0) };
        let swept = Folder::open(&scratch.0, retention).unwrap().sweep(SystemTime::now()).unwrap();
        assert_eq!((swept.removed, swept.kept), (0, 1));
    }
}
