//! Invalidations, and how marks travel to replicas and into files: as the arguments of `SMARTCACHE.MARK`.
//!
//! ```text
//!  stamp  time  guard  HARD │ SOFT  ramp  TAGS │ PREFIXES │ PATTERNS │ ALL  names …    an invalidation
//!  stamp  0     0      UNGUARD      0     TAGS │ PREFIXES │ PATTERNS │ ALL  names …    guards are taken back
//!  stamp  0     0      SWEPT        0     ALL                                          a sweep has ended
//!  stamp  0     0      DROP         0     PREFIXES │ PATTERNS                          forget marks now
//!  stamp  0     0      FORGET       0     PREFIXES                                     both of them, in old files
//!  stamp  0     0      FORGET       0     ALL                                          forget everything now
//!  stamp  0     0      FORGOT       0     TAGS │ PREFIXES                              marks were forgotten
//! ```
//!
//! Numbers are decimal text: time in milliseconds of Unix time, guard (what is left of it) and ramp in milliseconds.

use smallvec::SmallVec;

use crate::cache::clock::Stamp;
use crate::cache::error::Error;
use crate::cache::invalidation::mark::Hardness;
use crate::cache::invalidation::selector::Selector;
use crate::cache::invalidation::tags::MAX_TAG_LEN;
use crate::cache::units;

/// An invalidation, of a client or of the primary.
#[derive(Clone, Debug)]
pub struct Invalidation<'w> {
    /// Which entries it ends.
    pub selector: Selector<'w>,
    /// When it happened, in the order of events.
    pub stamp: Stamp,
    /// The same in milliseconds of Unix time.
    pub at_ms: u64,
    /// Whether it makes entries dead or stale.
    pub hardness: Hardness,
    /// The length of the guard; 0 without one.
    pub guard_ms: u64,
}

/// What an invalidation did.
#[derive(Clone, Debug, Default)]
pub struct InvalidationOutcome {
    /// How many entries it hit, as far as that is known at once.
    pub hits: u64,
    /// The jobs of the sweep that free them.
    pub walks: Vec<u64>,
}

/// The content of a `SMARTCACHE.MARK`.
#[derive(Clone, Debug)]
pub enum MarkMessage<'w> {
    /// An invalidation.
    Invalidation(Invalidation<'w>),
    /// Guards of this selector, and of all that it covers, are taken back.
    TakeBackGuards {
        /// What they are of.
        selector: Selector<'w>,
        /// When it happened, in the order of events.
        stamp: Stamp,
    },
    /// A walk over all keys has ended, which began at this stamp.
    Swept(Stamp),
    /// Marks up to this stamp were forgotten earlier.
    Forgotten {
        /// The newest of them.
        stamp: Stamp,
        /// Marks of tags; else of prefixes and patterns.
        of_tags: bool,
    },
    /// Marks up to this stamp are to be forgotten now.
    Forget {
        /// The newest of them.
        stamp: Stamp,
        /// Which ones.
        of: Forget,
    },
    /// There are no entries: all marks are to be forgotten now, and that there were any. The newest had this stamp.
    ForgetAll(Stamp),
}

/// Which marks are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Those of prefixes.
    Prefixes,
    /// Those of patterns.
    Patterns,
    /// Those of both.
    Both,
}

/// The arguments of the `SMARTCACHE.MARK`, without its name.
pub fn encode(message: &MarkMessage<'_>) -> Vec<Vec<u8>> {
    let word = |text: &str| text.as_bytes().to_vec();
    let number = |n: u64| n.to_string().into_bytes();
    let bare = |stamp: &Stamp, kind: &str, names: &str| {
        vec![number(stamp.0), number(0), number(0), word(kind), number(0), word(names)]
    };
    match message {
        MarkMessage::Swept(stamp) => bare(stamp, "SWEPT", "ALL"),
        MarkMessage::Forget { stamp, of } => match of {
            Forget::Prefixes => bare(stamp, "DROP", "PREFIXES"),
            Forget::Patterns => bare(stamp, "DROP", "PATTERNS"),
            Forget::Both => bare(stamp, "FORGET", "PREFIXES"),
        },
        MarkMessage::ForgetAll(stamp) => bare(stamp, "FORGET", "ALL"),
        MarkMessage::Forgotten { stamp, of_tags } => bare(stamp, "FORGOT", if *of_tags { "TAGS" } else { "PREFIXES" }),
        MarkMessage::TakeBackGuards { selector, stamp } => {
            let (keyword, names) = selector.to_words();
            let words = bare(stamp, "UNGUARD", keyword);
            words.into_iter().chain(names.iter().map(|name| name.to_vec())).collect()
        }
        MarkMessage::Invalidation(Invalidation { selector, stamp, at_ms, hardness, guard_ms }) => {
            let (kind, over_ms) = match hardness {
                Hardness::Hard => ("HARD", 0),
                Hardness::Soft { over_ms } => ("SOFT", *over_ms),
            };
            let (keyword, names) = selector.to_words();
            let head = [number(stamp.0), number(*at_ms), number(*guard_ms), word(kind), number(over_ms), word(keyword)];
            head.into_iter().chain(names.iter().map(|name| name.to_vec())).collect()
        }
    }
}

/// Decodes the arguments. There are at least six.
///
/// # Errors
/// Names the argument that is invalid.
pub fn decode<'w>(words: &[&'w [u8]]) -> Result<MarkMessage<'w>, Error> {
    let number = |at: usize, what: &'static str| {
        let word = words.get(at).copied().unwrap_or_default();
        let n = units::parse_int(word).ok().and_then(|n| u64::try_from(n).ok());
        n.ok_or_else(|| Error::invalid(what, word, "a whole number is wanted"))
    };
    let (stamp, at_ms, guard_ms, over_ms) =
        (Stamp(number(0, "stamp")?), number(1, "time")?, number(2, "guard")?, number(4, "ramp")?);
    let (kind, selector) = (words[3], words.get(5).copied().unwrap_or_default());
    let names: SmallVec<[&[u8]; 8]> = words.get(6..).unwrap_or_default().iter().copied().collect();
    let empty = names.is_empty();
    if selector == b"TAGS"
        && let Some(tag) = names.iter().find(|tag| tag.is_empty() || tag.len() > MAX_TAG_LEN)
    {
        return Err(Error::invalid("tag", tag, format_args!("a tag has 1 to {MAX_TAG_LEN} bytes")));
    }
    let hardness = match kind {
        b"HARD" => Hardness::Hard,
        b"SOFT" => Hardness::Soft { over_ms },
        b"UNGUARD" => Hardness::Hard,
        b"SWEPT" if empty => return Ok(MarkMessage::Swept(stamp)),
        b"FORGET" if empty && selector == b"ALL" => return Ok(MarkMessage::ForgetAll(stamp)),
        b"FORGET" if empty => return Ok(MarkMessage::Forget { stamp, of: Forget::Both }),
        b"DROP" if empty && selector == b"PREFIXES" => {
            return Ok(MarkMessage::Forget { stamp, of: Forget::Prefixes });
        }
        b"DROP" if empty && selector == b"PATTERNS" => {
            return Ok(MarkMessage::Forget { stamp, of: Forget::Patterns });
        }
        b"FORGOT" if empty => return Ok(MarkMessage::Forgotten { stamp, of_tags: selector == b"TAGS" }),
        _ => return Err(Error::syntax(kind)),
    };
    let selector = match selector {
        b"TAGS" if !empty => Selector::Tags(names),
        b"PREFIXES" if !empty => Selector::Prefixes(names),
        b"PATTERNS" if !empty => Selector::Patterns(names),
        b"ALL" if empty => Selector::All,
        _ => return Err(Error::syntax(selector)),
    };
    if kind == b"UNGUARD" {
        return Ok(MarkMessage::TakeBackGuards { selector, stamp });
    }
    Ok(MarkMessage::Invalidation(Invalidation { selector, stamp, at_ms, hardness, guard_ms }))
}
