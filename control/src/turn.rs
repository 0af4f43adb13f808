//! Whose turn it is to speak for the cluster: of several replicas of control, one's.
//!
//! It is who leads. Where the API server is away nobody leads, and who spoke last speaks on: others must not take the cluster for
//! blind because of it. Should another replica have been made the leader beyond a cut, its words are under a higher epoch, and
//! who meets them without leading falls silent.

use isthmus_kubernetes::leader::Candidacy;

/// One replica's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    candidacy: Candidacy,
    /// Whether an earlier run spoke last, as far as it knew.
    spoke: bool,
    speaks: bool,
}

impl Turn {
    /// Before anything is known of an election.
    #[must_use]
    pub fn new(spoke: bool) -> Self {
        Self { candidacy: Candidacy::Unasked, spoke, speaks: false }
    }

    /// Whether this replica speaks.
    #[must_use]
    pub fn speaks(self) -> bool {
        self.speaks
    }

    /// How this replica stands now.
    pub fn stands(&mut self, candidacy: Candidacy) {
        self.candidacy = candidacy;
        self.speaks = match candidacy {
            Candidacy::Leads => true,
            Candidacy::Follows => false,
            Candidacy::Unasked | Candidacy::Adrift => self.speaks || (self.spoke && candidacy == Candidacy::Adrift),
        };
        if matches!(candidacy, Candidacy::Leads | Candidacy::Follows) {
            self.spoke = self.speaks;
        }
    }

    /// Something higher stands under the own name. Whoever leads rises above it; whoever does not falls silent: `true`.
    pub fn outdone(&mut self) -> bool {
        let falls = self.speaks && !self.candidacy.leads();
        if falls {
            (self.speaks, self.spoke) = (false, false);
        }
        falls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_led_speaks_on_without_an_api_server_until_another_one_is_heard() {
        let mut turn = Turn::new(false);
        assert!(!turn.speaks());
        turn.stands(Candidacy::Adrift);
        assert!(!turn.speaks(), "it never spoke");
        turn.stands(Candidacy::Leads);
        assert!(turn.speaks() && !turn.outdone(), "a leader rises");
        turn.stands(Candidacy::Adrift);
        assert!(turn.speaks() && turn.outdone());
        assert!(!turn.speaks() && !turn.outdone());
        turn.stands(Candidacy::Adrift);
        assert!(!turn.speaks());
    }

    #[test]
    fn a_restart_without_an_api_server_leaves_the_turn_where_it_was() {
        for (spoke, candidacy, speaks) in [
            (true, Candidacy::Unasked, false),
            (true, Candidacy::Adrift, true),
            (true, Candidacy::Follows, false),
            (false, Candidacy::Adrift, false),
            (false, Candidacy::Leads, true),
        ] {
            let mut turn = Turn::new(spoke);
            turn.stands(candidacy);
            assert_eq!(turn.speaks(), speaks, "{spoke} {candidacy:?}");
        }
    }
}
