//! Text and bytes from files and peers: read, or refused with what is wrong; never a panic.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::{path::Path, str::FromStr, time::SystemTime};

use hickory_proto::rr::{Name, RecordType};
use isthmus_core::name::{ClusterName, EndpointId, ServiceName, SpiffeId, TrustDomain};
use isthmus_runtime::{
    config::{Common, parse_yaml},
    dns::{Host, Table, zone},
    enrolment::Enrolment,
    pass, tls,
    trust::TrustRoots,
};
use isthmus_wire::tunnel::SignedHeader;
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;

const GOOD: &str = "mesh: mesh.local\ncluster: us-east\nlocality: {region: us-east, zone: us-east-a}\nname: x\n\
                    address: 127.1.1.1\nstate_dir: /s\nenrolment: /e\n";

fn table() -> Table {
    Table::new([("reviews.bookinfo.svc.clusterset.local".to_owned(), Host::default())])
}

proptest! {
    #[test]
    fn any_text_as_configuration_is_read_or_refused_with_the_file(text in "\\PC{0,200}", yaml in "[ \\-a-z:{}\\[\\]&*!|>'\"#%@\n]{0,120}") {
        for text in [text, yaml.clone(), format!("{GOOD}{yaml}")] {
            if let Err(error) = parse_yaml::<Common>(Path::new("role.yaml"), &text) {
                prop_assert!(error.to_string().starts_with("role.yaml:"), "{error}");
            }
        }
    }

    #[test]
    fn a_good_file_with_a_changed_character_is_read_or_refused_with_the_file(at in any::<proptest::sample::Index>(), character: char) {
        let mut text: Vec<char> = GOOD.chars().collect();
        let at = at.index(text.len());
        text[at] = character;
        let text: String = text.into_iter().collect();
        if let Err(error) = parse_yaml::<Common>(Path::new("role.yaml"), &text) {
            prop_assert!(error.to_string().starts_with("role.yaml:"), "{error}");
        }
    }

    #[test]
    fn any_name_is_answered_by_the_zone_or_passed_on(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..6), ours: bool, kind: u16) {
        let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap();
        if ours {
            name = name.append_domain(&Name::from_str("svc.clusterset.local.").unwrap()).unwrap();
        }
        let answer = zone::answer(Some(&table()), &zone::DOMAINS, &name, RecordType::from(kind));
        prop_assert!(!ours || answer != zone::Answer::Elsewhere, "{name} is below our domain");
    }

    #[test]
    fn any_text_is_a_name_or_an_error_that_shows_it(text in "\\PC{0,80}") {
        let _ = ServiceName::from_host(&text);
        let errors = [
            text.parse::<ClusterName>().err(), text.parse::<TrustDomain>().err(), text.parse::<SpiffeId>().err(),
            text.parse::<EndpointId>().err(), text.parse::<ServiceName>().err(),
        ];
        for error in errors.into_iter().flatten() {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_name_read_back_is_the_name(namespace in "[a-z]{1,8}", service in "[a-z][a-z0-9-]{0,8}[a-z0-9]") {
        let name = ServiceName::new(&namespace, &service).unwrap();
        prop_assert_eq!(ServiceName::from_host(&name.clusterset_host()).unwrap().0, name);
    }

    #[test]
    fn no_bytes_are_a_pass_a_certificate_or_a_chain(header in proptest::collection::vec(any::<u8>(), 0..100), ticket in proptest::collection::vec(any::<u8>(), 0..100), mac in proptest::collection::vec(any::<u8>(), 0..40)) {
        let signed = SignedHeader { header: header.clone(), ticket, mac };
        prop_assert!(pass::verify_signed_header(&[vec![1; 32]], &signed, SystemTime::now()).is_err());
        let certificate = CertificateDer::from(header);
        prop_assert!(tls::spiffe_of(&certificate).is_err());
        prop_assert!(tls::verify_chain(&TrustRoots::new(), &[certificate.clone(), certificate], SystemTime::now()).is_err());
    }

    #[test]
    fn any_bytes_as_an_enrolment_file_are_refused_with_its_name(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("enrolment.json");
        std::fs::write(&file, bytes).unwrap();
        let error = Enrolment::read(&file).unwrap_err().to_string();
        prop_assert!(error.contains("enrolment.json"), "{error}");
    }
}

#[test]
fn a_file_that_unfolds_without_end_or_nests_without_end_is_refused() {
    let mut laughs = String::from("a0: &a0 [x, x]\n");
    for depth in 1..40 {
        let below = depth - 1;
        laughs.push_str(&format!("a{depth}: &a{depth} [*a{below}, *a{below}, *a{below}, *a{below}]\n"));
    }
    let nested = format!("name: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [laughs, nested, "- ".repeat(50_000), "{a: ".repeat(50_000)] {
        let error = parse_yaml::<Common>(Path::new("role.yaml"), &text).unwrap_err().to_string();
        assert!(error.starts_with("role.yaml:") && error.len() < 1_000, "{error:.300}");
    }
}
