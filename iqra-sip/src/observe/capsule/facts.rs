//! What an engine takes from elsewhere than a call: random numbers, the numbers of its transactions and dialogs, and what
//! other calls have led to: that it is full, that a target is avoided, what the guard says, which nonces are known.
//!
//! While an input is recorded they are noted in order, a letter for the kind and the value behind it; a replay is given
//! them again. What a replay asks for and was not noted it makes for itself: it has then gone another way already.

use std::collections::VecDeque;

/// Notes facts, or gives noted ones.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    noted: Option<Vec<String>>,
    given: Option<VecDeque<String>>,
}

/// The kind of a number of a transaction, dialog or subscription.
pub(super) const NUMBER: char = 'n';
/// The kind of what the guard said.
pub(super) const VERDICT: char = 'g';

impl Facts {
    /// A number that belongs to every run.
    pub(crate) fn number(&mut self, kind: char, own: impl FnOnce() -> u64) -> u64 {
        let given = self.take(kind).and_then(|given| given.parse().ok());
        let value = given.unwrap_or_else(own);
        self.note(kind, || value.to_string());
        value
    }

    /// Words that belong to every run.
    pub(crate) fn word(&mut self, kind: char, own: impl FnOnce() -> String) -> String {
        let word = self.take(kind).unwrap_or_else(own);
        self.note(kind, || word.clone());
        word
    }

    /// What is `None` as a rule and only noted when it is not; a replay does not look for itself.
    pub(crate) fn seldom(&mut self, kind: char, own: impl FnOnce() -> Option<String>) -> Option<String> {
        let word = if self.given.is_some() { self.take(kind) } else { own() };
        if let Some(word) = &word {
            self.note(kind, || word.clone());
        }
        word
    }

    /// The same of a question.
    pub(crate) fn whether(&mut self, kind: char, own: bool) -> bool {
        self.seldom(kind, || own.then(String::new)).is_some()
    }

    /// True in a replay.
    pub(crate) fn are_given(&self) -> bool {
        self.given.is_some()
    }

    /// Makes this the facts of a replay.
    pub(crate) fn give(&mut self, facts: &[String]) {
        self.given = Some(facts.iter().cloned().collect());
    }

    pub(super) fn start(&mut self) {
        self.noted = Some(Vec::new());
    }

    pub(super) fn stop(&mut self) -> Vec<String> {
        self.noted.take().unwrap_or_default()
    }

    fn take(&mut self, kind: char) -> Option<String> {
        let given = self.given.as_mut()?;
        given.front().filter(|fact| fact.starts_with(kind))?;
        given.pop_front().map(|fact| fact[kind.len_utf8()..].to_owned())
    }

    fn note(&mut self, kind: char, word: impl FnOnce() -> String) {
        if let Some(noted) = &mut self.noted {
            noted.push(format!("{kind}{}", word()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_given_again_and_the_rest_is_made() {
        let mut facts = Facts::default();
        assert_eq!(facts.number('r', || 1), 1, "nobody listens");
        facts.start();
        assert_eq!(facts.number('r', || 7), 7);
        assert!(!facts.whether('f', false) && facts.whether('f', true));
        assert_eq!(facts.word('m', || String::from("x")), "x");
        let noted = facts.stop();
        assert_eq!(noted, ["r7", "f", "mx"]);
        facts.give(&noted);
        assert_eq!(facts.number('r', || 0), 7);
        assert!(facts.whether('f', false) && !facts.whether('f', true), "a replay does not look for itself");
        assert_eq!(facts.number('r', || 5), 5, "another kind is next");
        assert_eq!(facts.word('m', String::new), "x");
    }
}
