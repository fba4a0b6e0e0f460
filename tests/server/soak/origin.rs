//! What is cached: an origin whose keys have versions, and what everybody in the soak knows of each other.
//!
//! A value says what it is: `a1@17#482` is version 17 of `a1`, stored by the 482nd store. Of every seventh version the
//! origin has nothing.
//!
//! One writer a key at a time: it writes the origin, and then tells the cache until that is acknowledged. So whoever reads
//! the cache after that may not get what was there before. (A write-through that two writers race for is no promise of
//! the cache's, and would make the checker's rules vague.)

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// One key of the origin. Those of two databases are the ones that change places with each other.
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) dbs: &'static [u8],
    version: AtomicU64,
    /// Held from the write of the origin until the cache has been told.
    pub(crate) writer: Mutex<()>,
}

impl Key {
    /// The origin's version at this moment.
    pub(crate) fn load(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// Writes a new version. Only with `writer` held.
    pub(crate) fn write(&self) -> u64 {
        self.version.fetch_add(1, SeqCst) + 1
    }
}

/// Whether the origin has nothing of this version.
pub(crate) fn is_absent(version: u64) -> bool {
    version.is_multiple_of(7)
}

/// What all threads share.
pub(crate) struct World {
    pub(crate) keys: Vec<Key>,
    /// Where the server listens that is the primary now.
    pub(crate) socket: Mutex<PathBuf>,
    /// Where its replica listens, if it has one.
    pub(crate) replica: Mutex<Option<PathBuf>>,
    /// Read by writers of keys in two databases, written by who exchanges these.
    pub(crate) swap: RwLock<()>,
    /// The connections that may be killed.
    pub(crate) conns: Mutex<Vec<u64>>,
    /// The server's own deletes and writes count, too.
    pub(crate) guards_native: bool,
    /// The server can be trusted with `MOVE`.
    pub(crate) moves: bool,
    pub(crate) over: AtomicBool,
    stores: AtomicU64,
    began: Instant,
}

impl World {
    pub(crate) fn new(socket: PathBuf, guards_native: bool) -> World {
        let places: [(&str, &[u8], usize); 3] = [("a", &[0], 6), ("b", &[1], 4), ("x", &[2, 3], 4)];
        let keys = places.iter().flat_map(|(letter, dbs, count)| {
            (1..=*count).map(move |n| Key {
                name: format!("{letter}{n}"),
                dbs,
                version: AtomicU64::new(1),
                writer: Mutex::new(()),
            })
        });
        World {
            keys: keys.collect(),
            socket: Mutex::new(socket),
            replica: Mutex::default(),
            swap: RwLock::new(()),
            conns: Mutex::default(),
            guards_native,
            moves: true,
            over: AtomicBool::new(false),
            stores: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// Where to connect to: the primary, or its replica.
    pub(crate) fn socket(&self, of_replica: bool) -> PathBuf {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| of_replica);
        replica.unwrap_or_else(|| self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// A number that no value has yet.
    pub(crate) fn next_number(&self) -> u64 {
        self.stores.fetch_add(1, SeqCst) + 1
    }

    /// Now, in nanoseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    pub(crate) fn any_key(&self, rng: &mut StdRng) -> &Key {
        self.keys.choose(rng).expect("there are keys")
    }

    /// A name for a value that is about to be stored.
    pub(crate) fn name(&self, key: &Key, version: u64) -> String {
        format!("{}@{version}#{}", key.name, self.next_number())
    }
}
