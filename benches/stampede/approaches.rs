//! What is compared: each approach as a service would write it, one `async fn` each.
//!
//! They all read the one key. Whoever finds out that it must load calls [`Caller::load`], which takes as long as a
//! slow query, and stores the record; everybody calls [`Caller::answer`] the moment it has something to go on with.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    caller::{Caller, Got},
    support::server::Result,
    wire::{Con, Reply},
};

pub(crate) const KEY: &[u8] = b"stampede:key";
const LOCK: &[u8] = b"stampede:key:lock";

/// How long who finds the key locked waits before it looks again: what redis-py's `Lock` and most recipes take.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a lock or lease lasts, and a poller's patience, after which it loads by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// One way to keep the callers of a key from loading it all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Approach {
    /// `GET`, else load and `SET … PX`.
    Unprotected,
    /// `SET NX EX`, else sleep 0.1 s, look again, else load.
    Recipe,
    /// `SET NX EX`, else sleep 0.1 s and begin again.
    PollingLock,
    /// dogpile.cache with its Redis lock.
    Dogpile,
    /// cashews with `lock=True`, each caller as if in a process of its own.
    Cashews,
    /// cashews with `lock=True`, the callers in ten processes.
    CashewsTen,
    /// memcached: `mg … N10`; who does not win polls.
    Memcached,
    /// memcached: `mg … N10 R2`, so that one reader is sent to load before the end.
    MemcachedEarly,
    /// memcached: the value does not expire but is made stale with `md … I`.
    MemcachedStale,
    /// `SMARTCACHE.GETLOCK … WAIT`.
    Getlock,
    /// The same, with stale-while-revalidate: `SET … SWR 60`.
    GetlockSwr,
    /// The same without, but with early refresh: `GETLOCK … BETA 1`.
    GetlockEarly,
}

impl Approach {
    /// Callers of a cold key: what differs only later is left out.
    pub(crate) const COLD: [Approach; 8] = [
        Approach::Unprotected,
        Approach::Recipe,
        Approach::PollingLock,
        Approach::Dogpile,
        Approach::Cashews,
        Approach::CashewsTen,
        Approach::Memcached,
        Approach::Getlock,
    ];

    /// Readers of a key at its expiry.
    pub(crate) const EXPIRY: [Approach; 12] = [
        Approach::Unprotected,
        Approach::Recipe,
        Approach::PollingLock,
        Approach::Dogpile,
        Approach::Cashews,
        Approach::CashewsTen,
        Approach::Memcached,
        Approach::MemcachedEarly,
        Approach::MemcachedStale,
        Approach::Getlock,
        Approach::GetlockSwr,
        Approach::GetlockEarly,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Approach::Unprotected => "no protection",
            Approach::Recipe => "SET NX, look again",
            Approach::PollingLock => "polling lock",
            Approach::Dogpile => "dogpile.cache",
            Approach::Cashews => "cashews",
            Approach::CashewsTen => "cashews, 10 processes",
            Approach::Memcached => "memcached",
            Approach::MemcachedEarly => "memcached, R",
            Approach::MemcachedStale => "memcached, md I",
            Approach::Getlock => "GETLOCK",
            Approach::GetlockSwr => "GETLOCK, SWR",
            Approach::GetlockEarly => "GETLOCK, BETA 1",
        }
    }

    /// Whether the callers run in Python, under this name.
    pub(crate) fn library(self) -> Option<&'static str> {
        match self {
            Approach::Dogpile => Some("dogpile"),
            Approach::Cashews | Approach::CashewsTen => Some("cashews"),
            _ => None,
        }
    }

    /// How many processes such callers are spread over.
    pub(crate) fn processes(self) -> usize {
        if self == Approach::CashewsTen { 10 } else { 1 }
    }

    pub(crate) fn is_memcached(self) -> bool {
        matches!(self, Approach::Memcached | Approach::MemcachedEarly | Approach::MemcachedStale)
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Approach::Getlock | Approach::GetlockSwr | Approach::GetlockEarly)
    }

    /// Reads the key once.
    pub(crate) async fn read(self, con: &mut Con, caller: &mut Caller) -> Result<()> {
        match self {
            Approach::Unprotected => unprotected(con, caller).await,
            Approach::Recipe => recipe(con, caller).await,
            Approach::PollingLock => polling_lock(con, caller).await,
            Approach::Memcached => memcached(con, caller, "N10", &caller.ttl()).await,
            Approach::MemcachedEarly => memcached(con, caller, "N10 R2", &caller.ttl()).await,
            Approach::MemcachedStale => memcached(con, caller, "N10", "3600").await,
            Approach::Getlock => getlock(con, caller, b"0", b"0").await,
            Approach::GetlockSwr => getlock(con, caller, b"0", b"60").await,
            Approach::GetlockEarly => getlock(con, caller, b"1", b"0").await,
            Approach::Dogpile | Approach::Cashews | Approach::CashewsTen => Err("runs in Python".into()),
        }
    }
}

async fn unprotected(con: &mut Con, caller: &mut Caller) -> Result<()> {
    match get(con).await? {
        Some(value) => caller.answer(value, Got::Fresh),
        None => {
            let value = caller.load().await;
            set(con, caller, &value).await?;
            caller.answer(value, Got::Loaded)
        }
    }
}

async fn recipe(con: &mut Con, caller: &mut Caller) -> Result<()> {
    if let Some(value) = get(con).await? {
        return caller.answer(value, Got::Fresh);
    }
    let token = caller.token();
    let won = lock(con, &token).await?;
    if !won {
        sleep(PAUSE).await;
        if let Some(value) = get(con).await? {
            return caller.answer(value, Got::Fresh);
        }
    }
    let value = caller.load().await;
    set(con, caller, &value).await?;
    if won {
        release(con, &token).await?;
    }
    caller.answer(value, Got::Loaded)
}

async fn polling_lock(con: &mut Con, caller: &mut Caller) -> Result<()> {
    let token = caller.token();
    loop {
        if let Some(value) = get(con).await? {
            return caller.answer(value, Got::Fresh);
        }
        let won = lock(con, &token).await?;
        if won || caller.waited() > PATIENCE {
            let value = caller.load().await;
            set(con, caller, &value).await?;
            if won {
                release(con, &token).await?;
            }
            return caller.answer(value, Got::Loaded);
        }
        sleep(PAUSE).await;
    }
}

async fn get(con: &mut Con) -> Result<Option<Vec<u8>>> {
    Ok(con.call(&[b"GET", KEY]).await?.bytes())
}

async fn set(con: &mut Con, caller: &Caller, value: &[u8]) -> Result<()> {
    caller.stores();
    con.call(&[b"SET", KEY, value, b"EX", caller.ttl().as_bytes()]).await?;
    Ok(())
}

async fn lock(con: &mut Con, token: &[u8]) -> Result<bool> {
    let seconds = PATIENCE.as_secs().to_string();
    Ok(con.call(&[b"SET", LOCK, token, b"NX", b"EX", seconds.as_bytes()]).await? != Reply::Nil)
}

/// The lock may have ended, and be somebody else's by now.
async fn release(con: &mut Con, token: &[u8]) -> Result<()> {
    const SCRIPT: &[u8] = b"if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";
    con.call(&[b"EVAL", SCRIPT, b"1", LOCK, token]).await?;
    Ok(())
}

/// The flags in the reply: `W` the caller won and must load, `Z` somebody else has, `X` the value is stale, `c` its
/// number, which a store gives back so that it does not undo what came in between.
async fn memcached(con: &mut Con, caller: &mut Caller, flags: &str, ttl: &str) -> Result<()> {
    let key = String::from_utf8_lossy(KEY);
    let read = format!("mg {key} s v t c {flags}\r\n");
    loop {
        let (line, value) = con.meta(read.as_bytes()).await?;
        let flag = |letter: char| line.split(' ').skip(2).find_map(|flag| flag.strip_prefix(letter));
        let got = if flag('X').is_some() { Got::Stale } else { Got::Fresh };
        let (won, empty) = (flag('W').is_some(), value.is_empty());
        if !empty {
            caller.answer(value, got)?; // a winner that has something to go on with loads behind its answer
        }
        if won || caller.waited() > PATIENCE {
            let value = caller.load().await;
            let number = flag('c').map_or(String::new(), |number| format!(" C{number}"));
            let mut store = format!("ms {key} {} T{ttl}{number}\r\n", value.len()).into_bytes();
            store.extend_from_slice(&value);
            store.extend_from_slice(b"\r\n");
            caller.stores();
            con.meta(&store).await?;
            return if empty { caller.answer(value, Got::Loaded) } else { Ok(()) };
        }
        if !empty {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// The one contract: a token means you load.
async fn getlock(con: &mut Con, caller: &mut Caller, beta: &[u8], swr: &[u8]) -> Result<()> {
    loop {
        let reply = con.call(&[b"SMARTCACHE.GETLOCK", KEY, b"WAIT", b"30", b"BETA", beta]).await?;
        let Reply::Array(fields) = reply else { return Err(format!("GETLOCK answers {reply:?}").into()) };
        let Ok([state, value, token, _fresh_ms, lease_ms]) = <[Reply; 5]>::try_from(fields) else {
            return Err("GETLOCK does not answer five things".into());
        };
        let state = state.word().unwrap_or_default();
        let had = value.bytes();
        let answered = had.is_some();
        if let Some(value) = had {
            caller.answer(value, if state == "STALE" { Got::Stale } else { Got::Fresh })?;
        }
        match token.word() {
            Some(token) => {
                let value = caller.load().await;
                let ttl = caller.ttl();
                let words: [&[u8]; 9] =
                    [b"SMARTCACHE.SET", KEY, &value, b"TTL", ttl.as_bytes(), b"SWR", swr, b"TOKEN", token.as_bytes()];
                caller.stores();
                con.call(&words).await?;
                return if answered { Ok(()) } else { caller.answer(value, Got::Loaded) };
            }
            None if answered => return Ok(()),
            None if state == "BUSY" && caller.waited() < PATIENCE => {
                sleep(Duration::from_millis(lease_ms.number().max(1) as u64)).await;
            }
            None => {
                let value = caller.load().await;
                return caller.answer(value, Got::Loaded);
            }
        }
    }
}
