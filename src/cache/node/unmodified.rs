//! Runs the server's own commands on entries, for clients that do not know of entries.
//!
//! ```text
//!  SMARTCACHE.NATIVE-STORE INCR k        k: an entry
//!     ├─ stand in    a plain string with the same bytes and deadline; nothing for what is not fresh
//!     ├─ run         the server's INCR replies, sends events, signals
//!     └─ settle      unchanged: the entry comes back · changed: the string becomes an entry · gone: the entry goes
//! ```
//!
//! So options, replies, types and errors are the server's own, whatever the command. The main thread runs all of it at
//! once: nobody sees the stand-in. A read changes nothing: afterwards the entry is back, and watchers, replicas and
//! events have noticed nothing.

use smallvec::SmallVec;

use crate::cache::clock::Now;
use crate::cache::codec::{Choice, CodecId};
use crate::cache::effects::{Effect, Effects, Event};
use crate::cache::entry::{Freshness, LAST_MOMENT};
use crate::cache::error::Error;
use crate::cache::ids::TagId;
use crate::cache::invalidation::sweep::Walk;
use crate::cache::lease::fill::{FillVerdict, Provenance};
use crate::cache::lease::token::{Of, Token};
use crate::cache::lease::tombstones::TombstoneKind;
use crate::cache::node::context::{Cx, Node};
use crate::cache::node::read;
use crate::cache::node::store;
use crate::cache::node::structures;
use crate::cache::ports::Hidden;
use crate::cache::rules::{Lifetime, Rule};
use crate::cache::unmodified::commands::Way;
use crate::cache::{Caller, Judge, Key, Slot, State};

/// The last database of a server with default settings.
const LEAST_LAST_DB: i32 = 15;

/// What stood in for the entry under one key.
struct StandIn<'w> {
    key: Key<'w>,
    /// Its rule is NATIVE now: what the command leaves becomes an entry.
    native: bool,
    /// The key held something before, as its client sees it; and the expiry of that.
    existed: bool,
    was_until: Option<u64>,
    /// The entry, and the string that the command found in its place: nothing for what is not fresh.
    hidden: Option<(Hidden, Option<Text>)>,
    /// What comes is the fill of this load.
    fill: Option<(Token, FillVerdict)>,
}

/// A plain string.
struct Text {
    bytes: Vec<u8>,
    until: Option<u64>,
}

/// Runs the command whose words begin at `from`; its name is the first.
pub fn run<'w>(cx: &mut Cx<'_, 'w>, from: usize, words: &[&'w [u8]]) -> Result<(), Error> {
    let Some((&name, _)) = words.split_first() else { return Err(Error::Internal) };
    let Some(served) = cx.state.commands.get(name) else {
        return Err(Error::Refused("it is no command that is served under NATIVE rules".into()));
    };
    let command: SmallVec<[Key<'w>; 8]> =
        words.iter().enumerate().map(|(at, name)| Key { name, arg: u16::try_from(from + at).ok() }).collect();
    match served.way {
        Way::Scan => return scan(cx, &command),
        Way::Flush => {
            let client = cx.server.client();
            cx.state.nil_loads.end_all(client);
            let reply = cx.keys.run_native(&command, &cx.caller, true).ok_or(Error::Internal)?;
            if !reply.is_error() {
                // The event of the flush has found the state in use.
                let db = is(name, &["FLUSHDB"]).then_some(cx.caller.db);
                cx.state.flushed(db, cx.now);
            }
            cx.reply.native(&*reply);
            return Ok(());
        }
        Way::Get | Way::Mget | Way::Read | Way::Write | Way::Store => {}
    }
    let mut keys: SmallVec<[Key<'w>; 8]> = SmallVec::new();
    for key in cx.keys.native_keys(words).into_iter().filter_map(|at| command.get(at)) {
        if !keys.iter().any(|other| other.name == key.name) {
            keys.push(*key);
        }
    }
    // Valkey 8.1 and 9 give a module the error of these two only with the reply to its next call.
    if is(name, &["GETDEL", "GETSET"])
        && let Some(key) = keys.first().filter(|key| matches!(cx.keys.peek(**key), Slot::Other))
        && cx.server.may_call(if is(name, &["GETDEL"]) { "GETDEL" } else { "GETSET" }, *key)
    {
        return Err(Error::WrongType);
    }
    let derefs = if is(name, &["SORT", "SORT_RO"]) { sort_references(cx, &command) } else { Vec::new() };
    let writes = matches!(served.way, Way::Write | Way::Store);
    let obeys = cx.caller.trusted;
    let mut own = true; // all that it may change is replicated by us
    let mut stand_ins: SmallVec<[StandIn<'w>; 8]> = SmallVec::new();
    for key in keys {
        let stand_in = stand_in(cx, key, writes && !obeys && is_fill(words))?;
        own &= stand_in.native && served.makes_strings && !matches!(cx.keys.peek(key), Slot::Other);
        stand_ins.push(stand_in);
    }
    let mut referenced = Vec::new();
    for name in &derefs {
        let key = Key::named(name);
        if !stand_ins.iter().any(|other| other.key.name == name) {
            let text = cx.node().visible(key);
            let hidden = cx.keys.stand_in(key, text.as_ref().map(|text| (&text.bytes[..], text.until)));
            referenced.extend(hidden.map(|hidden| (key, hidden)));
        }
    }
    let reply = cx.keys.run_native(&command, &cx.caller, writes && (obeys || !own));
    referenced.into_iter().for_each(|(key, hidden)| cx.keys.put_back(key, hidden));
    let settles = writes && reply.as_ref().is_some_and(|reply| !reply.is_error());
    for stand_in in stand_ins {
        match settles {
            false => put_back(cx, stand_in, !is(name, &UNTOUCHING)),
            true if obeys => stand_in.hidden.into_iter().for_each(|(hidden, _)| cx.keys.discard(stand_in.key, hidden)),
            true => settle(cx, words, stand_in),
        }
    }
    cx.reply.native(&*reply.ok_or(Error::Internal)?);
    Ok(())
}

/// The keys with strings that `SORT` reads beside its own: what its `BY` and `GET` patterns make of the elements.
fn sort_references(cx: &mut Cx<'_, '_>, command: &[Key<'_>]) -> Vec<Vec<u8>> {
    let patterns: Vec<&[u8]> = command
        .windows(2)
        .skip(2)
        .filter(|pair| is(pair[0].name, &["BY", "GET"]) && pair[1].name.contains(&b'*'))
        .map(|pair| pair[1].name)
        // What follows an arrow is a field of a hash; unless nothing follows.
        .filter(|pattern| pattern.windows(2).position(|two| two == b"->").is_none_or(|at| at + 2 == pattern.len()))
        .collect();
    let (Some(key), false) = (command.get(1), patterns.is_empty()) else { return Vec::new() };
    let caller = Caller { trusted: true, ..cx.caller };
    let (from, to) = (Key::named(b"0"), Key::named(b"-1"));
    let mut elements = Vec::new();
    for words in [
        &[Key::named(b"LRANGE"), *key, from, to][..],
        &[Key::named(b"SMEMBERS"), *key],
        &[Key::named(b"ZRANGE"), *key, from, to],
    ] {
        let reply = cx.keys.run_native(words, &caller, false).filter(|reply| !reply.is_error());
        elements.extend(reply.map(|reply| reply.texts()).unwrap_or_default());
    }
    let name = |pattern: &[u8], element: &[u8]| {
        let at = pattern.iter().position(|byte| *byte == b'*').unwrap_or(pattern.len());
        [&pattern[..at], element, &pattern[(at + 1).min(pattern.len())..]].concat()
    };
    let mut names: Vec<_> =
        elements.iter().flat_map(|element| patterns.iter().map(|pattern| name(pattern, element))).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| cx.state.policies.serves_native(name));
    names
}

/// `SCAN` with `TYPE`: an entry is a string, if it is fresh.
fn scan<'w>(cx: &mut Cx<'_, 'w>, command: &[Key<'w>]) -> Result<(), Error> {
    let Some(at) = command.iter().skip(2).position(|word| is(word.name, &["TYPE"])).map(|at| at + 2) else {
        let reply = cx.keys.run_native(command, &cx.caller, false).ok_or(Error::Internal)?;
        cx.reply.native(&*reply);
        return Ok(());
    };
    let typed = cx.keys.run_native(command, &cx.caller, false).ok_or(Error::Internal)?;
    if typed.is_error() {
        cx.reply.native(&*typed); // such as an unknown type
        return Ok(());
    }
    let wanted = command.get(at + 1).map_or(&b""[..], |word| word.name);
    let untyped: Vec<Key<'_>> = command.iter().take(at).chain(command.iter().skip(at + 2)).copied().collect();
    let reply = cx.keys.run_native(&untyped, &cx.caller, false).ok_or(Error::Internal)?;
    let Some((cursor, names)) = reply.scanned() else {
        cx.reply.native(&*reply);
        return Ok(());
    };
    let names: Vec<_> = names.into_iter().filter(|name| is_of_type(cx, Key::named(name), wanted)).collect();
    cx.reply.array(2);
    cx.reply.bulk(&cursor);
    cx.reply.array(names.len());
    names.iter().for_each(|name| cx.reply.bulk(name));
    Ok(())
}

fn is_of_type(cx: &mut Cx<'_, '_>, key: Key<'_>, wanted: &[u8]) -> bool {
    let native = cx.state.policies.serves_native(key.name);
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
    match cx.keys.peek(key) {
        Slot::Entry(entry) if native => is(wanted, &["string"]) && !entry.absent() && judge.is_fresh(entry),
        Slot::Text(_) => is(wanted, &["string"]),
        Slot::Empty => false,
        Slot::Entry(_) | Slot::Other => {
            let reply = cx.keys.run_native(&[Key::named(b"TYPE"), key], &cx.caller, false);
            reply.is_some_and(|reply| reply.text().is_some_and(|of| of.eq_ignore_ascii_case(wanted)))
        }
    }
}

fn is(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Whether the command stores what may have been loaded: a lock that is taken or refused is no load.
fn is_fill(words: &[&[u8]]) -> bool {
    is(words[0], &["SETEX", "PSETEX", "MSET"]) || is(words[0], &["SET"]) && !has_option(words, "NX")
}

/// Whether an option follows key and value.
fn has_option(words: &[&[u8]], option: &str) -> bool {
    words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(option.as_bytes()))
}

/// Takes the entry under a key out, and puts a string in its place where there is something to see.
fn stand_in<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, fills: bool) -> Result<StandIn<'w>, Error> {
    let native = cx.state.policies.native_rule(key.name).is_some();
    let client = cx.server.client();
    let fill = if fills && native { cx.node().fill_of(key, client) } else { None };
    let was_until = cx.keys.expire_at(key);
    match cx.keys.peek(key) {
        Slot::Entry(_) => {}
        Slot::Empty => return Ok(StandIn { key, native, existed: false, was_until, hidden: None, fill }),
        Slot::Text(_) | Slot::Other => {
            return Ok(StandIn { key, native, existed: true, was_until, hidden: None, fill });
        }
    }
    let text = cx.node().visible(key);
    let existed = text.is_some();
    let hidden = cx.keys.stand_in(key, text.as_ref().map(|text| (&text.bytes[..], text.until)));
    let was_until = text.as_ref().and_then(|text| text.until);
    Ok(StandIn { key, native, existed, was_until, hidden: hidden.map(|hidden| (hidden, text)), fill })
}

/// Commands that are no access to a key, for the server's eviction.
const UNTOUCHING: [&str; 6] = ["EXISTS", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "TYPE"];

/// Nothing has changed; but it may have been an access.
fn put_back(cx: &mut Cx<'_, '_>, stand_in: StandIn<'_>, touches: bool) {
    if let Some((mut hidden, _)) = stand_in.hidden {
        if touches && hidden.access.idle_ms > 0 {
            hidden.access.idle_ms = 0;
        }
        cx.keys.put_back(stand_in.key, hidden);
    }
}

/// Turns what the command has left under a key into an entry, or puts back what was there.
fn settle<'w>(cx: &mut Cx<'_, 'w>, words: &[&'w [u8]], stand_in: StandIn<'w>) {
    let StandIn { key, native, existed, was_until, hidden, fill } = stand_in;
    let name = words[0];
    let until = cx.keys.expire_at(key);
    match cx.keys.peek(key) {
        Slot::Entry(_) => hidden.into_iter().for_each(|(hidden, _)| cx.keys.discard(key, hidden)),
        Slot::Other => {
            hidden.into_iter().for_each(|(hidden, _)| cx.keys.discard(key, hidden));
            if native {
                structures::settle(cx, words, key, until);
            }
        }
        Slot::Empty => {
            let deletes = existed || is(name, &["DEL", "UNLINK", "GETDEL"]);
            match hidden {
                Some((hidden, _)) if deletes => {
                    cx.keys.discard(key, hidden);
                    changed(cx, key, Effect::ReplicateUnlink(key));
                }
                Some((hidden, _)) => return cx.keys.put_back(key, hidden), // such as SET … XX of what is not fresh
                None if existed => changed(cx, key, Effect::ReplicateUnlink(key)),
                None => {}
            }
            if deletes {
                let client = cx.server.client();
                cx.node().forget_nil_load(key, client);
                cx.node().void_loads(key, TombstoneKind::Deleted);
            }
        }
        Slot::Text(_) => {
            let text = cx.keys.text_written(key).unwrap_or_default();
            let old = hidden.as_ref().and_then(|(_, text)| text.as_ref());
            let same_bytes = old.is_some_and(|old| old.bytes == text);
            let expressible = until.is_none_or(|until| until < LAST_MOMENT);
            if let Some((hidden, _)) = hidden {
                if same_bytes && expressible && native && !always_stores(words) {
                    cx.keys.put_back(key, hidden);
                    if was_until != until {
                        renew(cx, key, Life::Asked(until));
                    }
                    return;
                }
                cx.keys.discard(key, hidden);
            }
            let keeps = existed && until == was_until && (!makes_anew(name) || has_option(words, "KEEPTTL"));
            let life = if keeps { Life::Kept(until) } else { Life::Made(until) };
            adopt(cx, key, &text, life, native, fill);
        }
    }
}

/// Commands that store a value whatever was there: the same bytes are a new value.
fn always_stores(words: &[&[u8]]) -> bool {
    is(words[0], &["SETEX", "PSETEX", "MSET", "GETSET"]) || is(words[0], &["SET"]) && !has_option(words, "NX")
}

/// Commands whose result is a key of its own, with a lifetime of its own.
fn makes_anew(name: &[u8]) -> bool {
    is(name, &["SET", "SETNX", "SETEX", "PSETEX", "MSET", "MSETNX", "GETSET", "BITOP"])
}

/// The expiry of a string, and where it comes from.
#[derive(Clone, Copy)]
enum Life {
    /// The key was made or stored anew.
    Made(Option<u64>),
    /// The client has asked for it, and has not changed the value.
    Asked(Option<u64>),
    /// The value was changed in place, and the expiry is that of before.
    Kept(Option<u64>),
}

impl Life {
    fn until(self) -> Option<u64> {
        match self {
            Life::Made(until) | Life::Asked(until) | Life::Kept(until) => until,
        }
    }
}

/// Gives an entry whose value has not changed another deadline: it gets no younger by that.
fn renew<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, life: Life) {
    let wanted = lifetime(cx, key, life);
    let rule = cx.state.policies.find(key.name);
    let fresh_until = cx.state.policies.policy(rule).deadline(wanted, cx.now.ms(), 0.0);
    let Some(mut entry) = cx.keys.edit(key) else { return };
    entry.set_fresh_until(fresh_until);
    let gone_at = entry.as_ref().gone_at();
    cx.keys.set_expire_at(key, gone_at);
    changed(cx, key, Effect::ReplicateHeader(key));
}

/// Replicates a change that the server has signalled, and signals it once more in the caller's name: else a client with
/// `CLIENT TRACKING … BCAST NOLOOP` would hear of its own changes.
fn changed<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>, replicate: Effect<'w>) {
    cx.effects.push(replicate);
    cx.effects.push(Effect::Signal(key));
}

/// Makes the plain string under a key an entry.
fn adopt<'w>(
    cx: &mut Cx<'_, 'w>,
    key: Key<'w>,
    text: &[u8],
    life: Life,
    native: bool,
    fill: Option<(Token, FillVerdict)>,
) {
    let client = cx.server.client();
    cx.node().forget_nil_load(key, client);
    // What an entry cannot hold stays a plain string.
    let fits = native
        && life.until().is_none_or(|until| until < LAST_MOMENT)
        && store::check_size(&cx.state.settings, text).is_ok()
        && store::check_tags(cx.state, key.name, &[]).is_ok();
    let lifetime = lifetime(cx, key, life);
    // What is changed in place, such as a counter or a bitmap, would be decompressed for the next change.
    let codec = matches!(life, Life::Kept(_)).then_some(Choice::Only(CodecId::None));
    if !fits || !store::adopt(cx, key, text, lifetime, codec, fill) {
        changed(cx, key, Effect::ReplicateText(key));
        let stamp = cx.state.clock.stamp(cx.now);
        cx.node().stored(key, stamp);
    }
}

/// The lifetime of a string of an unmodified client: what it asked for, spread by jitter to the shorter side only; the
/// rule's where it asked for none.
fn lifetime(cx: &mut Cx<'_, '_>, key: Key<'_>, life: Life) -> Lifetime {
    let Some(rule) = cx.state.policies.native_rule(key.name) else { return Lifetime::Forever };
    let (jitter, slides) = (rule.policy().jitter, rule.is_sliding() && rule.has_ttl());
    match life {
        Life::Made(None) if rule.has_ttl() => Lifetime::Default,
        Life::Kept(_) if slides => Lifetime::Default,
        Life::Made(None) | Life::Asked(None) | Life::Kept(None) => Lifetime::Forever,
        Life::Kept(Some(until)) => Lifetime::At(until),
        Life::Made(Some(until)) | Life::Asked(Some(until)) => {
            let left = until.saturating_sub(cx.now.ms()) as f64;
            let shorter = left * 2.0 * jitter * cx.state.random.unit();
            Lifetime::At(until.saturating_sub(shorter as u64).max(cx.now.ms() + 1))
        }
    }
}

impl Node<'_> {
    /// What an unmodified client is to see of the entry under a key: nothing of what is not fresh.
    fn visible(&mut self, key: Key<'_>) -> Option<Text> {
        let expire_at = self.keys.expire_at(key);
        let now = moment(self.now, expire_at);
        let Slot::Entry(entry) = self.keys.peek(key) else { return None };
        let judge = Judge::new(&self.state.invalidations, self.db, key.name, now);
        match judge.freshness(entry) {
            Freshness::Fresh { left_ms } if !entry.absent() => {
                let until = left_ms.map(|left| now.ms().saturating_add(left));
                let until = until.into_iter().chain(expire_at).min();
                // What cannot be read is as if it were not there.
                let value = read::value(entry, &mut self.state.codecs, None)?;
                Some(Text { bytes: value.bytes.to_vec(), until })
            }
            _ => None,
        }
    }

    /// Turns the entry under a key into a plain string with the same deadline; what is not fresh is deleted. Whether
    /// there is a plain string now that was an entry.
    pub fn make_plain<'w>(&mut self, key: Key<'w>, effects: &mut Effects<'w>) -> bool {
        if !matches!(self.keys.peek(key), Slot::Entry(_)) {
            return false;
        }
        let Some(text) = self.visible(key) else {
            if self.keys.remove(key) {
                effects.changed(key, Effect::ReplicateUnlink(key), Event::Del);
            }
            return false;
        };
        if let Some(hidden) = self.keys.stand_in(key, Some((&text.bytes, text.until))) {
            self.keys.discard(key, hidden);
            effects.push(Effect::ReplicateText(key));
        }
        true
    }

    /// A hash of a key's name, for [`NilLoads`](crate::cache::unmodified::loads::NilLoads).
    fn nil_load_of(&self, key: Key<'_>) -> u64 {
        self.state.tombstones.hash(key.name) as u64
    }

    /// A connection was told nil.
    pub fn begin_nil_load(&mut self, key: Key<'_>, client: u64, token: Token) {
        let hash = self.nil_load_of(key);
        self.state.nil_loads.begin(client, self.db, hash, token);
    }

    /// What this connection stores next was not loaded by it.
    pub fn forget_nil_load(&mut self, key: Key<'_>, client: u64) {
        let hash = self.nil_load_of(key);
        self.state.nil_loads.end(client, self.db, hash);
    }

    /// The load of this connection, and whether it is trusted. After somebody else's later store it counts as none:
    /// on any server the last `SET` wins. Under a rule that holds no herds off, invalidations alone count against it,
    /// not what others did by the server's own `DEL` or `FLUSHDB`.
    fn fill_of(&mut self, key: Key<'_>, client: u64) -> Option<(Token, FillVerdict)> {
        let hash = self.nil_load_of(key);
        let token = self.state.nil_loads.of(client, self.db, hash)?;
        let text = self.state.secret.seal(Of::Key(self.db, key.name), token);
        let holds_herds_off = self.state.policies.native_rule(key.name).is_some_and(Rule::holds_herds_off);
        let no_tags = std::iter::empty::<(&[u8], Option<TagId>)>;
        let conflict = |node: &Self| node.state.invalidations.conflict(node.db, key.name, no_tags(), token, node.now);
        match self.check_fill(key, Provenance::Token(&text)) {
            FillVerdict::Lost(_) | FillVerdict::Again(_) => None,
            FillVerdict::Dead(_) | FillVerdict::Stale(..) if !holds_herds_off && conflict(self).is_none() => None,
            verdict => Some((token, verdict)),
        }
    }
}

/// The moment at which to judge what the server has found under a key that it deletes at `expire_at`: in a script its
/// clock stands still, and a key that has not expired for the server is fresh.
pub(super) fn moment(now: Now, expire_at: Option<u64>) -> Now {
    match expire_at {
        Some(at) if at <= now.ms() => Now::new(at.saturating_sub(1).saturating_mul(1_000), now.mono_ms()),
        _ => now,
    }
}

impl State {
    /// Has the sweep turn the entries of former NATIVE rules into plain strings, in all databases; and returns the
    /// names of those that are done, which are forgotten here and, by `SMARTCACHE.RULE DEL`, on replicas. For a
    /// primary, at each turn of the server's cron.
    pub fn retire(&mut self) -> Vec<String> {
        if self.policies.retired().is_empty() && self.retiring.names.is_empty() {
            return Vec::new();
        }
        let mut done = Vec::new();
        self.retiring.jobs.retain(|id| self.sweep.contains(*id));
        if self.retiring.jobs.is_empty() {
            done = std::mem::take(&mut self.retiring.names);
            done.retain(|name| self.policies.del(name.as_bytes(), true) == Ok(true));
            self.retiring.names = self.policies.retired().iter().map(|spec| spec.name().to_owned()).collect();
            if !self.retiring.names.is_empty() {
                let dbs = 0..=self.invalidations.last_db().max(LEAST_LAST_DB);
                self.retiring.jobs = dbs.map(|db| self.sweep.request(db, Walk::Keys, 0)).collect();
            }
        }
        done
    }
}

#[cfg(test)]
mod tests;
