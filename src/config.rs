//! The settings: name, kind and range, default, and purpose, each declared once.
//!
//! The server knows each as `smartcache.NAME`, a text (its numbers have no units). [`Setting::set`] reads that text and
//! [`Setting::get`] writes it, always in the same form: durations in seconds, fractions in percent, sizes with the
//! largest unit that leaves them whole. So `CONFIG GET` shows `3600` after `1h` was set.
//!
//! To add a setting, add a row to the table below. The tests at the end go over the whole table.

use std::ops::RangeInclusive;

use crate::cache::{
    codec::Choice,
    rules::{Policy, RuleList, spec::MAX_SIZE},
    units::{self, Limit, MAX_DURATION_MS, MAX_NUMBER, Share, UnitError},
};

settings! {
    default_ttl_ms: u64 {
        name: "default-ttl",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "3600",
        doc: "The base of an entry's lifetime when neither the command nor a rule gives one; 0: no end.",
    },
    max_ttl_ms: u64 {
        name: "max-ttl",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "0",
        doc: "The longest lifetime, whatever a command or a rule asks for, PERSIST included; 0: no limit.",
    },
    jitter: f64 {
        name: "jitter",
        kind: Fraction,
        default: "0",
        doc: "How far lifetimes are spread around their base, so that entries stored together do not expire together.",
    },
    swr_ms: u64 {
        name: "swr",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "0",
        doc: "Stale-while-revalidate: how long a stale value is served while one caller refreshes it.",
    },
    sie_ms: u64 {
        name: "sie",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "0",
        doc: "Stale-if-error: how long a stale value is served when it cannot be loaded.",
    },
    negative_ttl_ms: u64 {
        name: "negative-ttl",
        kind: Duration(1..=MAX_DURATION_MS),
        default: "60",
        doc: "The lifetime of an absent entry, which records that the origin has nothing under a key.",
    },
    lock_ms: u64 {
        name: "lock",
        kind: Duration(1..=MAX_DURATION_MS),
        default: "10",
        doc: "The length of a lease: how long others wait for the caller that loads.",
    },
    beta: f64 {
        name: "beta",
        kind: Number,
        default: "1",
        doc: "How eagerly fresh values are refreshed before they expire; 0: never.",
    },
    guard_ms: u64 {
        name: "guard",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "0",
        doc: "How long after a DEL, STALE or invalidation a load that begins is not trusted either: the lag of the origin's replicas.",
    },
    max_guard_ms: u64 {
        name: "max-guard",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "86400",
        doc: "The longest GUARD that an invalidation may ask for; it bounds smartcache.guard, and guards that a file holds.",
    },
    max_over_ms: u64 {
        name: "max-over",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "86400",
        doc: "The longest OVER that an invalidation may ask for; it bounds ramps that a file holds, too.",
    },
    max_lock_ms: u64 {
        name: "max-lock",
        kind: Duration(1..=MAX_DURATION_MS),
        default: "600",
        doc: "The longest LOCK that GETLOCK, and the longest duration that EXTEND may ask for; it bounds smartcache.lock, and the LOCK of rules.",
    },
    max_wait_ms: u64 {
        name: "max-wait",
        kind: Duration(0..=MAX_DURATION_MS),
        default: "60",
        doc: "The longest WAIT that GETLOCK may ask for.",
    },
    skew_ms: u64 {
        name: "skew",
        kind: Duration(1..=MAX_DURATION_MS),
        default: "60",
        doc: "The largest difference between the clocks of nodes at which entries that move between them stay correct.",
    },
    max_load_ms: u64 {
        name: "max-load",
        kind: Duration(1..=MAX_DURATION_MS),
        default: "3600",
        doc: "A load that began longer ago is not trusted.",
    },
    guard_native: bool {
        name: "guard-native",
        kind: Switch,
        default: "yes",
        doc: "Whether the server's own DEL, UNLINK, SET and similar commands also make loads in flight untrusted. While loads may be in flight, this costs every command of the server a look-up of its name.",
    },
    max_waiters: i64 {
        name: "max-waiters",
        kind: Integer(0..=1_000_000),
        default: "0",
        doc: "Callers that may wait at once; beyond it the reply is BUSY. 0: the smallest of 1000, a tenth of maxclients, and 5 % of maxmemory / 36 KB.",
    },
    max_leases: i64 {
        name: "max-leases",
        kind: Integer(0..=100_000_000),
        default: "100000",
        doc: "Leases that may be held at once; beyond it the reply is STALE or BUSY. 0: none are granted.",
    },
    user_share: f64 {
        name: "user-share",
        kind: Fraction,
        default: "50%",
        doc: "The share of max-leases, and of max-waiters, that one user may hold; beyond it its callers get what they get at those limits. A user is a name in the ACL, or the default user at one address. Everybody may hold one.",
    },
    sweep_effort: f64 {
        name: "sweep-effort",
        kind: Fraction,
        default: "5%",
        doc: "The share of the main thread's time in which the sweep frees dead entries: twice that while more than 100000 keys are to be examined. Callers of PREVIEW and of INVALIDATE with WAIT share it, at no less than 5%. 0: dead entries are not freed.",
    },
    max_tags: i64 {
        name: "max-tags",
        kind: Integer(1..=16_777_216),
        default: "10000000",
        doc: "Tag names that may exist at once; beyond it a store with a new tag is refused.",
    },
    max_members: i64 {
        name: "max-members",
        kind: Integer(0..=i64::MAX),
        default: "100000000",
        doc: "Entries in the tag index of each database, once for each of their tags; entries beyond it are invalidated all the same, but found by a walk over all keys.",
    },
    max_prefixes: i64 {
        name: "max-prefixes",
        kind: Integer(1..=10_000_000),
        default: "100000",
        doc: "Invalidated prefixes that are kept in each database until the sweep has applied them. From half of it on, many become one shorter prefix that the caller may invalidate; where that makes no room, INVALIDATE PREFIXES is refused.",
    },
    max_patterns: i64 {
        name: "max-patterns",
        kind: Integer(1..=100_000),
        default: "1024",
        doc: "Invalidated patterns that are kept in the same way; beyond it the oldest invalidate the whole database.",
    },
    index_memory: Share {
        name: "index-memory",
        kind: Share,
        default: "10%",
        doc: "The memory of invalidation marks that no entry accounts for: prefixes, patterns, and tags that no entry carries but a long GUARD or an OVER keeps. A fraction of maxmemory, or bytes; 0: no limit. Prefixes are merged as beyond max-prefixes; what finds no room is refused.",
    },
    codec: Choice {
        name: "codec",
        kind: Codec,
        default: "auto",
        doc: "How values are compressed; auto chooses the codec.",
    },
    compression_level: i64 {
        name: "compression-level",
        kind: Integer(-7..=22),
        default: "3",
        doc: "How hard compression tries, on the codec's own scale and held inside its range.",
    },
    min_size: u64 {
        name: "min-size",
        kind: Bytes(0..=MAX_SIZE),
        default: "64",
        doc: "Smaller values are not compressed.",
    },
    min_savings: f64 {
        name: "min-savings",
        kind: Fraction,
        default: "20%",
        doc: "A compressed value is kept only if it saves at least this much.",
    },
    offload_size: u64 {
        name: "offload-size",
        kind: Bytes(1..=MAX_SIZE),
        default: "64kb",
        doc: "Larger values are compressed in the background, after the reply.",
    },
    max_value: u64 {
        name: "max-value",
        kind: Bytes(1..=MAX_SIZE),
        default: "512mb",
        doc: "Larger values are refused.",
    },
    health_hit_rate: f64 {
        name: "health-hit-rate",
        kind: Fraction,
        default: "50%",
        doc: "SMARTCACHE.HEALTH warns when over five minutes a smaller share of the requests was answered without a load; 0: never.",
    },
    rules: RuleList {
        name: "rules",
        kind: Rules,
        default: "",
        doc: "Rules of this node: a JSON array of objects with the options of SMARTCACHE.RULE SET in lower case.",
    },
}

/// Turns the table into the struct [`Settings`], its defaults, and [`SETTINGS`].
macro_rules! settings {
    ($($field:ident: $type:ty {
        name: $name:literal,
        kind: $kind:ident $(($range:expr))?,
        default: $default:literal,
        doc: $doc:literal,
    },)*) => {
        /// The values of all settings. Durations are in milliseconds, sizes in bytes.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $(#[doc = $doc] pub $field: $type,)*
        }

        impl Default for Settings {
            /// The defaults of the table.
            fn default() -> Self {
                let mut settings = Self { $($field: <$type>::default(),)* };
                for setting in SETTINGS {
                    setting.set(&mut settings, setting.default.as_bytes()).expect("a test sets every default");
                }
                settings
            }
        }

        /// All settings, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            kind: Kind::$kind(
                $($range,)?
                Field { get: |settings| &settings.$field, get_mut: |settings| &mut settings.$field },
            ),
            default: $default,
            doc: $doc,
        },)*];
    };
}
use settings;

impl Settings {
    /// The guard of deletes and invalidations that name none.
    pub fn guard_ms(&self) -> u64 {
        self.guard_ms.min(self.max_guard_ms)
    }

    /// What `GUARD` may ask for.
    pub fn guard_limit(&self) -> Limit {
        Limit { ms: self.max_guard_ms, setting: "max-guard" }
    }

    /// What `OVER` may ask for.
    pub fn over_limit(&self) -> Limit {
        Limit { ms: self.max_over_ms, setting: "max-over" }
    }

    /// What `LOCK` and `EXTEND` may ask for.
    pub fn lock_limit(&self) -> Limit {
        Limit { ms: self.max_lock_ms, setting: "max-lock" }
    }

    /// What `WAIT` of `GETLOCK` may ask for.
    pub fn wait_limit(&self) -> Limit {
        Limit { ms: self.max_wait_ms, setting: "max-wait" }
    }

    /// Refuses a duration among the settings that is beyond its limit, which [`Setting::set`] takes: a file that was
    /// written before there were limits is loaded, and the limits then bound what it holds.
    pub fn check_limits(&self, changed: &Setting) -> Result<(), String> {
        let check = |ms: u64, limit: Limit| match limit.refusal(ms) {
            Some(why) => Err(format!("smartcache.{}: '{}' {why}", changed.name, changed.get(self))),
            None => Ok(()),
        };
        match changed.name {
            "guard" => check(self.guard_ms, self.guard_limit()),
            "lock" => check(self.lock_ms, self.lock_limit()),
            "rules" => {
                let mut checked = self.rules.iter().map(|rule| rule.check_lock(self.lock_limit()));
                checked.find_map(Result::err).map_or(Ok(()), |why| Err(format!("smartcache.rules: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// The policy of keys without a rule, and what a rule leaves open.
    pub fn policy(&self) -> Policy {
        let unless_0 = |ms| (ms > 0).then_some(ms);
        Policy {
            ttl_ms: unless_0(self.default_ttl_ms),
            scale: 1.0,
            min_ms: None,
            max_ms: None,
            max_ttl_ms: unless_0(self.max_ttl_ms),
            jitter: self.jitter,
            swr_ms: self.swr_ms,
            sie_ms: self.sie_ms,
            negative_ms: self.negative_ttl_ms,
            lock_ms: self.lock_ms.min(self.max_lock_ms),
            max_lock_ms: self.max_lock_ms,
            beta: self.beta,
            codec: self.codec,
            min_size: self.min_size,
            fills: None,
        }
    }
}

/// The setting of that name, without `smartcache.`, in any case.
pub fn setting(name: &[u8]) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name.as_bytes().eq_ignore_ascii_case(name))
}

/// One row of the table.
pub struct Setting {
    /// The name without `smartcache.`.
    pub name: &'static str,
    /// Which values it takes, and its field in [`Settings`].
    pub kind: Kind,
    /// The default, as [`Setting::get`] shows it.
    pub default: &'static str,
    /// What it is for, in a sentence or two.
    pub doc: &'static str,
}

/// Which values a setting takes, and its field in [`Settings`].
pub enum Kind {
    /// A duration; the range is in milliseconds.
    Duration(RangeInclusive<u64>, Field<u64>),
    /// A fraction from 0 to 1.
    Fraction(Field<f64>),
    /// A number from 0 to [`MAX_NUMBER`].
    Number(Field<f64>),
    /// A size; the range is in bytes.
    Bytes(RangeInclusive<u64>, Field<u64>),
    /// A fraction of `maxmemory`, or a size.
    Share(Field<Share>),
    /// An integer.
    Integer(RangeInclusive<i64>, Field<i64>),
    /// `yes` or `no`.
    Switch(Field<bool>),
    /// The name of a codec.
    Codec(Field<Choice>),
    /// Rules as a JSON array.
    Rules(Field<RuleList>),
}

/// The field of a setting.
pub struct Field<T: 'static> {
    get: fn(&Settings) -> &T,
    get_mut: fn(&mut Settings) -> &mut T,
}

impl Setting {
    /// Sets the value from text. An error names the value and what is allowed, and nothing has changed.
    pub fn set(&self, settings: &mut Settings, value: &[u8]) -> Result<(), String> {
        let unit = |error: UnitError| self.refusal(value, &error.to_string());
        match &self.kind {
            Kind::Duration(range, field) => {
                let ms = units::parse_duration(value).map_err(unit)?;
                *(field.get_mut)(settings) = self.within(range, ms, value)?;
            }
            Kind::Fraction(field) => *(field.get_mut)(settings) = units::parse_fraction(value).map_err(unit)?,
            Kind::Number(field) => *(field.get_mut)(settings) = units::parse_number(value).map_err(unit)?,
            Kind::Bytes(range, field) => {
                let bytes = units::parse_bytes(value).map_err(unit)?;
                *(field.get_mut)(settings) = self.within(range, bytes, value)?;
            }
            Kind::Share(field) => *(field.get_mut)(settings) = units::parse_share(value).map_err(unit)?,
            Kind::Integer(range, field) => {
                let number = units::parse_int(value).map_err(unit)?;
                *(field.get_mut)(settings) = self.within(range, number, value)?;
            }
            Kind::Switch(field) => {
                *(field.get_mut)(settings) = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(self.refusal(value, "is neither yes nor no")),
                };
            }
            Kind::Codec(field) => {
                let codec = Choice::parse(value).ok_or_else(|| self.refusal(value, "is not a codec"))?;
                *(field.get_mut)(settings) = codec;
            }
            Kind::Rules(field) => {
                let rules = RuleList::parse(value).map_err(|error| format!("smartcache.{}: {error}", self.name))?;
                *(field.get_mut)(settings) = rules;
            }
        }
        Ok(())
    }

    /// The value as text, as `CONFIG GET` shows and `CONFIG REWRITE` writes it. [`Setting::set`] reads it back.
    pub fn get(&self, settings: &Settings) -> String {
        match &self.kind {
            Kind::Duration(_, field) => units::format_seconds(*(field.get)(settings)),
            Kind::Fraction(field) => units::format_fraction(*(field.get)(settings)),
            Kind::Number(field) => units::format_number(*(field.get)(settings)),
            Kind::Bytes(_, field) => units::format_bytes(*(field.get)(settings)),
            Kind::Share(field) => units::format_share(*(field.get)(settings)),
            Kind::Integer(_, field) => (field.get)(settings).to_string(),
            Kind::Switch(field) => if *(field.get)(settings) { "yes" } else { "no" }.to_owned(),
            Kind::Codec(field) => (field.get)(settings).name().to_owned(),
            Kind::Rules(field) => (field.get)(settings).to_json(),
        }
    }

    /// What is allowed, for error messages and the documentation.
    pub fn allowed(&self) -> String {
        match &self.kind {
            Kind::Duration(range, _) => {
                let [from, to] = [range.start(), range.end()].map(|&ms| units::format_duration(ms));
                format!("a duration from {from} to {to}, in seconds or with a unit (250ms, 30s, 5m, 2h, 7d)")
            }
            Kind::Fraction(_) => "a fraction from 0 to 1, or 0% to 100%".into(),
            Kind::Number(_) => format!("a number from 0 to {MAX_NUMBER}"),
            Kind::Bytes(range, _) => {
                let [from, to] = [range.start(), range.end()].map(|&bytes| units::format_bytes(bytes));
                format!("a size from {from} to {to}, in bytes or with a unit (64kb, 512mb, 1gb)")
            }
            Kind::Share(_) => "a fraction (10%, 0.1), or a size in bytes or with a unit (64mb, 1gb)".into(),
            Kind::Integer(range, _) => format!("an integer from {} to {}", range.start(), range.end()),
            Kind::Switch(_) => "yes or no".into(),
            Kind::Codec(_) => "auto, none, gzip, zstd or lz4".into(),
            Kind::Rules(_) => "a JSON array of objects, or nothing".into(),
        }
    }

    fn within<T: PartialOrd>(&self, range: &RangeInclusive<T>, number: T, value: &[u8]) -> Result<T, String> {
        if range.contains(&number) { Ok(number) } else { Err(self.refusal(value, "is out of range")) }
    }

    fn refusal(&self, value: &[u8], why: &str) -> String {
        // A unit error ends with what is allowed in general; `allowed` is more exact.
        let why = why.split(':').next().unwrap_or(why);
        format!("smartcache.{}: {} {why}; say {}", self.name, units::quote(value), self.allowed())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The texts at both ends of a setting's range, and those just outside.
    fn ends(setting: &Setting) -> (Vec<String>, Vec<String>) {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let ends = |start: i128, end: i128, unit: &str| {
            let text = |number: i128| format!("{number}{unit}");
            (vec![text(start), text(end)], vec![text(start - 1), text(end + 1)])
        };
        match &setting.kind {
            Kind::Duration(range, _) => ends((*range.start()).into(), (*range.end()).into(), "ms"),
            Kind::Bytes(range, _) => ends((*range.start()).into(), (*range.end()).into(), ""),
            Kind::Integer(range, _) => ends((*range.start()).into(), (*range.end()).into(), ""),
            Kind::Fraction(_) => (texts(&["0", "1", "100%"]), texts(&["-0.1", "1.01", "101%"])),
            Kind::Share(_) => (texts(&["0", "0%", "0.5", "100%", "1gb"]), texts(&["-1", "101%", "1.5", "", "tenth"])),
            Kind::Number(_) => (texts(&["0", "1000000"]), texts(&["-1", "1000001", "inf", "nan"])),
            Kind::Switch(_) => (texts(&["yes", "no", "YES"]), texts(&["", "1", "true"])),
            Kind::Codec(_) => (texts(&["auto", "none", "gzip", "zstd", "LZ4"]), texts(&["", "brotli", "gzip "])),
            Kind::Rules(_) => (
                texts(&["", "[]", r#"[{"name":"a","match":"*"}]"#]),
                texts(&["{}", "x", r#"[{"name":"a"}]"#, r#"[{"name":"a","match":"*","x":1}]"#]),
            ),
        }
    }

    #[test]
    fn names_are_unique_and_found_in_any_case() {
        let names: HashSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        for row in SETTINGS {
            assert!(row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", row.name);
            assert_eq!(setting(row.name.to_uppercase().as_bytes()).unwrap().name, row.name);
        }
        assert!(setting(b"").is_none() && setting(b"smartcache.lock").is_none());
    }

    #[test]
    fn every_doc_is_a_sentence() {
        for Setting { name, doc, .. } in SETTINGS {
            assert!(doc.ends_with('.') && doc.starts_with(char::is_uppercase) && !doc.contains('\n'), "{name}");
        }
    }

    #[test]
    fn every_default_is_set_and_shown_as_in_the_table() {
        let settings = Settings::default();
        for setting in SETTINGS {
            assert_eq!(setting.get(&settings), setting.default, "{}", setting.name);
        }
        assert_eq!((settings.default_ttl_ms, settings.lock_ms, settings.beta), (3_600_000, 10_000, 1.0));
        assert_eq!((settings.min_savings, settings.offload_size), (0.2, 65_536));
    }

    #[test]
    fn ranges_include_both_ends_and_nothing_beyond() {
        for setting in SETTINGS {
            let (good, bad) = ends(setting);
            for text in good {
                let mut settings = Settings::default();
                setting.set(&mut settings, text.as_bytes()).unwrap();
                let shown = setting.get(&settings);
                let mut again = Settings::default();
                setting.set(&mut again, shown.as_bytes()).unwrap();
                assert_eq!(again, settings, "{} {text} was shown as {shown}", setting.name);
            }
            for text in bad {
                let mut settings = Settings::default();
                let error = setting.set(&mut settings, text.as_bytes()).expect_err(&text);
                assert!(error.starts_with(&format!("smartcache.{}: ", setting.name)), "{error}");
                assert_eq!(settings, Settings::default(), "{} {text}", setting.name);
            }
        }
    }

    #[test]
    fn an_error_names_the_value_and_what_is_allowed() {
        let refusal =
            |name: &[u8], value: &[u8]| setting(name).unwrap().set(&mut Settings::default(), value).unwrap_err();
        assert_eq!(
            refusal(b"lock", b"soon"),
            "smartcache.lock: 'soon' is not a duration; say a duration from 1ms to 36500d, in seconds or with a unit \
             (250ms, 30s, 5m, 2h, 7d)"
        );
        assert_eq!(
            refusal(b"jitter", b"1.5"),
            "smartcache.jitter: '1.5' is too large; say a fraction from 0 to 1, or 0% to 100%"
        );
        assert_eq!(
            refusal(b"compression-level", b"23"),
            "smartcache.compression-level: '23' is out of range; say an integer from -7 to 22"
        );
        assert_eq!(
            refusal(b"codec", b"br"),
            "smartcache.codec: 'br' is not a codec; say auto, none, gzip, zstd or lz4"
        );
        assert_eq!(
            refusal(b"rules", br#"[{"name":"a","match":"*","ttl":"x"}]"#),
            "smartcache.rules: rule 'a': ttl 'x' is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)"
        );
    }

    proptest! {
        #[test]
        fn a_value_that_is_set_reads_back_and_nothing_panics(at in 0..SETTINGS.len(), text in "[0-9.]{1,6}(ms|s|m|kb|%)?", any: Vec<u8>) {
            let setting = &SETTINGS[at];
            for value in [text.as_bytes(), &any] {
                let mut settings = Settings::default();
                if setting.set(&mut settings, value).is_ok() {
                    let mut again = Settings::default();
                    setting.set(&mut again, setting.get(&settings).as_bytes()).unwrap();
                    prop_assert_eq!(again, settings);
                }
            }
        }
    }
}
