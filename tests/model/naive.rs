//! A cache so simple that it is obviously right: a map and the semantics of `docs/commands.md`.
//!
//! It has no codecs, workers, stamps or replication. Times are milliseconds; [`NEVER`] means no end.

use std::collections::{BTreeMap, BTreeSet};

/// The time that is never reached.
pub(super) const NEVER: u64 = u64::MAX;

/// The whole cache.
#[derive(Default)]
pub(super) struct Naive {
    pub(super) now: u64,
    pub(super) keys: BTreeMap<&'static str, Held>,
    pub(super) settings: Settings,
    /// Oldest first.
    pub(super) rules: Vec<Rule>,
    pub(super) count: Count,
    pub(super) rules_made: u32,
    /// Keys that the server has let expire.
    pub(super) expired_keys: BTreeSet<&'static str>,
}

/// The content of a key, and when the server deletes it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) content: Content,
    pub(super) expire_at: u64,
}

#[derive(Clone)]
pub(super) enum Content {
    Entry(Entry),
    Text(Vec<u8>),
    List,
}

#[derive(Clone)]
pub(super) struct Entry {
    /// `None`: an absent entry.
    pub(super) value: Option<Vec<u8>>,
    pub(super) fresh_until: u64,
    /// Made stale by command.
    pub(super) ended: bool,
    /// Hit by a hard invalidation.
    pub(super) dead: bool,
    /// The tags whose invalidation hit it; `*` stands for `ALL`.
    pub(super) hit_by: Vec<String>,
    pub(super) swr: u64,
    pub(super) sie: u64,
    pub(super) tags: Vec<String>,
    /// The number of the rule it was stored under.
    pub(super) rule: Option<u32>,
}

/// The settings that affect it; 0 means none, as in the settings themselves.
pub(super) struct Settings {
    pub(super) default_ttl: u64,
    pub(super) max_ttl: u64,
    pub(super) negative_ttl: u64,
    pub(super) swr: u64,
    pub(super) sie: u64,
    /// 50 % or 0.
    pub(super) jitter: bool,
    pub(super) max_value: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            default_ttl: 3_600_000,
            max_ttl: 0,
            negative_ttl: 60_000,
            swr: 0,
            sie: 0,
            jitter: false,
            max_value: 512 << 20,
        }
    }
}

/// A rule for the keys with this prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) prefix: &'static str,
    pub(super) ttl: Option<u64>,
    /// `SCALE` × 2.
    pub(super) scale_in_halves: Option<u64>,
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
    pub(super) jitter: Option<bool>,
    pub(super) swr: Option<u64>,
    pub(super) sie: Option<u64>,
    pub(super) negative: Option<u64>,
    /// Tags its keys with `t:` and the rest of the key after the prefix.
    pub(super) tags: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lifetime {
    Default,
    /// `TTL`
    Base(u64),
    /// `PX`
    In(u64),
    /// `PXAT`, relative to now; may be in the past.
    At(i64),
    Persist,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    Nx,
    Xx,
}

/// The options of a command that stores.
#[derive(Clone, Debug)]
pub(super) struct StoreOptions {
    pub(super) lifetime: Lifetime,
    pub(super) swr: Option<u64>,
    pub(super) sie: Option<u64>,
    pub(super) condition: Option<Condition>,
    pub(super) tags: Vec<&'static str>,
    /// Ignored by this cache.
    pub(super) codec: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Fresh,
    Stale,
    Dead,
}

/// Counters.
#[derive(Default)]
pub(super) struct Count {
    pub(super) hits: u64,
    pub(super) stale_hits: u64,
    pub(super) absent_hits: u64,
    pub(super) cold: u64,
    pub(super) expired: u64,
    pub(super) invalidated: u64,
    pub(super) sets: u64,
    pub(super) absents: u64,
    pub(super) refused: u64,
}

/// The reply of `GET … STATE`.
#[derive(Debug, PartialEq)]
pub(super) struct Read {
    pub(super) state: &'static str,
    pub(super) value: Option<Vec<u8>>,
    pub(super) fresh_ms: i64,
}

/// The key holds another type.
pub(super) struct WrongType;

/// Given a key and the range that jitter allows, returns the end of freshness that the real cache drew.
pub(super) type Drawn<'a> = &'a mut dyn FnMut(&str, u64, u64) -> u64;

impl Entry {
    pub(super) fn state(&self, now: u64) -> State {
        let window = self.swr.max(self.sie);
        if self.dead {
            State::Dead
        } else if !self.ended && now < self.fresh_until {
            State::Fresh
        } else if self.value.is_some() && window > 0 && now < self.fresh_until.saturating_add(window) {
            State::Stale
        } else {
            State::Dead
        }
    }

    /// When the server may delete it.
    fn expire_at(&self) -> u64 {
        let window = if self.value.is_some() { self.swr.max(self.sie) } else { 0 };
        self.fresh_until.saturating_add(window)
    }
}

impl Naive {
    pub(super) fn rule_of(&self, key: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| key.starts_with(rule.prefix))
    }

    /// Replaces a rule of the same name, which keeps its position and number.
    pub(super) fn set_rule(&mut self, mut rule: Rule) {
        match self.rules.iter_mut().find(|old| old.name == rule.name) {
            Some(old) => {
                rule.number = old.number;
                *old = rule;
            }
            None => {
                self.rules_made += 1;
                rule.number = self.rules_made;
                self.rules.push(rule);
            }
        }
    }

    pub(super) fn del_rule(&mut self, name: &str) -> bool {
        let before = self.rules.len();
        self.rules.retain(|rule| rule.name != name);
        self.rules.len() < before
    }

    /// Active expiry of the server.
    pub(super) fn expire(&mut self) {
        self.expired_keys.extend(self.keys.iter().filter(|(_, held)| held.expire_at <= self.now).map(|(key, _)| *key));
        self.keys.retain(|_, held| held.expire_at > self.now);
        // The removal of an entry ends the record of its key.
        self.expired_keys.retain(|key| !matches!(self.keys.get(key), Some(Held { content: Content::Entry(_), .. })));
    }

    /// The earliest and the latest end of freshness.
    fn deadline(&self, key: &str, absent: bool, lifetime: Lifetime) -> (u64, u64) {
        let settings = &self.settings;
        let rule = self.rule_of(key).cloned().unwrap_or_default();
        let jitter = rule.jitter.unwrap_or(settings.jitter);
        let or_never = |ms: u64| if ms == 0 { NEVER } else { ms };
        let (scale_in_halves, min, max) = match absent {
            true => (2, 0, NEVER),
            false => (rule.scale_in_halves.unwrap_or(2), rule.min.unwrap_or(0), rule.max.unwrap_or(NEVER)),
        };
        let default = match absent {
            true => rule.negative.unwrap_or(settings.negative_ttl),
            false => rule.ttl.unwrap_or(or_never(settings.default_ttl)),
        };
        let limit = max.min(or_never(settings.max_ttl));
        let exactly = |ms: u64| (ms, ms);
        let from_base = |base: u64| {
            let four_times = base * scale_in_halves * 2;
            let (least, most) = match jitter {
                true => (four_times / 8, (four_times * 3).div_ceil(8)),
                false => exactly(four_times.div_ceil(4)),
            };
            (least.max(1).max(min), most.max(1).max(min))
        };
        let (least, longest) = match lifetime {
            Lifetime::Default if default == NEVER => exactly(NEVER),
            Lifetime::Default => from_base(default),
            Lifetime::Base(ms) => from_base(ms),
            Lifetime::In(ms) => exactly(ms),
            Lifetime::Persist => exactly(NEVER),
            Lifetime::At(offset) => {
                let at = self.now.saturating_add_signed(offset).min(self.now.saturating_add(limit));
                return (at, at);
            }
        };
        (self.now.saturating_add(least.min(limit)), self.now.saturating_add(longest.min(limit)))
    }

    fn allows(&self, key: &str, condition: Option<Condition>) -> bool {
        let (fresh, stale) = match self.keys.get(key).map(|held| &held.content) {
            None => (false, false),
            Some(Content::Text(_)) => (true, false),
            Some(Content::List) => return condition.is_none(),
            Some(Content::Entry(entry)) if entry.value.is_none() => (false, false),
            Some(Content::Entry(entry)) => {
                (entry.state(self.now) == State::Fresh, entry.state(self.now) == State::Stale)
            }
        };
        match condition {
            None => true,
            Some(Condition::Nx) => !fresh,
            Some(Condition::Xx) => fresh || stale,
        }
    }

    /// `SET`, or `ABSENT` without a value. True when stored, false when the end is in the past, `None` when refused.
    pub(super) fn store(
        &mut self,
        key: &'static str,
        value: Option<&[u8]>,
        options: &StoreOptions,
        drawn: Drawn<'_>,
    ) -> Option<bool> {
        if !self.allows(key, options.condition) {
            self.count.refused += 1;
            return None;
        }
        let (earliest, latest) = self.deadline(key, value.is_none(), options.lifetime);
        if latest <= self.now {
            self.keys.remove(key);
            return Some(false);
        }
        let fresh_until = if earliest == latest { latest } else { drawn(key, earliest, latest) };
        let rule = self.rule_of(key).cloned();
        let of_rule = |field: fn(&Rule) -> Option<u64>| rule.as_ref().and_then(field);
        let (swr, sie) = match value {
            None => (0, 0),
            Some(_) => (
                options.swr.or(of_rule(|rule| rule.swr)).unwrap_or(self.settings.swr),
                options.sie.or(of_rule(|rule| rule.sie)).unwrap_or(self.settings.sie),
            ),
        };
        let mut tags = Vec::new();
        let own = options.tags.iter().map(|tag| tag.to_string());
        let made = rule.iter().filter(|rule| rule.tags).map(|rule| format!("t:{}", &key[rule.prefix.len()..]));
        for tag in own.chain(made) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        let rule = rule.map(|rule| rule.number);
        let entry = Entry {
            value: value.map(<[u8]>::to_vec),
            fresh_until,
            ended: false,
            dead: false,
            hit_by: Vec::new(),
            swr,
            sie,
            tags,
            rule,
        };
        self.keys.insert(key, Held { expire_at: entry.expire_at(), content: Content::Entry(entry) });
        match value {
            Some(_) => self.count.sets += 1,
            None => self.count.absents += 1,
        }
        Some(true)
    }

    pub(super) fn touch(&mut self, key: &'static str, lifetime: Lifetime, drawn: Drawn<'_>) -> Result<bool, WrongType> {
        let absent = match self.keys.get(key).map(|held| &held.content) {
            Some(Content::List) => return Err(WrongType),
            Some(Content::Entry(entry)) if entry.state(self.now) == State::Fresh => entry.value.is_none(),
            _ => return Ok(false),
        };
        let (earliest, latest) = self.deadline(key, absent, lifetime);
        if latest <= self.now {
            self.keys.remove(key);
        } else if let Some(Held { content: Content::Entry(entry), expire_at }) = self.keys.get_mut(key) {
            entry.fresh_until = if earliest == latest { latest } else { drawn(key, earliest, latest) };
            *expire_at = entry.expire_at();
        }
        Ok(true)
    }

    /// `INVALIDATE` of a tag, or `ALL`. Returns the number of entries that no invalidation had hit before; `ALL` also
    /// counts entries that are no longer fresh.
    pub(super) fn invalidate(&mut self, tag: Option<&str>, soft: bool) -> usize {
        let mut hits = 0;
        for held in self.keys.values_mut() {
            let Content::Entry(entry) = &mut held.content else { continue };
            if tag.is_some_and(|tag| !entry.tags.iter().any(|own| own == tag)) {
                continue;
            }
            let by = tag.unwrap_or("*").to_owned();
            let counts = match (tag, entry.state(self.now)) {
                (None, _) | (_, State::Fresh) => true,
                (Some(_), State::Stale) => !soft,
                (Some(_), State::Dead) => false,
            };
            hits += usize::from(counts && entry.hit_by.is_empty());
            entry.hit_by.push(by);
            if soft {
                entry.ended = true;
                entry.fresh_until = entry.fresh_until.min(self.now);
            } else {
                entry.dead = true;
            }
        }
        hits
    }

    /// Frees dead entries.
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        self.keys.retain(|_, held| !matches!(&held.content, Content::Entry(entry) if entry.state(now) == State::Dead));
    }

    /// Copies an entry to another key, whose rule it gets.
    pub(super) fn restore(&mut self, from: &str, to: &'static str) {
        let rule = self.rule_of(to).map(|rule| rule.number);
        if let Some(Held { content: Content::Entry(entry), expire_at }) = self.keys.get(from).cloned() {
            self.keys.insert(to, Held { content: Content::Entry(Entry { rule, ..entry }), expire_at });
        }
    }

    fn any_is_list(&self, keys: &[&'static str]) -> bool {
        keys.iter().any(|key| matches!(self.keys.get(key), Some(Held { content: Content::List, .. })))
    }

    pub(super) fn del(&mut self, keys: &[&'static str]) -> Result<usize, WrongType> {
        if self.any_is_list(keys) {
            return Err(WrongType);
        }
        let now = self.now;
        let not_dead = |held: &Held| !matches!(&held.content, Content::Entry(entry) if entry.state(now) == State::Dead);
        Ok(keys.iter().filter_map(|key| self.keys.remove(key)).filter(not_dead).count())
    }

    pub(super) fn stale(&mut self, keys: &[&'static str]) -> Result<usize, WrongType> {
        if self.any_is_list(keys) {
            return Err(WrongType);
        }
        let mut were_fresh = 0;
        for key in keys {
            if let Some(Held { content: Content::Entry(entry), .. }) = self.keys.get_mut(key)
                && entry.state(self.now) == State::Fresh
            {
                entry.ended = true;
                entry.fresh_until = entry.fresh_until.min(self.now); // the windows start now
                were_fresh += 1;
            }
        }
        Ok(were_fresh)
    }

    /// `GET`, with counting.
    pub(super) fn get(&mut self, key: &str, stale: bool) -> Result<Read, WrongType> {
        let miss = Read { state: "MISS", value: None, fresh_ms: 0 };
        let Some(held) = self.keys.get(key) else {
            *(if self.expired_keys.contains(key) { &mut self.count.expired } else { &mut self.count.cold }) += 1;
            return Ok(miss);
        };
        let left = |until: u64| {
            let first = until.min(held.expire_at);
            if first == NEVER { -1 } else { (first - self.now) as i64 }
        };
        let entry = match &held.content {
            Content::List => return Err(WrongType),
            Content::Text(text) => {
                self.count.hits += 1;
                return Ok(Read { state: "HIT", value: Some(text.clone()), fresh_ms: left(NEVER) });
            }
            Content::Entry(entry) => entry,
        };
        Ok(match (entry.state(self.now), &entry.value) {
            (State::Fresh, Some(value)) => {
                self.count.hits += 1;
                Read { state: "HIT", value: Some(value.clone()), fresh_ms: left(entry.fresh_until) }
            }
            (State::Fresh, None) => {
                self.count.absent_hits += 1;
                Read { state: "ABSENT", value: None, fresh_ms: left(entry.fresh_until) }
            }
            (State::Stale, Some(value)) if stale => {
                self.count.stale_hits += 1;
                Read { state: "STALE", value: Some(value.clone()), fresh_ms: 0 }
            }
            _ if entry.ended || entry.dead => {
                self.count.invalidated += 1;
                miss
            }
            _ => {
                self.count.expired += 1;
                miss
            }
        })
    }

    /// `MGET` of one key.
    pub(super) fn mget(&mut self, key: &str) -> Option<Vec<u8>> {
        match self.get(key, false) {
            Ok(read) => read.value,
            Err(WrongType) => {
                self.count.cold += 1;
                None
            }
        }
    }

    pub(super) fn is_list(&self, key: &str) -> bool {
        matches!(self.keys.get(key).map(|held| &held.content), Some(Content::List))
    }

    pub(super) fn is_missing(&self, key: &str) -> bool {
        match self.keys.get(key).map(|held| &held.content) {
            Some(Content::Entry(entry)) => entry.state(self.now) != State::Fresh,
            Some(Content::Text(_)) => false,
            None => true,
            Some(Content::List) => unreachable!("MISSING answers WRONGTYPE; the caller checks for lists"),
        }
    }
}
