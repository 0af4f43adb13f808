//! A drill as people read it: its beginning, each second of it, and its report.

use std::time::Duration;

use isthmus_control::handle::{Done, Wish};

use super::{
    report::{End, Importer, Report},
    watch::{Progress, Watch},
};
use crate::{failover::status::parts, table};

pub fn begun(wish: &Wish, at: &str, done: &Done, end: &str) -> String {
    let binds = done.binds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let local = match (done.local, done.quorum) {
        (false, _) => "",
        (true, true) => "; local: not in the federation's log yet",
        (true, false) => "; local: the federation has no quorum",
    };
    let because = if wish.reason.is_empty() { String::new() } else { format!(": {}", wish.reason) };
    let mut text = format!("{} begun in {at} by {}{because}; binds {binds}{local}\n", wish.deed, wish.by);
    if !done.free.is_empty() {
        let free = done.free.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("free of it: {free}, because {at} is not among their operators\n"));
    }
    let cluster = wish.deed.cluster();
    text.push_str(&format!(
        "it ends by itself at {end}; Ctrl-C ends it at once, and from elsewhere `isthmus cluster undrain {cluster}`\n"
    ));
    done.doubts.iter().for_each(|doubt| text.push_str(&format!("! {doubt}\n")));
    text
}

/// A line.
pub fn progress(elapsed: Duration, watch: &Watch) -> String {
    let one = |Progress { importer, moved, of, rate, errors }: Progress<'_>| {
        let moved = if of == 0 { String::new() } else { format!("{moved}/{of} services moved, ") };
        format!("{importer} {moved}{rate:.1} req/s, {:.1} % fail", errors * 100.0)
    };
    format!("{:>4} s  {}\n", elapsed.as_secs(), watch.progress().map(one).collect::<Vec<_>>().join("   "))
}

pub fn report(report: &Report) -> String {
    let how = match &report.end {
        End::Over => "its time was over".into(),
        End::Stopped => "stopped by Ctrl-C".into(),
        End::TakenBack => "somebody else took it back".into(),
        End::GivenUp { cluster, why } => format!("STOPPED for {cluster}: {why}"),
    };
    let mut text = format!("\ndrill of {}, {} s: {how}\n", report.cluster, report.seconds);
    let headings = [
        "IMPORTER",
        "MOVED",
        "TOOK",
        "REQUESTS",
        "FAILED BEFORE",
        "FAILED DURING",
        "KEPT BACK BY LIMITS",
        "SLOWEST P90",
    ];
    text.push_str(&table::of(&headings, report.importers.iter().map(|one| importer(one, report))));
    text.push('\n');
    text.push_str(&services(report));
    report
        .rose
        .iter()
        .for_each(|rose| text.push_str(&format!("! more requests failed than before: {}\n", rose.line())));
    for (cluster, why) in &report.silent {
        text.push_str(&format!("! the control of {cluster} did not answer all the time: {why}\n"));
    }
    text
}

/// Where each service that used the cluster went.
fn services(report: &Report) -> String {
    let rows = report.importers.iter().flat_map(|one| {
        one.services.iter().map(|moved| {
            let took = moved.after_seconds.map_or_else(|| "it stayed".into(), |after| format!("{after:.1} s"));
            vec![moved.service.clone(), one.importer.clone(), parts(&moved.before), parts(&moved.during), took]
        })
    });
    match report.importers.iter().all(|one| one.of == 0) {
        true => format!("! nothing was sent to {} before either: this drill shows nothing\n", report.cluster),
        false => format!("\n{}\n", table::of(&["SERVICE", "IMPORTER", "BEFORE", "DURING", "AFTER"], rows)),
    }
}

fn importer(one: &Importer, report: &Report) -> Vec<String> {
    let mark = if report.rose.iter().any(|rose| rose.importer == one.importer) { "! " } else { "" };
    vec![
        one.importer.clone(),
        format!("{}/{}", one.moved, one.of),
        one.move_took_seconds.map_or_else(|| "-".into(), |took| format!("{took:.1} s")),
        format!("{:.0}", one.requests),
        format!("{:.1} %", one.error_rate_before * 100.0),
        format!("{mark}{:.0} ({:.1} %)", one.failed, one.error_rate * 100.0),
        format!("{:.0}", one.kept_back),
        if one.slowest_p90_ms == 0 { "-".into() } else { format!("{} ms", one.slowest_p90_ms) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::drill::watch::tests::{said, watch};

    #[test]
    fn a_report_says_what_moved_where_and_what_it_cost() {
        let given_up = End::GivenUp { cluster: "us".into(), why: "10 % fail".into() };
        let made = watch().report("us", Duration::from_millis(1400), given_up);
        assert_eq!(made.given_up().unwrap(), "for us: 10 % fail");
        let text = report(&made);
        let cells = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cells(1), "drill of eu, 1.4 s: STOPPED for us: 10 % fail");
        assert_eq!(cells(3), "us 1/2 0.4 s 28 0.0 % 1 (4.3 %) 12 4 ms");
        assert_eq!(cells(6), "shop/cart us eu 100 % us 100 % 0.4 s");
        assert_eq!(cells(7), "shop/only us eu 100 % eu 100 % it stayed");
        assert_eq!(cells(8), "! the control of ap did not answer all the time: refused");
        let mut failing = watch();
        failing.look(Duration::from_secs(20), &said(0.0, 0.5), vec![]);
        let text = report(&failing.report("us", Duration::from_secs(20), End::Over));
        assert!(
            text.contains("! 94 (23.6 %)") && text.contains("! more requests failed than before: shop/cart from us"),
            "{text}"
        );
        let idle = Watch::before(&"mars".parse().unwrap(), &[]).report("us", Duration::from_secs(1), End::Over);
        assert!(report(&idle).ends_with("! nothing was sent to mars before either: this drill shows nothing\n"));
        let line = progress(Duration::from_millis(1400), &watch());
        assert_eq!(line, "   1 s  us 1/2 services moved, 20.0 req/s, 5.0 % fail\n");
    }
}
