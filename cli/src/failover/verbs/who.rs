//! Who types: it is written beside what is done.

use std::path::Path;

/// `user@host`.
pub fn who() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let host = std::fs::read_to_string(Path::new("/etc/hostname")).ok();
    let host = host.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).or_else(|| set("HOSTNAME"));
    named(set("USER").or_else(|| set("LOGNAME")), rustix::process::getuid().as_raw(), host)
}

fn named(user: Option<String>, uid: u32, host: Option<String>) -> String {
    let user = user.unwrap_or_else(|| format!("uid-{uid}"));
    host.map_or(user.clone(), |host| format!("{user}@{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_its_number() {
        assert_eq!(named(Some("ann".into()), 7, Some("desk".into())), "ann@desk");
        assert_eq!(named(None, 7, Some("desk".into())), "uid-7@desk");
        assert_eq!(named(None, 7, None), "uid-7");
        assert!(!who().is_empty());
    }
}
