//! Prometheus text, read as strictly as the exposition format 0.0.4 is written; anything amiss panics with its line.

use std::collections::{BTreeMap, BTreeSet};

/// One line of a scrape.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether it has all these labels.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == *value)
    }
}

/// What was scraped.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Types by family.
    pub types: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// The sum of the samples of this name that have all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples.iter().filter(|one| one.name == name && one.has(labels)).map(|one| one.value).sum()
    }
}

/// Parses a scrape.
pub fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line has an end");
    let (mut scrape, mut family, mut done) = (Scrape::default(), String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if family != name {
                assert!(done.insert(name.to_owned()), "a family is not told in one piece: {line}");
                name.clone_into(&mut family);
            }
            match kind {
                Some("HELP") => assert!(!rest.is_empty(), "{line}"),
                Some("TYPE") => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(scrape.types.insert(name.to_owned(), rest.to_owned()).is_none(), "typed twice: {line}");
                    assert!(!name.ends_with("_total") || rest == "counter", "only counters are totals: {line}");
                }
                _ => panic!("neither HELP nor TYPE: {line}"),
            }
            continue;
        }
        let sample = sample(line);
        let suffixes: &[&str] = if scrape.types.get(&family).is_some_and(|kind| kind == "histogram") {
            &["_bucket", "_sum", "_count"]
        } else {
            &[""]
        };
        let of_family = suffixes.iter().any(|suffix| sample.name == format!("{family}{suffix}"));
        assert!(of_family && scrape.types.contains_key(&family), "outside of its family {family}: {line}");
        scrape.samples.push(sample);
    }
    check(&scrape);
    scrape
}

fn sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no sample: {line}"));
    let (name, mut rest) = line.split_at(name_end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            let (value, behind) = quoted(value, line);
            assert!(is_name(label) && !label.contains(':'), "{line}");
            assert!(labels.insert(label.to_owned(), value).is_none(), "a label twice: {line}");
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number, or something behind it: {line}"));
    Sample { name: name.to_owned(), labels, value }
}

/// Up to the closing quote, unescaped; and what is behind it.
fn quoted<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, escaped @ ('\\' | '"'))) => escaped,
                _ => panic!("no such escape: {line}"),
            }),
            plain => value.push(plain),
        }
    }
    panic!("a value without end: {line}")
}

fn is_name(name: &str) -> bool {
    let fits = |char: char| char.is_ascii_alphanumeric() || "_:".contains(char);
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|char: char| char.is_ascii_digit())
}

fn check(scrape: &Scrape) {
    let mut seen = BTreeSet::new();
    for sample in &scrape.samples {
        assert!(seen.insert((&sample.name, &sample.labels)), "a series twice: {sample:?}");
        let kind = scrape.types.get(&sample.name).map_or("", String::as_str);
        assert!(kind != "counter" || (sample.value >= 0.0 && sample.value.is_finite()), "{sample:?}");
    }
    for histogram in scrape.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        buckets(scrape, histogram);
    }
}

/// Buckets grow, the last is `+Inf`, and it holds as many as there are.
fn buckets(scrape: &Scrape, histogram: &str) {
    let mut last: BTreeMap<BTreeMap<String, String>, (f64, f64)> = BTreeMap::new();
    for sample in scrape.samples.iter().filter(|sample| sample.name == format!("{histogram}_bucket")) {
        let mut labels = sample.labels.clone();
        let bound = labels.remove("le").unwrap_or_else(|| panic!("a bucket without bound: {sample:?}"));
        let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap_or_else(|_| panic!("{sample:?}"));
        let before = last.insert(labels, (bound, sample.value)).unwrap_or((f64::NEG_INFINITY, 0.0));
        assert!(bound > before.0 && sample.value >= before.1, "buckets do not grow: {sample:?}");
    }
    for sample in scrape.samples.iter().filter(|sample| sample.name == format!("{histogram}_count")) {
        assert_eq!(last.get(&sample.labels), Some(&(f64::INFINITY, sample.value)), "{sample:?}");
    }
}
