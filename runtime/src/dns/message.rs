//! One DNS message in, one out (RFC 1035, RFC 6891): pure. Whatever bytes come, they make a question, an answer that
//! says what is wrong with them, or nothing.

use hickory_proto::{
    op::{Edns, Message, Metadata, OpCode, Query, ResponseCode},
    rr::{Name, Record, RecordType},
};

/// Bytes of a header; what is shorter has no id that could be answered.
const HEADER: usize = 12;
/// In the third byte: this is an answer.
const ANSWER: u8 = 0x80;
/// An answer over UDP is not cut into fragments below this, whatever the asker takes (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;
/// What every asker takes.
const SMALLEST_DATAGRAM: u16 = 512;

/// What bytes from the network are.
#[derive(Debug)]
pub(super) enum Read {
    /// A question.
    Asked(Box<Asked>),
    /// No question, but what is wrong with it can be said.
    Wrong(Vec<u8>),
    /// Nothing that could be answered; answers above all, so that two servers never talk to each other for ever.
    Nothing,
}

/// A question.
#[derive(Debug)]
pub(super) struct Asked {
    metadata: Metadata,
    query: Query,
    /// What the asker takes in a datagram, when it says so.
    takes: Option<u16>,
}

/// What is to be said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    pub(super) authority: Vec<Record>,
    /// Whether the name is the mesh's own.
    pub(super) own: bool,
}

impl Said {
    /// A code alone.
    pub(super) fn code(code: ResponseCode) -> Self {
        Self { code, records: vec![], authority: vec![], own: false }
    }
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Read {
    let (Some(&[high, low, flags]), true) = (bytes.first_chunk(), bytes.len() >= HEADER) else { return Read::Nothing };
    if flags & ANSWER != 0 {
        return Read::Nothing;
    }
    let wrong = |op: OpCode, code| {
        let said = Message::error_msg(u16::from_be_bytes([high, low]), op, code).to_vec();
        said.map_or(Read::Nothing, Read::Wrong)
    };
    let Ok(message) = Message::from_vec(bytes) else { return wrong(OpCode::Query, ResponseCode::FormErr) };
    if message.metadata.op_code != OpCode::Query {
        return wrong(message.metadata.op_code, ResponseCode::NotImp);
    }
    let (metadata, takes) = (message.metadata, message.edns.as_ref().map(Edns::max_payload));
    match <[Query; 1]>::try_from(message.queries) {
        Ok([query]) => Read::Asked(Box::new(Asked { metadata, query, takes })),
        Err(_) => wrong(OpCode::Query, ResponseCode::FormErr),
    }
}

impl Asked {
    /// Of which name.
    pub(super) fn name(&self) -> &Name {
        self.query.name()
    }

    /// Which records.
    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// The answer's bytes; over UDP cut to what the asker takes, marked as cut. `None`: it cannot be written.
    pub(super) fn answer(&self, said: Said, recursive: bool, udp: bool) -> Option<Vec<u8>> {
        let mut message = Message::response(self.metadata.id, self.metadata.op_code);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.response_code = said.code;
        message.metadata.authoritative = said.own;
        message.metadata.recursion_available = recursive;
        message.add_query(self.query.clone()).add_answers(said.records).add_authorities(said.authority);
        if self.takes.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().ok()?;
        let limit = match self.takes {
            _ if !udp => u16::MAX,
            takes => takes.unwrap_or(SMALLEST_DATAGRAM).clamp(SMALLEST_DATAGRAM, LARGEST_DATAGRAM),
        };
        if bytes.len() <= usize::from(limit) { Some(bytes) } else { message.truncate().to_vec().ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, str::FromStr};

    use hickory_proto::{
        op::MessageType,
        rr::{RData, rdata::A},
    };
    use proptest::prelude::*;

    use super::*;

    fn question(edns: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_str("a.b.svc.clusterset.local.").unwrap(), RecordType::A));
        if let Some(takes) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(takes);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    fn answered(bytes: &[u8], records: usize, udp: bool) -> (usize, Message) {
        let Read::Asked(asked) = read(bytes) else { panic!("it is a question") };
        let record = Record::from_rdata(asked.name().clone(), 5, RData::A(A(Ipv4Addr::LOCALHOST)));
        let said = Said { records: vec![record; records], ..Said::code(ResponseCode::NoError) };
        let bytes = asked.answer(said, true, udp).unwrap();
        (bytes.len(), Message::from_vec(&bytes).unwrap())
    }

    #[test]
    fn an_answer_over_udp_is_cut_to_what_the_asker_takes_and_says_so() {
        let (_, whole) = answered(&question(None), 1, true);
        assert!(whole.answers.len() == 1 && whole.metadata.id == 7 && whole.edns.is_none());
        for (edns, most) in [(None, 512), (Some(100), 512), (Some(65_000), 1232)] {
            let (length, cut) = answered(&question(edns), 200, true);
            assert!(length <= most && cut.metadata.truncation && cut.answers.is_empty(), "{edns:?}: {length}");
            assert_eq!(cut.edns.is_some(), edns.is_some());
        }
        assert_eq!(answered(&question(None), 200, false).1.answers.len(), 200);
    }

    #[test]
    fn what_is_no_question_is_named_or_passed_over() {
        assert!(matches!(read(&[]), Read::Nothing));
        assert!(matches!(read(&question(None)[..11]), Read::Nothing));
        let mut answer = question(None);
        answer[2] |= ANSWER;
        assert!(matches!(read(&answer), Read::Nothing));
        let cut = question(None);
        for cut in [&cut[..14], &cut[..cut.len() - 1], &[0; 12]] {
            let Read::Wrong(said) = read(cut) else { panic!("{cut:?}") };
            assert_eq!(Message::from_vec(&said).unwrap().metadata.response_code, ResponseCode::FormErr);
        }
        let mut update = question(None);
        update[2] = 5 << 3;
        let Read::Wrong(said) = read(&update) else { panic!("an update is none") };
        assert_eq!(Message::from_vec(&said).unwrap().metadata.response_code, ResponseCode::NotImp);
    }

    proptest! {
        /// Any bytes, and any question with bytes changed, never panic; what is said can be read.
        #[test]
        fn no_bytes_break_it(noise in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..60, byte: u8) {
            let mut changed = question(Some(1232));
            let at = at % changed.len();
            changed[at] = byte;
            for bytes in [noise, changed] {
                match read(&bytes) {
                    Read::Asked(asked) => {
                        let said = asked.answer(Said::code(ResponseCode::ServFail), false, true);
                        prop_assert!(said.is_none_or(|said| Message::from_vec(&said).is_ok()));
                    }
                    Read::Wrong(said) => prop_assert!(Message::from_vec(&said).is_ok()),
                    Read::Nothing => {}
                }
            }
        }
    }
}
