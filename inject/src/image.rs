//! The image of the sidecar, as far as a text can tell.

use std::str::FromStr;

/// An image that can run as the sidecar.
pub(crate) struct Image(pub(crate) String);

/// The image of Istio's sidecar, by the end of its name.
const ISTIO_IMAGE: &str = "/proxyv2";

impl FromStr for Image {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.split(['@']).next().unwrap_or_default();
        let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
        if !is_image(text) {
            return Err("is no image; write registry/name:tag");
        }
        if name.ends_with(ISTIO_IMAGE) {
            return Err("is Istio's sidecar, which knows nothing of this mesh; remove the annotation");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether a text can name an image; whether there is one is the node's question.
pub(crate) fn is_image(text: &str) -> bool {
    let is_named = |letter: char| letter.is_ascii_alphanumeric() || "._-/:@".contains(letter);
    text.starts_with(|letter: char| letter.is_ascii_alphanumeric()) && text.chars().all(is_named)
}
