//! `SMARTCACHE.GETLOCK`: the cache-aside read. A token means: you load.

use super::args::{Args, Zero, is, once};
use super::get;
use super::spec::{Access, Arg, Command, Flag, Keys, Kind};
use crate::cache::ask::{Ask, There, Told};
use crate::cache::effects::Effect;
use crate::cache::error::Error;
use crate::cache::lease::{Answer, Wish};
use crate::cache::read::{self, Accept, Found, Value};
use crate::cache::units;
use crate::cache::{Cx, Key, Reply, Slot};

/// The declaration.
pub const COMMAND: Command = Command {
    name: "SMARTCACHE.GETLOCK",
    summary: "Returns the value of a key, or the right to load it",
    since: "0.1.0",
    complexity: "O(1), plus O(n) for n bytes to decompress",
    arity: -2,
    flags: &[Flag::Blocking, Flag::Fast],
    keys: Keys::One(Access::ReadUpdate),
    args: &[
        Arg::key(),
        Arg::option("lock", "LOCK", Kind::Duration),
        Arg::option("wait", "WAIT", Kind::Duration),
        Arg::option("id", "OWNER", Kind::Text),
        Arg::option("beta", "BETA", Kind::Double),
        Arg::option("encodings", "ACCEPT", Kind::Text),
    ],
    details: "\
The cache-aside read: one caller loads, the others get what is there or wait in the server. A token means that you load: then SET … TOKEN, ABSENT … TOKEN, or UNLOCK.
HIT: the value is fresh; with a token you were picked to load it anew in the background, before it ends. STALE: it may be served; with a token you load it anew, else somebody does. ABSENT: the origin is known to have nothing. MISS: load it. BUSY: somebody loads, and you did not wait or waited in vain: ask again after lease_ms, and when your own time is over, load and do not store.
LOCK is how long the lease lasts (default: the rule's, then smartcache.lock). WAIT lets the server answer when the one who loads is done, and with BUSY after that time; a waiter becomes the next to load when the lease ends without a store. In MULTI, scripts and functions nothing waits, and neither where that could not end: a connection that holds the lease itself, or a circle of connections that would wait for each other.
OWNER gives its holder the same token again, after a lost reply. BETA is the eagerness of early refresh (0 turns it off). ACCEPT as in GET.
Inside SWR the stale value is served at once. Past it, inside SIE, only in place of BUSY. When a rule's FILLS or smartcache.max-leases are reached, no token is given: the stale value or BUSY.
On a replica what needs no token is served; what would need one answers READONLY.",
    replies: "An array of five: state (HIT, STALE, ABSENT, MISS, BUSY), value or nil, token or nil, fresh_ms (what is left of its freshness; -1 without end), lease_ms (with a token: what is left of the lease; with BUSY, or STALE without a token: when to ask again; else 0). With ACCEPT the value's place holds encoding and bytes.",
    run: Some(run),
};

/// The longest name of an owner, in bytes.
const OWNER_LEN: usize = 255;

/// `GETLOCK key [LOCK d] [WAIT d] [OWNER id] [BETA f] [ACCEPT encodings]`
struct GetLock<'w> {
    key: Key<'w>,
    lock_ms: Option<u64>,
    wait_ms: u64,
    owner: Option<&'w [u8]>,
    beta: Option<f64>,
    accept: Option<Accept>,
}

impl<'w> GetLock<'w> {
    fn parse(args: &mut Args<'w>) -> Result<Self, Error> {
        let key = args.key()?;
        let (mut lock, mut wait, mut owner, mut beta, mut accept) = (None, None, None, None, None);
        while let Some(word) = args.option() {
            if is(word, "LOCK") {
                once(&mut lock, args.duration("LOCK", word, Zero::Refused)?, word)?;
            } else if is(word, "WAIT") {
                once(&mut wait, args.duration("WAIT", word, Zero::Allowed)?, word)?;
            } else if is(word, "OWNER") {
                once(&mut owner, args.value_of(word)?, word)?;
            } else if is(word, "BETA") {
                let text = args.value_of(word)?;
                let number = units::parse_number(text).map_err(|why| Error::invalid("BETA", text, why))?;
                once(&mut beta, number, word)?;
            } else if is(word, "ACCEPT") {
                once(&mut accept, Accept::parse(args.value_of(word)?), word)?;
            } else {
                return Err(Error::syntax(word));
            }
        }
        if let Some(name) = owner.filter(|name| name.is_empty() || name.len() > OWNER_LEN) {
            return Err(Error::invalid("OWNER", name, format_args!("a name of 1 to {OWNER_LEN} bytes is wanted")));
        }
        Ok(GetLock { key, lock_ms: lock, wait_ms: wait.unwrap_or(0), owner, beta, accept })
    }
}

fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    let get = GetLock::parse(args)?;
    let there = match cx.keys.look(get.key) {
        Slot::Other => return Err(Error::WrongType),
        slot => There::of(slot, cx.now),
    };
    let (there, told) = tell(cx, &get, there)?;
    if told == Told::Wait {
        park(cx, &get);
        return Ok(());
    }
    let fresh_ms = match there {
        There::Fresh { left_ms, .. } => read::fresh_ms(cx.keys, get.key, left_ms),
        There::Plain => read::fresh_ms(cx.keys, get.key, None),
        There::Swr | There::Sie | There::Nothing => 0,
    };
    let token = told.grant().map(|grant| cx.node().text(get.key, grant.token));
    let serves = matches!(told, Told::Fresh(_) | Told::Stale(_));
    let accept = if serves { get.accept } else { Some(Accept::all()) };
    let found = read::find(cx.keys.look(get.key), &mut cx.state.codecs, cx.now, serves, accept)?;
    if serves && matches!(found, Found::Miss(_)) {
        return damaged(cx, &get, told);
    }
    let count = &mut cx.state.stats.count;
    match (told, found) {
        (Told::Busy(_), _) => count.busy += 1,
        _ => found.count(count),
    }
    let (state, value) = match (told, found) {
        (Told::Fresh(_), Found::Absent { .. }) => ("ABSENT", None),
        (Told::Fresh(_), Found::Plain) => ("HIT", cx.keys.text(get.key).map(Value::plain)),
        (Told::Fresh(_), Found::Hit { value, .. }) => ("HIT", Some(value)),
        (Told::Stale(_), Found::Stale { value }) => ("STALE", Some(value)),
        (Told::Load(_), _) => ("MISS", None),
        _ => ("BUSY", None),
    };
    say(cx.reply, state, value, get.accept.is_some(), token.as_ref(), fresh_ms, told.lease_ms());
    Ok(())
}

/// What the caller is told, and what stands under the key by then.
fn tell(cx: &mut Cx<'_, '_>, get: &GetLock<'_>, there: There) -> Result<(There, Told), Error> {
    let fresh = matches!(there, There::Fresh { .. } | There::Plain);
    let picked = fresh && cx.node().picked(get.key, there, get.beta);
    if fresh && !picked && get.owner.is_none() {
        return Ok((there, Told::Fresh(None))); // nearly always: nothing to decide
    }
    match cx.server.is_replica() {
        true if fresh => return Ok((there, Told::Fresh(None))),
        true => return Err(Error::ReadOnly),
        false => {}
    }
    let room = get.wait_ms > 0 && (cx.state.leases.waiting() as u64) < cx.state.max_waiters();
    let waits = room && cx.server.may_wait();
    let ask = Ask { client: cx.server.client(), lock_ms: get.lock_ms, owner: get.owner, waits };
    let mut node = cx.node();
    if fresh {
        return Ok((there, node.early(get.key, there, picked, ask)));
    }
    node.lapse(get.key); // whoever waits longer comes first
    Ok((there, node.tell(get.key, there, ask)))
}

fn park(cx: &mut Cx<'_, '_>, get: &GetLock<'_>) {
    let wish = Wish { lock_ms: get.lock_ms, owner: get.owner.map(Into::into), accept: get.accept };
    let client = cx.server.client();
    let id = cx.state.leases.park(cx.caller.db, get.key.name, client, get.wait_ms, wish, cx.now);
    cx.effects.push(Effect::Park(id));
}

/// Only decompressing has shown that the value cannot be read: as if there were nothing. Whoever was to load it anew still is.
fn damaged(cx: &mut Cx<'_, '_>, get: &GetLock<'_>, told: Told) -> Result<(), Error> {
    let told = match told.grant() {
        Some(grant) => Told::Load(grant),
        None => tell(cx, get, There::Nothing)?.1,
    };
    match told {
        Told::Wait => park(cx, get),
        _ => {
            let token = told.grant().map(|grant| cx.node().text(get.key, grant.token));
            let count = &mut cx.state.stats.count;
            *(if token.is_some() { &mut count.misses_expired } else { &mut count.busy }) += 1;
            let state = if token.is_some() { "MISS" } else { "BUSY" };
            say(cx.reply, state, None, get.accept.is_some(), token.as_ref(), 0, told.lease_ms());
        }
    }
    Ok(())
}

/// Writes an answer.
pub fn say(
    reply: &mut dyn Reply,
    state: &'static str,
    value: Option<Value<'_>>,
    with_encoding: bool,
    token: Option<&[u8; crate::cache::token::LEN]>,
    fresh_ms: i64,
    lease_ms: u64,
) {
    reply.array(5);
    reply.simple(state);
    get::answer(reply, value, with_encoding);
    match token.and_then(|token| std::str::from_utf8(token).ok()) {
        Some(token) => reply.simple(token),
        None => reply.nil(),
    }
    reply.int(fresh_ms);
    reply.int(lease_ms as i64);
}

/// Writes the answer of one who waited.
pub fn say_late(reply: &mut dyn Reply, answer: &Answer) {
    let value = answer.value.as_ref().map(|(encoding, bytes)| Value { encoding, bytes });
    say(reply, answer.state, value, answer.with_encoding, answer.token.as_ref(), answer.fresh_ms, answer.lease_ms);
}
