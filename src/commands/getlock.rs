//! `SMARTCACHE.GETLOCK`: the cache-aside read. A caller that gets a token loads.

use super::args::{Args, Zero, is, once};
use super::get;
use super::spec::{Access, Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::codec::accept::Accept;
use crate::cache::effects::Effect;
use crate::cache::error::Error;
use crate::cache::lease::acquire::{Decision, KeyState, LeaseRequest, User};
use crate::cache::lease::outcomes::ReplyState;
use crate::cache::lease::table::{Answer, WaitOptions};
use crate::cache::node::read::{self, Found, Value};
use crate::cache::stats::miss_reasons::MissReason;
use crate::cache::units;
use crate::cache::{Cx, Judge, Key, Reply, Slot};
use crate::config::Settings;

/// The declaration.
pub(crate) const COMMAND: Command = Command {
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
The cache-aside read: one caller loads, the others get what is stored or wait in the server. A token means that you load: then send SET … TOKEN, ABSENT … TOKEN, or UNLOCK.
HIT: the value is fresh; with a token you were chosen to refresh it early, in the background. STALE: use the value; with a token you refresh it, without one somebody else does, or a failed load backs off. ABSENT: the origin is known to have nothing; a token means as for HIT. MISS: load it. BUSY: somebody else loads, and you did not wait or waited in vain: ask again after lease_ms until your own deadline, then load and do not store.
LOCK is the length of the lease (default: the rule's, then smartcache.lock; at most smartcache.max-lock). WAIT blocks the caller in the server while somebody else loads, and ends in BUSY after that time (default: 0; at most smartcache.max-wait). When the lease ends without a store, the first waiter gets the next lease. Nothing waits in MULTI, scripts and functions, nor where the wait could not end: where the connection holds the lease itself, or where connections would wait for each other in a circle.
OWNER gives the same token again to the same owner, for retries after a lost reply. BETA scales early refresh (0 turns it off; default: the rule's, then smartcache.beta). ACCEPT as in GET.
Inside SWR a stale value is served at once; past SWR but inside SIE only in place of BUSY. When a rule's FILLS, smartcache.max-leases or the user's share of them (smartcache.user-share) is reached, no token is given: the reply is STALE or BUSY.
A replica serves what needs no token; where a token is needed, the reply is READONLY.",
    replies: "An array of five: state (HIT, STALE, ABSENT, MISS, BUSY), value or nil, token or nil, fresh_ms (milliseconds of freshness left; -1: no end), lease_ms (with a token: milliseconds left of the lease; with BUSY, or STALE without a token: when to ask again; else 0). With ACCEPT: an array of encoding and bytes in place of the value.",
    run: Some(Run::Plain(run)),
};

/// The most bytes in the name of an owner.
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
    fn parse(args: &mut Args<'w>, settings: &Settings) -> Result<Self, Error> {
        let key = args.key()?;
        let (mut lock, mut wait, mut owner, mut beta, mut accept) = (None, None, None, None, None);
        while let Some(word) = args.option() {
            if is(word, "LOCK") {
                once(&mut lock, args.duration_within("LOCK", word, Zero::Refused, settings.lock_limit())?, word)?;
            } else if is(word, "WAIT") {
                once(&mut wait, args.duration_within("WAIT", word, Zero::Allowed, settings.wait_limit())?, word)?;
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
    let get = GetLock::parse(args, &cx.state.settings)?;
    let key_state = match cx.keys.look(get.key) {
        Slot::Other => return Err(Error::WrongType),
        slot => KeyState::of(slot, Judge::new(&cx.state.invalidations, cx.caller.db, get.key.name, cx.now)),
    };
    let mut decision = decide(cx, &get, key_state)?;
    let mut unreadable = false;
    if decision.serves() {
        if serve(cx, &get, key_state, decision)? {
            return Ok(());
        }
        unreadable = true; // only decompressing shows it
        decision = match decision.grant() {
            Some(grant) => Decision::Load(grant),
            None => decide(cx, &get, KeyState::Nothing)?,
        };
    }
    match decision {
        Decision::Wait => park(cx, &get),
        _ => reply_without_value(cx, &get, decision, unreadable),
    }
    Ok(())
}

/// Decides for the caller, whose connection holds the lease that may come with the decision.
fn decide(cx: &mut Cx<'_, '_>, get: &GetLock<'_>, key_state: KeyState) -> Result<Decision, Error> {
    let fresh = matches!(key_state, KeyState::Fresh { .. } | KeyState::Plain);
    let early = fresh && cx.node().should_refresh_early(get.key, key_state, get.beta);
    if fresh && !early && get.owner.is_none() {
        return Ok(Decision::Fresh(None)); // nearly always: nothing to decide
    }
    match cx.server.is_replica() {
        true if fresh => return Ok(Decision::Fresh(None)),
        true => return Err(Error::ReadOnly),
        false => {}
    }
    let room = get.wait_ms > 0 && (cx.state.leases.waiting() as u64) < cx.state.max_waiters();
    let waits = room && cx.server.may_wait();
    let (client, user) = (cx.server.client(), User::Calls(cx.server));
    let request = LeaseRequest { client, user, lock_ms: get.lock_ms, owner: get.owner, waits, loads: true };
    let mut node = cx.node();
    if fresh {
        return Ok(node.grant_early(get.key, key_state, early, request));
    }
    node.expire_lease(get.key); // waiters come before new readers
    Ok(node.decide(get.key, key_state, request))
}

/// Replies with what the key holds; false, and no reply, when the value cannot be read.
fn serve(cx: &mut Cx<'_, '_>, get: &GetLock<'_>, key_state: KeyState, decision: Decision) -> Result<bool, Error> {
    let fresh_ms = match key_state {
        KeyState::Fresh { left_ms, .. } => read::fresh_ms(cx.keys, get.key, left_ms),
        KeyState::Plain => read::fresh_ms(cx.keys, get.key, None),
        KeyState::Swr | KeyState::Sie | KeyState::Nothing => 0,
    };
    let token = decision.grant().map(|grant| cx.node().text(get.key, grant.token));
    let slot = cx.keys.look(get.key);
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, get.key.name, cx.now);
    let found = read::find(slot, &mut cx.state.codecs, judge, true, get.accept)?;
    if let Found::Miss(_) = found {
        return Ok(false);
    }
    found.count(get.key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
    let state = decision.reply_state(matches!(found, Found::Absent { .. }));
    let value = match found {
        Found::Hit { value, .. } | Found::Stale { value } => Some(value),
        Found::Plain => cx.keys.text(get.key).map(Value::plain),
        Found::Absent { .. } | Found::Miss(_) => None,
    };
    write_reply(cx.reply, state, value, get.accept.is_some(), token.as_ref(), fresh_ms, decision.lease_ms());
    Ok(true)
}

/// Replies `MISS` or `BUSY`. A value that cannot be read is counted as expired.
fn reply_without_value(cx: &mut Cx<'_, '_>, get: &GetLock<'_>, decision: Decision, unreadable: bool) {
    let token = decision.grant().map(|grant| cx.node().text(get.key, grant.token));
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, get.key.name, cx.now);
    let reason = if unreadable { MissReason::Expired } else { read::miss_reason(cx.keys.look(get.key), judge) };
    let state = decision.reply_state(false);
    let rule = cx.state.policies.id(get.key.name);
    let mut tally = cx.state.stats.at(cx.now);
    let reason = tally.miss_reason(reason, get.key.name);
    tally.record_request(get.key.name, false);
    *tally.of(rule).read(state, reason) += 1;
    write_reply(cx.reply, state, None, get.accept.is_some(), token.as_ref(), 0, decision.lease_ms());
}

fn park(cx: &mut Cx<'_, '_>, get: &GetLock<'_>) {
    let options =
        WaitOptions { lock_ms: get.lock_ms, owner: get.owner.map(Into::into), accept: get.accept, native: false };
    let (key, caller) = ((cx.caller.db, get.key.name), (cx.server.client(), cx.server.user()));
    let id = cx.state.leases.park(key, caller, get.wait_ms, options, cx.now);
    cx.effects.push(Effect::Park(id));
}

/// Writes the reply.
pub(crate) fn write_reply(
    reply: &mut dyn Reply,
    state: ReplyState,
    value: Option<Value<'_>>,
    with_encoding: bool,
    token: Option<&[u8; crate::cache::lease::token::LEN]>,
    fresh_ms: i64,
    lease_ms: u64,
) {
    reply.array(5);
    reply.bulk(state.name().as_bytes());
    get::answer(reply, value, with_encoding);
    match token {
        Some(token) => reply.bulk(token),
        None => reply.nil(),
    }
    reply.int(fresh_ms);
    reply.int(lease_ms as i64);
}

/// Whether a waiter's command is an unmodified client's `GET`.
#[cfg(feature = "server")]
pub(crate) fn is_native(command: &[u8]) -> bool {
    !is(command, COMMAND.name)
}

/// Writes the reply to a waiter; `native` for an unmodified client's `GET`.
pub(crate) fn write_deferred_reply(reply: &mut dyn Reply, answer: &Answer, native: bool) {
    if native {
        return match &answer.value {
            Some((_, bytes)) => reply.bulk(bytes),
            None => reply.nil(),
        };
    }
    let value = answer.value.as_ref().map(|(encoding, bytes)| Value { encoding, bytes });
    write_reply(
        reply,
        answer.state,
        value,
        answer.with_encoding,
        answer.token.as_ref(),
        answer.fresh_ms,
        answer.lease_ms,
    );
}

#[cfg(test)]
mod tests;
