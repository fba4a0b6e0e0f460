//! What is compared: each approach as a service would write it, one `async fn` each.
//!
//! They all read one key. A caller that must load calls [`Caller::load`], which takes as long as a slow query, and
//! stores the record. Every caller calls [`Caller::record_answer`] as soon as it has a value.

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    caller::{Caller, Outcome},
    support::server::Result,
    wire::{Con, Reply},
};

pub(crate) const KEY: &[u8] = b"stampede:key";
const LOCK: &[u8] = b"stampede:key:lock";

/// Polling interval of a caller that finds the key locked: that of redis-py's `Lock` and of most recipes.
const PAUSE: Duration = Duration::from_millis(100);
/// Duration of a lock, and the time after which a polling caller loads without it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One way to keep the callers of a key from loading it all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Approach {
    /// `GET`, else load and `SET … PX`.
    Unprotected,
    /// `SET NX EX`, else sleep 0.1 s, read again, else load.
    Recipe,
    /// `SET NX EX`, else sleep 0.1 s and retry.
    PollingLock,
    /// dogpile.cache with its Redis lock.
    Dogpile,
    /// cashews with `lock=True`, each caller as if it were a process.
    Cashews,
    /// cashews with `lock=True`, the callers in ten processes.
    CashewsTen,
    /// memcached: `mg … N10`; all but the winner poll.
    Memcached,
    /// memcached: `mg … N10 R2`: one reader loads before the expiry.
    MemcachedEarly,
    /// memcached: the value does not expire; `md … I` makes it stale.
    MemcachedStale,
    /// `SMARTCACHE.GETLOCK … WAIT`.
    Getlock,
    /// The same, with stale-while-revalidate: `SET … SWR 60`.
    GetlockSwr,
    /// `GETLOCK … WAIT` with early refresh: `BETA 1`.
    GetlockEarly,
    /// As without protection, under a rule with `NATIVE WAIT 30`.
    NativeWait,
    /// As without protection, under a rule with `NATIVE SWR 60`.
    NativeSwr,
}

impl Approach {
    /// For callers of a cold key: without the approaches that differ only at expiry.
    pub(crate) const COLD: [Approach; 9] = [
        Approach::Unprotected,
        Approach::Recipe,
        Approach::PollingLock,
        Approach::Dogpile,
        Approach::Cashews,
        Approach::CashewsTen,
        Approach::Memcached,
        Approach::Getlock,
        Approach::NativeWait,
    ];

    /// For readers of a key at its expiry.
    pub(crate) const EXPIRY: [Approach; 14] = [
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
        Approach::NativeWait,
        Approach::NativeSwr,
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
            Approach::NativeWait => "GET under NATIVE WAIT",
            Approach::NativeSwr => "GET under NATIVE SWR",
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

    /// The number of processes that such callers are spread over.
    pub(crate) fn processes(self) -> usize {
        if self == Approach::CashewsTen { 10 } else { 1 }
    }

    pub(crate) fn is_memcached(self) -> bool {
        matches!(self, Approach::Memcached | Approach::MemcachedEarly | Approach::MemcachedStale)
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Approach::Getlock | Approach::GetlockSwr | Approach::GetlockEarly) || self.rule().is_some()
    }

    /// The rule under which unmodified callers read, if there is one.
    pub(crate) fn rule(self) -> Option<[&'static str; 2]> {
        match self {
            Approach::NativeWait => Some(["WAIT", "30"]),
            Approach::NativeSwr => Some(["SWR", "60"]),
            _ => None,
        }
    }

    /// Reads the key once.
    pub(crate) async fn read(self, con: &mut Con, caller: &mut Caller) -> Result<()> {
        match self {
            Approach::Unprotected | Approach::NativeWait | Approach::NativeSwr => unprotected(con, caller).await,
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
        Some(value) => caller.record_answer(value, Outcome::Fresh),
        None => {
            let value = caller.load().await;
            set(con, caller, &value).await?;
            caller.record_answer(value, Outcome::Loaded)
        }
    }
}

async fn recipe(con: &mut Con, caller: &mut Caller) -> Result<()> {
    if let Some(value) = get(con).await? {
        return caller.record_answer(value, Outcome::Fresh);
    }
    let token = caller.token();
    let won = lock(con, &token).await?;
    if !won {
        sleep(PAUSE).await;
        if let Some(value) = get(con).await? {
            return caller.record_answer(value, Outcome::Fresh);
        }
    }
    let value = caller.load().await;
    set(con, caller, &value).await?;
    if won {
        release(con, &token).await?;
    }
    caller.record_answer(value, Outcome::Loaded)
}

async fn polling_lock(con: &mut Con, caller: &mut Caller) -> Result<()> {
    let token = caller.token();
    loop {
        if let Some(value) = get(con).await? {
            return caller.record_answer(value, Outcome::Fresh);
        }
        let won = lock(con, &token).await?;
        if won || caller.waited() > PATIENCE {
            let value = caller.load().await;
            set(con, caller, &value).await?;
            if won {
                release(con, &token).await?;
            }
            return caller.record_answer(value, Outcome::Loaded);
        }
        sleep(PAUSE).await;
    }
}

async fn get(con: &mut Con) -> Result<Option<Vec<u8>>> {
    Ok(con.call(&[b"GET", KEY]).await?.bytes())
}

async fn set(con: &mut Con, caller: &Caller, value: &[u8]) -> Result<()> {
    caller.record_store();
    con.call(&[b"SET", KEY, value, b"EX", caller.ttl().as_bytes()]).await?;
    Ok(())
}

async fn lock(con: &mut Con, token: &[u8]) -> Result<bool> {
    let seconds = PATIENCE.as_secs().to_string();
    Ok(con.call(&[b"SET", LOCK, token, b"NX", b"EX", seconds.as_bytes()]).await? != Reply::Nil)
}

/// Deletes the lock unless it has expired and another caller holds it.
async fn release(con: &mut Con, token: &[u8]) -> Result<()> {
    const SCRIPT: &[u8] = b"if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";
    con.call(&[b"EVAL", SCRIPT, b"1", LOCK, token]).await?;
    Ok(())
}

/// The flags in the reply: `W` this caller must load, `Z` another caller does, `X` the value is stale, `c` its CAS
/// number, which the store sends so that it does not overwrite a later value.
async fn memcached(con: &mut Con, caller: &mut Caller, flags: &str, ttl: &str) -> Result<()> {
    let key = String::from_utf8_lossy(KEY);
    let read = format!("mg {key} s v t c {flags}\r\n");
    loop {
        let (line, value) = con.meta(read.as_bytes()).await?;
        let flag = |letter: char| line.split(' ').skip(2).find_map(|flag| flag.strip_prefix(letter));
        let outcome = if flag('X').is_some() { Outcome::Stale } else { Outcome::Fresh };
        let (won, empty) = (flag('W').is_some(), value.is_empty());
        if !empty {
            caller.record_answer(value, outcome)?; // a winner that has a stale value loads after its answer
        }
        if won || caller.waited() > PATIENCE {
            let value = caller.load().await;
            let number = flag('c').map_or(String::new(), |number| format!(" C{number}"));
            let mut store = format!("ms {key} {} T{ttl}{number}\r\n", value.len()).into_bytes();
            store.extend_from_slice(&value);
            store.extend_from_slice(b"\r\n");
            caller.record_store();
            con.meta(&store).await?;
            return if empty { caller.record_answer(value, Outcome::Loaded) } else { Ok(()) };
        }
        if !empty {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// A caller that gets a token loads.
async fn getlock(con: &mut Con, caller: &mut Caller, beta: &[u8], swr: &[u8]) -> Result<()> {
    loop {
        let reply = con.call(&[b"SMARTCACHE.GETLOCK", KEY, b"WAIT", b"30", b"BETA", beta]).await?;
        let Reply::Array(fields) = reply else { return Err(format!("unexpected reply to GETLOCK: {reply:?}").into()) };
        let Ok([state, value, token, _fresh_ms, lease_ms]) = <[Reply; 5]>::try_from(fields) else {
            return Err("the reply to GETLOCK has not five fields".into());
        };
        let state = state.word().unwrap_or_default();
        let value = value.bytes();
        let answered = value.is_some();
        if let Some(value) = value {
            caller.record_answer(value, if state == "STALE" { Outcome::Stale } else { Outcome::Fresh })?;
        }
        match token.word() {
            Some(token) => {
                let value = caller.load().await;
                let ttl = caller.ttl();
                let words: [&[u8]; 9] =
                    [b"SMARTCACHE.SET", KEY, &value, b"TTL", ttl.as_bytes(), b"SWR", swr, b"TOKEN", token.as_bytes()];
                caller.record_store();
                con.call(&words).await?;
                return if answered { Ok(()) } else { caller.record_answer(value, Outcome::Loaded) };
            }
            None if answered => return Ok(()),
            None if state == "BUSY" && caller.waited() < PATIENCE => {
                sleep(Duration::from_millis(lease_ms.number().max(1) as u64)).await;
            }
            None => {
                let value = caller.load().await;
                return caller.record_answer(value, Outcome::Loaded);
            }
        }
    }
}
