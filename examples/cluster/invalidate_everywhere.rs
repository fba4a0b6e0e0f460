//! REDIS_NODES=10.0.0.1:6379,10.0.0.2:6379 invalidate_everywhere SMARTCACHE.INVALIDATE TAGS 1 user:42

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use redis::{Client, RedisError, Value};

/// The answer of each primary, or why there is none, by host:port.
pub type Replies = BTreeMap<String, Result<Value, RedisError>>;

/// Asks one node on a connection of its own: the cluster connection would answer with the first error of all primaries,
/// without a name.
fn ask(node: &str, words: &[&str]) -> Result<Value, RedisError> {
    let mut conn = Client::open(format!("redis://{node}"))?.get_connection_with_timeout(Duration::from_secs(1))?;
    conn.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut cmd = redis::cmd(words[0]);
    cmd.arg(&words[1..]).query(&mut conn)
}

/// Which nodes are primaries now, according to the first node that answers.
fn primaries(nodes: &[&str]) -> Result<BTreeSet<String>, RedisError> {
    let mut outcome = Err((redis::ErrorKind::InvalidClientConfig, "no node is named").into());
    for node in nodes {
        let own = node.rsplit_once(':').map_or(*node, |(host, _)| host);
        outcome = ask(node, &["CLUSTER", "SLOTS"]).and_then(|slots| {
            let ranges: Vec<Vec<Value>> = redis::from_redis_value(slots)?;
            ranges.into_iter().map(|range| address(range, own)).collect()
        });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The address of the primary of a range of slots (first slot, last slot, primary, replicas).
fn address(range: Vec<Value>, own: &str) -> Result<String, RedisError> {
    let mut primary =
        redis::from_redis_value::<Vec<Value>>(range.into_iter().nth(2).unwrap_or(Value::Nil))?.into_iter();
    let mut next = || primary.next().unwrap_or(Value::Nil);
    let host: Option<String> = redis::from_redis_value(next())?;
    let port: u16 = redis::from_redis_value(next())?;
    Ok(format!("{}:{port}", host.as_deref().filter(|host| !host.is_empty()).unwrap_or(own)))
}

/// Asks all primaries at once: one that hangs delays no other.
pub fn everywhere(nodes: &[&str], words: &[&str]) -> Result<Replies, RedisError> {
    let primaries = primaries(nodes)?;
    Ok(thread::scope(|scope| {
        let asked: Vec<_> = primaries.iter().map(|node| (node, scope.spawn(|| ask(node, words)))).collect();
        asked.into_iter().map(|(node, asked)| (node.clone(), asked.join().expect("it does not panic"))).collect()
    }))
}

#[allow(dead_code)] // for those who include this file for its functions
fn main() -> ExitCode {
    let (nodes, words) = (env::var("REDIS_NODES").unwrap_or_default(), env::args().skip(1).collect::<Vec<_>>());
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let replies = match everywhere(&nodes.split(',').collect::<Vec<_>>(), &words) {
        Ok(replies) => replies,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for (node, reply) in &replies {
        match reply {
            Ok(reply) => println!("{node} {reply:?}"),
            Err(error) => eprintln!("{node} FAILED: {error}"),
        }
    }
    if replies.values().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
