//! Observes the server's own commands: loads of the keys that they delete or write are not trusted.

use crate::cache::State;
use crate::cache::clock::Now;
use crate::cache::lease::native_commands::{Keys, Sender, Touch};
use crate::cache::lease::tombstones::TombstoneKind;

impl State {
    /// One of the server's own commands is about to run: `words` are its words, its name the first. Distrusts the loads
    /// of the keys that it deletes or writes; their waiters are woken by the host's timer, after the command has run.
    pub fn observe_native(&mut self, words: &[&[u8]], sender: Sender, now: Now) {
        let Some((name, words)) = words.split_first() else { return };
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // Filters see commands before permissions are checked: an unauthenticated client can end no transaction.
        let (id, may_end) = match sender {
            Sender::Unknown => (0, true),
            Sender::Client(id, in_transaction) => (id, in_transaction),
        };
        if is("MULTI") {
            self.transactions.begin(sender, now);
        } else if is("EXEC") {
            if may_end {
                self.executed(id, now);
            }
        } else if is("DISCARD") || is("RESET") {
            if may_end {
                self.transactions.end(id);
            }
        } else if let Some(keys) = Keys::of(name) {
            keys.each(words, now, |key, touch| {
                self.touched(key, touch, now);
                if may_end {
                    self.transactions.queue(id, key, touch);
                }
            });
        }
    }

    fn executed(&mut self, id: u64, now: Now) {
        let Some(queued) = self.transactions.take_queued(id) else {
            // Its MULTI was not seen, so its commands may not have been seen either.
            let stamp = self.clock.stamp(now);
            self.flush_epochs.raise(None, stamp);
            return;
        };
        queued.iter().for_each(|(key, touch)| self.touched(key, *touch, now));
        self.transactions.finish(id, queued);
    }

    fn touched(&mut self, key: &[u8], touch: Touch, now: Now) {
        if !self.tombstones.awaits(key, now, self.settings.max_load_ms) {
            return;
        }
        let stamp = self.clock.stamp(now);
        match touch {
            Touch::Deletes => self.tombstones.record(TombstoneKind::Deleted, key, stamp, self.settings.guard_ms(), now),
            Touch::Writes => self.tombstones.gone(key, stamp),
        }
        self.leases.void_key(key, &mut self.stats.at(now));
    }
}
