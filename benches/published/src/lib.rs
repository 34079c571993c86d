//! Candidates measured in turn, so that whatever else the machine does meets them all alike.
//!
//! A [`Race`] runs each candidate for one batch, then each again, the next one first, for as many rounds as asked, and
//! prints a line for each: its fastest batch, its median, and the median over the rounds of its time as a ratio to the
//! first candidate's in the same round. The ratio is the figure to read: a slow moment of the machine slows both sides
//! of it. Without cargo's `--bench`, as `cargo test --benches` runs it, each candidate runs once: it must work.

#![allow(clippy::print_stdout)] // What a bench prints is what it is for.

#[cfg(feature = "native")]
pub mod native;

use std::hint::black_box;
use std::time::{Duration, Instant};

/// A comparison of candidates that do the same work.
pub struct Race<'a> {
    title: &'static str,
    rounds: usize,
    batch: u32,
    candidates: Vec<Candidate<'a>>,
}

/// Does the work as often as it is told.
type Work<'a> = Box<dyn FnMut(u32) + 'a>;

struct Candidate<'a> {
    name: &'static str,
    run: Work<'a>,
    times: Vec<Duration>,
}

impl<'a> Race<'a> {
    /// `batch` calls of each candidate in each of `rounds` rounds, of which the first is not counted.
    pub fn new(title: &'static str, rounds: usize, batch: u32) -> Self {
        assert!(rounds > 0 && batch > 0, "a race has a round and a call");
        let measured = std::env::args().any(|argument| argument == "--bench");
        let (rounds, batch) = if measured { (rounds, batch) } else { (1, 1) };
        Self { title, rounds, batch, candidates: Vec::new() }
    }

    /// Adds one; the first is what the others are compared with.
    pub fn add<T>(&mut self, name: &'static str, mut work: impl FnMut() -> T + 'a) -> &mut Self {
        let run = move |calls| (0..calls).for_each(|_| drop(black_box(work())));
        self.candidates.push(Candidate { name, run: Box::new(run), times: Vec::with_capacity(self.rounds) });
        self
    }

    /// Runs and prints; does nothing where the arguments name other races.
    pub fn run(&mut self) {
        let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
        if wanted.peek().is_some() && !wanted.any(|name| self.title.contains(&name)) {
            return;
        }
        for round in 0..=self.rounds {
            self.round(round);
        }
        self.print();
    }

    fn round(&mut self, round: usize) {
        let count = self.candidates.len();
        for turn in 0..count {
            let candidate = &mut self.candidates[(round + turn) % count];
            let start = Instant::now();
            (candidate.run)(self.batch);
            if round > 0 {
                candidate.times.push(start.elapsed());
            }
        }
    }

    fn print(&self) {
        println!("{}\n  {:<24} {:>12} {:>12} {:>8}", self.title, "", "fastest", "median", "ratio");
        let base = &self.candidates[0].times;
        for Candidate { name, times, .. } in &self.candidates {
            let ratios = times.iter().zip(base).map(|(time, base)| time.div_duration_f64(*base)).collect();
            let nanoseconds: Vec<_> =
                times.iter().map(|time| time.as_secs_f64() * 1e9 / f64::from(self.batch)).collect();
            let fastest = nanoseconds.iter().copied().fold(f64::INFINITY, f64::min);
            println!(
                "  {name:<24} {fastest:>9.0} ns {:>9.0} ns {:>8.2}",
                median(nanoseconds),
                median(ratios)
            );
        }
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
