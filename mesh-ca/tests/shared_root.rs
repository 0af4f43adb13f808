//! Clusters whose authorities have one root, as Istio's users have them: no cluster names anybody of another one, and an
//! authority is replaced by the next one with nobody noticing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod support;

use std::time::SystemTime;

use isthmus_ca::{Ca, Plugged, Settings, shared};
use isthmus_core::name::SpiffeId;
use isthmus_runtime::{
    identity::{Identity, Leaf},
    tls::{self, PeerRefused},
    trust::TrustRoots,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use support::{Authority, ca, read};

/// A leaf that the holder of `authority` makes up for `id`, with the chain to the root.
fn made_up(authority: &Authority, id: &str) -> Vec<CertificateDer<'static>> {
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_ca_cert_pem(&authority.pem, KeyPair::from_pem(&authority.key).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
    vec![leaf, CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()]
}

#[test]
fn a_leaf_of_one_clusters_authority_with_anothers_name_is_refused_though_the_root_is_the_same() {
    let root = Authority::root(|_| {});
    let (east, west) = (root.intermediate(|_| {}), root.intermediate(|_| {}));
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let of_east = ca(&dirs[0], "east", &east.entries(&[], &root));
    let of_west = ca(&dirs[1], "west", &west.entries(&[], &root));
    // What each tells the others of itself, and nothing more.
    let mut known = TrustRoots::new();
    for ca in [&of_east, &of_west] {
        ca.roots().into_iter().for_each(|root| known.add(ca.trust_domain(), root));
    }
    let (control, now) = ("spiffe://west.mesh.test/ns/isthmus-system/sa/control", SystemTime::now());
    let forged = made_up(&east, control);
    let refused = tls::verify_chain(&known, &forged, now).unwrap_err();
    assert!(matches!(refused, PeerRefused::ForeignRoot { .. }), "{refused}");
    // Also with the other's own intermediate beside it, which anybody can have.
    let mut both = forged;
    both.extend(made_up(&west, control).split_off(1));
    assert!(matches!(tls::verify_chain(&known, &both, now), Err(PeerRefused::ForeignRoot { .. })));
    // And also where nobody but its own control is known yet: a pod that starts.
    assert!(tls::verify_chain(&of_west.trust_roots(), &both, now).is_err());
    // The forgery is a good one: by the root alone it would have passed.
    let by_root = TrustRoots::from_pem(of_west.trust_domain(), [root.pem.as_str()]);
    assert_eq!(tls::verify_chain(&by_root, &both, now).unwrap().to_string(), control);
    // And what is right passes.
    let right = of_west.issue_local(&control.parse().unwrap()).unwrap();
    tls::verify_chain(&known, right.chain(), now).unwrap();
}

fn cart(ca: &Ca) -> Leaf {
    let id = SpiffeId::new(ca.trust_domain().clone(), "shop", "cart").unwrap();
    ca.issue_local(&id).unwrap()
}

/// Whether one that knows what `ca` tells now believes `leaf`.
fn believes(ca: &Ca, leaf: &Leaf) -> bool {
    let known = Identity::new(cart(ca), ca.trust_roots()).trust();
    tls::verify_chain(&known, leaf.chain(), SystemTime::now()).is_ok()
}

#[test]
fn an_authority_is_announced_before_it_signs_and_believed_until_its_last_leaf_is_over() {
    let root = Authority::root(|_| {});
    let (old, new) = (root.intermediate(|_| {}), root.intermediate(|_| {}));
    let (old, new) = (old.entries(&[], &root), new.entries(&[], &root));
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(&dir, "east", &old);
    let mut changes = ca.watch_roots();
    let early = ca.trust_roots();
    let before = cart(&ca);
    let next = read(&new).unwrap();
    assert!(ca.signs_with(&read(&old).unwrap()) && !ca.signs_with(&next));
    ca.announce(&next).unwrap();
    assert!(changes.has_changed().unwrap() && changes.borrow_and_update().len() == 2);
    assert!(tls::verify_chain(&early, cart(&ca).chain(), SystemTime::now()).is_ok(), "it does not sign yet");
    ca.sign_with(next).unwrap();
    let after = cart(&ca);
    assert!(tls::verify_chain(&early, after.chain(), SystemTime::now()).is_err(), "it does now");
    assert!(believes(&ca, &before) && believes(&ca, &after));
    // A restart forgets nothing, and what is over is let go of.
    let again = support::ca(&dir, "east", &new);
    assert!(believes(&again, &before) && believes(&again, &after));
    let life = Settings::default().leaf_ttl;
    again.forget_retired(SystemTime::now() + life).unwrap();
    assert!(believes(&again, &before) && believes(&again, &after));
    again.forget_retired(SystemTime::now() + life + life / 12).unwrap();
    assert!(!believes(&again, &before) && believes(&again, &after));
}

#[test]
fn an_authority_that_was_the_clusters_own_is_succeeded_by_one_that_is_brought_along() {
    let dir = tempfile::tempdir().unwrap();
    let (mesh, cluster) = ("mesh.test".parse().unwrap(), "east".parse().unwrap());
    let own = Ca::open_or_create(dir.path(), &mesh, &cluster, Settings::default()).unwrap();
    let before = cart(&own);
    // As files of a cluster that never had a successor in mind are.
    std::fs::remove_file(dir.path().join("anchors.json")).unwrap();
    let root = Authority::root(|_| {});
    let plugged = ca(&dir, "east", &root.intermediate(|_| {}).entries(&[], &root));
    assert!(believes(&plugged, &before) && believes(&plugged, &cart(&plugged)));
    assert!(tls::verify_chain(&own.trust_roots(), cart(&plugged).chain(), SystemTime::now()).is_err());
}

#[test]
fn what_signed_until_it_was_over_gives_way_to_what_is_brought_along_also_where_an_older_copy_is() {
    let root = Authority::root(|_| {});
    let hour = std::time::Duration::from_secs(3600);
    let soon = (SystemTime::now() + hour).into();
    let old = root.intermediate(|params| params.not_after = soon).entries(&[], &root);
    let new = root.intermediate(|_| {}).entries(&[], &root);
    let dir = tempfile::tempdir().unwrap();
    let signing = |ca: &Ca| ca.proposal(SystemTime::now()).unwrap()[shared::SIGNING].clone();
    let first = ca(&dir, "east", &old);
    let (before, domain) = (signing(&first), first.trust_domain().clone());
    assert!(Plugged::kept(dir.path(), &domain, SystemTime::now()).unwrap().is_some());
    let over = Plugged::kept(dir.path(), &domain, SystemTime::now() + hour * 2).err().unwrap().to_string();
    assert!(over.contains("signing.json") && over.contains("expired"), "{over}");
    let after = signing(&ca(&dir, "east", &new));
    assert_eq!(signing(&ca(&dir, "east", &new)), after, "a restart changes nothing");
    assert_eq!(shared::merged(shared::SIGNING, &before, &after), None);
    assert_eq!(shared::merged(shared::SIGNING, &after, &before), Some(after));
}
