//! Configuration files of every kind of wrong: accepted, or refused with the file's name; never a panic, and never a
//! refusal of more than the file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use isthmus_control::compiler::parse;
use proptest::prelude::*;

const GOOD: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: reviews\n  namespace: bookinfo\nspec:\n  selector:\n    app: reviews\n  ports:\n    - name: http\n      port: 9080\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: r\n  namespace: bookinfo\nspec:\n  hosts: [reviews]\n  http:\n    - timeout: 2s\n      route:\n        - destination: {host: reviews}\n          weight: 100\n";

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(faults) = parse("a.yaml", text) {
        prop_assert!(!faults.is_empty());
        for fault in faults {
            prop_assert!(fault.file == "a.yaml" && !fault.reason.is_empty(), "{fault}");
            prop_assert!(fault.line as usize <= text.lines().count() + 1, "{fault}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_accepted_or_refused_by_name(text in "\\PC{0,200}", yaml in "[ \\-a-z0-9:{}\\[\\]&*!|>'\"#%@\n]{0,150}") {
        check(&text)?;
        check(&yaml)?;
        check(&format!("{GOOD}---\n{yaml}"))?;
    }

    #[test]
    fn a_good_file_with_a_changed_cut_or_doubled_part_too(at in any::<proptest::sample::Index>(), to in any::<proptest::sample::Index>(), character: char) {
        let (at, to) = (at.index(GOOD.len()), to.index(GOOD.len()));
        let (at, to) = (at.min(to), at.max(to));
        check(&format!("{}{character}{}", &GOOD[..at], &GOOD[at + 1..]))?;
        check(&format!("{}{}", &GOOD[..at], &GOOD[to..]))?;
        check(&format!("{}{}", &GOOD[..to], &GOOD[at..]))?;
    }

    #[test]
    fn any_value_in_any_field_too(value in "[^\n]{0,30}", line in 0usize..24) {
        let changed: Vec<_> = GOOD.lines().enumerate().map(|(number, text)| match text.split_once(": ") {
            Some((key, _)) if number == line => format!("{key}: {value}"),
            _ => text.to_owned(),
        }).collect();
        check(&changed.join("\n"))?;
    }
}

#[test]
fn the_good_one_is_good_and_what_unfolds_or_nests_without_end_is_refused() {
    assert!(parse("a.yaml", GOOD).is_ok());
    let mut laughs = String::from("a0: &a0 [x, x]\n");
    for depth in 1..40 {
        let below = depth - 1;
        laughs.push_str(&format!("a{depth}: &a{depth} [*a{below}, *a{below}, *a{below}, *a{below}]\n"));
    }
    let nested = format!("spec: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [laughs, nested, "- ".repeat(50_000), "{a: ".repeat(50_000), "---\n".repeat(100_000)] {
        if let Err(faults) = parse("a.yaml", &text) {
            assert!(faults.iter().all(|fault| fault.reason.len() < 1_000));
        }
    }
}
