//! The outcome of a simulation as people read it.

use std::collections::BTreeMap;

use isthmus_core::name::ClusterName;

use super::{
    balance::Row,
    outcome::{LeftOut, Nowhere, Outcome, Strain, Survivor},
};
use crate::{
    failover::status::{parts, percent},
    table,
};

pub fn drawn(outcome: &Outcome) -> String {
    let mut text = format!("if {}\n", outcome.premise());
    text.push_str(&table::of(&["SERVICE", "IMPORTER", "REQ/S", "NOW", "THEN"], outcome.services.iter().map(row)));
    let clusters = outcome.clusters.iter().map(survivor);
    text.push_str("\n\n");
    text.push_str(&table::of(&["CLUSTER", "REQ/S NOW", "THEN", "CAPACITY", "OF CAPACITY THEN"], clusters));
    text.push('\n');
    for one in &outcome.clusters {
        text.extend(one.strains.iter().map(|strain| strained(&one.cluster, strain)));
    }
    text.extend(outcome.refused().map(refused));
    text.extend(outcome.left_out.iter().map(left_out));
    text.push_str(&moving(&outcome.services));
    text.push('\n');
    match outcome.nowhere.is_empty() {
        true => text.push_str("every service would have somewhere to go\n"),
        false => text.push_str("services with nowhere to go\n"),
    }
    text.extend(outcome.nowhere.iter().map(lost));
    text
}

fn row(one: &Row) -> Vec<String> {
    let mut then = parts(&one.then);
    if one.refused_per_second >= 0.05 {
        then.push_str(&format!(", refused {}", percent(one.refused_per_second / one.requests_per_second)));
    }
    let rate = format!("{:.1}", one.requests_per_second);
    vec![one.service.clone(), one.importer.clone(), rate, parts(&one.now), then]
}

fn survivor(one: &Survivor) -> Vec<String> {
    let mark = if one.strains.is_empty() { "" } else { " !" };
    let number = |value: f64| format!("{value:.1}");
    vec![
        one.cluster.to_string(),
        number(one.now),
        number(one.then),
        one.capacity.map_or_else(|| "-".into(), number),
        format!("{}{mark}", one.of_capacity.map_or_else(|| "-".into(), percent)),
    ]
}

fn strained(cluster: &ClusterName, Strain { service, wanted, room, is_limit }: &Strain) -> String {
    match is_limit {
        true => format!(
            "! {service} in {cluster}: {wanted:.1} requests a second would come, the limit is {room:.1}: what is beyond goes \
             on to the next place that may take it\n"
        ),
        false => format!(
            "! {service} in {cluster}: {wanted:.1} requests a second would come, {} of what its endpoints can take \
             ({room:.1})\n",
            percent(wanted / room)
        ),
    }
}

fn refused(one: &Row) -> String {
    format!(
        "! {} from {}: {:.1} of {:.1} requests a second are refused: every place that may take them is at its limit\n",
        one.service, one.importer, one.refused_per_second, one.requests_per_second
    )
}

fn left_out(LeftOut { cluster, requests_per_second }: &LeftOut) -> String {
    let rate = requests_per_second.map_or_else(String::new, |rate| format!(" ({rate:.1} requests a second now)"));
    format!(
        "! the clients of {cluster}{rate} are left out: they are gone with it; a drain or a drill keeps them: --drained \
         {cluster}\n"
    )
}

/// Shares that move, a line a cluster.
fn moving(rows: &[Row]) -> String {
    let mut by_cluster = BTreeMap::<&ClusterName, Vec<String>>::new();
    for row in rows {
        for (cluster, on_its_way) in &row.moving {
            let (share, rest) = (percent(on_its_way.share), percent(on_its_way.rests_at));
            let line = format!("{} from {} at {share} on its way to {rest}", row.service, row.importer);
            by_cluster.entry(cluster).or_default().push(line);
        }
    }
    let line = |(cluster, of): (&ClusterName, Vec<String>)| {
        let more = if of.len() > 1 { format!(" and {} more", of.len() - 1) } else { String::new() };
        let first = of.first().map_or("", String::as_str);
        format!("! shares of {cluster} are moving ({first}{more}); THEN is when they have come to rest\n")
    };
    by_cluster.into_iter().map(line).collect()
}

fn lost(one: &Nowhere) -> String {
    let already = if one.already { " (already so)" } else { "" };
    format!(
        "! {} from {}, {:.1} requests a second: {}{already}\n",
        one.service, one.importer, one.requests_per_second, one.why
    )
}

#[cfg(test)]
mod tests {
    use isthmus_control::failover::simulation::Moving;

    use super::*;
    use crate::failover::simulate::outcome::tests::{down, name, one, rung};

    #[test]
    fn what_would_go_where_is_told_with_what_would_go_on_be_refused_and_be_lost() {
        let mut cart = one("shop/cart", "ap", 50.0, vec![rung("us", 0.75, Some(30.0)), rung("ap", 0.25, Some(15.0))]);
        cart.moving = [(name("us"), Moving { share: 0.3, rests_at: 1.0 })].into();
        let rows = [cart, one("shop/pay", "ap", 2.0, vec![])];
        let text = drawn(&Outcome::of(down(&["eu"]), &rows, vec![]));
        let cells = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cells(0), "if eu were down");
        assert_eq!(cells(2), "shop/cart ap 50.0 eu 100 % us 60 %, ap 30 %, refused 10 %");
        assert_eq!(cells(3), "shop/pay ap 2.0 eu 100 % nowhere");
        assert_eq!([cells(6), cells(7)], ["ap 0.0 15.0 - - !", "us 0.0 30.0 200.0 15 % !"]);
        let lines: Vec<_> = text.lines().skip(8).collect();
        assert_eq!(
            lines,
            [
                "! shop/cart in ap: 25.0 requests a second would come, the limit is 15.0: what is beyond goes on to the \
                 next place that may take it",
                "! shop/cart in us: 42.5 requests a second would come, the limit is 30.0: what is beyond goes on to the \
                 next place that may take it",
                "! shop/cart from ap: 5.0 of 50.0 requests a second are refused: every place that may take them is at its \
                 limit",
                "! the clients of eu are left out: they are gone with it; a drain or a drill keeps them: --drained eu",
                "! shares of us are moving (shop/cart from ap at 30 % on its way to 100 %); THEN is when they have come to \
                 rest",
                "",
                "services with nowhere to go",
                "! shop/pay from ap, 2.0 requests a second: only eu can serve it",
            ]
        );
    }
}
