//! What the mesh's DNS answers: pure, from a table of services to records (RFC 1034, RFC 2782, KEP-1645).
//!
//! `<service>.<namespace>.svc.clusterset.local` has A and SRV records; AAAA says that there is none. NXDOMAIN is said
//! only once the table is there: before, SERVFAIL, so that no resolver remembers an absence that is none.

use std::{collections::BTreeMap, net::Ipv4Addr, str::FromStr};

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA, SRV},
    },
};

/// Domains the mesh answers for.
pub const DOMAINS: [&str; 2] = ["svc.clusterset.local", "svc.cluster.local"];
/// The clusterset's alone.
pub(super) const SET: [&str; 1] = ["svc.clusterset.local"];
/// A name of the set with something behind it.
const SEARCHED: &str = ".svc.clusterset.local.";
/// Seconds an answer, or an absence, may be remembered: services come and go.
const TTL: u32 = 5;

/// A service under one of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Where it is listened for; none: the name exists and has no address here.
    pub address: Option<Ipv4Addr>,
    /// Its ports: name and number.
    pub ports: Vec<(String, u16)>,
}

/// All names, lower case, without the last dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    hosts: BTreeMap<String, Host>,
}

/// What to say.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The name is none of the mesh's: ask elsewhere.
    Elsewhere,
    /// Say this.
    Say {
        /// The code.
        code: ResponseCode,
        /// The answer section.
        records: Vec<Record>,
        /// The authority section of an absence.
        authority: Vec<Record>,
    },
}

impl Table {
    /// From names and hosts.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = (String, Host)>) -> Self {
        Self { hosts: hosts.into_iter().collect() }
    }

    fn is_above(&self, name: &str) -> bool {
        let under = format!(".{name}");
        DOMAINS.iter().any(|domain| *domain == name || domain.ends_with(&under))
            || self.hosts.keys().any(|host| host.ends_with(&under))
    }

    /// `_port._tcp.<host>`, or the host itself: all its ports.
    fn ports_of(&self, name: &str) -> Option<(&str, Vec<u16>)> {
        let mut labels = name.splitn(3, '.');
        let (first, second, rest) = (labels.next()?, labels.next()?, labels.next()?);
        if let (Some(port), "_tcp") = (first.strip_prefix('_'), second) {
            let (key, host) = self.hosts.get_key_value(rest)?;
            let numbers: Vec<_> =
                host.ports.iter().filter(|(name, _)| name == port).map(|(_, number)| *number).collect();
            return (!numbers.is_empty()).then_some((key.as_str(), numbers));
        }
        let (key, host) = self.hosts.get_key_value(name)?;
        Some((key.as_str(), host.ports.iter().map(|(_, number)| *number).collect()))
    }
}

/// Answers a question about a name in these domains; `table` is `None` before the first sync.
#[must_use]
pub fn answer(table: Option<&Table>, domains: &[&'static str], name: &Name, kind: RecordType) -> Answer {
    let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    // Resolvers try their search domains behind a name with few dots before the name itself. None of these exists, whoever
    // has those domains, and a cluster whose own DNS is gone shall not take the set's names away.
    if text.contains(SEARCHED) {
        return say(ResponseCode::NXDomain, vec![], vec![]);
    }
    let Some(domain) = domains.iter().copied().find(|domain| text == *domain || text.ends_with(&format!(".{domain}")))
    else {
        return Answer::Elsewhere;
    };
    let Some(table) = table else { return say(ResponseCode::ServFail, vec![], vec![]) };
    let records = match kind {
        RecordType::A => table.hosts.get(&text).map(|host| addresses(name, host)),
        RecordType::SRV => table.ports_of(&text).map(|(host, ports)| services(name, host, &ports)),
        _ => None,
    };
    match records {
        Some(records) if !records.is_empty() => say(ResponseCode::NoError, records, vec![]),
        _ => {
            let exists = table.hosts.contains_key(&text) || table.ports_of(&text).is_some() || table.is_above(&text);
            let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
            say(code, vec![], authority(domain))
        }
    }
}

fn say(code: ResponseCode, records: Vec<Record>, authority: Vec<Record>) -> Answer {
    Answer::Say { code, records, authority }
}

fn addresses(name: &Name, host: &Host) -> Vec<Record> {
    host.address.map(|address| Record::from_rdata(name.clone(), TTL, RData::A(A(address)))).into_iter().collect()
}

fn services(name: &Name, host: &str, ports: &[u16]) -> Vec<Record> {
    let Ok(target) = Name::from_str(&format!("{host}.")) else { return vec![] };
    let record = |port: &u16| {
        // One target: priority and weight choose nothing. 100 is what Kubernetes' own DNS says for one.
        Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, 100, *port, target.clone())))
    };
    ports.iter().map(record).collect()
}

fn authority(domain: &str) -> Vec<Record> {
    let names = Name::from_str(&format!("{domain}."))
        .and_then(|zone| Ok((zone, Name::from_str(&format!("ns.dns.{domain}."))?, Name::from_str("isthmus.")?)));
    let Ok((zone, server, people)) = names else { return vec![] };
    let soa = SOA::new(server, people, 1, 7200, 1800, 86400, TTL);
    vec![Record::from_rdata(zone, TTL, RData::SOA(soa))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let host = Host { address: Some(Ipv4Addr::new(127, 1, 11, 16)), ports: vec![("http".into(), 9080)] };
        Table::new([("reviews.bookinfo.svc.clusterset.local".to_owned(), host)])
    }

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, usize) {
        match answer(Some(&table()), &DOMAINS, &Name::from_str(name).unwrap(), kind) {
            Answer::Say { code, records, .. } => (code, records.len()),
            Answer::Elsewhere => (ResponseCode::Refused, 99),
        }
    }

    #[test]
    fn what_exists_is_answered_and_what_does_not_is_denied() {
        assert_eq!(ask("Reviews.bookinfo.svc.clusterset.local.", RecordType::A), (ResponseCode::NoError, 1));
        assert_eq!(ask("reviews.bookinfo.svc.clusterset.local.", RecordType::AAAA), (ResponseCode::NoError, 0));
        assert_eq!(ask("reviews.bookinfo.svc.clusterset.local.", RecordType::SRV), (ResponseCode::NoError, 1));
        assert_eq!(
            ask("_http._tcp.reviews.bookinfo.svc.clusterset.local.", RecordType::SRV),
            (ResponseCode::NoError, 1)
        );
        assert_eq!(
            ask("_grpc._tcp.reviews.bookinfo.svc.clusterset.local.", RecordType::SRV),
            (ResponseCode::NXDomain, 0)
        );
        assert_eq!(ask("ratings.bookinfo.svc.clusterset.local.", RecordType::A), (ResponseCode::NXDomain, 0));
        assert_eq!(ask("bookinfo.svc.clusterset.local.", RecordType::A), (ResponseCode::NoError, 0));
        assert_eq!(ask("example.com.", RecordType::A).1, 99);
        assert_eq!(ask("xsvc.clusterset.local.", RecordType::A).1, 99);
    }

    #[test]
    fn a_name_of_the_set_with_a_search_domain_behind_it_exists_nowhere() {
        for domain in ["bookinfo.svc.cluster.local.", "corp.example."] {
            let name = Name::from_str(&format!("reviews.bookinfo.svc.clusterset.local.{domain}")).unwrap();
            let said = answer(None, &SET, &name, RecordType::A);
            assert!(matches!(said, Answer::Say { code: ResponseCode::NXDomain, .. }), "{said:?}");
        }
    }

    #[test]
    fn before_a_clusters_own_dns_its_names_are_left_to_it() {
        let name = Name::from_str("reviews.bookinfo.svc.cluster.local.").unwrap();
        assert_eq!(answer(Some(&table()), &SET, &name, RecordType::A), Answer::Elsewhere);
        let name = Name::from_str("reviews.bookinfo.svc.clusterset.local.").unwrap();
        assert_ne!(answer(Some(&table()), &SET, &name, RecordType::A), Answer::Elsewhere);
    }

    #[test]
    fn nothing_is_denied_before_the_first_sync() {
        let name = Name::from_str("a.b.svc.clusterset.local.").unwrap();
        let Answer::Say { code, .. } = answer(None, &DOMAINS, &name, RecordType::A) else { panic!("it is ours") };
        assert_eq!(code, ResponseCode::ServFail);
    }
}
