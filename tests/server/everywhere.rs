//! The programs of `docs/cluster.md`, as files in `examples/cluster/`, which ask every primary: each is run against a real
//! cluster of six, also while a primary hangs and while one is down, and all must say the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::examples::{installed, root};
use crate::support::{Cluster, Server, skip};

#[path = "../../examples/cluster/invalidate_everywhere.rs"]
#[allow(unreachable_pub, missing_docs)]
mod invalidate_everywhere;

/// What a program has said: whether it was content, and of each primary the answer, or that there was none.
struct Said {
    content: bool,
    answered: BTreeMap<String, String>,
    failed: BTreeMap<String, String>,
}

/// Runs a program, given some nodes and the words of a command.
type Run<'a> = dyn Fn(&[String], &[&str]) -> Said + 'a;

fn address(node: &Server) -> String {
    format!("127.0.0.1:{}", node.port())
}

fn every_primary_is_asked_and_those_that_do_not_answer_are_named(run: &Run<'_>) {
    // None is given up, and no replica takes its place, while the test lasts.
    let mut cluster = Cluster::start("cluster-node-timeout 60000");
    let all: Vec<_> = cluster.primaries.iter().map(address).collect();
    let words = ["SMARTCACHE.INVALIDATE", "TAGS", "2", "t", "u"];
    for key in ["a", "b", "c", "d", "e", "f"] {
        cluster.of(key).ok(&format!("SMARTCACHE.SET {key} v TAGS 1 t"));
    }

    let said = run(&all, &words);
    assert!(said.content && said.failed.is_empty());
    assert!(said.answered.keys().eq(sorted(&all)), "{:?}", said.answered);
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert!(cluster.of(key).ok(&format!("SMARTCACHE.GET {key}")).is_nil());
    }

    let replicas: Vec<_> = cluster.replicas.iter().map(address).collect();
    let said = run(&replicas, &words);
    assert!(said.content && said.answered.keys().eq(sorted(&all)), "any node knows the primaries");

    let said = run(&all, &["SMARTCACHE.INVALIDATE", "TAGS", "1", "t", "SPEED", "5"]);
    assert!(!said.content && said.answered.is_empty() && said.failed.keys().eq(sorted(&all)));
    assert!(said.failed.values().all(|error| error.contains("syntax error near 'SPEED'")), "{:?}", said.failed);

    cluster.primaries[1].pause();
    let began = Instant::now();
    let said = run(&all, &words);
    cluster.primaries[1].resume();
    assert!(!said.content && said.failed.keys().eq([&all[1]]), "{:?}", said.failed);
    assert!(said.answered.keys().eq(sorted(&[all[0].clone(), all[2].clone()])), "the others are not held up");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());

    cluster.primaries[0].kill();
    let said = run(&all, &words);
    assert!(!said.content && said.failed.keys().eq([&all[0]]), "{:?}", said.failed);
    assert!(said.answered.keys().eq(sorted(&all[1..])), "{:?}", said.answered);

    cluster.primaries[0].restart();
    cluster.wait_until_whole();
    let said = run(&all, &words);
    assert!(said.content && said.answered.keys().eq(sorted(&all)), "and then it is everywhere");
}

fn sorted(addresses: &[String]) -> impl Iterator<Item = &String> {
    addresses.iter().collect::<std::collections::BTreeSet<_>>().into_iter()
}

#[test]
fn python() {
    every_primary_is_asked_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let mut command = Command::new("python3");
        command.arg(example("py")).env("PYTHONPATH", installed("python", "redis")).env("PYTHONDONTWRITEBYTECODE", "1");
        finish(command, nodes, words)
    });
}

#[test]
fn node() {
    // Modules are looked for beside the file that asks for them.
    let dir = tempfile::tempdir().expect("a directory");
    let modules = installed("node", "node_modules/redis").join("node_modules");
    symlink(modules, dir.path().join("node_modules")).expect("a link");
    let program = dir.path().join("invalidate_everywhere.mjs");
    fs::copy(example("mjs"), &program).expect("copied");
    every_primary_is_asked_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let mut command = Command::new("node");
        command.arg(&program);
        finish(command, nodes, words)
    });
}

#[test]
fn rust() {
    every_primary_is_asked_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
        let replies = invalidate_everywhere::everywhere(&nodes, words).expect("some node knows the primaries");
        let mut said = Said { content: true, answered: BTreeMap::new(), failed: BTreeMap::new() };
        for (node, reply) in replies {
            match reply {
                Ok(reply) => said.answered.insert(node, format!("{reply:?}")),
                Err(error) => {
                    said.content = false;
                    said.failed.insert(node, error.to_string())
                }
            };
        }
        said
    });
}

#[test]
fn go() {
    // `scripts/setup` builds it.
    let program = root().join(".clients/go/invalidate_everywhere");
    if !program.exists() {
        skip!(Server::start(), "there is no Go, or its packages could not be fetched (see `scripts/setup clients`)");
    }
    every_primary_is_asked_and_those_that_do_not_answer_are_named(&|nodes, words| {
        finish(Command::new(&program), nodes, words)
    });
}

fn example(ending: &str) -> std::path::PathBuf {
    root().join("examples/cluster").join(format!("invalidate_everywhere.{ending}"))
}

/// What a program says: `host:port answer` on one side, `host:port FAILED: why` on the other.
#[track_caller]
fn finish(mut command: Command, nodes: &[String], words: &[&str]) -> Said {
    command.env("REDIS_NODES", nodes.join(",")).args(words);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; `scripts/setup clients` installs it"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines = |text: &str, between: &str| {
        let halves = text.lines().map(|line| line.split_once(between).unwrap_or_else(|| panic!("{out}\n{err}")));
        halves.map(|(node, rest)| (node.to_owned(), rest.to_owned())).collect()
    };
    Said { content: output.status.success(), answered: lines(&out, " "), failed: lines(&err, " FAILED: ") }
}
