//! What stretches of tones mean: the rhythms of the table in [`progress`](super).

use std::time::Duration;

use super::super::samples_in;
use super::sorter::{Pair, Sort};
use super::spells::{Spell, Tone};
use super::{Progress, Special};

/// Families of tones that share a rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Dial,
    Ring,
    BritishRing,
    Busy,
    /// The single tones of 390 to 460 Hz, which mean all of it.
    World,
    /// Any other single tone.
    Single,
}

/// What was heard besides tones, for the beep: it follows speech and is followed by silence.
#[derive(Clone, Copy, Debug, Default)]
struct Talk {
    /// How long something else than silence or a tone goes on.
    run: u64,
    /// How much there was since the last beep, of runs longer than the edge of a tone makes.
    samples: u64,
    /// Where the last of it was, and how loud, as a mean square that fades.
    last: Option<u64>,
    power: f32,
    /// Powers of the latest windows of the run, which may have the edge of a tone in them.
    latest: [f32; 8],
}

/// Speech that a beep needs before it, in whatever pieces, and what of each piece may be the edge of a tone.
const TALK: Duration = Duration::from_millis(200);
const EDGE: Duration = Duration::from_millis(80);
/// A beep is a beep once it has been quiet this long, and this much softer, as a share of its power.
const QUIET: Duration = Duration::from_millis(150);
const SOFTER: f32 = 0.03;
/// Share of the power that a beep holds: more than the stronger of two tones of a key.
const BEEP_SHARE: f64 = 0.93;
/// Who has been speaking this short a while ago sends no first CNG; a second one counts.
const SPOKEN: Duration = Duration::from_millis(1_000);
/// What is softer than this share of the tone is no speech but noise; and how its power fades from window to window.
const SPOKEN_POWER: f32 = 0.1;
const FADES: f32 = 0.97;

#[derive(Clone, Debug)]
pub(super) struct Rules {
    rate: u32,
    talk: Talk,
    /// The tone before, its family, and how many of its rhythm there were: of busy, of congestion.
    last: Option<(Spell, Family)>,
    row: (u32, Option<Rhythm>, u64),
    /// Whether the tone that goes on was told.
    told: bool,
    /// The first two tones of special information.
    special: [Option<Spell>; 2],
    /// A tone that may be a beep.
    beep: Option<Spell>,
    /// A CNG that came too soon after speech.
    calling: Option<u64>,
    /// Where the window before ended, to count talk by.
    before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rhythm {
    Busy,
    Congestion,
}

impl Rules {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate,
            talk: Talk::default(),
            last: None,
            row: (0, None, 0),
            told: false,
            special: [None; 2],
            beep: None,
            calling: None,
            before: 0,
        }
    }

    /// Takes in a window: the spell that it ended, the one that goes on, what it holds, its power and its end.
    pub(super) fn hear(
        &mut self,
        ended: Option<Spell>,
        current: Option<&Spell>,
        sort: Sort,
        power: f32,
        end: u64,
        tell: &mut impl FnMut(Progress),
    ) {
        self.await_quiet(sort, power, end).into_iter().for_each(&mut *tell);
        if let Some(spell) = ended {
            self.ended(&spell).into_iter().flatten().for_each(&mut *tell);
            self.told = false;
        }
        if let Some(spell) = current.filter(|_| !self.told)
            && let Some(event) = self.goes_on(spell)
        {
            self.told = true;
            tell(event);
        }
        self.note_talk(sort, power, end);
    }

    fn note_talk(&mut self, sort: Sort, power: f32, end: u64) {
        let (step, talk) = (end - self.before, &mut self.talk);
        self.before = end;
        talk.run = if sort == Sort::Other { talk.run.saturating_add(step) } else { 0 };
        if talk.run > samples_in(EDGE, self.rate) {
            talk.samples = talk.samples.saturating_add(step);
            talk.last = Some(end);
            talk.power = talk.latest[0].max(talk.power * FADES);
        }
        talk.latest.rotate_left(1);
        talk.latest[7] = power;
        if talk.run == 0 {
            talk.latest = [0.0; 8];
        }
    }

    /// What a tone means while it goes on.
    fn goes_on(&self, spell: &Spell) -> Option<Progress> {
        let start = spell.start;
        match family(spell) {
            Family::Dial if self.lasts(spell, 1_000..=u64::MAX) => Some(Progress::Dial { start }),
            Family::World if self.lasts(spell, 3_000..=u64::MAX) => Some(Progress::Dial { start }),
            Family::Single if is_at(spell, 2100.0, 25.0) && self.lasts(spell, 800..=u64::MAX) => {
                Some(Progress::FaxAnswering { start })
            }
            _ => None,
        }
    }

    /// What a tone means that is over: up to two things, as a CNG may be a beep.
    fn ended(&mut self, spell: &Spell) -> [Option<Progress>; 2] {
        let family = family(spell);
        let start = spell.start;
        let ringing = match family {
            Family::Ring => self.lasts(spell, 800..=2_400),
            Family::BritishRing => self.lasts(spell, 300..=500),
            Family::World => self.lasts(spell, 800..=1_700),
            _ => false,
        };
        let first = match family {
            Family::Busy | Family::World if !ringing => self.in_a_row(spell, family),
            Family::Single => self.special(spell),
            _ => ringing.then_some(Progress::Ringing { start }),
        };
        let second = if family == Family::Single { self.calling(spell) } else { None };
        self.beep = self.may_beep(spell, family).then_some(*spell);
        self.last = Some((*spell, family));
        [first, second]
    }

    /// Busy and congestion: the same length on and off, twice.
    fn in_a_row(&mut self, spell: &Spell, family: Family) -> Option<Progress> {
        let rhythm = if self.lasts(spell, 330..=750) {
            Some(Rhythm::Busy)
        } else {
            self.lasts(spell, 130..=330).then_some(Rhythm::Congestion)
        };
        let pause = match (rhythm, &self.last) {
            (Some(rhythm), Some((last, before))) if *before == family && self.row.1 == Some(rhythm) => {
                let off = if rhythm == Rhythm::Busy { 280..=800 } else { 100..=380 };
                self.within(spell.start.saturating_sub(last.end), off)
            }
            _ => false,
        };
        self.row =
            if pause { (self.row.0.saturating_add(1), rhythm, self.row.2) } else { (1, rhythm, spell.start) };
        let start = self.row.2;
        (self.row.0 == 2).then_some(match rhythm? {
            Rhythm::Busy => Progress::Busy { start },
            Rhythm::Congestion => Progress::Congestion { start },
        })
    }

    /// The third of the three tones, one after the other.
    fn special(&mut self, spell: &Spell) -> Option<Progress> {
        let long_enough = self.lasts(spell, 180..=450);
        let follows =
            |before: &Spell| spell.start.saturating_sub(before.end) <= samples_in(ms(70), self.rate);
        let [first, second] = self.special;
        if let (Some(first), Some(second)) = (first, second.filter(follows))
            && long_enough
            && is_at(spell, 1790.0, 60.0)
        {
            self.special = [None; 2];
            return Some(Progress::SpecialInformation {
                start: first.start,
                meaning: meaning(&first, &second),
            });
        }
        self.special = match first.filter(follows) {
            Some(first) if long_enough && is_at(spell, 1400.0, 50.0) => [Some(first), Some(*spell)],
            _ => [Some(*spell).filter(|spell| long_enough && is_at(spell, 950.0, 50.0)), None],
        };
        None
    }

    fn calling(&mut self, spell: &Spell) -> Option<Progress> {
        if !is_at(spell, 1100.0, 40.0) || !self.lasts(spell, 425..=575) {
            return None;
        }
        let start = spell.start;
        let spoken =
            self.talk.last.is_some_and(|last| start.saturating_sub(last) <= samples_in(SPOKEN, self.rate));
        let spoken = spoken && self.talk.power >= spell.power * SPOKEN_POWER;
        let second =
            self.calling.is_some_and(|first| self.within(start.saturating_sub(first), 2_700..=4_300));
        self.calling = Some(start);
        (!spoken || second).then_some(Progress::FaxCalling { start })
    }

    fn may_beep(&self, spell: &Spell, family: Family) -> bool {
        let Tone::Single(frequency, share) = spell.tone else { return false };
        // Not the last of several tones; a sound of speech that looked like one does not count.
        let alone = self.last.is_none_or(|(last, _)| {
            spell.start.saturating_sub(last.end) > samples_in(QUIET, self.rate) || self.lasts(&last, 0..=150)
        });
        family == Family::Single
            && (795.0..=2005.0).contains(&frequency)
            && share >= BEEP_SHARE
            && self.lasts(spell, 90..=1_500)
            && alone
            && self.talk.samples >= samples_in(TALK, self.rate)
    }

    /// A beep that is followed by silence.
    fn await_quiet(&mut self, sort: Sort, power: f32, end: u64) -> Option<Progress> {
        let spell = self.beep?;
        let since = end.saturating_sub(spell.end);
        // Until the window has left the tone behind it says nothing about what comes after it.
        if since < samples_in(super::WINDOW, self.rate) {
            return None;
        }
        let Tone::Single(frequency, _) = spell.tone else { return None };
        if matches!(sort, Sort::Single(..) | Sort::Pair(_)) || power > spell.power * SOFTER {
            self.beep = None;
            return None;
        }
        if since < samples_in(QUIET, self.rate) {
            return None;
        }
        self.beep = None;
        self.talk = Talk::default();
        let frequency = frequency.round() as u32;
        Some(Progress::Beep { start: spell.start, end: spell.end, frequency })
    }

    fn lasts(&self, spell: &Spell, milliseconds: std::ops::RangeInclusive<u64>) -> bool {
        self.within(spell.length(), milliseconds)
    }

    /// Whether this many samples are as many milliseconds.
    fn within(&self, samples: u64, milliseconds: std::ops::RangeInclusive<u64>) -> bool {
        milliseconds.contains(&(samples.saturating_mul(1000) / u64::from(self.rate.max(1))))
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn family(spell: &Spell) -> Family {
    match spell.tone {
        Tone::Pair(Pair::Dial) => Family::Dial,
        Tone::Pair(Pair::Ring) => Family::Ring,
        Tone::Pair(Pair::BritishRing) => Family::BritishRing,
        Tone::Pair(Pair::Busy) => Family::Busy,
        Tone::Single(frequency, _) if (390.0..=460.0).contains(&frequency) => Family::World,
        Tone::Single(..) => Family::Single,
    }
}

fn is_at(spell: &Spell, wanted: f64, off: f64) -> bool {
    matches!(spell.tone, Tone::Single(frequency, _) if (frequency - wanted).abs() <= off)
}

fn meaning(first: &Spell, second: &Spell) -> Special {
    let (low, high) = (is_at(first, 913.8, 16.0), is_at(first, 985.2, 16.0));
    let (then_low, then_high) = (is_at(second, 1370.6, 16.0), is_at(second, 1428.5, 16.0));
    match (low, high, then_low, then_high) {
        (true, _, true, _) => Special::Intercept,
        (_, true, true, _) => Special::VacantCode,
        (true, _, _, true) => Special::Reorder,
        (_, true, _, true) => Special::NoCircuit,
        _ => Special::Unsaid,
    }
}
