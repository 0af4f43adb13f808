//! Join tokens as text: whatever is pasted is a token or a refusal that says what to do, never a panic.

use isthmus_federation::{
    state::Blob,
    token::{Token, hash},
};
use proptest::prelude::*;

fn token(cluster: String, addresses: Vec<String>, secret: Vec<u8>) -> Token {
    Token {
        mesh: "mesh.local".into(),
        cluster,
        id: "id".into(),
        secret: Blob(secret),
        addresses,
        roots: vec![Blob(vec![1])],
        trust_domain: "east.mesh.local".into(),
        issuer: "east".into(),
        expires: 1,
    }
}

proptest! {
    #[test]
    fn no_pasted_text_breaks_it(text in "\\PC{0,200}", code in "[A-Za-z0-9_-]{0,200}") {
        for text in [text, format!("isthmus1.{code}"), format!(" isthmus1.{code}=\n")] {
            match Token::parse(&text) {
                Ok(_) => {}
                Err(refusal) => {
                    prop_assert!(refusal.error.contains("no join token") && refusal.remedy.contains("copy it whole"));
                }
            }
        }
    }

    #[test]
    fn a_token_with_a_changed_or_missing_character_is_never_the_token(cluster in "[a-z]{1,10}", at in any::<proptest::sample::Index>(), character in "[A-Za-z0-9_-]") {
        let whole = token(cluster, vec!["10.0.0.1:15443".into()], vec![3; 32]);
        let text = whole.text();
        let at = at.index(text.len());
        let changed = format!("{}{character}{}", &text[..at], &text[at + 1..]);
        let missing = format!("{}{}", &text[..at], &text[at + 1..]);
        for other in [changed, missing].into_iter().filter(|other| *other != text) {
            // What still reads is caught by what it says: the mesh keeps the hash of the secret, and all the rest.
            if let Ok(read) = Token::parse(&other) {
                prop_assert!(read != whole, "{other}");
            }
        }
        prop_assert_eq!(Token::parse(&text), Ok(whole));
    }

    #[test]
    fn no_other_secret_has_the_hash(one in proptest::collection::vec(any::<u8>(), 0..40), other in proptest::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(hash(&one) == hash(&other), one == other);
    }
}
