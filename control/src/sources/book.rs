//! The file book: which content of each file is in force.
//!
//! A bad file is refused by itself: the last good content of that file stays in force, over restarts too, because
//! the book gives out the texts to keep. A deleted file is gone. What cannot be listed changes nothing.

use std::collections::BTreeMap;

use isthmus_core::compile::finding;
use serde::{Deserialize, Serialize};

/// Why a file, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// The file's name in the directory, or the object's in the API server.
    pub file: String,
    /// Line, from 1; 0: there are none, or it is the whole file.
    pub line: u64,
    /// The field, as a path; empty: not known.
    pub field: String,
    /// Of which kind it is.
    #[serde(default)]
    pub kind: finding::Kind,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.reason)
    }
}

#[derive(Debug)]
struct Page<T> {
    /// What was read last, good or bad.
    seen: Option<String>,
    /// What is in force: its text and what it means.
    good: Option<(String, T)>,
    faults: Vec<Fault>,
}

/// All files of a directory.
#[derive(Debug)]
pub struct Book<T> {
    pages: BTreeMap<String, Page<T>>,
}

impl<T> Default for Book<T> {
    fn default() -> Self {
        Self { pages: BTreeMap::new() }
    }
}

/// One listing of the directory: each file's text, or why it cannot be read.
pub type Listing = BTreeMap<String, Result<String, String>>;

impl<T> Book<T> {
    /// With the last good texts of an earlier run; texts that this build no longer understands are left out.
    #[must_use]
    pub fn restored(texts: BTreeMap<String, String>, parse: impl Fn(&str, &str) -> Result<T, Vec<Fault>>) -> Self {
        let page = |(file, text): (String, String)| {
            let meaning = parse(&file, &text).ok()?;
            Some((file, Page { seen: None, good: Some((text, meaning)), faults: vec![] }))
        };
        Self { pages: texts.into_iter().filter_map(page).collect() }
    }

    /// Takes a listing of the whole directory. Returns whether what is in force, or a fault, changed.
    pub fn see(&mut self, listing: Listing, parse: impl Fn(&str, &str) -> Result<T, Vec<Fault>>) -> bool {
        let before = self.pages.len();
        self.pages.retain(|file, _| listing.contains_key(file));
        let mut changed = before != self.pages.len();
        for (file, content) in listing {
            let page = self.pages.entry(file.clone()).or_insert(Page { seen: None, good: None, faults: vec![] });
            changed |= match content {
                Ok(text) => page.read(&file, text, &parse),
                Err(reason) => page.unreadable(&file, reason),
            };
        }
        changed
    }

    /// What is in force, file by file.
    pub fn in_force(&self) -> impl Iterator<Item = (&str, &T)> {
        self.pages.iter().filter_map(|(file, page)| Some((file.as_str(), &page.good.as_ref()?.1)))
    }

    /// The texts in force, to keep on disk.
    #[must_use]
    pub fn texts(&self) -> BTreeMap<String, String> {
        let text = |(file, page): (&String, &Page<T>)| Some((file.clone(), page.good.as_ref()?.0.clone()));
        self.pages.iter().filter_map(text).collect()
    }

    /// Each file with its faults, and whether some content of it is in force.
    pub fn files(&self) -> impl Iterator<Item = (&str, bool, &[Fault])> {
        self.pages.iter().map(|(file, page)| (file.as_str(), page.good.is_some(), page.faults.as_slice()))
    }
}

impl<T> Page<T> {
    fn read(&mut self, file: &str, text: String, parse: impl Fn(&str, &str) -> Result<T, Vec<Fault>>) -> bool {
        if self.seen.as_ref() == Some(&text) && self.faults.iter().all(|fault| fault.field != UNREADABLE) {
            return false;
        }
        match parse(file, &text) {
            Ok(meaning) => {
                let changed = !self.faults.is_empty() || self.good.as_ref().is_none_or(|(good, _)| *good != text);
                self.faults.clear();
                self.good = Some((text.clone(), meaning));
                self.seen = Some(text);
                changed
            }
            Err(faults) => {
                self.faults = faults;
                self.seen = Some(text);
                true
            }
        }
    }

    fn unreadable(&mut self, file: &str, reason: String) -> bool {
        let fault =
            Fault { file: file.to_owned(), line: 0, field: UNREADABLE.into(), kind: finding::Kind::Invalid, reason };
        let changed = self.faults != [fault.clone()];
        self.faults = vec![fault];
        changed
    }
}

/// Stands where the field would, when the file itself cannot be read.
const UNREADABLE: &str = "(file)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_changed_to_nonsense_goes_on_forbidding_what_it_forbade() {
        let policy = |share: &str| {
            let spec = format!("spec: {{constraints: {{never: [eu-west]}}, leave: {{healthyShare: {share}}}}}");
            let head = "apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: p, namespace: n}";
            Listing::from([("p.yaml".into(), Ok(format!("{head}\n{spec}\n")))])
        };
        let mut book = Book::default();
        book.see(policy("0.7"), crate::compiler::parse);
        let good = format!("{:?}", book.in_force().collect::<Vec<_>>());
        assert!(book.see(policy("7"), crate::compiler::parse));
        assert_eq!(format!("{:?}", book.in_force().collect::<Vec<_>>()), good);
        let (_, in_force, faults) = book.files().next().unwrap();
        assert!(in_force && faults[0].field == "spec.leave.healthyShare", "{faults:?}");
    }

    fn parse(file: &str, text: &str) -> Result<u32, Vec<Fault>> {
        text.parse().map_err(|error: std::num::ParseIntError| {
            let (kind, reason) = (finding::Kind::Invalid, error.to_string());
            vec![Fault { file: file.into(), line: 1, field: "number".into(), kind, reason }]
        })
    }

    fn listing(files: &[(&str, &str)]) -> Listing {
        files.iter().map(|(file, text)| ((*file).to_owned(), Ok((*text).to_owned()))).collect()
    }

    fn in_force(book: &Book<u32>) -> Vec<(&str, u32)> {
        book.in_force().map(|(file, meaning)| (file, *meaning)).collect()
    }

    #[test]
    fn a_bad_file_is_refused_by_itself_and_its_last_good_content_stays() {
        let mut book = Book::default();
        assert!(book.see(listing(&[("a", "1"), ("b", "2")]), parse));
        assert!(!book.see(listing(&[("a", "1"), ("b", "2")]), parse));
        assert!(book.see(listing(&[("a", "x"), ("b", "3")]), parse));
        assert_eq!(in_force(&book), [("a", 1), ("b", 3)]);
        assert_eq!(book.files().filter(|(_, _, faults)| !faults.is_empty()).count(), 1);
        assert!(!book.see(listing(&[("a", "x"), ("b", "3")]), parse), "said once");
        assert!(book.see(listing(&[("a", "1"), ("b", "3")]), parse), "back to the good one: the fault is gone");
        assert!(book.files().all(|(_, good, faults)| good && faults.is_empty()));
    }

    #[test]
    fn last_good_content_survives_a_restart_and_a_deleted_file_does_not() {
        let mut book = Book::default();
        book.see(listing(&[("a", "1"), ("b", "2")]), parse);
        book.see(listing(&[("a", "x"), ("b", "2")]), parse);
        let mut again = Book::restored(book.texts(), parse);
        again.see(listing(&[("a", "x")]), parse);
        assert_eq!(in_force(&again), [("a", 1)]);
        assert_eq!(again.files().next().unwrap().2.len(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_its_content_and_says_so_until_it_can() {
        let mut book = Book::default();
        book.see(listing(&[("a", "1")]), parse);
        let unreadable: Listing = [("a".to_owned(), Err("permission denied".to_owned()))].into();
        assert!(book.see(unreadable.clone(), parse));
        assert!(!book.see(unreadable, parse));
        assert_eq!(in_force(&book), [("a", 1)]);
        assert!(book.see(listing(&[("a", "1")]), parse));
        assert!(book.files().all(|(_, _, faults)| faults.is_empty()));
    }
}
