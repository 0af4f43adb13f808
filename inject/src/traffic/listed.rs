//! Lists in annotations: ports, address ranges, interfaces, users.

use std::{collections::BTreeSet, fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

/// All of a kind (`*`), or those that are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "T: Item")]
pub enum Selection<T: Item> {
    /// All.
    #[default]
    All,
    /// These.
    Only(Listed<T>),
}

/// Some of a kind, in order; written with commas between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String", bound = "T: Item")]
pub struct Listed<T: Item>(pub BTreeSet<T>);

/// What can be listed.
pub trait Item: FromStr + Ord + Clone + fmt::Display + fmt::Debug {
    /// What a list of it is, and an example: for messages.
    const LIST: &'static str;
    /// An example.
    const EXAMPLE: &'static str;
}

/// A port of TCP.
pub type Port = NonZeroU16;

impl Item for Port {
    const LIST: &'static str = "list of ports";
    const EXAMPLE: &'static str = "numbers from 1 to 65535 with commas between, such as 80,443";
}

/// A user or a group.
pub type Id = u32;

impl Item for Id {
    const LIST: &'static str = "list of users or groups";
    const EXAMPLE: &'static str = "their numbers with commas between, such as 1000,2000";
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    address: IpAddr,
    length: u8,
}

impl Item for Range {
    const LIST: &'static str = "list of address ranges";
    const EXAMPLE: &'static str = "CIDR blocks with commas between, such as 10.0.0.0/8,fd00::/8";
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Item for Interface {
    const LIST: &'static str = "list of interfaces";
    const EXAMPLE: &'static str = "names with commas between, such as eth1,net1";
}

/// Why a text is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no {list}: {item:?} is none; write {example}")]
pub struct NoList {
    list: &'static str,
    item: String,
    example: &'static str,
}

impl<T: Item> Selection<T> {
    /// As an argument; nothing where it is the default.
    pub(super) fn said(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Only(listed) => Some(listed.to_string()),
        }
    }
}

impl<T: Item> Listed<T> {
    /// As an argument; nothing where it is the default.
    pub(super) fn said(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.to_string())
    }
}

impl<T: Item> Default for Listed<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T: Item> FromStr for Listed<T> {
    type Err = NoList;
    fn from_str(text: &str) -> Result<Self, NoList> {
        let wrong = |item: &str| NoList { list: T::LIST, item: item.to_owned(), example: T::EXAMPLE };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // A comma at the end is how generated lists end.
        let items = text.strip_suffix(',').unwrap_or(text).split(',').map(str::trim);
        items.map(|item| item.parse().map_err(|_| wrong(item))).collect::<Result<_, _>>().map(Self)
    }
}

impl<T: Item> FromStr for Selection<T> {
    type Err = NoList;
    fn from_str(text: &str) -> Result<Self, NoList> {
        if text.trim() == "*" { Ok(Self::All) } else { text.parse().map(Self::Only) }
    }
}

impl FromStr for Range {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(most), |length| length.parse().map_err(|_| ()))?;
        if length <= most { Ok(Self { address, length }) } else { Err(()) }
    }
}

/// Longest name of an interface (IFNAMSIZ without the final zero).
const MAX_INTERFACE: usize = 15;

impl FromStr for Interface {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_named = |letter: char| letter.is_ascii_alphanumeric() || "._-@".contains(letter);
        let fits = !text.is_empty() && text.len() <= MAX_INTERFACE && text.chars().all(is_named);
        if fits { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T: Item> fmt::Display for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

impl<T: Item> TryFrom<String> for Listed<T> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: NoList| format!("{text:?} {error}"))
    }
}

impl<T: Item> TryFrom<String> for Selection<T> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: NoList| format!("{text:?} {error}"))
    }
}

impl<T: Item> From<Listed<T>> for String {
    fn from(listed: Listed<T>) -> Self {
        listed.to_string()
    }
}

impl<T: Item> From<Selection<T>> for String {
    fn from(selection: Selection<T>) -> Self {
        selection.said().unwrap_or_else(|| "*".into())
    }
}
