//! What is captured, in the words of Istio's annotations (`traffic.sidecar.istio.io/*`).

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::SIDECAR;

/// Longest name of an interface (Linux, `IFNAMSIZ` less one).
const LONGEST_INTERFACE: usize = 15;

/// What of a pod's traffic goes by its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// How what comes in is taken.
    pub mode: Mode,
    /// Ports by which something comes in.
    pub inbound: Ports,
    /// Ports that are left alone coming in, beside the sidecar's own.
    pub exclude_inbound: Vec<u16>,
    /// Ports that are captured going out, whatever the address.
    pub outbound: Vec<u16>,
    /// Ports that are left alone going out. With 53 among them questions to DNS are left alone.
    pub exclude_outbound: Vec<u16>,
    /// Addresses to which it is captured.
    pub ranges: Ranges,
    /// Addresses to which it is left alone.
    pub exclude_ranges: Vec<IpNet>,
    /// Interfaces that are left alone both ways.
    pub exclude_interfaces: Vec<Interface>,
    /// Users whose traffic is left alone going out; the sidecar's own must be among them, or the groups.
    pub exclude_users: Vec<u32>,
    /// The same of groups.
    pub exclude_groups: Vec<u32>,
    /// Whether questions to DNS are captured.
    pub dns: bool,
}

impl Default for Capture {
    /// Everything both ways, but for the sidecar's own.
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            inbound: Ports::All,
            exclude_inbound: vec![],
            outbound: vec![],
            exclude_outbound: vec![],
            ranges: Ranges::All,
            exclude_ranges: vec![],
            exclude_interfaces: vec![],
            exclude_users: vec![SIDECAR],
            exclude_groups: vec![SIDECAR],
            dns: true,
        }
    }
}

/// How what comes in is taken (`sidecar.istio.io/interceptionMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// The application sees its sidecar as the client.
    #[default]
    Redirect,
    /// The application sees the client's address; the sidecar then needs the capability `NET_ADMIN`.
    Tproxy,
}

/// Ports, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// These.
    Only(Vec<u16>),
}

/// Ranges of addresses, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Every address.
    All,
    /// These.
    Only(Vec<IpNet>),
}

/// The name of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

/// A word that is none of what an option takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what}; write {like}")]
pub struct Invalid {
    word: String,
    what: &'static str,
    like: &'static str,
}

impl Invalid {
    fn new(word: &str, what: &'static str, like: &'static str) -> Self {
        Self { word: word.to_owned(), what, like }
    }
}

/// What a list may hold.
pub trait Item: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// [`Invalid`].
    fn read(word: &str) -> Result<Self, Invalid>;
}

impl Item for u16 {
    fn read(word: &str) -> Result<Self, Invalid> {
        let port = word.parse().ok().filter(|port| *port != 0);
        port.ok_or_else(|| Invalid::new(word, "port", "ports from 1 to 65535, such as 8080,9090"))
    }
}

impl Item for u32 {
    fn read(word: &str) -> Result<Self, Invalid> {
        word.parse().map_err(|_| Invalid::new(word, "user or group", "numbers, such as 1337"))
    }
}

impl Item for IpNet {
    fn read(word: &str) -> Result<Self, Invalid> {
        let net = word.parse().or_else(|_| word.parse().map(|address: std::net::IpAddr| address.into()));
        net.map(|net: Self| net.trunc())
            .map_err(|_| Invalid::new(word, "range of addresses", "address and length, such as 10.0.0.0/8,fd00::/8"))
    }
}

impl Item for Interface {
    fn read(word: &str) -> Result<Self, Invalid> {
        word.parse()
    }
}

/// A list with commas between; spaces and empty places are passed over, as Istio does.
///
/// # Errors
/// [`Invalid`] of the first item that is none.
pub fn list<T: Item>(text: &str) -> Result<Vec<T>, Invalid> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(T::read).collect()
}

impl FromStr for Mode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "REDIRECT" => Ok(Self::Redirect),
            "TPROXY" => Ok(Self::Tproxy),
            _ => Err(Invalid::new(text, "way to intercept", "REDIRECT or TPROXY")),
        }
    }
}

impl FromStr for Ports {
    type Err = Invalid;

    /// `*`, or a list, perhaps an empty one.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" { Ok(Self::All) } else { list(text).map(Self::Only) }
    }
}

impl FromStr for Ranges {
    type Err = Invalid;

    /// `*`, or a list, perhaps an empty one.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "*" { Ok(Self::All) } else { list(text).map(Self::Only) }
    }
}

impl FromStr for Interface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=LONGEST_INTERFACE).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(&byte);
        if fits && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new(text, "interface", "names of at most 15 letters, digits or any of _-.@, such as eth1"))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_istio_reads_them_and_what_is_wrong_is_named() {
        assert_eq!("*".parse(), Ok(Ports::All));
        assert_eq!("".parse(), Ok(Ports::Only(vec![])));
        assert_eq!(" 80, 443,".parse(), Ok(Ports::Only(vec![80, 443])));
        let ranges = ["10.1.0.0/16", "::1/128"].map(|range| range.parse().unwrap()).to_vec();
        assert_eq!("10.1.2.3/16,::1".parse(), Ok(Ranges::Only(ranges)));
        let wrong = [
            list::<u16>("80,http").unwrap_err().to_string(),
            list::<u16>("0").unwrap_err().to_string(),
            list::<u32>("-1").unwrap_err().to_string(),
            list::<IpNet>("10.0.0.0/33").unwrap_err().to_string(),
            list::<Interface>("eth0;drop").unwrap_err().to_string(),
            "NONE".parse::<Mode>().unwrap_err().to_string(),
        ];
        for (word, said) in ["http", "0", "-1", "10.0.0.0/33", "eth0;drop", "NONE"].iter().zip(wrong) {
            assert!(said.contains(&format!("{word:?} is no ")) && said.contains("; write "), "{said}");
        }
    }
}
