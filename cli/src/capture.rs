//! `capture`: puts the rules in force that lead a pod's traffic by its sidecar, looks that they are, and says so.
//!
//! It runs once, as root, before the pod's containers. What it did a second time is what it did the first time.

mod netlink;

use std::{
    io::{ErrorKind, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use isthmus_proxy::capture::{self, Capture, Family, JUMPS, Mode, Ports, Ranges, TABLE, Tables};

use crate::{
    args::{Capture as Args, With},
    out,
};

/// The remedy where the kernel says that this process may not.
const PRIVILEGE: &str = "; the container must run as root with the capability NET_ADMIN";

/// # Errors
/// When the kernel or the privilege is missing, or the rules are not in force afterwards.
pub fn run(args: &Args) -> Result<()> {
    let setting = args.setting();
    if setting.exclude_users.is_empty() && setting.exclude_groups.is_empty() {
        bail!(
            "no user and no group is left alone, so the sidecar would capture itself; name the one it runs as with \
             --exclude-users or --exclude-groups"
        );
    }
    if args.print {
        print(&setting, args.with);
        return Ok(());
    }
    let by = match args.with {
        With::Nft => by_nft(&setting).map(|()| "nft")?,
        With::Iptables => by_iptables(&setting)?,
        With::Auto => match by_nft(&setting) {
            Ok(()) => "nft",
            Err(error) if format!("{error:#}").contains(PRIVILEGE) => return Err(error),
            Err(nft) => by_iptables(&setting).map_err(|iptables| anyhow!("{nft:#}; {iptables:#}"))?,
        },
    };
    netlink::prepare(setting.mode)?;
    out::line(said(&setting, by));
    Ok(())
}

fn print(setting: &Capture, with: With) {
    if with != With::Iptables {
        out::line(capture::nft(setting).trim_end());
        return;
    }
    for (family, name) in [(Family::V4, "iptables-restore"), (Family::V6, "ip6tables-restore")] {
        let text = capture::iptables(setting, family, &Tables::default());
        out::line(format!("# {name} --noflush\n{}", text.trim_end()));
    }
}

fn by_nft(setting: &Capture) -> Result<()> {
    let text = capture::nft(setting);
    told(&["nft", "-f", "-"], &text).context("the rules of nftables are not in force")?;
    let listed = told(&["nft", "list", "table", "inet", "isthmus"], "")?;
    let rules = |text: &str| {
        let ends = ["return", "redirect to", "tproxy", "mark set"];
        text.lines().filter(|line| ends.iter().any(|end| line.contains(end))).count()
    };
    if rules(&listed) != rules(&text) {
        bail!("nft took {} rules and table {TABLE} has {}; another program changes it", rules(&text), rules(&listed));
    }
    Ok(())
}

/// Which iptables took the rules. The legacy one comes first: whoever comes here has no nf_tables, on which the other
/// one is built.
fn by_iptables(setting: &Capture) -> Result<&'static str> {
    let mut failed = None;
    for (kind, name) in [("-legacy", "iptables-legacy"), ("", "iptables")] {
        match all_families(setting, kind) {
            Ok(()) => return Ok(name),
            // The first says why; that the next is not there either adds nothing.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| anyhow!("no iptables"))).context("the rules of iptables are not in force")
}

fn all_families(setting: &Capture, kind: &str) -> Result<()> {
    family(setting, Family::V4, &format!("iptables{kind}"))?;
    // A kernel without IPv6 has nothing to capture there.
    if std::path::Path::new("/proc/net/if_inet6").exists() {
        family(setting, Family::V6, &format!("ip6tables{kind}"))?;
    }
    Ok(())
}

fn family(setting: &Capture, family: Family, name: &str) -> Result<()> {
    let (save, restore) = (format!("{name}-save"), format!("{name}-restore"));
    let there = Tables { saved: told(&[save.as_str()], "")? };
    let text = capture::iptables(setting, family, &there);
    told(&[restore.as_str(), "--noflush"], &text)?;
    let now = Tables { saved: told(&[save.as_str()], "")? };
    let fresh = Tables { saved: capture::iptables(setting, family, &Tables::default()) };
    for (table, jump) in JUMPS {
        if now.has(table, jump) != fresh.has(table, jump) {
            bail!("{restore} said yes, but table {table} is not as it was told; another program changes it");
        }
    }
    Ok(())
}

/// Runs a program with a text on its standard input, and gives back what it prints.
fn told(command: &[&str], text: &str) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else { bail!("no program") };
    let mut started = Command::new(program);
    // A root that is read-only has no place for the lock, and nobody else is in the pod yet to need it.
    started
        .env("XTABLES_LOCKFILE", "/dev/null")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = started.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{program} is not on the PATH; the image of isthmus has it, use that image"),
        _ => anyhow!("{program} does not start: {error}"),
    })?;
    if let Some(mut input) = running.stdin.take() {
        // A program that ends early says itself why.
        let _ = input.write_all(text.as_bytes());
    }
    let ended = running.wait_with_output().with_context(|| format!("{program} cannot be waited for"))?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&ended.stderr).into_owned();
    let complaint: Vec<_> = complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let first = complaint.first().copied().unwrap_or("it says nothing");
    bail!("{program} says {first:?}{}", remedy(first))
}

/// What to do about it, where that is known.
fn remedy(complaint: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    if says(&["Operation not permitted", "Permission denied", "must be root"]) {
        return PRIVILEGE;
    }
    if says(&["No such file or directory", "not supported", "Protocol not", "does not exist", "Could not fetch"]) {
        return "; the node's kernel lacks what the rules need: load nft_redir, nft_chain_nat and nft_tproxy there, or \
                ip_tables, iptable_nat and xt_owner for --with iptables";
    }
    ""
}

/// What is in force, in a line.
fn said(setting: &Capture, by: &str) -> String {
    let numbers = |numbers: &[u16]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let ports = |ports: &Ports| match ports {
        Ports::All => "all TCP".to_owned(),
        Ports::Only(ports) if ports.is_empty() => "nothing".to_owned(),
        Ports::Only(ports) => format!("TCP to {}", numbers(ports)),
    };
    let out = match &setting.ranges {
        Ranges::All => "all TCP".to_owned(),
        Ranges::Only(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            let to = if ranges.is_empty() { "the clusterset".to_owned() } else { ranges.join(",") };
            format!("TCP to {to}")
        }
    };
    let dns = if setting.dns { ", DNS" } else { "" };
    let mode = match setting.mode {
        Mode::Redirect => "REDIRECT",
        Mode::Tproxy => "TPROXY",
    };
    let mut line = format!("captured by {by}: out {out}{dns}; in {} ({mode})", ports(&setting.inbound));
    let mut except = |what: &str, which: &[u16]| {
        if !which.is_empty() {
            line.push_str(&format!("; {what} {} left alone", numbers(which)));
        }
    };
    except("out", &setting.exclude_outbound);
    except("in", &setting.exclude_inbound);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let error = told(&["isthmus-no-such-program"], "").unwrap_err().to_string();
        assert!(error.contains("not on the PATH") && error.contains("image"), "{error}");
        assert!(remedy("Error: Could not process rule: Operation not permitted").contains("NET_ADMIN"));
        assert!(remedy("Error: Could not process rule: No such file or directory").contains("nft_redir"));
        let error = told(&["ls", "--no-such-option"], "").unwrap_err().to_string();
        assert!(error.starts_with("ls says \""), "{error}");
    }

    #[test]
    fn a_line_says_what_is_in_force() {
        let setting = Capture { exclude_outbound: vec![3306], ..Capture::default() };
        let expected = "captured by nft: out all TCP, DNS; in all TCP (REDIRECT); out 3306 left alone";
        assert_eq!(said(&setting, "nft"), expected);
    }
}
