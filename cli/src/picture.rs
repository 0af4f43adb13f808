//! The picture of a raised mesh: pure, from its status to text. The live form draws over itself.

use std::collections::BTreeSet;

use isthmus_scenarios::{
    plan::Role,
    status::{ClusterStatus, Link, ProcessState, ProcessStatus, Status},
    wan::links::Row,
};

use crate::table::micros;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Its lines.
    pub rows: usize,
    /// Characters a line.
    pub columns: usize,
}

/// Home, then each line with the rest of it cleared, then everything below cleared: nothing flickers, because nothing
/// is blanked before it is written. Lines of the picture are cut at the terminal's width. Commands wrap, so that they
/// can be copied whole; in a small terminal blank lines go for them, and where that is not enough they are cut too,
/// because scrolling spoils the next frame.
pub fn live(status: &Status, commands: &str, size: Size) -> String {
    let (room, columns) = (size.rows.saturating_sub(1), size.columns.max(1));
    let picture = draw(status);
    let mut picture: Vec<&str> = picture.lines().collect();
    let height = |line: &str| line.chars().count().div_ceil(columns).max(1);
    let below: usize = commands.lines().map(height).sum();
    if picture.len() + below > room {
        picture.retain(|line| !line.is_empty());
    }
    let wraps = picture.len() + below <= room;
    let lines = picture.into_iter().map(|line| (line, columns));
    let lines = lines.chain(commands.lines().map(|line| (line, if wraps { usize::MAX } else { columns })));
    let mut frame = String::from("\x1b[H");
    for (line, width) in lines.take(room) {
        frame.extend(line.chars().take(width));
        frame.push_str("\x1b[K\r\n");
    }
    frame.push_str("\x1b[J");
    frame
}

/// The picture as plain text.
pub fn draw(status: &Status) -> String {
    let mut text = headline(status);
    text.push_str(&verbs(status));
    for cluster in &status.clusters {
        text.push_str(&cluster_lines(cluster, &status.network));
    }
    text
}

fn headline(status: &Status) -> String {
    let seconds = status.up_ms / 1000;
    let up = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let answers = match (status.answered_ms, &status.coming_up) {
        (Some(ms), _) => format!("answered after {:.1} s", ms as f64 / 1000.0),
        (None, Some(step)) => format!("coming up: {step}"),
        (None, None) => "coming up".into(),
    };
    format!("mesh {}   up {up}   {answers}\n\n", status.mesh)
}

/// What operators do, once each however many clusters know it.
fn verbs(status: &Status) -> String {
    let all: BTreeSet<_> = status.clusters.iter().flat_map(|cluster| &cluster.verbs).collect();
    match all.is_empty() {
        true => String::new(),
        false => all.into_iter().map(|verb| format!("» {verb}\n")).collect::<String>() + "\n",
    }
}

fn cluster_lines(cluster: &ClusterStatus, network: &[Row]) -> String {
    let running = cluster.processes.iter().filter(|process| process.state == ProcessState::Running).count();
    let mut text = format!(
        "{:<12} {:>2}/{} processes   {:>7.1} requests/s   {}\n",
        cluster.name.as_str(),
        running,
        cluster.processes.len(),
        cluster.requests_per_second,
        roles(cluster)
    );
    for link in &cluster.links {
        text.push_str(&link_line(link));
    }
    for row in network.iter().filter(|row| row.changed && row.from == cluster.name) {
        text.push_str(&format!("  ~ the network to {} is set to: {}\n", row.to, row.settings));
    }
    text.push_str(&killed(cluster));
    for process in cluster.processes.iter().filter(|process| is_worth_a_line(process)) {
        text.push_str(&trouble(process));
    }
    for refused in &cluster.refused {
        text.push_str(&format!("  ! {refused}\n"));
    }
    text.push('\n');
    text
}

/// Control, member and gateways, each with its mark, and how many sidecars are ready.
fn roles(cluster: &ClusterStatus) -> String {
    let mark = |process: &ProcessStatus| {
        let mark = match process {
            process if process.state != ProcessState::Running => "✗",
            process if process.ready == Some(true) => "✓",
            _ => "…",
        };
        format!("{mark} {}", process.name)
    };
    let own = cluster.processes.iter().filter(|process| !matches!(process.role, Role::Proxy | Role::App));
    let sidecars = cluster.processes.iter().filter(|process| process.role == Role::Proxy).collect::<Vec<_>>();
    let ready = sidecars.iter().filter(|process| process.ready == Some(true)).count();
    let marks = own.map(mark).collect::<Vec<_>>();
    let marks = marks.join("  ");
    if sidecars.is_empty() { marks } else { format!("{marks}  {ready}/{} sidecars", sidecars.len()) }
}

fn link_line(link: &Link) -> String {
    let loss = if link.loss_ppm == 0 { String::new() } else { format!("   {:.2} % lost", link.loss_ppm as f64 / 1e4) };
    let why = if link.why.is_empty() { String::new() } else { format!("   {}", link.why) };
    format!(
        "  → {:<12} {:<10} {:>8}   share {:>3.0} %   {}{loss}{why}\n",
        link.to,
        link.standing,
        micros(link.rtt_us),
        link.share * 100.0,
        link.transport
    )
}

/// What is down because somebody wanted it, and how it comes back.
fn killed(cluster: &ClusterStatus) -> String {
    let killed = cluster.processes.iter().filter(|process| process.state == ProcessState::Killed);
    let names = killed.map(|process| process.name.as_str()).collect::<Vec<_>>();
    let what = match names.len() {
        0 => return String::new(),
        all if all == cluster.processes.len() => "everything".to_owned(),
        _ => names.join(", "),
    };
    format!("  ! killed: {what}; `isthmus cluster start {}` starts it again\n", cluster.name)
}

fn is_worth_a_line(process: &ProcessStatus) -> bool {
    process.state == ProcessState::Restarting || (process.restarts > 0 && process.since_ms < 30_000)
}

fn trouble(process: &ProcessStatus) -> String {
    let state = match process.state {
        ProcessState::Restarting => "is being restarted",
        ProcessState::Running => "was restarted",
        _ => "is down",
    };
    let exit = process.last_exit.as_deref().unwrap_or("ended");
    format!("  ! {} {state} (restart {}): {exit}\n", process.name, process.restarts)
}

#[cfg(test)]
mod tests {
    use isthmus_scenarios::wan::settings::Settings;

    use super::*;

    fn status() -> Status {
        let process = |name: &str, role, state, ready| ProcessStatus {
            cluster: "us-east".parse().unwrap(),
            name: name.into(),
            role,
            address: "127.1.1.1".parse().unwrap(),
            state,
            ready,
            pid: Some(1),
            restarts: u32::from(state == ProcessState::Restarting),
            since_ms: 10,
            last_exit: Some("exit status: 1: the address is taken".into()),
        };
        let cluster = ClusterStatus {
            name: "us-east".parse().unwrap(),
            region: "us-east".into(),
            processes: vec![
                process("control", Role::Control, ProcessState::Running, Some(true)),
                process("federation", Role::Federation, ProcessState::Killed, None),
                process("gateway", Role::Gateway, ProcessState::Restarting, None),
                process("curl.sidecar", Role::Proxy, ProcessState::Running, Some(true)),
            ],
            requests_per_second: 12.34,
            links: vec![Link {
                to: "us-west".into(),
                standing: "alive".into(),
                share: 1.0,
                rtt_us: 420,
                transport: "quic".into(),
                ..Link::default()
            }],
            refused: vec!["late.yaml:9: spec.ports[0].port: not a number".into()],
            verbs: vec!["drain of eu-west over 10m, by ann at us-east".into(); 2],
        };
        Status {
            mesh: "mesh.local".into(),
            up_ms: 65_000,
            answered_ms: Some(3_210),
            clusters: vec![cluster],
            network: vec![row("us-west", true), row("eu-west", false)],
            ..Status::default()
        }
    }

    fn row(to: &str, changed: bool) -> Row {
        let settings = Settings { delay_us: 15_000, cut: true, ..Settings::default() };
        let counts = Default::default();
        Row { from: "us-east".parse().unwrap(), to: to.parse().unwrap(), settings, changed, counts, seed: 0 }
    }

    #[test]
    fn the_picture_shows_who_runs_how_links_are_and_what_is_in_trouble() {
        let text = draw(&status());
        for part in [
            "mesh mesh.local   up 0:01:05   answered after 3.2 s",
            "us-east       2/4 processes",
            "12.3 requests/s",
            "✓ control  ✗ federation  ✗ gateway  1/1 sidecars",
            "→ us-west",
            "420 µs   share 100 %   quic",
            "! gateway is being restarted (restart 1): exit status: 1: the address is taken",
            "! killed: federation; `isthmus cluster start us-east` starts it again",
            "! late.yaml:9: spec.ports[0].port: not a number",
            "~ the network to us-west is set to: 15 ms, CUT",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("» drain of eu-west over 10m, by ann at us-east\n").count(), 1, "{text}");
        assert!(!text.contains("the network to eu-west"), "it is as it was raised: {text}");
    }

    #[test]
    fn the_live_picture_draws_over_itself_without_blanking() {
        let frame = live(&status(), "try next", Size { rows: 50, columns: 120 });
        assert!(frame.starts_with("\x1b[H") && frame.ends_with("\x1b[J"));
        assert!(!frame.contains("\x1b[2J"));
        assert_eq!(frame.matches("\x1b[K\r\n").count(), draw(&status()).lines().count() + 1);
        let small = live(&status(), "try next", Size { rows: 3, columns: 4 });
        assert_eq!(small, "\x1b[Hmesh\x1b[K\r\n» dr\x1b[K\r\n\x1b[J");
    }

    #[test]
    fn a_command_longer_than_the_terminal_is_wide_stays_whole_where_there_is_room() {
        let command = format!("curl {}", "x".repeat(100));
        let lines = draw(&status()).lines().count();
        let blanks = draw(&status()).lines().filter(|line| line.is_empty()).count();
        let whole = |rows| live(&status(), &command, Size { rows, columns: 80 }).contains(&command);
        // Two lines of command, and the last one of the terminal, which stays empty.
        assert!(whole(lines + 3));
        assert!(whole(lines + 3 - blanks), "blank lines go first");
        assert!(!whole(lines + 2 - blanks));
    }
}
