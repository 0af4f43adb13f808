//! What of an installation may be set: the Helm chart's values, by their names there.
//!
//! | module | idea |
//! | --- | --- |
//! | [`known`] | each setting |
//! | [`values`] | what a value may be |

mod known;
mod values;

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[cfg(test)]
pub use values::Address;
pub use values::addresses;

/// A setting that exists, and a value that it may have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Setting {
    /// Its name in the chart.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Setting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let no_value = || format!("{text:?} sets nothing; write KEY=VALUE, such as gateway.replicas=3");
        let (key, value) = text.split_once('=').with_context(no_value)?;
        let setting = Self { key: key.to_owned(), value: value.to_owned() };
        let Some((known, path)) = known::find(key) else {
            if let Some(instead) = known::elsewhere(key) {
                bail!("{key} is not set so: {instead}");
            }
            bail!("there is no setting {key:?}; there are {}", known::listed());
        };
        let refused = if path.is_empty() { known.values.refuses(value) } else { known.values.refuses_at(&path, value) };
        if let Some(may) = refused {
            bail!("{key} ({}) cannot be {value:?}; it is {may}", known.means);
        }
        Ok(setting)
    }
}

impl Setting {
    /// The chart's value that it is about, or is an entry of.
    pub fn name(&self) -> &'static str {
        known::find(&self.key).map_or("", |(known, _)| known.name)
    }

    /// Of a value that is a map or a list: all of it as it is typed, or the one entry in its place.
    pub fn structure(&self) -> Result<Value> {
        let path = known::find(&self.key).map(|(_, path)| path).unwrap_or_default();
        if path.is_empty() {
            return serde_json::from_str(&self.value).with_context(|| format!("{} is no JSON", self.key));
        }
        Ok(path.iter().rev().fold(json!(self.value), |value, key| json!({ key.as_str(): value })))
    }

    /// Words with commas between them.
    pub fn words(&self) -> Vec<&str> {
        self.value.split(',').collect()
    }
}

impl TryFrom<String> for Setting {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Setting> for String {
    fn from(setting: Setting) -> Self {
        format!("{}={}", setting.key, setting.value)
    }
}

/// Names of all settings.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    known::all().map(|known| known.name)
}

/// What is set: of two settings of one key the later one holds.
pub fn merged(before: &[Setting], after: &[Setting]) -> Vec<Setting> {
    let mut all = before.to_vec();
    for setting in after {
        all.retain(|other| other.key != setting.key);
        all.push(setting.clone());
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    all
}

#[cfg(test)]
mod tests;
