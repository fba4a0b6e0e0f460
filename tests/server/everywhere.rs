//! The programs of `docs/cluster.md` in `examples/cluster/`, which query every primary. Each runs against a real
//! cluster of six nodes, also while a primary hangs and while one is down, and all must give the same results.

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

/// The output of a program: success, and the answer or the failure of each primary.
struct Output {
    success: bool,
    answered: BTreeMap<String, String>,
    failed: BTreeMap<String, String>,
}

/// Runs a program with some nodes and a command.
type Run<'a> = dyn Fn(&[String], &[&str]) -> Output + 'a;

fn address(node: &Server) -> String {
    format!("127.0.0.1:{}", node.port())
}

fn every_primary_is_queried_and_those_that_do_not_answer_are_named(run: &Run<'_>) {
    // No failover during the test.
    let mut cluster = Cluster::start("cluster-node-timeout 60000");
    let all: Vec<_> = cluster.primaries.iter().map(address).collect();
    let words = ["SMARTCACHE.INVALIDATE", "TAGS", "2", "t", "u"];
    for key in ["a", "b", "c", "d", "e", "f"] {
        cluster.of(key).ok(&format!("SMARTCACHE.SET {key} v TAGS 1 t"));
    }

    let output = run(&all, &words);
    assert!(output.success && output.failed.is_empty());
    assert!(output.answered.keys().eq(sorted(&all)), "{:?}", output.answered);
    for key in ["a", "b", "c", "d", "e", "f"] {
        assert!(cluster.of(key).ok(&format!("SMARTCACHE.GET {key}")).is_nil());
    }

    let replicas: Vec<_> = cluster.replicas.iter().map(address).collect();
    let output = run(&replicas, &words);
    assert!(output.success && output.answered.keys().eq(sorted(&all)), "any node lists the primaries");

    let output = run(&all, &["SMARTCACHE.INVALIDATE", "TAGS", "1", "t", "SPEED", "5"]);
    assert!(!output.success && output.answered.is_empty() && output.failed.keys().eq(sorted(&all)));
    assert!(output.failed.values().all(|error| error.contains("syntax error near 'SPEED'")), "{:?}", output.failed);

    cluster.primaries[1].pause();
    let began = Instant::now();
    let output = run(&all, &words);
    cluster.primaries[1].resume();
    assert!(!output.success && output.failed.keys().eq([&all[1]]), "{:?}", output.failed);
    assert!(output.answered.keys().eq(sorted(&[all[0].clone(), all[2].clone()])), "the others are not delayed");
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());

    cluster.primaries[0].kill();
    let output = run(&all, &words);
    assert!(!output.success && output.failed.keys().eq([&all[0]]), "{:?}", output.failed);
    assert!(output.answered.keys().eq(sorted(&all[1..])), "{:?}", output.answered);

    cluster.primaries[0].restart();
    cluster.wait_until_whole();
    let output = run(&all, &words);
    assert!(output.success && output.answered.keys().eq(sorted(&all)), "it reaches all of them again");
}

fn sorted(addresses: &[String]) -> impl Iterator<Item = &String> {
    addresses.iter().collect::<std::collections::BTreeSet<_>>().into_iter()
}

#[test]
fn python() {
    every_primary_is_queried_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let mut command = Command::new("python3");
        command.arg(example("py")).env("PYTHONPATH", installed("python", "redis")).env("PYTHONDONTWRITEBYTECODE", "1");
        finish(command, nodes, words)
    });
}

/// The way that works in redis-py 5 to 8.
#[test]
fn redis_py_asks_the_nodes_that_it_is_given() {
    let cluster = Cluster::start("");
    let program = "
import sys
from redis.cluster import RedisCluster
cluster = RedisCluster(host='127.0.0.1', port=int(sys.argv[1]))
answers = cluster.execute_command('SMARTCACHE.INVALIDATE', 'TAGS', '1', 't', target_nodes=cluster.get_primaries())
print(' '.join(sorted(answers)))";
    let mut command = Command::new("python3");
    command.args(["-c", program, &cluster.primaries[0].port().to_string()]);
    let output = command.env("PYTHONPATH", installed("python", "redis")).output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let primaries: Vec<_> = cluster.primaries.iter().map(address).collect();
    assert_eq!(out.trim(), sorted(&primaries).cloned().collect::<Vec<_>>().join(" "), "{err}");
}

#[test]
fn node() {
    // Modules are resolved relative to the importing file.
    let dir = tempfile::tempdir().expect("a directory");
    let modules = installed("node", "node_modules/redis").join("node_modules");
    symlink(modules, dir.path().join("node_modules")).expect("a link");
    let program = dir.path().join("invalidate_everywhere.mjs");
    fs::copy(example("mjs"), &program).expect("copied");
    every_primary_is_queried_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let mut command = Command::new("node");
        command.arg(&program);
        finish(command, nodes, words)
    });
}

#[test]
fn rust() {
    every_primary_is_queried_and_those_that_do_not_answer_are_named(&|nodes, words| {
        let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
        let replies = invalidate_everywhere::everywhere(&nodes, words).expect("a node lists the primaries");
        let mut output = Output { success: true, answered: BTreeMap::new(), failed: BTreeMap::new() };
        for (node, reply) in replies {
            match reply {
                Ok(reply) => output.answered.insert(node, format!("{reply:?}")),
                Err(error) => {
                    output.success = false;
                    output.failed.insert(node, error.to_string())
                }
            };
        }
        output
    });
}

#[test]
fn go() {
    // `scripts/setup` builds it.
    let program = root().join(".clients/go/invalidate_everywhere");
    if !program.exists() {
        skip!(Server::start(), "Go or its packages are missing (see `scripts/setup clients`)");
    }
    every_primary_is_queried_and_those_that_do_not_answer_are_named(&|nodes, words| {
        finish(Command::new(&program), nodes, words)
    });
}

fn example(ending: &str) -> std::path::PathBuf {
    root().join("examples/cluster").join(format!("invalidate_everywhere.{ending}"))
}

/// Parses the output: `host:port answer` on stdout, `host:port FAILED: why` on stderr.
#[track_caller]
fn finish(mut command: Command, nodes: &[String], words: &[&str]) -> Output {
    command.env("REDIS_NODES", nodes.join(",")).args(words);
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; `scripts/setup clients` installs it"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines = |text: &str, between: &str| {
        let halves = text.lines().map(|line| line.split_once(between).unwrap_or_else(|| panic!("{out}\n{err}")));
        halves.map(|(node, rest)| (node.to_owned(), rest.to_owned())).collect()
    };
    Output { success: output.status.success(), answered: lines(&out, " "), failed: lines(&err, " FAILED: ") }
}
