//! Configuration files: read whole, or refused with file, line, field and reason. `${NAME}` in one stands for an
//! environment variable, because what is the same for every pod of a role and what is not come by different ways.

mod environment;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use isthmus_core::name::{ClusterName, Locality, MeshDomain};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::enrolment::Enrolling;

/// Longest configuration file that is read, bytes: a file beyond it is not one that somebody wrote.
const MAX_FILE: u64 = 1024 * 1024;

/// What every role is told, under `common:` in its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// The mesh's domain.
    pub mesh: MeshDomain,
    /// The own cluster.
    pub cluster: ClusterName,
    /// Where this process runs.
    pub locality: Locality,
    /// The role's or the workload's name, unique in the cluster.
    pub name: String,
    /// The address that all its well-known ports are on.
    pub address: IpAddr,
    /// Its own directory; created when absent.
    pub state_dir: PathBuf,
    /// How it comes by its first leaf. Control needs none: the CA is in it.
    #[serde(default)]
    pub enrolment: Option<Enrolling>,
    /// The address of the admin port; none: that of the others. In a pod it is loopback.
    #[serde(default)]
    pub admin: Option<IpAddr>,
    /// Log filter, as `info` or `info,isthmus_gateway=debug`; none: `info`.
    #[serde(default)]
    pub log: Option<String>,
}

impl Common {
    /// Where the admin port is.
    #[must_use]
    pub fn admin(&self) -> IpAddr {
        self.admin.unwrap_or(self.address)
    }
}

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("cannot read configuration {file}", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is not what the role expects; the reason names the field.
    #[error("{file}:{line}: {reason}", file = .file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Line, from 1; 0: not known.
        line: u64,
        /// The field and what is wrong with it.
        reason: String,
    },
}

/// Reads a YAML file into a role's configuration.
///
/// # Errors
/// [`ConfigError`], with file, line, field and reason.
pub fn load_yaml<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ConfigError> {
    let path = path.as_ref();
    parse_yaml(path, &load_text(path)?)
}

/// The text of a configuration file, with its variables put in.
///
/// # Errors
/// As [`load_yaml`].
pub fn load_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE {
        let reason = format!("the file has {length} bytes; at most {MAX_FILE} are read");
        return Err(ConfigError::Invalid { file: path.to_owned(), line: 0, reason });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let text = environment::expand(&text, |name| std::env::var(name).ok());
    text.map_err(|(line, reason)| ConfigError::Invalid { file: path.to_owned(), line, reason })
}

/// As [`load_yaml`], from text that is said to come from `path`.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse_yaml<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| ConfigError::Invalid {
        file: path.to_owned(),
        line: error.location().map_or(0, |at| at.line()),
        reason: error.without_snippet().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "mesh: mesh.local\ncluster: us-east\nlocality: {region: us-east, zone: us-east-a}\nname: x\n\
                        address: 127.1.1.1\nstate_dir: /s\nenrolment: /e\n";

    #[test]
    fn a_good_file_is_read_and_a_bad_one_says_line_and_field() {
        let common: Common = parse_yaml(Path::new("f"), GOOD).unwrap();
        assert_eq!(common.cluster.as_str(), "us-east");
        let error = parse_yaml::<Common>(Path::new("f.yaml"), &format!("{GOOD}colour: red\n")).unwrap_err().to_string();
        assert!(error.starts_with("f.yaml:8:") && error.contains("colour"), "{error}");
        let bad = GOOD.replace("us-east\nlocality", "US_EAST\nlocality");
        let error = parse_yaml::<Common>(Path::new("f.yaml"), &bad).unwrap_err().to_string();
        assert!(error.contains("US_EAST") && error.contains("a cluster name"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load_yaml::<Common>("/nowhere/at-all.yaml").unwrap_err().to_string();
        assert!(error.contains("/nowhere/at-all.yaml"), "{error}");
    }
}
