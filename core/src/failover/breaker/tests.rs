//! A cluster whose requests fail or are slow, second by second.

use super::*;
use crate::failover::policy::{ErrorRate, Latency};

fn leave() -> Leave {
    let over = Duration::from_secs(10);
    Leave {
        error_rate: Some(ErrorRate { above: 0.2, below: Some(0.1), over }),
        latency: Some(Latency { above: Duration::from_millis(500), below: None, percentile: 90.0, over }),
        ..Default::default()
    }
}

struct Story {
    breaker: Breaker,
    window: Window,
    second: u64,
}

impl Story {
    /// So many seconds of 100 requests, of which so many fail and all take so long; the last verdict.
    fn run(&mut self, seconds: u64, errors: u64, millis: u64) -> Verdict {
        let mut verdict = Verdict::Fine;
        for _ in 0..seconds {
            self.second += 1;
            let (now, mut tally) = (Duration::from_secs(self.second), Tally::default());
            (0..100).for_each(|nth| tally.count(nth < errors, Duration::from_millis(millis)));
            self.window.add(now, &tally);
            verdict = self.breaker.judge(now, &self.window, &leave(), &Failback::default());
        }
        verdict
    }
}

fn story() -> Story {
    Story { breaker: Breaker::default(), window: Window::default(), second: 0 }
}

#[test]
fn noise_under_the_limit_leaves_nothing_and_above_the_lower_one_it_holds() {
    let mut story = story();
    for errors in [0, 15, 5, 19, 0] {
        assert!(!matches!(story.run(12, errors, 20), Verdict::Leave(_)), "{errors}");
    }
    assert!(matches!(story.run(10, 15, 20), Verdict::Hold(_)));
    assert_eq!(story.run(10, 5, 20), Verdict::Fine);
}

#[test]
fn too_many_errors_leave_and_each_further_time_waits_twice_as_long() {
    let mut story = story();
    let mut waits = vec![];
    for _ in 0..4 {
        while !matches!(story.run(1, 90, 20), Verdict::Leave(_)) {}
        let left = story.second;
        while matches!(story.run(1, 0, 20), Verdict::Leave(_)) {}
        waits.push(story.second - left);
    }
    assert_eq!(waits, [3, 6, 12, 24]);
}

#[test]
fn slow_answers_leave_as_errors_do() {
    let mut story = story();
    assert_eq!(story.run(10, 0, 200), Verdict::Fine);
    assert!(matches!(story.run(10, 0, 400), Verdict::Hold(_)));
    assert!(matches!(story.run(2, 0, 2000), Verdict::Leave(why) if why.contains("p90")));
}

/// The verdict on a hundred requests of which all take so long, in milliseconds.
fn judged(took: u64, above: u64, below: u64) -> Verdict {
    let millis = Duration::from_millis;
    let limit =
        Latency { above: millis(above), below: Some(millis(below)), percentile: 90.0, over: Duration::from_secs(10) };
    let leave = Leave { latency: Some(limit), ..Leave::default() };
    let (mut window, mut tally) = (Window::default(), Tally::default());
    (0..100).for_each(|_| tally.count(false, millis(took)));
    window.add(Duration::from_secs(1), &tally);
    Breaker::default().judge(Duration::from_secs(1), &window, &leave, &Failback::default())
}

#[test]
fn latency_leaves_nothing_that_may_be_below_the_limit_and_everything_that_is_surely_above() {
    // All that take 310 to 500 ms are in one bucket.
    assert!(matches!(judged(310, 400, 200), Verdict::Hold(_)), "it may be below");
    assert!(matches!(judged(450, 400, 200), Verdict::Hold(_)), "it may be below");
    assert!(matches!(judged(510, 400, 200), Verdict::Leave(_)), "it is above");
    assert!(matches!(judged(310, 300, 200), Verdict::Leave(_)), "at a bound it is known");
    assert!(matches!(judged(300, 300, 200), Verdict::Hold(_)), "at a bound it is known");
    assert!(matches!(judged(310, 600, 400), Verdict::Hold(_)), "it may not be below yet");
    assert_eq!(judged(290, 600, 400), Verdict::Fine);
    assert!(matches!(judged(20_000, 10_000, 200), Verdict::Leave(_)), "slower than all bounds");
    assert_eq!(judged(0, 1, 0), Verdict::Fine, "less than a millisecond is not told apart");
}

#[test]
fn a_verdict_ends_with_the_limit_it_is_from() {
    let mut story = story();
    assert!(matches!(story.run(10, 90, 20), Verdict::Leave(_)));
    let latency_alone = Leave { error_rate: None, ..leave() };
    let now = Duration::from_secs(story.second);
    let verdict = story.breaker.judge(now, &story.window, &latency_alone, &Failback::default());
    assert_eq!(verdict, Verdict::Fine);
}

#[test]
fn a_restart_forgets_no_verdict_and_counts_the_times_on() {
    let mut story = story();
    for _ in 0..2 {
        while !matches!(story.run(1, 90, 20), Verdict::Leave(_)) {}
        while matches!(story.run(1, 0, 20), Verdict::Leave(_)) {}
    }
    while !matches!(story.run(1, 90, 20), Verdict::Leave(_)) {}
    story.run(2, 0, 20);
    let left = story.breaker.tried_again_in(Duration::from_secs(story.second));
    let kept = serde_json::to_string(&story.breaker.kept(Duration::from_secs(story.second))).unwrap();
    // The next run's clock is another one, and it has seen nothing yet.
    (story.second, story.window) = (3, Window::default());
    story.breaker = Breaker::restored(Duration::from_secs(3), serde_json::from_str(&kept).unwrap());
    assert_eq!(story.breaker.tried_again_in(Duration::from_secs(3)), left);
    assert_eq!(left, Some(Duration::from_secs(10)), "of twelve");
    while matches!(story.run(1, 0, 20), Verdict::Leave(_)) {}
    while !matches!(story.run(1, 90, 20), Verdict::Leave(_)) {}
    assert_eq!(story.breaker.tried_again_in(Duration::from_secs(story.second)), Some(Duration::from_secs(24)));
}

#[test]
fn what_is_held_stays_over_a_restart_until_requests_show_otherwise() {
    let mut story = story();
    assert!(matches!(story.run(10, 15, 20), Verdict::Hold(_)));
    story.breaker = Breaker::restored(Duration::ZERO, story.breaker.kept(Duration::from_secs(story.second)));
    (story.second, story.window) = (0, Window::default());
    let nothing = |story: &mut Story, second| {
        story.breaker.judge(Duration::from_secs(second), &Window::default(), &leave(), &Failback::default())
    };
    assert!(matches!(nothing(&mut story, 1), Verdict::Hold(_)));
    assert!(matches!(nothing(&mut story, 9), Verdict::Hold(_)));
    assert_eq!(nothing(&mut story, 10), Verdict::Fine, "a window without requests says nothing");
}

#[test]
fn few_requests_prove_nothing() {
    let (mut breaker, mut window, mut tally) = (Breaker::default(), Window::default(), Tally::default());
    (1..LEAST_REQUESTS).for_each(|_| tally.count(true, Duration::from_secs(9)));
    window.add(Duration::from_secs(1), &tally);
    let verdict = breaker.judge(Duration::from_secs(1), &window, &leave(), &Failback::default());
    assert_eq!(verdict, Verdict::Fine);
    let doubt = breaker.doubt(Duration::from_secs(1), &window, &leave());
    assert_eq!(doubt.unwrap(), "too few requests to judge: 19 of 20 in 10s");
}
