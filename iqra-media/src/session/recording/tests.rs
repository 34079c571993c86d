//! Recordings against disks that are slow, full or forbidden, on a virtual clock.

use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::writer::MakeFile;
use super::*;
use crate::conversation::RecordingWish;
use crate::pcm::wav;

const RATE: u32 = 8_000;
const PACKET: usize = 160;

/// What may happen to a disk.
#[derive(Default)]
struct Platter {
    file: Mutex<Cursor<Vec<u8>>>,
    /// Whoever holds this makes the disk wait.
    brake: Mutex<()>,
    /// Octets that fit; 0 for no limit.
    room: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Default)]
struct Fake(Arc<Platter>);

impl Write for Fake {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let _waits = lock(&self.0.brake);
        let mut file = lock(&self.0.file);
        if self.0.room > 0 && file.position() + octets.len() as u64 > self.0.room {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Fake {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        lock(&self.0.file).seek(to)
    }
}

/// A recording onto a fake disk.
fn on(disk: &Fake) -> (Recording, Tap) {
    let disk = disk.clone();
    let make: MakeFile = Box::new(move |_| Ok(Box::new(disk.clone())));
    let files = Files::made_by(&Settings::new("fake.wav"), RATE, make);
    Recording::with(files, Start::AtOnce, RATE).unwrap()
}

fn both_sides(octets: &[u8]) -> (Vec<i16>, Vec<i16>) {
    let mut reader = hound::WavReader::new(octets).unwrap();
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    samples.chunks_exact(2).map(|frame| (frame[0], frame[1])).unzip()
}

/// A sound that says at which sample it is, and is never silent.
fn sample(at: usize) -> i16 {
    (at % 30_000) as i16 + 1
}

/// A call that is recorded, on a clock of its own.
struct Call {
    tap: Tap,
    start: Instant,
    now: Instant,
    wish: RecordingWish,
    hidden: bool,
    shared: Arc<Shared>,
    /// Whether the clock waits for the writer, which has none of its own.
    waits: bool,
}

impl Call {
    fn new(recording: &Recording, tap: Tap) -> Self {
        let (now, shared) = (Instant::now(), recording.shared.clone());
        Self { tap, start: now, now, wish: RecordingWish::default(), hidden: false, shared, waits: true }
    }

    fn wait(&self) {
        let asked = Instant::now();
        while self.waits && behind(&self.shared) > u64::from(RATE) {
            assert!(asked.elapsed() < Duration::from_secs(60), "the writer does not follow");
            std::thread::yield_now();
        }
    }

    fn at(&self) -> usize {
        ((self.now - self.start).as_millis() * 8) as usize
    }

    /// Packets of 20 ms in both directions.
    fn talk(&mut self, packets: usize) {
        self.talk_with(packets, true, true);
    }

    fn talk_with(&mut self, packets: usize, heard: bool, spoken: bool) {
        for _ in 0..packets {
            let frame: Vec<i16> = (self.at()..self.at() + PACKET).map(sample).collect();
            self.wait();
            self.tap.tick(self.now, self.wish);
            if heard {
                self.tap.heard(self.now, &frame, self.hidden);
            }
            if spoken {
                self.tap.spoken(self.now, &frame);
            }
            self.now += Duration::from_millis(20);
        }
    }

    fn end(self) {
        drop(self.tap);
    }
}

/// Samples that wait for the writer.
fn behind(shared: &Shared) -> u64 {
    let written = shared.written.load(Ordering::Acquire);
    shared.taken.load(Ordering::Acquire).saturating_sub(written)
}

#[test]
fn each_sample_stands_at_its_time_and_a_silent_side_is_silent() {
    let disk = Fake::default();
    let (recording, tap) = on(&disk);
    let mut call = Call::new(&recording, tap);
    call.talk_with(50, true, false);
    call.talk_with(500, false, true);
    call.talk_with(50, true, true);
    call.end();
    let recorded = recording.finish().unwrap();
    assert_eq!((recorded.length, recorded.lost_samples), (Duration::from_secs(12), 0));
    let (left, right) = both_sides(lock(&disk.0.file).get_ref());
    for (side, from, to) in [(&left, 8_000, 88_000), (&right, 0, 8_000)] {
        assert_eq!(side.len(), 96_000);
        for (at, &found) in side.iter().enumerate() {
            let expected = if (from..to).contains(&at) { 0 } else { sample(at) };
            assert_eq!(found, expected, "at {at}");
        }
    }
}

/// The heard side leaps about within its slack, then stays away and comes in a burst.
#[test]
fn what_is_heard_off_its_beat_stays_within_the_slack() {
    let disk = Fake::default();
    let (recording, mut tap) = on(&disk);
    let start = Instant::now();
    let mut heard_at = Vec::new();
    for n in 0..400_u64 {
        let late = if (200..210).contains(&n) { (210 - n) * 20 } else { 0 };
        let off_beat = if late > 0 { 0 } else { [0, 5, 15, 10][n as usize % 4] };
        let now = start + Duration::from_millis(n * 20 + off_beat + late);
        while behind(&recording.shared) > u64::from(RATE) {
            std::thread::yield_now();
        }
        tap.tick(now, RecordingWish::default());
        tap.heard(now, &[n as i16 + 1; PACKET], false);
        heard_at.push((now - start).as_millis() as i64 * 8);
    }
    drop(tap);
    let recorded = recording.finish().unwrap();
    let (left, _) = both_sides(lock(&disk.0.file).get_ref());
    let kept = left.iter().filter(|sample| **sample != 0).count() as u64;
    assert_eq!(recorded.lost_samples, (400 * PACKET) as u64 - kept);
    assert!(recorded.lost_samples > PACKET as u64, "of the burst something is left out, and counted");
    for (n, &at) in heard_at.iter().enumerate() {
        let found = left.iter().position(|&sample| sample == n as i16 + 1);
        // Of a burst, what would be off by more is left out.
        let Some(found) = found else {
            assert!((200..215).contains(&n), "packet {n} is missing");
            continue;
        };
        assert!((found as i64 - at).abs() <= 60 * 8 + PACKET as i64, "packet {n} at {found}, not {at}");
    }
}

#[test]
fn a_slow_disk_costs_silence_of_the_same_length_and_says_how_much() {
    let disk = Fake::default();
    let (recording, tap) = on(&disk);
    let mut call = Call::new(&recording, tap);
    {
        let _brake = lock(&disk.0.brake);
        call.waits = false;
        call.talk(600);
        assert!(recording.lost() > 0, "twelve seconds are more than the ring holds");
        assert!(recording.waiting() > Duration::from_secs(10));
    }
    call.waits = true;
    call.talk(100);
    call.end();
    let recorded = recording.finish().unwrap();
    let (left, right) = both_sides(lock(&disk.0.file).get_ref());
    let mut silent = 0;
    for side in [&left, &right] {
        assert_eq!(side.len(), 700 * PACKET);
        for (at, &found) in side.iter().enumerate() {
            silent += u64::from(found == 0);
            assert!(found == 0 || found == sample(at), "{found} at {at}");
        }
        assert!(side[690 * PACKET..].iter().all(|&sample| sample != 0), "it goes on");
    }
    assert_eq!(silent, recorded.lost_samples);
    assert!((2 * 5 * 8_000..2 * 9 * 8_000).contains(&silent), "{silent} of 224000 were lost");
}

#[test]
fn a_full_disk_ends_the_file_and_is_told() {
    let disk = Fake(Arc::new(Platter { room: 100_000, ..Platter::default() }));
    let (recording, tap) = on(&disk);
    let mut call = Call::new(&recording, tap);
    // The writer keeps up, or wastes what comes.
    call.talk(1_000);
    while recording.state() != State::Failed {
        std::thread::yield_now();
    }
    call.end();
    let shared = recording.shared.clone();
    let error = recording.finish().unwrap_err().to_string();
    assert!(error.starts_with("fake.wav: "), "{error}");
    let (left, _) = both_sides(lock(&disk.0.file).get_ref());
    assert!(left.iter().enumerate().all(|(at, &found)| found == sample(at)), "what there is is right");
    let lost = shared.lost.load(Ordering::Relaxed) as usize;
    assert!(left.len() <= 25_000, "{}", left.len());
    assert_eq!(2 * left.len() + lost, 2 * 20 * 8_000, "what is not in the file is counted");
}

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("iqra-recording-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_that_cannot_be_made_is_an_error_at_once() {
    let scratch = Scratch::new("forbidden");
    let missing = scratch.0.join("no-such-folder/a.wav");
    let error = Recording::create(Settings::new(&missing), RATE).map(drop).unwrap_err();
    assert!(error.to_string().contains("no-such-folder"), "{error}");
    let error = Recording::create(Settings::new(scratch.0.join("a.wav")), 11_025).map(drop).unwrap_err();
    assert!(error.to_string().contains("11025"), "{error}");
    assert!(std::fs::read_dir(&scratch.0).unwrap().next().is_none(), "nothing is left behind");
}

#[test]
fn long_recordings_go_on_in_another_file_and_none_is_overwritten() {
    let scratch = Scratch::new("parts");
    std::fs::write(scratch.0.join("call.2.wav"), "dear").unwrap();
    let settings = Settings { part_limit: 60_000, ..Settings::new(scratch.0.join("call.wav")) };
    let (recording, tap) = Recording::create(settings, RATE).unwrap();
    let mut call = Call::new(&recording, tap);
    call.talk(250);
    call.end();
    let recorded = recording.finish().unwrap();
    let names = ["call.wav", "call.3.wav", "call.4.wav"].map(|name| scratch.0.join(name));
    assert_eq!(recorded.files, names);
    let parts: Vec<_> = names.iter().map(|name| wav::read(name).unwrap().samples).collect();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [30_000, 30_000, 20_000]);
    let all = parts.concat();
    assert!(all.chunks_exact(2).enumerate().all(|(at, frame)| frame == [sample(at); 2]));
    assert_eq!(std::fs::read(scratch.0.join("call.2.wav")).unwrap(), b"dear");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("mode");
    let (recording, tap) = Recording::create(Settings::new(scratch.0.join("a.wav")), RATE).unwrap();
    Call::new(&recording, tap).talk(1);
    let files = recording.finish().unwrap().files;
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_pause_is_silent_and_keeps_the_time() {
    let disk = Fake::default();
    let (recording, tap) = on(&disk);
    let mut call = Call::new(&recording, tap);
    call.talk(50);
    call.wish.paused = true;
    call.talk(50);
    call.wish.paused = false;
    call.talk(50);
    call.end();
    recording.finish().unwrap();
    let (left, right) = both_sides(lock(&disk.0.file).get_ref());
    for side in [left, right] {
        assert_eq!(side.len(), 24_000);
        for (at, found) in side.into_iter().enumerate() {
            let expected = if (8_000..16_000).contains(&at) { 0 } else { sample(at) };
            assert_eq!(found, expected, "at {at}");
        }
    }
}

#[test]
fn a_recording_that_is_never_allowed_leaves_no_file() {
    let scratch = Scratch::new("never");
    let settings = Settings { start: Start::Allowed, ..Settings::new(scratch.0.join("a.wav")) };
    let (recording, tap) = Recording::create(settings, RATE).unwrap();
    let mut call = Call::new(&recording, tap);
    call.talk(50);
    assert_eq!(recording.state(), State::Waiting);
    call.end();
    assert_eq!(recording.finish().unwrap().files, [] as [PathBuf; 0]);
    assert!(std::fs::read_dir(&scratch.0).unwrap().next().is_none());
}

#[test]
fn a_recording_begins_when_it_is_allowed() {
    let disk = Fake::default();
    let fake = disk.clone();
    let make: MakeFile = Box::new(move |_| Ok(Box::new(fake.clone())));
    let files = Files::made_by(&Settings::new("fake.wav"), RATE, make);
    let (recording, tap) = Recording::with(files, Start::Allowed, RATE).unwrap();
    let mut call = Call::new(&recording, tap);
    call.talk(50);
    call.wish.allowed = true;
    call.talk(50);
    assert_eq!(recording.state(), State::Recording);
    call.end();
    recording.finish().unwrap();
    let (left, right) = both_sides(lock(&disk.0.file).get_ref());
    let expected: Vec<i16> = (8_000..16_000).map(sample).collect();
    assert_eq!((left, right), (expected.clone(), expected), "nothing of before");
}

#[test]
fn a_secret_is_silent_from_a_tenth_of_a_second_before_it_was_noticed() {
    let disk = Fake::default();
    let (recording, tap) = on(&disk);
    let mut call = Call::new(&recording, tap);
    call.talk(50);
    call.hidden = true;
    call.talk(25);
    call.hidden = false;
    call.talk(25);
    call.end();
    recording.finish().unwrap();
    let (left, right) = both_sides(lock(&disk.0.file).get_ref());
    for at in 0..16_000 {
        let expected = if (7_200..12_000).contains(&at) { 0 } else { sample(at) };
        assert_eq!((left[at], right[at]), (expected, sample(at)), "at {at}");
    }
}

#[cfg(feature = "encryption")]
#[test]
fn a_sealed_recording_opens_to_the_same_audio() {
    use super::sealed::unseal;
    let scratch = Scratch::new("sealed");
    let key = Key::new("k1", [9; 32]).unwrap();
    let settings = Settings { key: Some(key.clone()), ..Settings::new(scratch.0.join("call.wav")) };
    let (recording, tap) = Recording::create(settings, RATE).unwrap();
    let mut call = Call::new(&recording, tap);
    call.talk(150);
    call.end();
    let files = recording.finish().unwrap().files;
    assert_eq!(files, [scratch.0.join("call.wav.sealed")]);
    let open = scratch.0.join("open.wav");
    let unsealed = unseal(&files[0], &[key], &open).unwrap();
    assert_eq!((unsealed.samples, unsealed.is_complete), (24_000, true));
    let samples = wav::read(open).unwrap().samples;
    assert!(samples.chunks_exact(2).enumerate().all(|(at, frame)| frame == [sample(at); 2]));
}
