//! Polls the server: one round trip for everything that the screen shows.

use std::time::Duration;

use redis::{
    Client, Connection, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Value,
    pipe,
};
use serde_json::Map;

use crate::snapshot::{Health, HotKey, Numbers, ServerInfo, Snapshot, Span};

/// Time-out of connecting and of each reply.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Enough hot keys for a tall terminal.
const HOT_KEYS: usize = 50;

/// A server, and the connection to it once established.
pub(crate) struct Source {
    client: Client,
    name: String,
    conn: Option<Connection>,
}

impl Source {
    /// Parses an address. Does not connect.
    pub(crate) fn open(address: &str, user: Option<&str>, password: Option<&str>) -> Result<Self, String> {
        let info = info(address, user, password).map_err(|why| format!("{}: {why}", without_password(address)))?;
        let name = info.addr().to_string();
        let client = Client::open(info).map_err(|why| format!("{name}: {}", describe(&why)))?;
        Ok(Source { client, name, conn: None })
    }

    /// The server's address without credentials.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Polls the server; connects first if needed. Any error closes the connection.
    pub(crate) fn poll(&mut self, span: Span) -> Result<Snapshot, String> {
        let polled = self.connected().and_then(|conn| query(conn, span));
        if polled.is_err() {
            self.conn = None;
        }
        polled.map_err(|why| format!("{}: {why}", self.name))
    }

    fn connected(&mut self) -> Result<&mut Connection, String> {
        if self.conn.is_none() {
            let conn = self.client.get_connection_with_timeout(TIMEOUT).map_err(|why| describe(&why))?;
            conn.set_read_timeout(Some(TIMEOUT)).map_err(|why| describe(&why))?;
            conn.set_write_timeout(Some(TIMEOUT)).map_err(|why| describe(&why))?;
            self.conn = Some(conn);
        }
        Ok(self.conn.as_mut().expect("it is connected above"))
    }
}

fn info(address: &str, user: Option<&str>, password: Option<&str>) -> Result<ConnectionInfo, String> {
    let url = match address {
        path if path.starts_with('/') => format!("redis+unix://{path}"),
        url if url.contains("://") => url.to_owned(),
        host => format!("redis://{host}"),
    };
    let info = url.into_connection_info().map_err(|why| describe(&why))?;
    let mut settings = info.redis_settings().clone();
    if let Some(user) = user.filter(|_| settings.username().is_none()) {
        settings = settings.set_username(user);
    }
    if let Some(password) = password.filter(|password| settings.password().is_none() && !password.is_empty()) {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

/// The address without credentials, for messages.
fn without_password(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, host)| host)
}

/// The library's text of an error without the kind of error, or a more helpful one.
fn describe(why: &RedisError) -> String {
    if why.kind() == ErrorKind::InvalidClientConfig && why.to_string().contains("TLS") {
        return "TLS is not built in: use a tunnel (ssh -L 6379:localhost:6379 HOST)".into();
    }
    if why.detail().is_some_and(|detail| detail.contains("unknown command 'SMARTCACHE.STATS'")) {
        return "this server has not loaded SmartCache".into();
    }
    let text = match (why.code(), why.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => why.to_string(),
    };
    text.trim_end_matches(&format!(" - {:?}", why.kind())).to_owned()
}

fn query(conn: &mut Connection, span: Span) -> Result<Snapshot, String> {
    let mut pipe = pipe();
    pipe.cmd("SMARTCACHE.STATS").arg(span.words()).arg("JSON");
    pipe.cmd("SMARTCACHE.STATS").arg("RULES").arg(span.words()).arg("JSON");
    pipe.cmd("SMARTCACHE.HOTKEYS").arg("COUNT").arg(HOT_KEYS);
    pipe.cmd("SMARTCACHE.HEALTH");
    pipe.cmd("INFO").arg(&["server", "memory", "replication"]);
    let replies: Vec<RedisResult<Value>> = pipe.ignore_errors().query(conn).map_err(|why| describe(&why))?;
    let [whole, rules, hot, health, info] =
        <[_; 5]>::try_from(replies).map_err(|_| "a wrong number of replies".to_owned())?;
    let of_rule = |(name, numbers)| match numbers {
        serde_json::Value::Object(numbers) => Some((name, Numbers(numbers))),
        _ => None,
    };
    Ok(Snapshot {
        span,
        whole: Numbers(json(whole)?),
        rules: json(rules)?.into_iter().filter_map(of_rule).collect(),
        hot: hot.map(hot_keys).map_err(|why| describe(&why)),
        health: health_of(health),
        server: info.map(server_info).unwrap_or_default(),
    })
}

/// Parses a reply of `STATS … JSON`.
fn json(reply: RedisResult<Value>) -> Result<Map<String, serde_json::Value>, String> {
    let text = reply.and_then(|text| Ok(Vec::<u8>::from_redis_value(text)?)).map_err(|why| describe(&why))?;
    serde_json::from_slice(&text).map_err(|why| format!("the reply of SMARTCACHE.STATS is not JSON: {why}"))
}

fn hot_keys(reply: Value) -> Vec<HotKey> {
    let key = |map: Value| {
        let mut key = HotKey::default();
        for (name, value) in map.into_map_iter().ok()? {
            match &bytes(name)[..] {
                b"key" => key.name = bytes(value),
                b"requests" => key.requests = u64::from_redis_value(value).ok()?,
                b"hits" => key.hits = u64::from_redis_value(value).ok()?,
                b"share" => key.share = f64::from_redis_value(value).ok()?,
                _ => {}
            }
        }
        Some(key)
    };
    reply.into_sequence().unwrap_or_default().into_iter().filter_map(key).collect()
}

/// `None` for a module without the command; an error such as NOPERM becomes a reason.
fn health_of(reply: RedisResult<Value>) -> Option<Health> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(why) if describe(&why).contains("unknown command") => return None,
        Err(why) => return Some(Health { status: "unknown".into(), reasons: vec![(String::new(), describe(&why))] }),
    };
    let mut health = Health::default();
    for (name, value) in reply.into_map_iter().ok()? {
        match &bytes(name)[..] {
            b"status" => health.status = text(value),
            b"reasons" => health.reasons = value.into_sequence().ok()?.into_iter().filter_map(reason).collect(),
            _ => {}
        }
    }
    Some(health)
}

fn reason(map: Value) -> Option<(String, String)> {
    let (mut code, mut description) = (String::new(), String::new());
    for (name, value) in map.into_map_iter().ok()? {
        match &bytes(name)[..] {
            b"code" => code = text(value),
            b"text" => description = text(value),
            _ => {}
        }
    }
    Some((code, description))
}

fn server_info(reply: Value) -> ServerInfo {
    let info = text(reply);
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("").trim();
    let (kind, version) = match of("valkey_version") {
        "" => ("Redis", of("redis_version")),
        version => ("Valkey", version),
    };
    let role = match of("role") {
        "master" => "primary",
        "slave" => "replica",
        other => other,
    };
    ServerInfo {
        version: format!("{kind} {version}"),
        role: role.to_owned(),
        used_bytes: of("used_memory").parse().unwrap_or(0),
        max_bytes: of("maxmemory").parse().unwrap_or(0),
    }
}

fn bytes(value: Value) -> Vec<u8> {
    Vec::from_redis_value(value).unwrap_or_default()
}

fn text(value: Value) -> String {
    String::from_utf8_lossy(&bytes(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    /// A map in RESP2.
    fn flat(pairs: &[(&str, Value)]) -> Value {
        Value::Array(pairs.iter().flat_map(|(name, value)| [bulk(name.as_bytes()), value.clone()]).collect())
    }

    /// A map in RESP3.
    fn map(pairs: &[(&str, Value)]) -> Value {
        Value::Map(pairs.iter().map(|(name, value)| (bulk(name.as_bytes()), value.clone())).collect())
    }

    fn error(text: &str) -> RedisResult<Value> {
        let (code, detail) = text.split_once(' ').unwrap();
        Err(redis::make_extension_error(code.to_owned(), Some(detail.to_owned())))
    }

    #[test]
    fn hot_keys_are_read_in_both_protocols() {
        let expected = [HotKey { name: b"\xff".to_vec(), requests: 10, hits: 9, share: 0.25 }];
        let [two, three] = [bulk(b"0.25"), Value::Double(0.25)].map(|share| {
            [("key", bulk(b"\xff")), ("requests", Value::Int(10)), ("hits", Value::Int(9)), ("share", share)]
        });
        assert_eq!(hot_keys(Value::Array(vec![flat(&two)])), expected);
        assert_eq!(hot_keys(Value::Array(vec![map(&three)])), expected);
    }

    #[test]
    fn health_is_shown_where_the_server_has_it() {
        for map in [flat, map] {
            let slow = map(&[("code", bulk(b"slow-loads")), ("text", bulk(b"loads of 'user' take 12 s"))]);
            let reply =
                map(&[("status", bulk(b"warn")), ("reasons", Value::Array(vec![slow])), ("hit_rate", bulk(b"9"))]);
            let health = health_of(Ok(reply)).unwrap();
            assert_eq!(health.status, "warn");
            assert_eq!(health.reasons, [("slow-loads".to_owned(), "loads of 'user' take 12 s".to_owned())]);
        }
        assert_eq!(health_of(error("ERR unknown command 'SMARTCACHE.HEALTH', with args beginning with: ")), None);
        let refused = health_of(error("NOPERM User viewer has no permissions")).unwrap();
        assert!(refused.reasons[0].1.contains("NOPERM User viewer"), "{refused:?}");
    }

    #[test]
    fn an_address_has_defaults() {
        let shown = |address: &str| Source::open(address, None, None).map(|source| source.name().to_owned());
        assert_eq!(shown("cache-3").unwrap(), "cache-3:6379");
        assert_eq!(shown("127.0.0.1:7000").unwrap(), "127.0.0.1:7000");
        assert_eq!(shown("redis://me:se%40cret@[::1]:7000/0").unwrap(), "::1:7000");
        assert_eq!(shown("/run/redis/s").unwrap(), "/run/redis/s");
        let why = shown("redis://me:secret@host:notaport").unwrap_err();
        assert!(why.starts_with("host:notaport: ") && !why.contains("secret"), "{why}");
        let why = shown("rediss://host").unwrap_err();
        assert!(why.contains("TLS"), "{why}");
    }

    #[test]
    fn credentials_in_the_address_win_over_options() {
        let who = |address: &str| {
            let info = info(address, Some("viewer"), Some("pw")).unwrap();
            let settings = info.redis_settings();
            (settings.username().unwrap_or("").to_owned(), settings.password().unwrap_or("").to_owned())
        };
        assert_eq!(who("host"), ("viewer".into(), "pw".into()));
        assert_eq!(who("redis://me:mine@host"), ("me".into(), "mine".into()));
        assert_eq!(who("redis://me@host"), ("me".into(), "pw".into()));
    }
}
