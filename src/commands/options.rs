//! The options that the storing commands share: lifetime, windows, condition, tags, codec, provenance.

use super::args::{Args, Zero, is, once};
use super::spec::{Arg, Kind};
use crate::cache::codec::Choice;
use crate::cache::entry::MAX_TAGS;
use crate::cache::error::Error;
use crate::cache::invalidation::tags::MAX_TAG_LEN;
use crate::cache::lease::fill::Provenance;
use crate::cache::node::store::{Condition, Options};
use crate::cache::rules::Lifetime;

/// `TTL d | EX s | PX ms | EXAT s | PXAT ms | PERSIST`
pub(super) const LIFETIME: Arg = Arg::one_of(
    "lifetime",
    &[
        Arg::option("duration", "TTL", Kind::Duration).required(),
        Arg::option("seconds", "EX", Kind::Integer).required(),
        Arg::option("milliseconds", "PX", Kind::Integer).required(),
        Arg::option("unix-time-seconds", "EXAT", Kind::Integer).required(),
        Arg::option("unix-time-milliseconds", "PXAT", Kind::Integer).required(),
        Arg::flag("persist", "PERSIST").required(),
    ],
);
/// `SWR d`
pub(super) const SWR: Arg = Arg::option("swr", "SWR", Kind::Duration);
/// `SIE d`
pub(super) const SIE: Arg = Arg::option("sie", "SIE", Kind::Duration);
/// `NX | XX`
pub(super) const CONDITION: Arg =
    Arg::one_of("condition", &[Arg::flag("nx", "NX").required(), Arg::flag("xx", "XX").required()]);
/// `TAGS n tag …`
pub(super) const TAGS: Arg = Arg {
    token: Some("TAGS"),
    optional: true,
    ..Arg::block("tags", &[Arg::new("numtags", Kind::Integer), Arg::new("tag", Kind::Text).repeated()])
};
/// `CODEC name`
pub(super) const CODEC: Arg = Arg::option("codec", "CODEC", Kind::Text);

/// `TOKEN t | SINCE stamp`
pub(super) const PROVENANCE: Arg = Arg::one_of(
    "provenance",
    &[Arg::option("token", "TOKEN", Kind::Text).required(), Arg::option("stamp", "SINCE", Kind::Text).required()],
);
/// `SINCE stamp`
pub(super) const SINCE: Arg = Arg::option("stamp", "SINCE", Kind::Text);

/// Which of the options a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// The lifetime alone.
    Lifetime,
    /// Lifetime, tags and provenance.
    Absence,
    /// All of them.
    Value,
    /// All but `TOKEN`, which is for one key.
    Values,
}

/// The options read so far, each at most once.
#[derive(Debug, Default)]
struct Reading<'w> {
    lifetime: Option<Lifetime>,
    swr: Option<u64>,
    sie: Option<u64>,
    condition: Option<Condition>,
    tags: Option<smallvec::SmallVec<[&'w [u8]; 8]>>,
    codec: Option<Choice>,
    provenance: Option<Provenance<'w>>,
}

/// Reads options up to the end of the command.
pub(super) fn parse<'w>(args: &mut Args<'w>, takes: Takes) -> Result<Options<'w>, Error> {
    let mut read = Reading::default();
    while let Some(word) = args.option() {
        if let Some(lifetime) = lifetime(args, word)? {
            once(&mut read.lifetime, lifetime, word)?;
        } else if takes != Takes::Lifetime && is(word, "TAGS") {
            once(&mut read.tags, tags(args, word)?, word)?;
        } else if takes != Takes::Lifetime && is(word, "SINCE") {
            once(&mut read.provenance, Provenance::Since(args.value_of(word)?), word)?;
        } else if matches!(takes, Takes::Absence | Takes::Value) && is(word, "TOKEN") && read.condition.is_none() {
            once(&mut read.provenance, Provenance::Token(args.value_of(word)?), word)?;
        } else if !matches!(takes, Takes::Value | Takes::Values) {
            return Err(Error::syntax(word));
        } else if is(word, "SWR") {
            once(&mut read.swr, args.duration("SWR", word, Zero::Allowed)?, word)?;
        } else if is(word, "SIE") {
            once(&mut read.sie, args.duration("SIE", word, Zero::Allowed)?, word)?;
        } else if matches!(read.provenance, Some(Provenance::Token(_))) && (is(word, "NX") || is(word, "XX")) {
            return Err(Error::syntax(word)); // TOKEN is a condition of its own
        } else if is(word, "NX") {
            once(&mut read.condition, Condition::NothingFresh, word)?;
        } else if is(word, "XX") {
            once(&mut read.condition, Condition::SomethingThere, word)?;
        } else if is(word, "CODEC") {
            once(&mut read.codec, codec(args, word)?, word)?;
        } else {
            return Err(Error::syntax(word));
        }
    }
    Ok(Options {
        lifetime: read.lifetime.unwrap_or(Lifetime::Default),
        swr: read.swr,
        sie: read.sie,
        condition: read.condition,
        tags: read.tags.unwrap_or_default(),
        codec: read.codec,
        provenance: read.provenance,
    })
}

/// The lifetime, if `word` is an option for one.
fn lifetime(args: &mut Args<'_>, word: &[u8]) -> Result<Option<Lifetime>, Error> {
    // As far as the server's own options reach. What is later than an entry can hold becomes the latest it can.
    const MAX_MS: u64 = i64::MAX as u64;
    const MAX_SECONDS: u64 = MAX_MS / 1_000;
    Ok(Some(if is(word, "TTL") {
        Lifetime::Base(args.duration("TTL", word, Zero::Refused)?)
    } else if is(word, "EX") {
        Lifetime::In(args.positive("EX", word, MAX_SECONDS)? * 1_000)
    } else if is(word, "PX") {
        Lifetime::In(args.positive("PX", word, MAX_MS)?)
    } else if is(word, "EXAT") {
        Lifetime::At(args.positive("EXAT", word, MAX_SECONDS)? * 1_000)
    } else if is(word, "PXAT") {
        Lifetime::At(args.positive("PXAT", word, MAX_MS)?)
    } else if is(word, "PERSIST") {
        Lifetime::Forever
    } else {
        return Ok(None);
    }))
}

/// The tags, without duplicates.
fn tags<'w>(args: &mut Args<'w>, word: &[u8]) -> Result<smallvec::SmallVec<[&'w [u8]; 8]>, Error> {
    let mut tags = smallvec::SmallVec::new();
    for tag in args.counted("TAGS", word, MAX_TAGS as u64)? {
        check_tag(tag)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// An error unless `tag` has the length of a tag.
pub(super) fn check_tag(tag: &[u8]) -> Result<(), Error> {
    if tag.is_empty() || tag.len() > MAX_TAG_LEN {
        return Err(Error::invalid("tag", tag, format_args!("a tag has 1 to {MAX_TAG_LEN} bytes")));
    }
    Ok(())
}

fn codec(args: &mut Args<'_>, word: &[u8]) -> Result<Choice, Error> {
    let name = args.value_of(word)?;
    Choice::parse(name).ok_or_else(|| Error::invalid("CODEC", name, format_args!("one of {} is wanted", Choice::WORDS)))
}
