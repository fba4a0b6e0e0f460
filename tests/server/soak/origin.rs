//! The origin, whose keys have versions, and the state that all clients of the soak share.
//!
//! A value contains its identity: `a1@17#482` is version 17 of `a1`, stored by the 482nd store. Every seventh version
//! is absent in the origin.
//!
//! One writer per key at a time: it writes the origin, and then invalidates the cache until that is acknowledged. After
//! that no read may return an earlier version. (The cache guarantees nothing for racing write-throughs, which would
//! make the checker's rules vague.)

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// One key of the origin. Keys of two databases are in the databases that are swapped.
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) dbs: &'static [u8],
    version: AtomicU64,
    /// Held from the write of the origin until the cache has acknowledged the invalidation.
    pub(crate) writer: Mutex<()>,
}

impl Key {
    /// The origin's current version.
    pub(crate) fn load(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// Writes a new version. Only with `writer` held.
    pub(crate) fn write(&self) -> u64 {
        self.version.fetch_add(1, SeqCst) + 1
    }
}

/// Whether this version is absent in the origin.
pub(crate) fn is_absent(version: u64) -> bool {
    version.is_multiple_of(7)
}

/// State shared by all threads.
pub(crate) struct World {
    pub(crate) keys: Vec<Key>,
    /// The socket of the current primary.
    pub(crate) socket: Mutex<PathBuf>,
    /// The socket of its replica, if any.
    pub(crate) replica: Mutex<Option<PathBuf>>,
    /// Read-locked by writers of keys in two databases, write-locked by swaps.
    pub(crate) swap: RwLock<()>,
    /// The connections that may be killed.
    pub(crate) conns: Mutex<Vec<u64>>,
    /// Native deletes and writes are observed too.
    pub(crate) guards_native: bool,
    /// `MOVE` works correctly on this server.
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

    /// The socket of the primary, or of its replica.
    pub(crate) fn socket(&self, of_replica: bool) -> PathBuf {
        let replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| of_replica);
        replica.unwrap_or_else(|| self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// A new number for a value.
    pub(crate) fn next_number(&self) -> u64 {
        self.stores.fetch_add(1, SeqCst) + 1
    }

    /// Nanoseconds since the start.
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
