//! Beats of paths and leases, and what is decided of them.

use isthmus_core::{model::RemoteCluster, statement::Gateways};

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

const WHY: &str = "certificate of west's gateway is not valid yet, for another 3540 s: is a clock wrong?";

/// West as people see it.
fn row(decider: &Decider, now: u64) -> crate::view::ClusterRow {
    let known = RemoteCluster {
        name: west(),
        region: "west".into(),
        trust_domain: "west.mesh.test".parse().unwrap(),
        gateways: Gateways::both(vec!["127.2.3.1:15443".into()]),
        share: 1.0,
        standing: Standing::Alive,
        rtt_us: 0,
    };
    decider.row(&known, Some(&world()), now)
}

#[test]
fn why_a_path_is_down_is_told_until_one_is_up_and_moves_nothing() {
    let east = || Decider::restored("east".parse().unwrap(), OnDisk::new());
    let (mut told, mut untold) = (east(), east());
    for (from, path, why) in [(0, "up", ""), (2_000, "lost", WHY), (10_000, "up", "")] {
        for now in (1..=16).map(|beat| from + beat * 500) {
            told.path("gw", PathReport { why: why.into(), ..report(path, 1000) }, now);
            untold.path("gw", report(path, 1000), now);
            told.decide(&world(), now);
            untold.decide(&world(), now);
            assert_eq!(told.verdicts(), untold.verdicts());
        }
        let (row, plain) = (row(&told, from + 8_000), row(&untold, from + 8_000).why);
        assert_eq!(row.paths[0].why, why);
        assert_eq!(row.why, if why.is_empty() { plain } else { format!("{plain} ({why})") });
    }
}

#[test]
fn the_trouble_of_one_gateway_is_none_where_another_one_has_a_path() {
    let mut decider = Decider::restored("east".parse().unwrap(), OnDisk::new());
    let lost = || PathReport { why: WHY.into(), ..report("lost", 0) };
    decider.path("gw-1", report("lost", 0), 0);
    decider.path("gw-2", lost(), 0);
    decider.decide(&world(), 0);
    let explained = |decider: &Decider, why: &str| decider.explained(&west(), why, Duration::ZERO);
    let standing = decider.sight(&west()).unwrap().2;
    assert_eq!(explained(&decider, standing), format!("{standing} ({WHY})"), "whichever gateway knows it");
    assert_eq!(explained(&decider, "ann drains it"), "ann drains it");
    decider.path("gw-1", report("up", 1000), 0);
    assert_eq!(explained(&decider, standing), standing);
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
