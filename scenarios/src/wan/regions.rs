//! Round trips between regions, as public clouds have them: near neighbours 30 ms, over an ocean 80 and more.

use std::time::Duration;

/// The regions of the demo, in the order of [`ROUND_TRIPS_MS`].
const REGIONS: [&str; 9] =
    ["us-east", "us-west", "eu-west", "eu-north", "ap-south", "ap-east", "sa-east", "af-south", "me-central"];
/// Row by row, each region with those before it.
const ROUND_TRIPS_MS: [&[u64]; 9] = [
    &[],
    &[30],
    &[80, 140],
    &[110, 160, 35],
    &[190, 220, 120, 145],
    &[200, 150, 200, 180, 90],
    &[115, 170, 185, 210, 300, 310],
    &[225, 280, 150, 175, 240, 290, 330],
    &[165, 210, 90, 110, 40, 130, 255, 195],
];
/// To a region that is not listed, such as that of a witness.
const ELSEWHERE: Duration = Duration::from_millis(50);

/// The round trip between two regions; none inside one.
#[must_use]
pub fn round_trip(one: &str, other: &str) -> Duration {
    let place = |name: &str| REGIONS.iter().position(|region| *region == name);
    match (place(one), place(other)) {
        _ if one == other => Duration::ZERO,
        (Some(a), Some(b)) => {
            let known = ROUND_TRIPS_MS.get(a.max(b)).and_then(|row| row.get(a.min(b)));
            known.map_or(ELSEWHERE, |ms| Duration::from_millis(*ms))
        }
        _ => ELSEWHERE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::bookinfo;

    #[test]
    fn the_three_first_regions_are_30_80_and_140_ms_apart_and_every_pair_is_known_both_ways() {
        let ms = |one, other| round_trip(one, other).as_millis();
        assert_eq!([ms("us-east", "us-west"), ms("eu-west", "us-east"), ms("us-west", "eu-west")], [30, 80, 140]);
        let plan = bookinfo::plan(bookinfo::MOST_CLUSTERS, 1).unwrap();
        for (place, one) in REGIONS.iter().enumerate() {
            assert_eq!(plan.clusters[place].region, *one);
            assert_eq!(ROUND_TRIPS_MS[place].len(), place);
            assert!(REGIONS.iter().all(|other| round_trip(one, other) == round_trip(other, one)));
        }
        assert_eq!((ms("us-east", "us-east"), ms("us-east", "witness")), (0, 50));
    }
}
