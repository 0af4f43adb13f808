//! Durations as Istio writes them (`google.protobuf.Duration` and Go's): `1.5s`, `300ms`, `1h`, `2m30s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

const UNITS: [(&str, f64); 5] = [("ms", 0.001), ("us", 0.000_001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// Parses one; `None`: it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let (unit, scale) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * scale;
        rest = tail.get(unit.len()..)?;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

/// For serde's `deserialize_with` on an `Option<Duration>`.
///
/// # Errors
/// When the text is no duration.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || D::Error::custom(format!("{text:?} is no duration; write it as 1.5s, 300ms or 1h"));
    parse(&text).map(Some).ok_or_else(wrong)
}

/// For serde's `with` on a `Duration` that is written as it is read.
pub mod text {
    use std::time::Duration;

    use serde::{Deserializer, Serializer, de::Error};

    /// As seconds, or milliseconds where there is a rest.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::written(*duration))
    }

    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::optional(deserializer)?.ok_or_else(|| D::Error::custom("a duration is missing"))
    }
}

/// For serde's `with` on an `Option<Duration>` that is written as it is read.
pub mod optional_text {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&super::written(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::optional(deserializer)
    }
}

/// As [`parse`] reads it: whole hours, minutes or seconds, else milliseconds.
#[must_use]
pub fn written(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match () {
        () if millis % 1000 != 0 => format!("{millis}ms"),
        () if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        () if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_it_was() {
        for millis in [0, 1, 1500, 2000, 60_000, 90_000, 3_600_000, 5_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&written(duration)), Some(duration), "{}", written(duration));
        }
        assert_eq!([600, 7200, 90].map(|seconds| written(Duration::from_secs(seconds))), ["10m", "2h", "90s"]);
    }

    #[test]
    fn durations_read_as_istio_writes_them() {
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("2m30s"), Some(Duration::from_secs(150)));
        assert_eq!(parse("300ms"), Some(Duration::from_millis(300)));
        for bad in ["", "5", "s", "1x", "-1s", "1.2.3s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
