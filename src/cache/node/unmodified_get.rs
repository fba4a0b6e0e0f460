//! `GET` and `MGET` of unmodified clients: the hot ones have code of their own, and hold herds off.
//!
//! ```text
//!                    nobody loads              somebody loads
//!  fresh             the value                 the value            (with BETA, one reader may be told nil early)
//!  inside SWR        nil: the caller loads     the stale value
//!  nothing to serve  nil: the caller loads     nil, or with WAIT the value as soon as it is there
//! ```
//!
//! Whoever is told nil holds the key's lease: its `SET` is the fill (`unmodified.rs`).

use crate::cache::effects::Effect;
use crate::cache::entry::EntryRef;
use crate::cache::error::Error;
use crate::cache::lease::acquire::{Decision, Grant, KeyState, LeaseRequest, User};
use crate::cache::lease::table::WaitOptions;
use crate::cache::lease::token::Token;
use crate::cache::node::context::Cx;
use crate::cache::node::read::{self, Found};
use crate::cache::node::unmodified::moment;
use crate::cache::rules::Policies;
use crate::cache::stats::miss_reasons::MissReason;
use crate::cache::{Judge, Key, Slot};

/// `GET`.
pub fn get<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>) -> Result<(), Error> {
    if !cx.server.may_call("GET", key) {
        return refuse(cx, &[Key::named(b"GET"), key]);
    }
    let slot = cx.keys.look(key);
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
    let found = read::find(slot, &mut cx.state.codecs, judge, false, None)?;
    match (&found, slot) {
        (Found::Hit { value, .. }, Slot::Entry(entry)) if !refreshes_early(&cx.state.policies, entry) => {
            found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
            cx.reply.bulk(value.bytes);
        }
        (Found::Plain, _) => {
            found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
            reply_text(cx, key);
        }
        _ => get_what_is_not_fresh(cx, key),
    }
    Ok(())
}

/// One key: it grants nothing, and serves a stale value only while somebody loads.
fn get_one_of_many<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>) {
    let loading = cx.state.leases.lease(cx.caller.db, key.name).is_some();
    let slot = cx.keys.look(key);
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
    let stale = loading && KeyState::of(slot, judge) == KeyState::Swr;
    let found = read::find(slot, &mut cx.state.codecs, judge, stale, None).unwrap_or(Found::Miss(MissReason::Cold));
    found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
    match found {
        Found::Hit { value, .. } | Found::Stale { value } => cx.reply.bulk(value.bytes),
        Found::Plain => reply_text(cx, key),
        Found::Absent { .. } | Found::Miss(_) => cx.reply.nil(),
    }
}

/// Replies what the server replies to a command that the user may not call.
fn refuse(cx: &mut Cx<'_, '_>, command: &[Key<'_>]) -> Result<(), Error> {
    let reply = cx.keys.run_native(command, &cx.caller, false).ok_or(Error::Internal)?;
    cx.reply.native(&*reply);
    Ok(())
}

/// `MGET`.
pub fn mget<'w>(cx: &mut Cx<'_, 'w>, keys: &[Key<'w>]) -> Result<(), Error> {
    if !keys.iter().all(|key| cx.server.may_call("MGET", *key)) {
        let command: Vec<_> = std::iter::once(Key::named(b"MGET")).chain(keys.iter().copied()).collect();
        return refuse(cx, &command);
    }
    cx.reply.array(keys.len());
    keys.iter().for_each(|key| get_one_of_many(cx, *key));
    Ok(())
}

fn reply_text(cx: &mut Cx<'_, '_>, key: Key<'_>) {
    match cx.keys.text(key) {
        Some(text) => cx.reply.bulk(text),
        None => cx.reply.nil(),
    }
}

/// Whether readers of this fresh entry may be told nil, to refresh it early: only where its rule says `BETA`.
fn refreshes_early(policies: &Policies, entry: EntryRef<'_>) -> bool {
    policies.rule(entry.rule()).is_some_and(|rule| rule.own_beta().is_some_and(|beta| beta > 0.0))
}

/// `GET` of what is not fresh, or may be refreshed early: the caller is told nil and loads, gets the stale value while
/// another loads, or waits for that other.
#[cold]
fn get_what_is_not_fresh<'w>(cx: &mut Cx<'_, 'w>, key: Key<'w>) {
    let expire_at = cx.keys.expire_at(key);
    cx.now = moment(cx.now, expire_at);
    let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
    let slot = cx.keys.peek(key);
    let key_state = KeyState::of(slot, judge);
    let reason = read::miss_reason(slot, judge);
    let absent = matches!(slot, Slot::Entry(entry) if entry.absent());
    let fresh = matches!(key_state, KeyState::Fresh { .. });
    let decision = if fresh && absent { None } else { decide(cx, key, key_state) };
    if let Some(Decision::Wait) = decision {
        return park(cx, key);
    }
    if let Some(Decision::Fresh(None) | Decision::Stale(Err(_))) = decision {
        let slot = cx.keys.look(key);
        let judge = Judge::new(&cx.state.invalidations, cx.caller.db, key.name, cx.now);
        if let Ok(found @ (Found::Hit { .. } | Found::Stale { .. })) =
            read::find(slot, &mut cx.state.codecs, judge, true, None)
        {
            found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
            if let Found::Hit { value, .. } | Found::Stale { value } = found {
                cx.reply.bulk(value.bytes);
            }
            return;
        }
    }
    let slot = cx.keys.peek(key);
    let found = match key_state {
        KeyState::Fresh { left_ms, .. } if absent => Found::Absent { left_ms },
        KeyState::Fresh { .. } => Found::Miss(MissReason::Expired),
        _ => Found::Miss(reason),
    };
    found.count(key.name, slot, &cx.state.policies, &mut cx.state.stats.at(cx.now));
    if let Some(decision) = decision {
        let token = decision.grant().map(|grant| grant.token);
        let (client, now) = (cx.server.client(), cx.now);
        let token = token.unwrap_or_else(|| Token::begun(cx.state.clock.stamp(now), now));
        cx.state.tombstones.load_begins(Some(key.name), now);
        cx.node().begin_nil_load(key, client, token);
    }
    cx.reply.nil();
}

/// Decides for a reader, as for a caller of `GETLOCK`; `None` where nobody can be expected to load: on a replica, and
/// in a script, which has no connection of its own.
fn decide(cx: &mut Cx<'_, '_>, key: Key<'_>, key_state: KeyState) -> Option<Decision> {
    let fresh = matches!(key_state, KeyState::Fresh { .. });
    if cx.server.is_replica() || !cx.server.is_connection() {
        return match fresh {
            true => Some(Decision::Fresh(None)),
            false => None,
        };
    }
    let client = cx.server.client();
    let wait_ms = cx.state.policies.native_rule(key.name).map_or(0, |rule| rule.wait_ms());
    let room = wait_ms > 0 && (cx.state.leases.waiting() as u64) < cx.state.max_waiters();
    let waits = room && cx.server.may_wait();
    let user = User::Calls(cx.server);
    let request = LeaseRequest { client, user, lock_ms: None, owner: None, waits, loads: true };
    let mut node = cx.node();
    if fresh {
        let early = node.should_refresh_early(key, key_state, None);
        return Some(node.grant_early(key, key_state, early, request));
    }
    node.expire_lease(key);
    // Its own load: it has asked again.
    let own = node.state.leases.lease(node.db, key.name).filter(|lease| lease.client == client);
    if let Some(lease) = own {
        let left_ms = lease.until_ms.saturating_sub(node.now.mono_ms());
        return Some(Decision::Load(Grant { token: lease.token, left_ms }));
    }
    Some(node.decide(key, key_state, request))
}

fn park(cx: &mut Cx<'_, '_>, key: Key<'_>) {
    let wait_ms = cx.state.policies.native_rule(key.name).map_or(0, |rule| rule.wait_ms());
    let wait_ms = wait_ms.min(cx.state.settings.max_wait_ms);
    let options = WaitOptions { native: true, ..WaitOptions::default() };
    let (place, caller) = ((cx.caller.db, key.name), (cx.server.client(), cx.server.user()));
    let id = cx.state.leases.park(place, caller, wait_ms, options, cx.now);
    cx.effects.push(Effect::Park(id));
}
