//! Why a path is down, a sentence for people: the last reason of each gateway that is dialled. It decides nothing.

use std::collections::BTreeMap;

/// A reason is cut off at so many characters: part of it may be a stranger's.
const LONGEST: usize = 400;

/// Why there is no tunnel to one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    words: String,
    refused: bool,
}

impl Trouble {
    /// Nobody is there, or nobody answers.
    #[must_use]
    pub fn silence(words: &str) -> Self {
        Self { words: one_line(words), refused: false }
    }

    /// Somebody answered, and one of the two does not take the other: that says more than silence.
    #[must_use]
    pub fn refusal(words: &str) -> Self {
        Self { words: one_line(words), refused: true }
    }
}

fn one_line(words: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut all = words.chars().map(plain);
    let mut line: String = all.by_ref().take(LONGEST).collect();
    if all.next().is_some() {
        line.push('…');
    }
    line
}

/// The last trouble with each gateway of a cluster.
#[derive(Debug, Default)]
pub struct Troubles(BTreeMap<String, Trouble>);

impl Troubles {
    /// The last one with a gateway.
    pub fn add(&mut self, gateway: &str, trouble: Trouble) {
        self.0.insert(gateway.to_owned(), trouble);
    }

    /// Forgets gateways that are not named any more.
    pub fn keep(&mut self, named: &[String]) {
        self.0.retain(|gateway, _| named.contains(gateway));
    }

    /// There is a way again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// One for all of them, the same as long as nothing changes: a refusal, if there is any.
    #[must_use]
    pub fn told(&self) -> Option<&str> {
        let first = self.0.values().find(|trouble| trouble.refused).or_else(|| self.0.values().next());
        first.map(|trouble| trouble.words.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_rather_than_silence_and_only_of_gateways_that_are_named() {
        let (first, second) = ("127.2.3.1:15443", "127.2.3.2:15443");
        let mut troubles = Troubles::default();
        assert_eq!(troubles.told(), None);
        troubles.add(first, Trouble::silence("127.2.3.1:15443 does not answer"));
        troubles.add(second, Trouble::refusal("is a clock wrong?"));
        assert_eq!(troubles.told(), Some("is a clock wrong?"));
        troubles.keep(&[first.into()]);
        assert_eq!(troubles.told(), Some("127.2.3.1:15443 does not answer"));
        troubles.add(first, Trouble::silence("the tunnel ended"));
        assert_eq!(troubles.told(), Some("the tunnel ended"), "the last one with it");
        troubles.clear();
        assert_eq!(troubles.told(), None);
    }

    #[test]
    fn what_a_stranger_says_is_one_short_line() {
        let told = |words: &str| Trouble::refusal(words).words;
        assert_eq!(told("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!(told(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
        assert_eq!(told(&"é".repeat(LONGEST + 9)), format!("{}…", "é".repeat(LONGEST)));
    }
}
