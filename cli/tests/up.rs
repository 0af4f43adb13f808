//! `up` as a person has it: told while it comes up, asked while it runs, and gone without a trace however it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says so by a panic"
)]

mod support;

use std::net::TcpListener;

use rustix::process::Signal;
use support::{Yard, config, kill, process, wait};

const UP: &[&str] = &["up", "--clusters", "1", "--detach"];

#[test]
fn a_mesh_in_the_background_answers_its_commands_and_goes_without_a_trace() {
    let yard = Yard::new(144);
    let said = yard.says(UP);
    for part in [
        "12 processes of 1 cluster started",
        "us-east bootstrapped the mesh",
        "the mesh answers, ",
        "us-east      12/12 processes",
        "curl -x http://127.144.11.1:15080 http://reviews.bookinfo.svc.clusterset.local:9080/reviews/0",
        "dig @127.144.1.1 -p 15053 reviews.bookinfo.svc.clusterset.local",
        "alias isthmus=",
        "it runs in the background",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    up_twice_and_what_is_unknown_get_one_line_each(&yard);
    every_listing_speaks_json(&yard);
    what_dies_is_restarted_and_what_is_killed_stays_down(&yard);
    a_refused_file_is_shown_where_people_look(&yard);
    assert!(yard.says(&["down"]).starts_with("the mesh is down"));
    // Whoever ran it lets go of the state directory a moment before it ends.
    yard.wait_empty();
    assert!(yard.refuses(&["status"]).contains("no mesh is up in"));
    what_an_earlier_run_left_is_told_in_one_line(&yard);
}

fn up_twice_and_what_is_unknown_get_one_line_each(yard: &Yard) {
    for (args, part) in [
        (UP, "a mesh is already up in"),
        (&["up"], "a mesh is already up in"),
        (&["clusters", "--at", "mars"], "no cluster mars in this mesh; there are us-east"),
        (&["cluster", "kill", "mars"], "no cluster mars in this mesh"),
        (&["cluster", "kill", "us-east", "--only", "x"], "no process x in us-east"),
        (&["cluster", "start", "us-east"], "nothing of us-east was killed"),
        (&["endpoints", "nobody.bookinfo"], "nothing answers for bookinfo/nobody"),
        (&["endpoints", "reviews"], "names no service; write it as reviews.bookinfo"),
        (&["trace", "nobody@us-east", "reviews.bookinfo"], "no workload nobody in us-east; there are curl, "),
        (&["trace", "curl@us-east", "nobody.bookinfo"], "us-east knows no service bookinfo/nobody"),
        (&["trace", "curl@mars", "reviews.bookinfo"], "no cluster mars in this mesh; there are us-east"),
        (&["join", "hello"], "this is no join token"),
        (&["bootstrap"], "is of mesh mesh.local already"),
    ] {
        let said = yard.refuses(args);
        assert!(said.contains(part), "{args:?}: {part} is not in {said}");
    }
    // The same addresses in another directory.
    let elsewhere = yard.state().with_file_name("elsewhere");
    let said = yard.refuses(&["up", "--state-dir", elsewhere.to_str().unwrap()]);
    assert!(said.contains("which control of us-east needs, is not free"), "{said}");
    // A token for a cluster that this machine does not have: `join` says where it could go.
    let token = yard.says(&["token", "create", "--cluster", "ap-south", "--ttl", "5m"]);
    let said = yard.refuses(&["join", token.trim()]);
    assert!(said.contains("the token is for ap-south; name its member's admin endpoint with --member"), "{said}");
}

fn every_listing_speaks_json(yard: &Yard) {
    for (args, part) in [
        (&["clusters"][..], "us-east"),
        (&["services"], "bookinfo/reviews"),
        (&["endpoints", "reviews.bookinfo"], "reviews-v1-a"),
        (&["proxy-status"], "gateway-us-east"),
        (&["config"], "reviews.yaml"),
        (&["trace", "curl@us-east", "reviews.bookinfo/reviews/0"], "200 OK"),
        (&["status"], "productpage-v1-a.sidecar"),
    ] {
        let table = yard.says(args);
        assert!(table.contains(part), "{part} is not in:\n{table}");
        let json = yard.says(&[args, &["-o", "json"]].concat());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert!(value.to_string().contains(part), "{part} is not in {value}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(yard.says(&["completion", shell]).contains("ISTHMUS_COMPLETE"), "{shell}");
    }
    // As a shell asks that has this much typed; a control that does not answer at once is not waited for.
    for (typed, offered) in [
        (&["proxy-st"][..], "proxy-status"),
        (&["cluster", "drain", "us-"], "us-east"),
        (&["clusters", "--at", ""], "us-east"),
        (&["failover", "simulate", "--down", "us-west,us-e"], "us-west,us-east"),
        (&["failover", "status", "rev"], "reviews.bookinfo"),
    ] {
        wait("what is offered is what there is", || {
            let said = yard.completes(typed);
            if said.lines().any(|line| line == offered) { Ok(()) } else { Err(format!("{typed:?}: {said}")) }
        });
    }
}

fn what_dies_is_restarted_and_what_is_killed_stays_down(yard: &Yard) {
    let before = process(&yard.status(), "curl.sidecar")["pid"].as_u64().unwrap();
    kill(u32::try_from(before).unwrap(), Signal::KILL);
    wait("the sidecar is restarted, and that is shown", || {
        let shown = yard.says(&["status"]);
        let status = yard.status();
        let now = process(&status, "curl.sidecar");
        let again = now["restarts"] == 1 && now["state"] == "running" && now["pid"] != before;
        let told = shown.contains("! curl.sidecar was restarted (restart 1): signal: 9 (SIGKILL)");
        if again && told { Ok(()) } else { Err(shown) }
    });
    assert_eq!(yard.says(&["cluster", "kill", "us-east", "--only", "gateway"]), "killed 1 process of us-east\n");
    let shown = yard.says(&["status"]);
    assert!(shown.contains("! killed: gateway; `isthmus cluster start us-east` starts it again"), "{shown}");
    assert_eq!(process(&yard.status(), "gateway")["state"], "killed");
    assert_eq!(yard.says(&["cluster", "start", "us-east"]), "started 1 process of us-east\n");
    wait("the gateway is ready again", || {
        let status = yard.status();
        let gateway = process(&status, "gateway");
        if gateway["ready"] == true { Ok(()) } else { Err(gateway.to_string()) }
    });
    let before = process(&yard.status(), "gateway").clone();
    let restarted = yard.says(&["cluster", "restart", "us-east", "--only", "gateway"]);
    assert_eq!(restarted, "restarted 1 process of us-east\n");
    // Who does not answer at once is shown as not ready.
    wait("the gateway is another one, and ready", || {
        let after = process(&yard.status(), "gateway").clone();
        assert_ne!(before["pid"], after["pid"]);
        assert_eq!((&after["state"], &after["restarts"]), (&"running".into(), &0.into()));
        if after["ready"] == true { Ok(()) } else { Err(after.to_string()) }
    });
}

fn a_refused_file_is_shown_where_people_look(yard: &Yard) {
    let file = config(&yard.state(), "us-east").join("late.yaml");
    std::fs::write(&file, "apiVersion: v1\nkind: Service\nmetadata:\n  name: late\nspec:\n  ports: 9080\n").unwrap();
    wait("the refused file is shown", || {
        let (listed, shown) = (yard.says(&["config"]), yard.says(&["status"]));
        let row = listed.lines().any(|line| line.starts_with("late.yaml") && line.contains("spec.ports"));
        if row && shown.contains("! late.yaml:6: spec.ports") { Ok(()) } else { Err(format!("{listed}{shown}")) }
    });
    std::fs::remove_file(&file).unwrap();
}

fn what_an_earlier_run_left_is_told_in_one_line(yard: &Yard) {
    let said = yard.refuses(&["up", "--clusters", "2"]);
    assert!(said.contains("holds another mesh (1 cluster from 127.144.1.1)"), "{said}");
    let plan = yard.state().join("mesh.json");
    let whole = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, &whole[..whole.len() / 2]).unwrap();
    assert!(yard.refuses(UP).contains("is cut or changed"));
    std::fs::write(&plan, whole.replace("\"format\": 1", "\"format\": 0")).unwrap();
    assert!(yard.refuses(UP).contains("was left by another release of isthmus"));
    assert_eq!(yard.processes(), [0; 0], "nothing was started");
}

#[test]
fn a_killed_up_leaves_no_process_and_the_next_one_goes_on_from_what_it_left() {
    let yard = Yard::new(141);
    let mut first = yard.start(&["up", "--clusters", "1", "--plain"]);
    first.until("try next:");
    assert_eq!(yard.processes().len(), 12, "every process of the mesh is seen here");
    first.signal(Signal::KILL);
    assert!(!first.end().0);
    yard.wait_empty();
    for signal in [Signal::INT, Signal::TERM] {
        let mut again = yard.start(&["up", "--clusters", "1", "--plain"]);
        again.until("going on from an earlier run");
        again.until("the mesh answers, ");
        again.signal(signal);
        let (well, said) = again.end();
        assert!(well && said.contains("taking the mesh down"), "{signal:?}: {said}");
        assert_eq!(yard.processes(), [0; 0], "{signal:?} leaves nothing");
    }
}

#[test]
fn ctrl_c_while_a_mesh_comes_up_in_the_background_leaves_nothing() {
    let yard = Yard::new(142);
    let interrupted = || {
        let mut up = yard.start(UP);
        up.until("processes of 1 cluster started");
        up.signal(Signal::INT);
        up.end()
    };
    let mut ended = interrupted();
    while ended.0 {
        // This test was held up so long that the mesh answered first.
        yard.says(&["down"]);
        ended = interrupted();
    }
    assert!(ended.1.contains("taking the mesh down"), "{}", ended.1);
    assert_eq!(yard.processes(), [0; 0]);
}

#[test]
fn a_taken_port_of_any_role_is_told_in_one_line_before_anything_runs() {
    let yard = Yard::new(143);
    for (taken, who) in [
        ("127.143.1.1:15012", "control"),
        ("127.143.2.1:15050", "federation"),
        ("127.143.3.1:15444", "gateway"),
        ("127.143.11.1:15080", "curl.sidecar"),
        ("127.143.12.1:9080", "productpage-v1-a"),
    ] {
        let held = TcpListener::bind(taken).unwrap();
        let said = yard.refuses(UP);
        assert!(said.contains(&format!("{taken} (TCP), which {who} of us-east needs, is not free")), "{said}");
        assert_eq!(yard.processes(), [0; 0], "nothing was started");
        drop(held);
    }
}
