//! What the value of a setting may be.

use serde::Deserialize;
use serde_json::Value;

/// What a value may be.
pub enum Values {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number, from the one to the other.
    Whole(u32, u32),
    /// One word.
    Text,
    /// One word of this kind, and what that is.
    Word(fn(&str) -> bool, &'static str),
    /// Words of this kind with commas between them, and what they are.
    Words(fn(&str) -> bool, &'static str),
    /// Where others reach the gateways.
    Addresses,
    /// Names and texts.
    Texts,
    /// Requests and limits of a container.
    Amounts,
    /// Any object, as JSON.
    Object,
    /// A list of objects, as JSON.
    Objects,
}

/// Yes or no.
pub const SWITCH: Values = Values::OneOf(&["true", "false"]);

impl Values {
    /// Whether it is a map whose entries may be set one by one.
    pub fn has_entries(&self) -> bool {
        matches!(self, Self::Texts | Self::Amounts)
    }

    /// What the value may be, where it is something else.
    pub fn refuses(&self, value: &str) -> Option<String> {
        let fits = match self {
            Self::OneOf(words) => words.contains(&value),
            Self::Whole(least, most) => value.parse().is_ok_and(|number: u32| (*least..=*most).contains(&number)),
            Self::Text => is_text(value),
            Self::Word(fits, _) => fits(value),
            Self::Words(fits, _) => value.split(',').all(fits),
            Self::Addresses => addresses(value).is_some(),
            Self::Texts | Self::Amounts | Self::Object => {
                serde_json::from_str::<Value>(value).is_ok_and(|whole| whole.is_object() && self.has(&whole))
            }
            Self::Objects => {
                serde_json::from_str::<Vec<Value>>(value).is_ok_and(|all| all.iter().all(Value::is_object))
            }
        };
        (!fits).then(|| self.form())
    }

    /// As [`Self::refuses`], of one entry.
    pub fn refuses_at(&self, path: &[String], value: &str) -> Option<String> {
        let fits = match (self, path) {
            (Self::Texts, [_]) => true,
            (Self::Amounts, [of, what]) => is_amount(of, what, value),
            _ => false,
        };
        (!fits).then(|| self.form())
    }

    /// Whether all entries of a map are what they may be.
    fn has(&self, whole: &Value) -> bool {
        let mut entries = whole.as_object().into_iter().flatten();
        match self {
            Self::Texts => entries.all(|(_, text)| text.is_string()),
            Self::Amounts => entries.all(|(of, amounts)| {
                let each =
                    |(what, amount): (&String, &Value)| amount.as_str().is_some_and(|text| is_amount(of, what, text));
                amounts.as_object().is_some_and(|all| all.iter().all(each))
            }),
            _ => true,
        }
    }

    fn form(&self) -> String {
        match self {
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Whole(least, most) => format!("a whole number from {least} to {most}"),
            Self::Text => "one word without quotes".into(),
            Self::Word(_, what) => (*what).to_owned(),
            Self::Words(_, what) => format!("one or more {what}, with commas between them"),
            Self::Addresses => {
                "one or more of host:port, with commas between them, or a list as JSON: [{\"host\": \"gw.example\", \"port\": \
                 15443, \"transports\": [\"tcp\"]}]"
                    .into()
            }
            Self::Texts => "an object of texts as JSON: {\"name\": \"text\"}; one entry is set by KEY.name=text".into(),
            Self::Amounts => {
                "{\"requests\": {\"cpu\": \"100m\"}, \"limits\": {\"memory\": \"1Gi\"}}; one entry is set by \
                 KEY.limits.memory=1Gi"
                    .into()
            }
            Self::Object => "an object as JSON".into(),
            Self::Objects => "a list of objects as JSON".into(),
        }
    }
}

/// Values come to stand between quotes.
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|one| one.is_ascii_graphic() && !"\"\\".contains(one))
}

fn is_amount(of: &str, what: &str, amount: &str) -> bool {
    const UNITS: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let number = amount.trim_end_matches(|one: char| one.is_ascii_alphabetic());
    let unit = amount.strip_prefix(number).unwrap_or_default();
    let is_number = !number.is_empty() && number.parse::<f64>().is_ok_and(|number| number >= 0.0 && number.is_finite());
    let is_known = ["requests", "limits"].contains(&of) && ["cpu", "memory", "ephemeral-storage"].contains(&what);
    is_known && is_number && UNITS.contains(&unit)
}

/// As Kubernetes names namespaces (RFC 1123).
pub fn is_name(text: &str) -> bool {
    let fits = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether it is a CIDR block.
pub fn is_range(text: &str) -> bool {
    let parts = text
        .split_once('/')
        .and_then(|(address, bits)| Some((address.parse::<std::net::IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
    parts.is_some_and(|(address, bits)| bits <= if address.is_ipv4() { 32 } else { 128 })
}

/// Where others reach the gateways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// Its port.
    #[serde(default = "tunnel")]
    pub port: u16,
    /// What gets through: `udp`, `tcp`.
    #[serde(default = "both")]
    pub transports: Vec<String>,
}

fn tunnel() -> u16 {
    isthmus_gateway::service::PORTS.tunnel
}

fn both() -> Vec<String> {
    ["udp", "tcp"].map(str::to_owned).into()
}

impl Address {
    fn is_one(&self) -> bool {
        let is_host = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric() || ".:-".contains(one));
        let carries = !self.transports.is_empty() && self.transports.iter().all(|one| both().contains(one));
        !self.host.is_empty() && is_host(&self.host) && self.port > 0 && carries
    }
}

/// Hosts and ports; `None`: they are not all addresses.
pub fn addresses(text: &str) -> Option<Vec<Address>> {
    let one = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Address { host: host.to_owned(), port: port.parse().ok()?, transports: both() })
    };
    let plain = || text.split(',').map(one).collect::<Option<Vec<_>>>();
    let all = serde_json::from_str::<Vec<Address>>(text).ok().or_else(plain)?;
    all.iter().all(Address::is_one).then_some(all)
}
