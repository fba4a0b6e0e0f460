use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, ConnectionLike, RedisResult, cmd};

/// The origin's answer: a value, or that it has nothing.
pub type Loaded<E> = Result<Option<Vec<u8>>, E>;
/// State, value, token, `fresh_ms`, `lease_ms`.
type Reply = (String, Option<Vec<u8>>, Option<String>, i64, u64);

/// As many connections as callers at a time: a read that waits occupies one.
pub struct Cache {
    client: Client,
    idle: Mutex<Vec<Connection>>,
}

impl Cache {
    pub fn new(url: &str) -> RedisResult<Arc<Cache>> {
        Ok(Arc::new(Cache { client: Client::open(url)?, idle: Mutex::default() }))
    }

    pub fn cached<E>(self: &Arc<Self>, key: &str, load: impl FnOnce() -> Loaded<E> + Send + 'static) -> Loaded<E> {
        // Kept until the loaded value is stored. Without one: go on without the cache.
        let Ok(mut own) = self.connection() else { return load() };
        let loaded = self.through(&mut own, key, load);
        if own.is_open() {
            self.idle.lock().unwrap().push(own);
        }
        loaded
    }

    fn through<E, L>(self: &Arc<Self>, own: &mut Connection, key: &str, load: L) -> Loaded<E>
    where
        L: FnOnce() -> Loaded<E> + Send + 'static,
    {
        let end = Instant::now() + Duration::from_secs(2);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let wait = format!("{}ms", left.as_millis());
            let reply: RedisResult<Reply> = cmd("SMARTCACHE.GETLOCK").arg(key).arg("WAIT").arg(wait).query(own);
            let Ok((state, value, token, _, lease_ms)) = reply else {
                self.idle.lock().unwrap().clear();
                break; // the cache is unreachable: go on without it
            };
            match (state.as_str(), token) {
                ("MISS", Some(token)) => return fill(own, key, &token, load),
                ("BUSY", _) => {
                    let left = end.saturating_duration_since(Instant::now());
                    thread::sleep(left.min(Duration::from_millis(lease_ms)));
                }
                // HIT, STALE or ABSENT
                (_, None) => return Ok(value),
                (_, Some(token)) => {
                    let (cache, key) = (self.clone(), key.to_owned());
                    thread::spawn(move || Some(fill(&mut cache.connection().ok()?, &key, &token, load).is_ok()));
                    return Ok(value);
                }
            }
        }
        load() // and do not store
    }

    fn connection(&self) -> RedisResult<Connection> {
        let idle = self.idle.lock().unwrap().pop();
        let connection = idle.map_or_else(|| self.client.get_connection_with_timeout(Duration::from_secs(1)), Ok)?;
        connection.set_read_timeout(Some(Duration::from_secs(3)))?; // longer than WAIT
        Ok(connection)
    }
}

fn fill<E>(own: &mut Connection, key: &str, token: &str, load: impl FnOnce() -> Loaded<E>) -> Loaded<E> {
    let loaded = load();
    let sent: RedisResult<()> = match &loaded {
        Err(_) => cmd("SMARTCACHE.UNLOCK").arg(key).arg(&[token, "BACKOFF", "1s"]).query(own),
        Ok(None) => cmd("SMARTCACHE.ABSENT").arg(key).arg(&["TTL", "30s", "TOKEN", token]).query(own),
        Ok(Some(value)) => {
            let options = ["TTL", "5m", "SWR", "1m", "TOKEN", token];
            cmd("SMARTCACHE.SET").arg(key).arg(value).arg(&options).query(own)
        }
    };
    drop(sent); // if it failed: the caller has its value, the lease ends by itself
    loaded
}
