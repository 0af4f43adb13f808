//! Times as people read them.

use std::time::Duration;

use chrono::{DateTime, Local};

/// A while in its two largest units: `45s`, `3m 20s`, `2h 5m`, `1d 3h`.
pub fn span(seconds: u64) -> String {
    let two = |whole: u64, unit: &str, rest: u64, lesser: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit} {rest}{lesser}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A moment of Unix milliseconds as the local time of day, with the date where that is not today's.
pub fn time_of_day(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(DateTime::from_timestamp_millis);
    at.map_or_else(|| "-".into(), |at| written(at.with_timezone(&Local), Local::now()))
}

fn written(at: DateTime<Local>, now: DateTime<Local>) -> String {
    let form = if at.date_naive() == now.date_naive() { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
    at.format(form).to_string()
}

/// The local time of day so long from now.
pub fn from_now(after: Duration) -> String {
    let after = chrono::Duration::from_std(after).ok();
    let at = after.and_then(|after| Local::now().checked_add_signed(after));
    at.map_or_else(|| "-".into(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_reads_in_its_two_largest_units() {
        let spans = [0, 45, 60, 200, 3600, 7500, 86_400, 97_200].map(span);
        assert_eq!(spans, ["0s", "45s", "1m", "3m 20s", "1h", "2h 5m", "1d", "1d 3h"]);
    }

    #[test]
    fn a_moment_of_another_day_has_its_date() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Local);
        let noon = at("2026-11-27T12:00:00.5Z");
        assert!(written(noon, noon).ends_with(":00.500") && !written(noon, noon).contains("2026"));
        assert!(written(noon, at("2026-12-01T12:00:00Z")).starts_with("2026-11-2"));
    }
}
