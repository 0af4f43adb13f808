//! A link's promises, measured in virtual time.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1000;

fn udp(bytes: u16) -> Packet {
    Packet { bytes, protocol: Protocol::Udp }
}

fn tcp(bytes: u16) -> Packet {
    Packet { bytes, protocol: Protocol::Tcp }
}

/// Verdicts on `count` packets of 100 bytes, `gap` apart.
fn run(settings: Settings, count: u32, gap: Duration) -> Vec<(Duration, Verdict)> {
    let mut link = Link::new(11, settings);
    (0..count).map(|n| gap * n).map(|now| (now, link.offer(now, tcp(100)))).collect()
}

fn delays(verdicts: &[(Duration, Verdict)]) -> Vec<Duration> {
    let arrived = |(sent, verdict): &(Duration, Verdict)| match verdict {
        Verdict::Arrives(at) => Some(*at - *sent),
        Verdict::Dropped(_) => None,
    };
    verdicts.iter().filter_map(arrived).collect()
}

#[test]
fn without_settings_a_packet_arrives_at_once() {
    assert!(delays(&run(Settings::default(), 100, Duration::from_micros(1))).iter().all(Duration::is_zero));
}

#[test]
fn the_delay_is_exact_and_the_jitter_even_on_both_sides() {
    let exact = delays(&run(Settings { delay_us: 40 * MS, ..Settings::default() }, 100, Duration::from_millis(1)));
    assert!(exact.iter().all(|delay| *delay == Duration::from_millis(40)));
    let settings = Settings { delay_us: 40 * MS, jitter_us: 10 * MS, ..Settings::default() };
    let wide = delays(&run(settings, 20_000, Duration::from_millis(50)));
    let share = |from: u64, to: u64| {
        let within = |delay: &&Duration| (Duration::from_millis(from)..Duration::from_millis(to)).contains(*delay);
        wide.iter().filter(within).count() as f64 / wide.len() as f64
    };
    assert!((share(30, 51) - 1.0).abs() < f64::EPSILON, "all of it within the jitter");
    for tenth in [30, 34, 38, 42, 46] {
        assert!((share(tenth, tenth + 4) - 0.2).abs() < 0.02, "{tenth} ms: {}", share(tenth, tenth + 4));
    }
}

#[test]
fn jitter_lets_no_packet_overtake_and_only_so_many_do_as_were_asked_for() {
    let overtaken = |settings| {
        let mut link = Link::new(3, settings);
        let (mut latest, mut count) = (Duration::ZERO, 0);
        for n in 0..50_000 {
            let Verdict::Arrives(at) = link.offer(Duration::from_micros(100 * n), tcp(100)) else { panic!("lost") };
            count += u32::from(at < latest);
            latest = latest.max(at);
        }
        count
    };
    let jittery = Settings { delay_us: 40 * MS, jitter_us: 10 * MS, ..Settings::default() };
    assert_eq!(overtaken(jittery), 0);
    // Who is held back by 10 ms is overtaken by the hundred behind it.
    let mut link = Link::new(3, Settings { delay_us: 40 * MS, reorder: 0.05, ..Settings::default() });
    let offered = (0..50_000).map(|n| link.offer(Duration::from_micros(100 * n), tcp(100)));
    let late = offered.zip(0..).filter(|(verdict, n)| match verdict {
        Verdict::Arrives(at) => *at == Duration::from_micros(100 * n) + Duration::from_millis(50),
        Verdict::Dropped(_) => false,
    });
    let share = late.count() as f64 / 50_000.0;
    assert!((share - 0.05).abs() < 0.005, "{share} of 0.05 were held back");
    assert!(overtaken(Settings { delay_us: 40 * MS, reorder: 0.05, ..Settings::default() }) > 0);
}

#[test]
fn the_loss_is_that_asked_for() {
    for (loss, burst) in [(0.01, 0.0), (0.2, 0.0), (0.05, 4.0)] {
        let verdicts = run(Settings { loss, burst, ..Settings::default() }, 200_000, Duration::from_micros(10));
        let lost = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Dropped(Reason::Lost)).count();
        let share = lost as f64 / verdicts.len() as f64;
        assert!((share - loss).abs() < 0.1 * loss, "{share} of {loss} in bursts of {burst}");
    }
}

#[test]
fn a_rate_is_bytes_over_time_and_its_queue_adds_the_delay_of_what_waits() {
    let settings = Settings { rate: 8_000_000, queue: 100_000, delay_us: 20 * MS, ..Settings::default() };
    let mut link = Link::new(1, settings);
    let arrive = |link: &mut Link, now| match link.offer(now, tcp(1000)) {
        Verdict::Arrives(at) => Some(at),
        Verdict::Dropped(reason) => (reason != Reason::QueueFull).then(|| panic!("{reason:?}")),
    };
    // Twice the rate is offered for ten seconds: half of it passes, and what passes waited for a full queue.
    let offered: Vec<_> = (0..20_000).map(|n| Duration::from_micros(500 * n)).collect();
    let passed: Vec<_> = offered.iter().filter_map(|now| Some((*now, arrive(&mut link, *now)?))).collect();
    let rate = passed.len() as f64 / 10_000.0;
    assert!((1.0..1.02).contains(&rate), "1 MB a second passes, and once the queue: {rate}");
    let (sent, at) = *passed.last().unwrap();
    let waited = at - sent - Duration::from_millis(20);
    assert!(
        (Duration::from_millis(98)..=Duration::from_millis(100)).contains(&waited),
        "100 kB wait 100 ms: {waited:?}"
    );
}

#[test]
fn udp_is_blocked_or_throttled_while_tcp_passes() {
    let mut link = Link::new(1, Settings { udp: Udp::Blocked, ..Settings::default() });
    assert_eq!(link.offer(Duration::ZERO, udp(100)), Verdict::Dropped(Reason::Udp));
    assert_eq!(link.offer(Duration::ZERO, tcp(100)), Verdict::Arrives(Duration::ZERO));
    link.set(Duration::ZERO, Settings { udp: Udp::Throttled(800_000), ..Settings::default() });
    let mut passed = 0;
    for n in 0..10_000 {
        let now = Duration::from_millis(n);
        passed += u32::from(link.offer(now, udp(1000)) == Verdict::Arrives(now));
        assert_eq!(link.offer(now, tcp(1000)), Verdict::Arrives(now));
    }
    // 100 kB a second of the megabyte a second that was offered, for ten seconds.
    assert!((1000..=1010).contains(&passed), "{passed}");
}

#[test]
fn what_is_too_large_is_told_from_what_is_cut() {
    let mut link = Link::new(1, Settings { mtu: 1280, ..Settings::default() });
    assert_eq!(link.offer(Duration::ZERO, udp(1281)), Verdict::Dropped(Reason::TooLarge));
    assert_eq!(link.offer(Duration::ZERO, udp(1280)), Verdict::Arrives(Duration::ZERO));
    link.set(Duration::ZERO, Settings { cut: true, ..Settings::default() });
    assert_eq!(link.offer(Duration::ZERO, udp(1281)), Verdict::Dropped(Reason::Cut));
}

#[test]
fn a_shorter_delay_holds_at_once() {
    let mut link = Link::new(1, Settings { delay_us: 900 * MS, ..Settings::default() });
    link.offer(Duration::ZERO, tcp(100));
    link.set(Duration::ZERO, Settings { delay_us: MS, ..Settings::default() });
    assert_eq!(link.offer(Duration::ZERO, tcp(100)), Verdict::Arrives(Duration::from_millis(1)));
}

prop_compose! {
    fn settings()(
        delay_us in 0..500_000_u64, jitter_us in 0..200_000_u64, loss in 0.0..=1.0, burst in prop_oneof![Just(0.0), 1.0..50.0],
        rate in prop_oneof![Just(0), 8_000..1_000_000_000_u64], queue in 0..1_000_000_u64, reorder in 0.0..=1.0,
        mtu in prop_oneof![Just(0), 68..1500_u16], cut in proptest::bool::weighted(0.1),
        udp in prop_oneof![Just(Udp::Open), Just(Udp::Blocked), (8_000..100_000_000_u64).prop_map(Udp::Throttled)],
    ) -> Settings {
        Settings { delay_us, jitter_us, loss, burst, rate, queue, reorder, mtu, cut, udp }
    }
}

proptest! {
    #[test]
    fn equal_seeds_give_equal_verdicts_and_none_breaks_a_bound(
        seed: u64, settings in settings(), later in settings(),
        packets in proptest::collection::vec((0..5_000_u64, 20..1500_u16, any::<bool>()), 1..200),
    ) {
        let (mut one, mut two) = (Link::new(seed, settings), Link::new(seed, settings));
        let (mut now, mut before) = (Duration::ZERO, Duration::ZERO);
        for (n, (gap, bytes, is_udp)) in packets.into_iter().enumerate() {
            now += Duration::from_micros(gap);
            if n == 100 {
                one.set(now, later);
                two.set(now, later);
                before = Duration::ZERO;
            }
            let packet = if is_udp { udp(bytes) } else { tcp(bytes) };
            let verdict = one.offer(now, packet);
            prop_assert_eq!(verdict, two.offer(now, packet));
            let holds = *one.settings();
            prop_assert!(!holds.cut || verdict == Verdict::Dropped(Reason::Cut));
            let Verdict::Arrives(at) = verdict else { continue };
            prop_assert!(at >= now + holds.delay().saturating_sub(holds.jitter()), "too early");
            prop_assert!(bytes <= holds.largest() && !(is_udp && holds.udp == Udp::Blocked));
            if holds.reorder == 0.0 {
                prop_assert!(at >= before, "overtaken");
            }
            before = before.max(at);
        }
    }
}
