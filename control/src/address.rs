//! Where something is reached: `host:port`, with an address or, as Services have, a name.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `10.0.0.7:15050`, `[fd00::7]:15050` or `isthmus-federation.isthmus-system.svc:15050`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
    literal: Option<SocketAddr>,
}

/// It is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address; write host:port, as 10.0.0.7:15050 or isthmus-federation.isthmus-system.svc:15050")]
pub struct NoAddress(String);

impl Address {
    /// The address, where it is written as one.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        self.literal
    }

    /// The addresses its name has now.
    ///
    /// # Errors
    /// What the resolver said.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        match self.literal {
            Some(address) => Ok(vec![address]),
            None => Ok(tokio::net::lookup_host(&self.text).await?.collect()),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        if let Ok(address) = text.parse() {
            return Ok(Self { text, literal: Some(address) });
        }
        let is_named = |host: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            let is_number = host.parse::<IpAddr>().is_ok() || host.chars().all(|c| c.is_ascii_digit() || c == '.');
            !is_number && host.chars().all(fits) && !host.starts_with(['-', '.']) && host.len() <= 253
        };
        let parts = text.rsplit_once(':');
        let named = parts.is_some_and(|(host, port)| is_named(host) && port.parse().is_ok_and(|port: u16| port > 0));
        if named { Ok(Self { text, literal: None }) } else { Err(NoAddress(text)) }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { text: address.to_string(), literal: Some(address) }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_number_or_a_name_with_a_port() {
        let read = |text: &str| Address::try_from(text.to_owned());
        for literal in ["10.0.0.7:15050", "[fd00::7]:15050"] {
            assert_eq!(read(literal).unwrap().literal(), literal.parse().ok(), "{literal}");
        }
        assert_eq!(read("isthmus-federation.isthmus-system.svc:15050").unwrap().literal(), None);
        for wrong in ["", "host", "host:", ":1", "host:0", "host:70000", "10.0.0:1", "a b:1", "fd00::7:1", "-a:1"] {
            assert_eq!(read(wrong), Err(NoAddress(wrong.into())), "{wrong}");
        }
    }
}
