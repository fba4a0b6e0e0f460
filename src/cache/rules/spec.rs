//! A rule as it is written: as the words of `RULE SET`, or as JSON.
//!
//! Both go through `RuleSpec::set_word`, word by word, so that they accept and refuse the same. Every finished
//! [`RuleSpec`] has been checked as a whole.
//!
//! ```text
//! profile MATCH *:profile MATCH *:profile:* SCALE 2 TTL 5m
//! {"name": "profile", "match": ["*:profile", "*:profile:*"], "scale": 2, "ttl": "5m"}
//! ```
//!
//! In JSON a duration is a number of seconds or a string with a unit, and `match` and `tag` are a string or an array.

use std::fmt;
use std::hash::Hasher;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;

use super::template::Template;
use crate::cache::{
    codec::Choice,
    glob::Glob,
    units::{self, Limit, UnitError},
};

/// The longest name of a rule.
const MAX_NAME_LEN: usize = 64;
/// The most rules of each origin: so many made by command, and so many configured.
pub(super) const MAX_RULES: usize = 1_024;
/// The most patterns of one rule.
const MAX_MATCHES: usize = 64;
/// The longest pattern, in bytes.
const MAX_PATTERN_LEN: usize = 1_024;
/// The most tag templates of one rule.
const MAX_TEMPLATES: usize = 64;
/// The largest `FILLS`.
const MAX_FILLS: u32 = 1_000_000;
/// The largest `CAP`.
const MAX_CAP: u32 = 1_000_000_000;
/// The largest size that `MINSIZE` and the settings in bytes accept: 2 GiB.
pub const MAX_SIZE: u64 = 2 << 30;

/// The words, in lower case as in JSON.
const WORDS: [&str; 21] = [
    "match", "priority", "ttl", "scale", "min", "max", "jitter", "swr", "sie", "negative", "lock", "beta", "codec",
    "minsize", "fills", "tag", "native", "wait", "cap", "lowest", "sliding",
];

/// A rule as it was written. What is `None` comes from the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    pub(super) name: String,
    pub(super) matches: Vec<Glob>,
    pub(super) priority: Option<i64>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) scale: Option<f64>,
    pub(super) min_ms: Option<u64>,
    pub(super) max_ms: Option<u64>,
    pub(super) jitter: Option<f64>,
    pub(super) swr_ms: Option<u64>,
    pub(super) sie_ms: Option<u64>,
    pub(super) negative_ms: Option<u64>,
    pub(super) lock_ms: Option<u64>,
    pub(super) beta: Option<f64>,
    pub(super) codec: Option<Choice>,
    pub(super) min_size: Option<u64>,
    pub(super) fills: Option<u32>,
    pub(super) tags: Vec<Template>,
    pub(super) native: bool,
    pub(super) wait_ms: Option<u64>,
    pub(super) cap: Option<u32>,
    pub(super) lowest: bool,
    pub(super) sliding: bool,
    /// A NATIVE rule that is no more: its entries are being turned into plain strings. Internal: no client says so.
    pub(super) retired: bool,
}

/// The value of one option of a rule, in the unit in which it is reported.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue<'a> {
    /// Patterns or templates.
    Texts(Vec<&'a [u8]>),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// A duration in milliseconds.
    Millis(u64),
    /// A size in bytes.
    Bytes(u64),
    /// A codec.
    Codec(Choice),
    /// A word without a value.
    Flag,
}

impl RuleSpec {
    /// Reads what follows `RULE SET`: the name, then pairs of a word and its value.
    pub fn parse<'w>(name: &[u8], words: impl IntoIterator<Item = &'w [u8]>) -> Result<Self, RuleError> {
        let mut rule = Self::named(name)?;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if let Some(flag) = rule.flag(word) {
                if std::mem::replace(flag, true) {
                    return Err(RuleError::Syntax { rule: rule.name, word: units::quote(word) });
                }
                continue;
            }
            match words.next() {
                Some(value) => rule.set_word(word, value)?,
                None => return Err(RuleError::Syntax { rule: rule.name, word: units::quote(word) }),
            }
        }
        rule.checked()
    }

    /// The name: 1 to 64 letters, digits and any of `_ . : -`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses a `LOCK` beyond the limit. One that was accepted earlier is bounded where it is used.
    pub fn check_lock(&self, limit: Limit) -> Result<(), RuleError> {
        let Some((ms, why)) = self.lock_ms.and_then(|ms| Some((ms, limit.refusal(ms)?))) else { return Ok(()) };
        let value = units::quote(units::format_duration(ms).as_bytes());
        Err(RuleError::Value { rule: self.name.clone(), word: "LOCK".into(), value, why })
    }

    /// The options that were given, by lower-case name, in the order of the documentation.
    pub fn options(&self) -> Vec<(&'static str, OptionValue<'_>)> {
        let mut options = vec![("match", OptionValue::Texts(self.matches.iter().map(Glob::pattern).collect()))];
        let mut add = |word, value: Option<OptionValue<'static>>| options.extend(value.map(|value| (word, value)));
        add("priority", self.priority.map(OptionValue::Integer));
        add("ttl", self.ttl_ms.map(OptionValue::Millis));
        add("scale", self.scale.map(OptionValue::Number));
        add("min", self.min_ms.map(OptionValue::Millis));
        add("max", self.max_ms.map(OptionValue::Millis));
        add("jitter", self.jitter.map(OptionValue::Number));
        add("swr", self.swr_ms.map(OptionValue::Millis));
        add("sie", self.sie_ms.map(OptionValue::Millis));
        add("negative", self.negative_ms.map(OptionValue::Millis));
        add("lock", self.lock_ms.map(OptionValue::Millis));
        add("beta", self.beta.map(OptionValue::Number));
        add("codec", self.codec.map(OptionValue::Codec));
        add("minsize", self.min_size.map(OptionValue::Bytes));
        add("fills", self.fills.map(|fills| OptionValue::Integer(fills.into())));
        if !self.tags.is_empty() {
            options.push(("tag", OptionValue::Texts(self.tags.iter().map(Template::text).collect())));
        }
        let mut add = |word, value: Option<OptionValue<'static>>| options.extend(value.map(|value| (word, value)));
        add("native", self.native.then_some(OptionValue::Flag));
        add("wait", self.wait_ms.map(OptionValue::Millis));
        add("cap", self.cap.map(|cap| OptionValue::Integer(cap.into())));
        add("lowest", self.lowest.then_some(OptionValue::Flag));
        add("sliding", self.sliding.then_some(OptionValue::Flag));
        add("retired", self.retired.then_some(OptionValue::Flag));
        options
    }

    /// The rule as the words after `RULE SET`, for replication and the AOF: [`RuleSpec::parse`] reads them back.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let mut words = vec![self.name.clone().into_bytes()];
        for (word, value) in self.options() {
            let values = match value {
                OptionValue::Flag => {
                    words.push(word.to_ascii_uppercase().into_bytes());
                    continue;
                }
                OptionValue::Texts(texts) => texts.into_iter().map(<[u8]>::to_vec).collect(),
                OptionValue::Integer(number) => vec![number.to_string().into_bytes()],
                OptionValue::Number(number) => vec![units::format_number(number).into_bytes()],
                OptionValue::Millis(ms) => vec![units::format_duration(ms).into_bytes()],
                OptionValue::Bytes(bytes) => vec![bytes.to_string().into_bytes()],
                OptionValue::Codec(codec) => vec![codec.name().into()],
            };
            for value in values {
                words.extend([word.to_ascii_uppercase().into_bytes(), value]);
            }
        }
        words
    }

    /// The rule as JSON, durations in seconds. JSON has no bytes: in a pattern that is not UTF-8, which only a command
    /// can make, invalid bytes are replaced.
    pub fn to_json(&self) -> Value {
        let mut object = Map::from_iter([("name".to_owned(), self.name.as_str().into())]);
        for (word, value) in self.options() {
            let value = match value {
                OptionValue::Texts(texts) => texts.into_iter().map(String::from_utf8_lossy).collect(),
                OptionValue::Integer(number) => number.into(),
                OptionValue::Number(number) => json_number(number),
                // Exact: a hundred years in milliseconds are 13 digits, and a double keeps 15.
                OptionValue::Millis(ms) => json_number(ms as f64 / 1_000.0),
                OptionValue::Bytes(bytes) => bytes.into(),
                OptionValue::Codec(codec) => codec.name().into(),
                OptionValue::Flag => true.into(),
            };
            object.insert(word.to_owned(), value);
        }
        Value::Object(object)
    }

    fn named(name: &[u8]) -> Result<Self, RuleError> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(byte);
        if !(1..=MAX_NAME_LEN).contains(&name.len()) || !name.iter().all(allowed) {
            return Err(RuleError::BadName { name: units::quote(name) });
        }
        Ok(Self {
            name: str::from_utf8(name).expect("ASCII was checked above").to_owned(),
            matches: Vec::new(),
            priority: None,
            ttl_ms: None,
            scale: None,
            min_ms: None,
            max_ms: None,
            jitter: None,
            swr_ms: None,
            sie_ms: None,
            negative_ms: None,
            lock_ms: None,
            beta: None,
            codec: None,
            min_size: None,
            fills: None,
            tags: Vec::new(),
            native: false,
            wait_ms: None,
            cap: None,
            lowest: false,
            sliding: false,
            retired: false,
        })
    }

    /// What is left of a NATIVE rule whose keys are served no longer: their patterns, under a name made of them.
    pub(super) fn retired(matches: Vec<Glob>) -> Self {
        let mut hasher = SipHasher13::new(); // the same on every node
        matches.iter().for_each(|glob| hasher.write(glob.pattern()));
        let name = format!("retired:{:016x}", hasher.finish());
        let spec = Self::named(name.as_bytes()).expect("the name is one");
        RuleSpec { matches, native: true, retired: true, ..spec }
    }

    /// Whether it is what is left of a NATIVE rule.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The place of a word without a value.
    fn flag(&mut self, word: &[u8]) -> Option<&mut bool> {
        match &word.to_ascii_uppercase()[..] {
            b"NATIVE" => Some(&mut self.native),
            b"LOWEST" => Some(&mut self.lowest),
            b"SLIDING" => Some(&mut self.sliding),
            b"RETIRED" => Some(&mut self.retired),
            _ => None,
        }
    }

    /// Reads one word and its value.
    fn set_word(&mut self, word: &[u8], value: &[u8]) -> Result<(), RuleError> {
        let fresh = match &word.to_ascii_uppercase()[..] {
            b"MATCH" => add(&mut self.matches, MAX_MATCHES, pattern(value)),
            b"PRIORITY" => once(&mut self.priority, because(units::parse_int(value))),
            b"TTL" => once(&mut self.ttl_ms, duration(value)),
            b"SCALE" => once(&mut self.scale, scale(value)),
            b"MIN" => once(&mut self.min_ms, duration(value)),
            b"MAX" => once(&mut self.max_ms, duration(value)),
            b"JITTER" => once(&mut self.jitter, because(units::parse_fraction(value))),
            b"SWR" => once(&mut self.swr_ms, because(units::parse_duration(value))),
            b"SIE" => once(&mut self.sie_ms, because(units::parse_duration(value))),
            b"NEGATIVE" => once(&mut self.negative_ms, duration(value)),
            b"LOCK" => once(&mut self.lock_ms, duration(value)),
            b"BETA" => once(&mut self.beta, because(units::parse_number(value))),
            b"CODEC" => once(&mut self.codec, codec(value)),
            b"MINSIZE" => once(&mut self.min_size, size(value)),
            b"FILLS" => once(&mut self.fills, count(value, MAX_FILLS)),
            b"TAG" => add(&mut self.tags, MAX_TEMPLATES, Template::parse(value)),
            b"WAIT" => once(&mut self.wait_ms, duration(value)),
            b"CAP" => once(&mut self.cap, count(value, MAX_CAP)),
            _ => Ok(false),
        };
        match fresh {
            Ok(true) => Ok(()),
            Ok(false) => Err(RuleError::Syntax { rule: self.name.clone(), word: units::quote(word) }),
            Err(why) => Err(RuleError::Value {
                rule: self.name.clone(),
                word: word.escape_ascii().to_string(),
                value: units::quote(value),
                why,
            }),
        }
    }

    /// Checks the rule as a whole.
    fn checked(self) -> Result<Self, RuleError> {
        let whole = |why: String| RuleError::Whole { rule: self.name.clone(), why };
        if self.matches.is_empty() {
            return Err(whole("needs at least one MATCH".into()));
        }
        if let (Some(min), Some(max)) = (self.min_ms, self.max_ms)
            && min > max
        {
            let (min, max) = (units::format_duration(min), units::format_duration(max));
            return Err(whole(format!("has a MIN ({min}) above its MAX ({max})")));
        }
        for (given, word) in [(self.wait_ms.is_some(), "WAIT"), (self.cap.is_some(), "CAP"), (self.sliding, "SLIDING")]
        {
            if given && !self.native {
                return Err(whole(format!("has {word}, which needs NATIVE")));
            }
        }
        if self.lowest && self.cap.is_none() {
            return Err(whole("has LOWEST, which needs CAP".into()));
        }
        for template in &self.tags {
            if let Some(glob) = self.matches.iter().find(|glob| glob.stars() < template.stars()) {
                return Err(whole(format!(
                    "has the TAG {} with {{{}}}, but its pattern {} has only {} *",
                    units::quote(template.text()),
                    template.stars(),
                    units::quote(glob.pattern()),
                    glob.stars(),
                )));
            }
        }
        Ok(self)
    }

    /// Reads one object of the array; `number` counts from 1, to name rules without a name.
    fn from_fields(number: usize, Fields(fields): Fields) -> Result<Self, RuleError> {
        let name = match fields.iter().find(|(field, _)| field == "name") {
            Some((_, Value::String(name))) => name,
            Some((_, value)) => return Err(RuleError::BadName { name: value.to_string() }),
            None => return Err(RuleError::Nameless { number }),
        };
        let mut rule = Self::named(name.as_bytes())?;
        for (i, (field, value)) in fields.iter().enumerate() {
            let known = field == "name" || WORDS.contains(&field.as_str());
            if !known || fields[..i].iter().any(|(other, _)| other == field) {
                return Err(RuleError::Syntax { rule: rule.name, word: units::quote(field.as_bytes()) });
            }
            if field == "name" {
                continue;
            }
            if let Some(flag) = rule.flag(field.as_bytes()) {
                let Some(given) = value.as_bool() else {
                    let value = units::quote(value.to_string().as_bytes());
                    let why = "is neither true nor false".into();
                    return Err(RuleError::Value { rule: rule.name, word: field.clone(), value, why });
                };
                *flag = given;
                continue;
            }
            let texts = texts(value, matches!(field.as_str(), "match" | "tag")).map_err(|why| RuleError::Value {
                rule: rule.name.clone(),
                word: field.clone(),
                value: units::quote(value.to_string().as_bytes()),
                why: why.into(),
            })?;
            for text in texts {
                rule.set_word(field.as_bytes(), text.as_bytes())?;
            }
        }
        rule.checked()
    }
}

/// Configured rules, in the order of the array; no two have the same name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleList(Vec<RuleSpec>);

impl RuleList {
    /// Reads the setting `smartcache.rules`: an array of objects, or an empty text.
    pub fn parse(json: &[u8]) -> Result<Self, RuleError> {
        if json.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let objects: Vec<Fields> =
            serde_json::from_slice(json).map_err(|error| RuleError::Json { why: error.to_string() })?;
        if objects.len() > MAX_RULES {
            return Err(RuleError::TooMany);
        }
        let mut rules: Vec<RuleSpec> = Vec::with_capacity(objects.len());
        let mut names = std::collections::HashSet::new();
        for (i, fields) in objects.into_iter().enumerate() {
            let rule = RuleSpec::from_fields(i + 1, fields)?;
            if !names.insert(rule.name.clone()) {
                return Err(RuleError::Whole { rule: rule.name, why: "is there twice".into() });
            }
            rules.push(rule);
        }
        Ok(Self(rules))
    }

    /// The array in one line; an empty text for no rules. Reads back as the same list.
    pub fn to_json(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        Value::Array(self.0.iter().map(RuleSpec::to_json).collect()).to_string()
    }

    /// The rules, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, RuleSpec> {
        self.0.iter()
    }
}

/// Why a rule is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// A name that is too long or has other characters than allowed.
    BadName {
        /// The name, quoted.
        name: String,
    },
    /// A word that is unknown, repeated, or has no value.
    Syntax {
        /// The rule's name.
        rule: String,
        /// The word, quoted.
        word: String,
    },
    /// A value that does not fit its word.
    Value {
        /// The rule's name.
        rule: String,
        /// The word.
        word: String,
        /// The value, quoted.
        value: String,
        /// What is wrong, as the end of a sentence.
        why: String,
    },
    /// Words that do not fit together.
    Whole {
        /// The rule's name.
        rule: String,
        /// What is wrong, as the end of a sentence.
        why: String,
    },
    /// A configured rule without a name.
    Nameless {
        /// Its place in the array, from 1.
        number: usize,
    },
    /// The text is not JSON, or not an array of objects.
    Json {
        /// The message of the JSON parser, with line and column.
        why: String,
    },
    /// There are `MAX_RULES` already.
    TooMany,
    /// A configured rule cannot be deleted by command.
    Configured {
        /// The rule's name.
        rule: String,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleError::BadName { name } => {
                write!(f, "{name} is not a name for a rule: 1 to {MAX_NAME_LEN} letters, digits and any of _ . : -")
            }
            RuleError::Syntax { rule, word } => {
                write!(f, "rule '{rule}': {word} is unknown, said twice or without a value")
            }
            RuleError::Value { rule, word, value, why } => write!(f, "rule '{rule}': {word} {value} {why}"),
            RuleError::Whole { rule, why } => write!(f, "rule '{rule}' {why}"),
            RuleError::Nameless { number } => write!(f, "rule number {number} has no name"),
            RuleError::Json { why } => write!(f, "the rules are not a JSON array of objects: {why}"),
            RuleError::TooMany => write!(f, "too many rules: at most {MAX_RULES}"),
            RuleError::Configured { rule } => write!(
                f,
                "rule '{rule}' comes from the setting smartcache.rules: change it there, with CONFIG SET or in the \
                 configuration file"
            ),
        }
    }
}

impl std::error::Error for RuleError {}

/// Sets an option; `Ok(false)` when it is set already.
fn once<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<bool, String> {
    Ok(place.is_none() && place.replace(value?).is_none())
}

/// Adds to an option that may be repeated.
fn add<T>(list: &mut Vec<T>, limit: usize, value: Result<T, String>) -> Result<bool, String> {
    if list.len() == limit {
        return Err(format!("is one too many: at most {limit} in a rule"));
    }
    list.push(value?);
    Ok(true)
}

fn because<T>(result: Result<T, UnitError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn pattern(value: &[u8]) -> Result<Glob, String> {
    if value.len() > MAX_PATTERN_LEN {
        return Err(format!("is too long: a pattern has at most {MAX_PATTERN_LEN} bytes"));
    }
    Ok(Glob::new(value))
}

fn duration(value: &[u8]) -> Result<u64, String> {
    because(units::parse_duration(value)).and_then(|ms| if ms > 0 { Ok(ms) } else { Err("must not be 0".into()) })
}

fn scale(value: &[u8]) -> Result<f64, String> {
    because(units::parse_number(value)).and_then(|by| if by > 0.0 { Ok(by) } else { Err("must not be 0".into()) })
}

fn codec(value: &[u8]) -> Result<Choice, String> {
    Choice::parse(value).ok_or_else(|| "is not a codec: say auto, none, gzip, zstd or lz4".into())
}

fn size(value: &[u8]) -> Result<u64, String> {
    let bytes = because(units::parse_bytes(value))?;
    if bytes <= MAX_SIZE { Ok(bytes) } else { Err("is too large: a size is at most 2gb".into()) }
}

fn count(value: &[u8], most: u32) -> Result<u32, String> {
    let count = because(units::parse_int(value))?;
    u32::try_from(count)
        .ok()
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| format!("is out of range: from 1 to {most}"))
}

/// A JSON value as words of a command. The error ends a sentence that begins with the value.
fn texts(value: &Value, list: bool) -> Result<Vec<String>, &'static str> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Number(number) if !list => Ok(vec![plain(number)]),
        Value::Array(values) if list => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or("has something that is no text"))
            .collect(),
        _ if list => Err("is neither a text nor an array of texts"),
        _ => Err("is neither a number nor a text"),
    }
}

/// The number as plain digits, for the parsers of `units`: JSON allows exponents, they do not.
fn plain(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

fn json_number(number: f64) -> Value {
    if number.fract() == 0.0 { (number as u64).into() } else { number.into() }
}

/// An object's fields in order, duplicates included: a map would silently keep the last.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
pub(super) mod tests;
