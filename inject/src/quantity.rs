//! Amounts of CPU and memory as Kubernetes writes them: `250m`, `1.5`, `64Mi`, `1e3`.
//!
//! Source: Kubernetes API reference, "Quantity". The text is kept as it was written; the amount is for comparing.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An amount that is not negative.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    text: String,
    nano: i128,
}

/// A text that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no amount; write a number with a unit, such as 250m, 2, 64Mi or 1G")]
pub struct NoQuantity;

/// Longest amount that is read: any longer one is no amount of anything.
const MAX_TEXT: usize = 24;
/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// Units below one in billionths, the others in ones.
const SMALL: [(&str, i128); 3] = [("n", 1), ("u", 1_000), ("m", 1_000_000)];
const LARGE: [(&str, i128); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", NANO),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

impl FromStr for Quantity {
    type Err = NoQuantity;
    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let nano = nano(text).ok_or(NoQuantity)?;
        Ok(Self { text: text.to_owned(), nano })
    }
}

fn nano(text: &str) -> Option<i128> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let one = nano_of(unit)?;
    let divisor = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    digits.checked_mul(one)?.checked_div(divisor)
}

/// How many billionths a unit is.
fn nano_of(unit: &str) -> Option<i128> {
    let find = |units: &[(&str, i128)]| units.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
    if let Some(nano) = find(&SMALL).or_else(|| find(&LARGE)?.checked_mul(NANO)) {
        return Some(nano);
    }
    let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Not below billionths: what is smaller is nothing anyway.
    10i128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Quantity {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: NoQuantity| format!("{text:?} {error}"))
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn amounts_are_what_kubernetes_takes_them_for() {
        for (left, right) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1Ki", "1024"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("2E", "2000P"),
            ("1.5Gi", "1536Mi"),
            ("1000u", "1m"),
            ("1e-3", "1m"),
        ] {
            assert_eq!(of(left), of(right), "{left} {right}");
        }
        assert!(of("1M") < of("1Mi") && of("999m") < of("1"));
        assert_eq!(of("0064Mi").to_string(), "0064Mi", "the text stays");
        for bad in ["", "lots", ".", "-1", "+1", "1 Gi", "1gi", "1KiB", "1e", "1.2.3", "1e99", "0x10", "½", "1é"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }
}
