//! A certificate authority in the layout of Istio's `cacerts`: what is taken, and what is refused in which words.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::time::{Duration, SystemTime};

use isthmus_ca::{
    Plugged,
    enrol::{Asked, mint_plugged},
    plugged::{CERTIFICATE, CHAIN, Entries, KEY, ROOT},
};
use isthmus_runtime::{enrolment::system_identity, tls, trust::TrustRoots};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use support::{Authority, PLACE, ca, read};
use time::OffsetDateTime;

const ISTIO: [(&str, &str); 4] = [
    (CERTIFICATE, include_str!("istio/ca-cert.pem")),
    (KEY, include_str!("istio/ca-key.pem")),
    (ROOT, include_str!("istio/root-cert.pem")),
    (CHAIN, include_str!("istio/cert-chain.pem")),
];
const RSA_PKCS8: &str = include_str!("istio/ca-key-pkcs8.pem");
const EC_SEC1: &str = include_str!("istio/ec-key-sec1.pem");
const HOUR: Duration = Duration::from_secs(3600);

fn istio() -> Entries {
    ISTIO.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into()
}

/// What is wrong with `entries`, after `change`.
fn refused(mut entries: Entries, change: impl FnOnce(&mut Entries)) -> String {
    change(&mut entries);
    read(&entries).err().unwrap().to_string()
}

fn put(entries: &mut Entries, name: &str, text: impl Into<Vec<u8>>) {
    entries.insert(name.to_owned(), text.into());
}

#[test]
fn what_istios_tools_make_signs_leaves_that_hold_under_it_and_under_its_root() {
    for key in [ISTIO[1].1, RSA_PKCS8] {
        let (mut entries, dir) = (istio(), tempfile::tempdir().unwrap());
        put(&mut entries, KEY, key);
        let ca = ca(&dir, "east", &entries);
        let id = system_identity(ca.trust_domain(), "gateway").unwrap();
        let leaf = ca.issue_local(&id).unwrap();
        let now = SystemTime::now();
        assert_eq!(tls::verify_chain(&ca.trust_roots(), leaf.chain(), now).unwrap(), id);
        let by_root = TrustRoots::from_pem(ca.trust_domain(), [ISTIO[2].1]);
        assert_eq!(tls::verify_chain(&by_root, leaf.chain(), now).unwrap(), id);
        assert_eq!(leaf.chain().len(), 2, "leaf and intermediate; who has the root needs it not");
        assert_eq!(ca.roots(), [CertificateDer::from_pem_slice(ISTIO[0].1.as_bytes()).unwrap()]);
    }
}

#[test]
fn a_key_of_ecdsa_a_longer_chain_and_a_root_that_signs_itself_will_do() {
    let root = Authority::root(|_| {});
    let middle = root.intermediate(|params| params.distinguished_name.push(rcgen::DnType::CommonName, "Policy CA"));
    let sec1 = KeyPair::from_pem_and_sign_algo(&sec1(), &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let low = middle.intermediate_of(sec1, |_| {});
    let mut entries = low.entries(&[&middle], &root);
    put(&mut entries, KEY, EC_SEC1);
    let dir = tempfile::tempdir().unwrap();
    let long = ca(&dir, "east", &entries);
    let leaf = long.issue_local(&system_identity(long.trust_domain(), "gateway").unwrap()).unwrap();
    assert_eq!(leaf.chain().len(), 3);
    let by_root = TrustRoots::from_pem(long.trust_domain(), [root.pem.as_str()]);
    tls::verify_chain(&by_root, leaf.chain(), SystemTime::now()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut alone = root.entries(&[], &root);
    alone.remove(CHAIN);
    let by_itself = ca(&dir, "east", &alone);
    let leaf = by_itself.issue_local(&system_identity(by_itself.trust_domain(), "gateway").unwrap()).unwrap();
    assert_eq!(leaf.chain().len(), 1);
    tls::verify_chain(&by_itself.trust_roots(), leaf.chain(), SystemTime::now()).unwrap();
}

/// `openssl ecparam -genkey` writes the curve in front of the key.
fn sec1() -> String {
    EC_SEC1.split_once("-----END EC PARAMETERS-----\n").unwrap().1.to_owned()
}

#[test]
fn each_entry_that_is_missing_or_broken_is_named_with_the_secret_the_reason_and_the_remedy() {
    let said = |name: &str, text: Option<&str>| {
        refused(istio(), |entries| match text {
            Some(text) => put(entries, name, text),
            None => drop(entries.remove(name)),
        })
    };
    for name in [CERTIFICATE, KEY, ROOT] {
        let error = said(name, None);
        assert_eq!(
            error,
            format!(
                "{PLACE}, entry {name}: it is missing; write all four as Istio's plug-in CA certificates are: ca-cert.pem, \
                 ca-key.pem, root-cert.pem and cert-chain.pem, in PEM"
            )
        );
    }
    let cut = &ISTIO[1].1[..900];
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for broken in ["", "hello", cut, encrypted, no_key, ISTIO[0].1] {
        let error = said(KEY, Some(broken));
        assert!(error.contains("entry ca-key.pem: it holds no private key that can be read"), "{error}");
    }
    for other in [KeyPair::generate().unwrap().serialize_pem().as_str(), EC_SEC1] {
        let error = said(KEY, Some(other));
        assert!(error.contains("entry ca-key.pem: it is not the key of ca-cert.pem; write the key"), "{error}");
    }
    assert!(said(CERTIFICATE, Some("")).contains("entry ca-cert.pem: it holds no certificate"));
    assert!(said(ROOT, Some("none")).contains("entry root-cert.pem: it holds no certificate"));
    assert!(said(CHAIN, Some(&ISTIO[3].1[..700])).contains("entry cert-chain.pem: it is no PEM"));
    let other = Authority::root(|_| {}).pem;
    let error = said(ROOT, Some(&other));
    assert!(error.contains("entry cert-chain.pem: it does not lead to root-cert.pem"), "{error}");
}

#[test]
fn no_error_holds_a_byte_of_the_key() {
    let error = refused(istio(), |entries| put(entries, CERTIFICATE, Authority::root(|_| {}).pem));
    assert!(error.contains("is not the key") && ISTIO[1].1.lines().all(|line| !error.contains(line)), "{error}");
}

#[test]
fn what_may_not_sign_or_not_now_is_refused() {
    let root = Authority::root(|_| {});
    let said = |change: fn(&mut rcgen::CertificateParams)| {
        let one = root.intermediate(change);
        refused(one.entries(&[], &root), |_| {})
    };
    let error = said(|params| params.not_after = OffsetDateTime::now_utc() - HOUR / 4);
    assert!(
        error.contains("ca-cert.pem: CN=Intermediate CA, O=Istio expired at ") && error.contains("; renew it"),
        "{error}"
    );
    let error = said(|params| params.not_before = OffsetDateTime::now_utc() + HOUR);
    assert!(error.contains("is not valid before") && error.contains("set the clock"), "{error}");
    let error = said(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(error.contains("is no certificate authority (CA:FALSE)"), "{error}");
    let error = said(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert!(error.contains("no keyCertSign"), "{error}");
    // One for servers alone cannot vouch for clients.
    let error = said(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    assert!(error.contains("Secret isthmus-system/cacerts, entry c"), "{error}");

    let old = Authority::root(|params| params.not_after = OffsetDateTime::now_utc() - HOUR / 4);
    let error = refused(old.intermediate(|_| {}).entries(&[], &old), |_| {});
    assert!(error.contains("root-cert.pem") && error.contains("expired at"), "{error}");
    let middle = root.intermediate(|params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "Policy CA");
        params.not_after = OffsetDateTime::now_utc() - HOUR / 4;
    });
    let error = refused(middle.intermediate(|_| {}).entries(&[&middle], &root), |_| {});
    assert!(error.contains("cert-chain.pem: one of its certificates expired"), "{error}");
}

#[test]
fn no_leaf_outlives_what_signed_it() {
    let root = Authority::root(|_| {});
    let end = OffsetDateTime::now_utc() + HOUR;
    let short = root.intermediate(|params| params.not_after = end);
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(&dir, "east", &short.entries(&[], &root));
    let leaf = ca.issue_local(&system_identity(ca.trust_domain(), "gateway").unwrap()).unwrap();
    assert!(leaf.not_after <= SystemTime::from(end), "and a day was asked for");
    let server = ca.server_leaf(&["isthmus-control.isthmus-system.svc"], 24 * HOUR).unwrap();
    assert!(server.not_after <= SystemTime::from(end) && server.chain.len() == 2);
    // And what was signed for longer, by who has the key, is not believed beyond.
    let over = tls::verify_chain(&ca.trust_roots(), leaf.chain(), SystemTime::from(end) + HOUR);
    assert!(over.unwrap_err().to_string().contains("expired"));
}

#[test]
fn a_directory_holds_the_same_and_processes_enrol_under_what_signs() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (name, text) in ISTIO {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let domain = "east.mesh.test".parse().unwrap();
    let read = || Plugged::read_dir(dir.path(), &domain, SystemTime::now());
    let asked = Asked {
        trust_domain: domain.clone(),
        namespace: "shop",
        service_account: "cart",
        workload: "cart-1",
        ttl: HOUR,
        control: "control:15012",
    };
    let enrolment = mint_plugged(state.path(), &read().unwrap(), &asked).unwrap();
    let (mesh, cluster) = ("mesh.test".parse().unwrap(), "east".parse().unwrap());
    let settings = isthmus_ca::Settings::default();
    let ca = isthmus_ca::Ca::open_plugged(state.path(), &mesh, &cluster, read().unwrap(), settings).unwrap();
    let id = ca.enrolled(&enrolment.token, SystemTime::now()).unwrap();
    let leaf = ca.issue_local(&id).unwrap();
    tls::verify_chain(&enrolment.trust_roots(), leaf.chain(), SystemTime::now()).unwrap();
    assert!(!state.path().join("authority.json").exists(), "no CA of its own is made");
    std::fs::remove_file(dir.path().join(KEY)).unwrap();
    let error = read().err().unwrap().to_string();
    assert!(error.contains(&format!("directory {}, entry ca-key.pem: it is missing", dir.path().display())), "{error}");
}
