//! Beats of paths and leases, and what is decided of them.

use super::*;
use crate::heard::Member;

fn west() -> ClusterName {
    "west".parse().unwrap()
}

fn world() -> World {
    let member = Member {
        trust_domain: "west.mesh.test".parse().unwrap(),
        roots: vec![],
        key: vec![],
        addresses: vec![],
        operator: false,
    };
    World { members: [(west(), member)].into(), ..World::default() }
}

fn report(state: &str, rtt_us: u64) -> PathReport {
    PathReport { cluster: "west".into(), state: state.into(), rtt_us, tunnels: 2, ..PathReport::default() }
}

/// Plays beats of 500 ms; each with this path of the one gateway and a lease by tunnel.
fn play(decider: &mut Decider, from: u64, beats: u64, path: &str) -> (u64, Verdict) {
    for beat in 1..=beats {
        let now = from + beat * 500;
        decider.path("gw", report(path, 1000), now);
        decider.lease(&west(), Version { epoch: 1, number: now }, true, Way::Tunnel, now);
        decider.decide(&world(), now);
    }
    (from + beats * 500, decider.verdicts()[&west()])
}

#[test]
fn a_lost_path_is_left_and_the_move_is_remembered_and_kept_over_a_restart() {
    let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
    let (now, verdict) = play(&mut decider, 0, 4, "up");
    assert_eq!((verdict.share, verdict.standing, verdict.rtt_us), (1.0, Standing::Alive, 1000));
    let (now, verdict) = play(&mut decider, now, 6, "suspect");
    assert_eq!((verdict.share, verdict.standing), (0.0, Standing::CutOff));
    let mut again = Decider::restored("east".parse().unwrap(), decider.take_changed().unwrap());
    again.decide(&world(), now);
    assert_eq!(again.verdicts()[&west()].share, 0.0, "a restarted control returns no traffic by itself");
}

#[test]
fn a_silent_gateway_of_our_own_says_nothing_of_another_cluster() {
    let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
    let (now, _) = play(&mut decider, 0, 4, "up");
    decider.gateway_lost("gw");
    for beat in 1..20 {
        let at = now + beat * 500;
        decider.lease(&west(), Version { epoch: 1, number: at }, true, Way::Member, at);
        decider.decide(&world(), at);
    }
    assert_eq!(decider.verdicts()[&west()].standing, Standing::Alive);
}

#[test]
fn an_old_lease_is_no_news_whichever_way_it_comes() {
    let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
    assert!(decider.lease(&west(), Version { epoch: 2, number: 5 }, true, Way::Member, 0));
    assert!(!decider.lease(&west(), Version { epoch: 2, number: 5 }, true, Way::Tunnel, 9));
    assert!(!decider.lease(&west(), Version { epoch: 1, number: 99 }, true, Way::Tunnel, 9));
    decider.rekeyed(&west());
    assert!(decider.lease(&west(), Version { epoch: 1, number: 1 }, true, Way::Tunnel, 9), "reinstalled");
}
