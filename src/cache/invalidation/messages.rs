//! What an invalidation does beside its marks: counts what it hits, tells replicas and client-side caches, frees leases,
//! asks for the sweep. And how marks are said to replicas and files: the words of `SMARTCACHE.MARK`.

use smallvec::SmallVec;

use crate::cache::clock::Stamp;
use crate::cache::error::Error;
use crate::cache::invalidation::mark::Hardness;
use crate::cache::invalidation::selector::Selector;
use crate::cache::invalidation::tags::MAX_TAG_LEN;
use crate::cache::units;

/// An invalidation, decided here or by our primary.
#[derive(Clone, Debug)]
pub struct Invalidation<'w> {
    /// What it names.
    pub selector: Selector<'w>,
    /// Its place in the order of things.
    pub stamp: Stamp,
    /// When it happened, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Dead, or stale.
    pub hardness: Hardness,
    /// For how long from now loads that begin are not trusted either.
    pub guard_ms: u64,
}

/// What came of an invalidation.
#[derive(Clone, Debug, Default)]
pub struct InvalidationOutcome {
    /// How many entries it has hit, as far as that is known now.
    pub hits: u64,
    /// The walks that free what it has hit.
    pub walks: Vec<u64>,
}

/// What a `SMARTCACHE.MARK` says.
#[derive(Clone, Debug)]
pub enum MarkMessage<'w> {
    /// An invalidation.
    Invalidation(Invalidation<'w>),
    /// A sweep that began at this stamp has been everywhere.
    Swept(Stamp),
    /// Marks up to this stamp were forgotten before: of names, or of tags.
    Forgot(Stamp, bool),
    /// Marks of names up to this stamp are forgotten now.
    Forget(Stamp),
}

/// The words of a `SMARTCACHE.MARK`, without its name.
pub fn encode(said: &MarkMessage<'_>) -> Vec<Vec<u8>> {
    let word = |text: &str| text.as_bytes().to_vec();
    let number = |n: u64| n.to_string().into_bytes();
    let bare = |stamp: &Stamp, kind: &str, names: &str| {
        vec![number(stamp.0), number(0), number(0), word(kind), number(0), word(names)]
    };
    match said {
        MarkMessage::Swept(stamp) => bare(stamp, "SWEPT", "ALL"),
        MarkMessage::Forget(stamp) => bare(stamp, "FORGET", "PREFIXES"),
        MarkMessage::Forgot(stamp, of_tags) => bare(stamp, "FORGOT", if *of_tags { "TAGS" } else { "PREFIXES" }),
        MarkMessage::Invalidation(Invalidation { selector, stamp, at_ms, hardness, guard_ms }) => {
            let (kind, over_ms) = match hardness {
                Hardness::Hard => ("HARD", 0),
                Hardness::Soft { over_ms } => ("SOFT", *over_ms),
            };
            let (word_of, names) = selector.words();
            let head = [number(stamp.0), number(*at_ms), number(*guard_ms), word(kind), number(over_ms), word(word_of)];
            head.into_iter().chain(names.iter().map(|name| name.to_vec())).collect()
        }
    }
}

/// Reads them.
///
/// # Errors
/// Names the word that cannot be right.
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
        b"SWEPT" if empty => return Ok(MarkMessage::Swept(stamp)),
        b"FORGET" if empty => return Ok(MarkMessage::Forget(stamp)),
        b"FORGOT" if empty => return Ok(MarkMessage::Forgot(stamp, selector == b"TAGS")),
        _ => return Err(Error::syntax(kind)),
    };
    let selector = match selector {
        b"TAGS" if !empty => Selector::Tags(names),
        b"PREFIXES" if !empty => Selector::Prefixes(names),
        b"PATTERNS" if !empty => Selector::Patterns(names),
        b"ALL" if empty => Selector::All,
        _ => return Err(Error::syntax(selector)),
    };
    Ok(MarkMessage::Invalidation(Invalidation { selector, stamp, at_ms, hardness, guard_ms }))
}
