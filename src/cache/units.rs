//! Reads and writes quantities in text: durations, fractions, numbers, sizes and integers.
//!
//! ```text
//! duration    30   0.5   250ms   30s   5m   2h   7d      seconds when no unit is given; kept in milliseconds
//! fraction    0.1  10%                                   from 0 to 1
//! number      2    0.75                                  plain decimals, never negative
//! bytes       100  64kb  64k   512mb  1gb                as in redis.conf: k is 1000, kb is 1024
//! integer     42   -7                                    one spelling for each number, as in the server's own commands
//! ```
//!
//! Decimals have one grammar: digits, and after a point more digits. No sign, exponent, white space, `inf` or `nan`, so
//! that what is accepted does not depend on a library. Units are read in any case.

use std::fmt;

/// The longest duration: 100 years of 365 days. Added to any date of today, it is far from overflow.
pub const MAX_DURATION_MS: u64 = 36_500 * DAY;

/// The largest number, such as a rule's `SCALE` or the setting `beta`.
pub const MAX_NUMBER: f64 = 1_000_000.0;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Largest first, the order in which `format_duration` tries them.
const DURATION_UNITS: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

/// Sizes: first the binary units, which are written too, then those that are only read; each largest first.
const BYTE_UNITS: [(&str, u64); 7] =
    [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("g", 1_000_000_000), ("m", 1_000_000), ("k", 1_000), ("b", 1)];

/// Why a text is not the quantity it should be. Its `Display` ends a sentence that begins with the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// Not written as a duration.
    NotDuration,
    /// A duration of more than [`MAX_DURATION_MS`].
    DurationTooLong,
    /// Not written as a fraction.
    NotFraction,
    /// A fraction above 1.
    FractionTooLarge,
    /// Not written as a number.
    NotNumber,
    /// A number above [`MAX_NUMBER`].
    NumberTooLarge,
    /// Not written as a size in bytes.
    NotBytes,
    /// A size that fits no signed 64-bit integer.
    BytesTooLarge,
    /// Not a signed 64-bit integer.
    NotInteger,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnitError::NotDuration => "is not a duration: say seconds (30, 0.5) or a unit (250ms, 30s, 5m, 2h, 7d)",
            UnitError::DurationTooLong => "is too long: a duration is at most 36500d",
            UnitError::NotFraction => "is not a fraction: say 0.1 or 10%",
            UnitError::FractionTooLarge => "is too large: a fraction is from 0 to 1, or 0% to 100%",
            UnitError::NotNumber => "is not a number: say 2 or 0.75",
            UnitError::NumberTooLarge => "is too large: a number is at most 1000000",
            UnitError::NotBytes => "is not a size: say bytes (100) or a unit (64kb, 512mb, 1gb)",
            UnitError::BytesTooLarge => "is too large for a size in bytes",
            UnitError::NotInteger => "is not an integer or out of range",
        })
    }
}

/// A duration in milliseconds, rounded to the nearest; more than 0 is never rounded to 0.
pub fn parse_duration(text: &[u8]) -> Result<u64, UnitError> {
    // The fast path: whole seconds, the usual case.
    if (1..=9).contains(&text.len()) && text.iter().all(u8::is_ascii_digit) {
        return Ok(text.iter().fold(0, |seconds, digit| seconds * 10 + u64::from(digit - b'0')) * SECOND);
    }
    let decimal = Decimal::split(text).ok_or(UnitError::NotDuration)?;
    let unit_ms = match decimal.rest {
        b"" => SECOND,
        unit => unit_named(&DURATION_UNITS, unit).ok_or(UnitError::NotDuration)?,
    };
    decimal.times(unit_ms).filter(|&ms| ms <= MAX_DURATION_MS).ok_or(UnitError::DurationTooLong)
}

/// A fraction: `0.1` or `10%`.
pub fn parse_fraction(text: &[u8]) -> Result<f64, UnitError> {
    let decimal = Decimal::split(text).ok_or(UnitError::NotFraction)?;
    let fraction = match decimal.rest {
        b"" => decimal.to_f64(0),
        b"%" => decimal.to_f64(-2),
        _ => return Err(UnitError::NotFraction),
    };
    if fraction <= 1.0 { Ok(fraction) } else { Err(UnitError::FractionTooLarge) }
}

/// A number from 0 to [`MAX_NUMBER`].
pub fn parse_number(text: &[u8]) -> Result<f64, UnitError> {
    let decimal = Decimal::split(text).filter(|decimal| decimal.rest.is_empty()).ok_or(UnitError::NotNumber)?;
    let number = decimal.to_f64(0);
    if number <= MAX_NUMBER { Ok(number) } else { Err(UnitError::NumberTooLarge) }
}

/// A size in bytes, as the server reads its own: whole numbers, with the units of `redis.conf`.
pub fn parse_bytes(text: &[u8]) -> Result<u64, UnitError> {
    let decimal = Decimal::split(text).filter(|decimal| decimal.fraction.is_empty()).ok_or(UnitError::NotBytes)?;
    let unit = match decimal.rest {
        b"" => 1,
        unit => unit_named(&BYTE_UNITS, unit).ok_or(UnitError::NotBytes)?,
    };
    decimal.times(unit).filter(|&bytes| bytes <= i64::MAX as u64).ok_or(UnitError::BytesTooLarge)
}

/// A part of the server's memory: a fraction of it, or bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// A fraction of `maxmemory`.
    Fraction(f64),
    /// So many bytes.
    Bytes(u64),
}

impl Default for Share {
    fn default() -> Self {
        Share::Bytes(0)
    }
}

impl Share {
    /// In bytes, with this `maxmemory` (0: no limit); `None` when there is no limit.
    pub fn of(self, memory: u64) -> Option<u64> {
        let bytes = match self {
            Share::Fraction(fraction) => (memory as f64 * fraction) as u64,
            Share::Bytes(bytes) => bytes,
        };
        (bytes > 0).then_some(bytes)
    }
}

/// A fraction with `%` or a point (`10%`, `0.1`), or a size in bytes.
pub fn parse_share(text: &[u8]) -> Result<Share, UnitError> {
    match text.iter().any(|byte| matches!(byte, b'%' | b'.')) {
        true => parse_fraction(text).map(|part| if part > 0.0 { Share::Fraction(part) } else { Share::Bytes(0) }),
        false => parse_bytes(text).map(Share::Bytes),
    }
}

/// As [`parse_share`] reads it.
pub fn format_share(share: Share) -> String {
    match share {
        Share::Fraction(fraction) => format_fraction(fraction),
        Share::Bytes(bytes) => format_bytes(bytes),
    }
}

/// A signed integer, as strict as the server's own commands: no `+`, no leading zero, no `-0`, no white space.
pub fn parse_int(text: &[u8]) -> Result<i64, UnitError> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let text = str::from_utf8(text).ok().filter(|_| canonical);
    text.and_then(|text| text.parse().ok()).ok_or(UnitError::NotInteger)
}

/// The shortest exact text with a unit: `1h`, `90s`, `250ms`; `0` for 0.
pub fn format_duration(ms: u64) -> String {
    if ms == 0 {
        return "0".into();
    }
    let (name, unit) = largest_divisor(&DURATION_UNITS, ms);
    format!("{}{name}", ms / unit)
}

/// The duration in seconds without a unit: `3600`, `0.25`. What `CONFIG GET` shows, as for the server's own times.
pub fn format_seconds(ms: u64) -> String {
    let (seconds, rest) = (ms / SECOND, ms % SECOND);
    if rest == 0 {
        return seconds.to_string();
    }
    format!("{seconds}.{rest:03}").trim_end_matches('0').into()
}

/// A percentage where that is exact (`20%`), else the decimal that parses back; `0` for 0.
pub fn format_fraction(fraction: f64) -> String {
    if fraction == 0.0 {
        return "0".into();
    }
    let percent = format!("{:.6}", fraction * 100.0);
    let percent = format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'));
    if parse_fraction(percent.as_bytes()) == Ok(fraction) { percent } else { format_number(fraction) }
}

/// The shortest decimal that parses back: `2`, `0.75`.
pub fn format_number(number: f64) -> String {
    // Display of f64 is the shortest text that reads as the same number, and never has an exponent.
    number.to_string()
}

/// The size with the largest binary unit that leaves it whole: `64kb`, `100`.
pub fn format_bytes(bytes: u64) -> String {
    if bytes == 0 {
        return "0".into();
    }
    match largest_divisor(&BYTE_UNITS[..3], bytes) {
        (_, 1) => bytes.to_string(),
        (name, unit) => format!("{}{name}", bytes / unit),
    }
}

/// The bytes for an error message: in quotes, shortened, and without anything that could break a reply's line.
pub fn quote(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    format!("'{shown}{}'", if bytes.len() > SHOWN { "..." } else { "" })
}

fn unit_named(units: &[(&str, u64)], name: &[u8]) -> Option<u64> {
    units.iter().find(|(unit, _)| unit.as_bytes().eq_ignore_ascii_case(name)).map(|&(_, size)| size)
}

fn largest_divisor<'a>(units: &[(&'a str, u64)], amount: u64) -> (&'a str, u64) {
    units.iter().copied().find(|(_, unit)| amount.is_multiple_of(*unit)).unwrap_or(("", 1))
}

/// A decimal in its parts: `12` `.5` `ms`.
struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// The decimal at the start of `text`; `None` when there is none, or a point without digits on both sides.
    fn split(text: &'a [u8]) -> Option<Self> {
        let digits = |text: &'a [u8]| text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
        let (whole, rest) = digits(text);
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(after) => digits(after),
            None => (&b""[..], rest),
        };
        let pointed = whole.len() + fraction.len() + rest.len() < text.len();
        (!whole.is_empty() && pointed != fraction.is_empty()).then_some(Self { whole, fraction, rest })
    }

    /// The decimal times `unit`, to the nearest whole number, halves up; at least 1 when it is more than 0. `None`
    /// on overflow. Done in integers, because 0.29 × 1000 in floating point is not 290.
    fn times(&self, unit: u64) -> Option<u64> {
        // Digits beyond the 18th are less than a nanosecond a century: they only matter if all others are 0.
        const PLACES: usize = 18;
        let unit = u128::from(unit);
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_u128, |sum, digit| sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')))
        };
        let kept = &self.fraction[..self.fraction.len().min(PLACES)];
        let scale = 10_u128.pow(kept.len() as u32);
        let whole = number(self.whole)?.checked_mul(unit)?;
        let amount = whole.checked_add((number(kept)? * unit + scale / 2) / scale)?;
        let something = self.whole.iter().chain(self.fraction).any(|&digit| digit != b'0');
        u64::try_from(amount.max(u128::from(something))).ok()
    }

    /// The decimal times ten to the `exponent`, as the nearest floating-point number.
    fn to_f64(&self, exponent: i32) -> f64 {
        let ascii = |digits| str::from_utf8(digits).expect("split() left only digits here");
        let text = format!("{}.{}e{exponent}", ascii(self.whole), ascii(self.fraction));
        text.parse().expect("digits, a point and an exponent are a number")
    }
}

/// The longest duration that an option may ask for, and the setting that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// So many milliseconds.
    pub ms: u64,
    /// The setting, without `smartcache.`.
    pub setting: &'static str,
}

impl Limit {
    /// No limit but that of durations.
    pub const NONE: Limit = Limit { ms: MAX_DURATION_MS, setting: "" };

    /// Why a duration is refused, as the end of a sentence; `None` when it is not.
    pub fn refusal(self, ms: u64) -> Option<String> {
        let Limit { ms: most, setting } = self;
        (ms > most).then(|| format!("is too long: at most {} (smartcache.{setting})", format_duration(most)))
    }
}

#[cfg(test)]
mod tests;
