//! The outcome of a simulation as people read it.

use isthmus_core::name::ClusterName;

use super::outcome::{Nowhere, Outcome, Strain, Survivor};
use crate::{
    failover::status::{parts, percent},
    table,
};

pub fn drawn(outcome: &Outcome) -> String {
    let down = outcome.down.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    let services = outcome.services.iter().map(|one| {
        let rate = format!("{:.1}", one.requests_per_second);
        vec![one.service.clone(), one.importer.clone(), rate, parts(&one.now), parts(&one.then)]
    });
    let mut text = format!("if {down} were down\n");
    text.push_str(&table::of(&["SERVICE", "IMPORTER", "REQ/S", "NOW", "THEN"], services));
    let clusters = outcome.clusters.iter().map(survivor);
    text.push_str("\n\n");
    text.push_str(&table::of(&["CLUSTER", "REQ/S NOW", "THEN", "CAPACITY", "OF CAPACITY THEN"], clusters));
    text.push('\n');
    for one in &outcome.clusters {
        text.extend(one.strains.iter().map(|strain| strained(&one.cluster, strain)));
    }
    text.push('\n');
    match outcome.nowhere.is_empty() {
        true => text.push_str("every service would have somewhere to go\n"),
        false => text.push_str("services with nowhere to go\n"),
    }
    text.extend(outcome.nowhere.iter().map(lost));
    text
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
            "! {service} in {cluster}: {wanted:.1} requests a second would come, the limit is {room:.1}: {:.1} a second \
             are refused\n",
            wanted - room
        ),
        false => format!(
            "! {service} in {cluster}: {wanted:.1} requests a second would come, {} of what its endpoints can take \
             ({room:.1})\n",
            percent(wanted / room)
        ),
    }
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
    use super::*;
    use crate::failover::simulate::outcome::tests::{name, one};

    #[test]
    fn what_would_go_where_is_told_with_what_would_be_refused_and_lost() {
        let mut then = one("shop/cart", "ap", 50.0, &[("us", 0.75), ("ap", 0.25)]);
        then.limits = [(name("us"), 30.0)].into();
        let rows = vec![then, one("shop/pay", "ap", 2.0, &[])];
        let text = drawn(&Outcome::of([name("eu")].into(), rows, vec![]));
        let cells = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(cells(0), "if eu were down");
        assert_eq!(cells(2), "shop/cart ap 50.0 eu 100 % us 75 %, ap 25 %");
        assert_eq!(cells(3), "shop/pay ap 2.0 eu 100 % nowhere");
        assert_eq!(cells(7), "us 0.0 37.5 200.0 19 % !");
        assert_eq!(
            cells(8),
            "! shop/cart in us: 37.5 requests a second would come, the limit is 30.0: 7.5 a second are refused"
        );
        assert!(
            text.ends_with(
                "services with nowhere to go\n! shop/pay from ap, 2.0 requests a second: only eu can serve it\n"
            ),
            "{text}"
        );
    }
}
