//! What is installed in a cluster: by whom, under which names, with which settings. The ConfigMap `isthmus` keeps it, so
//! that an upgrade finds it.

use anyhow::{Context, Result, bail};
use isthmus_kubernetes::{client::SYSTEM_NAMESPACE, reference::Reference};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::{Setting, merged};

/// Who applies what is installed; its objects have it as `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "isthmus-install";
/// Of the ConfigMap: the release as JSON.
pub const ANNOTATION: &str = "isthmus.dev/release";
/// The release of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where images are unless somebody says otherwise.
const REPOSITORY: &str = "localhost/isthmus";

/// One cluster's installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Of the program that installed it.
    pub version: String,
    /// The cluster.
    pub cluster: String,
    /// The mesh.
    pub mesh: String,
    /// The image of all roles and sidecars.
    pub image: String,
    /// What else was set.
    pub settings: Vec<Setting>,
}

/// What a cluster has.
#[derive(Debug, PartialEq, Eq)]
pub enum Installed {
    /// Nothing.
    Nothing,
    /// A release of Helm's.
    Helm,
    /// Objects that somebody applied by other means.
    Other,
    /// What `install` installed.
    Ours(Release),
}

/// The object that says what is installed.
pub fn map() -> Reference {
    Reference::namespaced("v1", "ConfigMap", SYSTEM_NAMESPACE, "isthmus")
}

impl Installed {
    /// As the ConfigMap says.
    ///
    /// # Errors
    /// When somebody broke what it says.
    pub fn of(map: Option<&Value>) -> Result<Self> {
        let Some(map) = map else { return Ok(Self::Nothing) };
        let managed = map.pointer("/metadata/labels/app.kubernetes.io~1managed-by").and_then(Value::as_str);
        match managed {
            Some("Helm") => return Ok(Self::Helm),
            Some(MANAGER) => {}
            _ => return Ok(Self::Other),
        }
        let annotations = map.pointer("/metadata/annotations");
        let text = annotations.and_then(|all| all.get(ANNOTATION)).and_then(Value::as_str).unwrap_or_default();
        let broken = "ConfigMap isthmus-system/isthmus does not say any more what was installed (annotation \
                      isthmus.dev/release); `isthmus install` with the names it had puts that right";
        serde_json::from_str(text).map(Self::Ours).context(broken)
    }
}

impl Release {
    /// A new one.
    pub fn new(cluster: &str, mesh: &str, image: Option<String>, settings: &[Setting]) -> Self {
        Self {
            version: VERSION.into(),
            cluster: cluster.into(),
            mesh: mesh.into(),
            image: image.unwrap_or_else(|| format!("{REPOSITORY}:{VERSION}")),
            settings: merged(&[], settings),
        }
    }

    /// Whether it may take the place of what is there.
    ///
    /// # Errors
    /// When it may not.
    pub fn over(&self, installed: &Installed) -> Result<()> {
        match installed {
            Installed::Nothing => Ok(()),
            Installed::Helm => bail!("the mesh is here as a release of Helm's; change it by `helm upgrade isthmus`"),
            Installed::Other => bail!(
                "the mesh is here already, applied by other means (`kubectl apply -k`, a GitOps controller); change it there"
            ),
            Installed::Ours(there) if (&there.cluster, &there.mesh) != (&self.cluster, &self.mesh) => bail!(
                "this is cluster {} of mesh {} already, and names are in identities; install with these names, or \
                 `isthmus uninstall` first",
                there.cluster,
                there.mesh
            ),
            Installed::Ours(there) => there.keeps_disk(self),
        }
    }

    /// Kubernetes changes no disk that is there; only what becomes of it.
    fn keeps_disk(&self, new: &Self) -> Result<()> {
        let is_fixed = |one: &&Setting| {
            one.key.starts_with("federation.persistence.") && one.key != "federation.persistence.whenDeleted"
        };
        let of = |release: &Self| -> Vec<_> { release.settings.iter().filter(is_fixed).cloned().collect() };
        let (old, new) = (of(self), of(new));
        if old != new {
            let told = old.into_iter().map(String::from).collect::<Vec<_>>().join(" --set ");
            let told = if told.is_empty() { "none of them".to_owned() } else { format!("--set {told}") };
            bail!(
                "the member's disk is there, and Kubernetes cannot change it: of federation.persistence.* keep {told}, or \
                 `isthmus uninstall` first"
            );
        }
        Ok(())
    }

    /// What an upgrade to `version` makes of it.
    ///
    /// # Errors
    /// When the image of that version is not known.
    pub fn upgraded(&self, version: &str, image: Option<String>, settings: &[Setting]) -> Result<Self> {
        let image = match image {
            Some(image) => image,
            None => self.image_of(version)?,
        };
        let settings = merged(&self.settings, settings);
        let new = Self { version: version.into(), image, settings, ..self.clone() };
        self.keeps_disk(&new).map(|()| new)
    }

    /// The same repository's image of another version, where the tag is the version.
    fn image_of(&self, version: &str) -> Result<String> {
        if self.version == version {
            return Ok(self.image.clone());
        }
        let tagged = self.image.strip_suffix(&self.version).filter(|rest| rest.ends_with(':'));
        let named =
            || format!("the image {} does not say which one release {version} is; name it with --image", self.image);
        Ok(format!("{}{version}", tagged.with_context(named)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(text: &str) -> Setting {
        text.parse().unwrap()
    }

    fn map(managed: Option<&str>, release: &str) -> Value {
        json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": managed }, "annotations": { ANNOTATION: release } } })
    }

    #[test]
    fn whose_an_installation_is_says_its_config_map() {
        let release = Release::new("east", "mesh.local", None, &[set("log=debug")]);
        let text = serde_json::to_string(&release).unwrap();
        assert_eq!(Installed::of(None).unwrap(), Installed::Nothing);
        assert_eq!(Installed::of(Some(&map(Some("Helm"), ""))).unwrap(), Installed::Helm);
        assert_eq!(Installed::of(Some(&map(None, ""))).unwrap(), Installed::Other);
        assert_eq!(Installed::of(Some(&map(Some(MANAGER), &text))).unwrap(), Installed::Ours(release));
        let broken = Installed::of(Some(&map(Some(MANAGER), "{"))).unwrap_err().to_string();
        assert!(broken.contains("isthmus.dev/release") && broken.contains("isthmus install"), "{broken}");
    }

    #[test]
    fn nothing_takes_the_place_of_what_is_not_its_own() {
        let release = Release::new("east", "mesh.local", None, &[]);
        let refused = |installed: Installed| release.over(&installed).unwrap_err().to_string();
        assert!(release.over(&Installed::Nothing).is_ok());
        assert!(release.over(&Installed::Ours(release.clone())).is_ok());
        assert!(refused(Installed::Helm).contains("helm upgrade"));
        assert!(refused(Installed::Other).contains("kubectl apply -k"));
        let west = Installed::Ours(Release::new("west", "mesh.local", None, &[]));
        assert!(refused(west).contains("cluster west of mesh mesh.local already"));
    }

    #[test]
    fn a_disk_that_is_there_stays_as_it_is() {
        let of = |settings: &[Setting]| Release::new("east", "mesh.local", None, settings);
        let class = set("federation.persistence.storageClass=fast");
        let old = of(std::slice::from_ref(&class));
        let refused = of(&[]).over(&Installed::Ours(old.clone())).unwrap_err().to_string();
        assert!(refused.contains("keep --set federation.persistence.storageClass=fast"), "{refused}");
        assert!(of(&[class, set("log=debug")]).over(&Installed::Ours(old.clone())).is_ok());
        let refused =
            of(&[]).upgraded(VERSION, None, &[set("federation.persistence.size=2Gi")]).unwrap_err().to_string();
        assert!(refused.contains("keep none of them"), "{refused}");
        assert!(old.upgraded(VERSION, None, &[]).is_ok());
    }

    #[test]
    fn an_upgrade_keeps_what_was_set_and_takes_the_image_of_its_version() {
        let mut old =
            Release::new("east", "mesh.local", Some("reg.example:5000/isthmus:0.0.9".into()), &[set("log=debug")]);
        old.version = "0.0.9".into();
        let new = old.upgraded("0.1.0", None, &[set("gateway.replicas=3")]).unwrap();
        assert_eq!(new.image, "reg.example:5000/isthmus:0.1.0");
        assert_eq!(new.settings, [set("gateway.replicas=3"), set("log=debug")]);
        assert_eq!(old.upgraded("0.0.9", None, &[]).unwrap(), old);
        old.image = "reg.example/isthmus@sha256:ab".into();
        assert!(old.upgraded("0.1.0", None, &[]).unwrap_err().to_string().contains("--image"));
        assert_eq!(old.upgraded("0.1.0", Some("a:1".into()), &[]).unwrap().image, "a:1");
    }
}
