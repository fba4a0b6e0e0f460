//! Patterns over keys, exactly as the server's `KEYS` reads them, but compiled once and in bounded time.
//!
//! ```text
//! *       any bytes, also none          [a-c]   one byte of these, ranges may be reversed
//! ?       any one byte                  [^a]    one byte, none of these
//! \x      the byte x itself             else    the byte itself
//! ```
//!
//! Matching is byte by byte and case-sensitive. The server's quirks are kept, because people test patterns with `KEYS`:
//! - a class that is not closed ends with the pattern, and `]` as a range's end does not close it (`[a-]` is open);
//! - `[]` matches nothing and `[^]` any byte; a `\` at the very end is a backslash;
//! - the empty key is matched by the empty pattern and by `*`, but not by `**`.
//!
//! One difference: a range over bytes above 0x7f is a range of unsigned bytes. The server compares C's `char`, which is
//! signed on some processors.
//!
//! # How matching works
//!
//! The stars cut a pattern into segments. Every other element stands for exactly one byte, so each segment has a
//! fixed length:
//!
//! ```text
//! user : * : profile *        "user:"  ★  ":profile"  ★  ""
//!                              first       middle        last
//! ```
//!
//! The first segment must match at the start of the text and the last one at its end. Each middle one is put at the
//! *leftmost* match after the one before it. That loses nothing: if a later match leads to success, so does this one,
//! which leaves more room for the rest. So there is no backtracking, and the worst case is pattern length times text
//! length, for any input. (The textbook matcher with one choice a star takes exponential time for `*a*a*a*a*b`.)
//!
//! It also defines what a star matches: each takes as little as it can, from the left. The last one takes the rest.

use std::{fmt, ops::Range};

/// A compiled pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    pattern: Box<[u8]>,
    /// What stands between the stars: one segment more than there are stars, so never empty.
    segments: Box<[Segment]>,
    /// The length of all segments together: no shorter text can match.
    min_len: usize,
    /// The pairs of bytes that a matching text must have.
    needs: Prefilter,
}

impl Glob {
    /// The bytes that it points to, without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(bytes) => bytes.len(),
            Segment::Mixed(atoms) => {
                let classes = atoms.iter().filter(|atom| matches!(atom, Atom::Class(_))).count();
                atoms.len() * size_of::<Atom>() + classes * size_of::<Class>()
            }
        };
        let segments: usize = self.segments.iter().map(segment).sum();
        self.pattern.len() + segments + self.segments.len() * size_of::<Segment>()
    }

    /// Compiles a pattern. Every sequence of bytes is one.
    pub fn new(pattern: &[u8]) -> Self {
        let mut segments = vec![Vec::new()];
        let mut rest = pattern;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            let atom = match byte {
                b'*' => {
                    // Stars in a row are one star.
                    rest = &rest[rest.iter().take_while(|&&byte| byte == b'*').count()..];
                    segments.push(Vec::new());
                    continue;
                }
                b'?' => Atom::Any,
                b'[' => {
                    let (class, after) = Class::parse(rest);
                    rest = after;
                    Atom::Class(Box::new(class))
                }
                b'\\' => match rest.split_first() {
                    Some((&escaped, after)) => {
                        rest = after;
                        Atom::Byte(escaped)
                    }
                    None => Atom::Byte(b'\\'),
                },
                byte => Atom::Byte(byte),
            };
            segments.last_mut().expect("segments starts with one and only grows").push(atom);
        }

        let segments: Box<[Segment]> = segments.into_iter().map(Segment::new).collect();
        let mut needs = Prefilter::NOTHING;
        segments.iter().for_each(|segment| segment.add_needs(&mut needs));
        Self { pattern: pattern.into(), min_len: segments.iter().map(Segment::len).sum(), needs, segments }
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// How many stars there are; several in a row count as one.
    pub fn stars(&self) -> usize {
        self.segments.len() - 1
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.place(text, |_| {})
    }

    /// What the prefilter of every matching text has, to be compared first where many patterns are tried on one text.
    pub fn needs(&self) -> Prefilter {
        self.needs
    }

    /// What the `star`-th star matches (the first is 1): each takes as little as it can, from the left, and the last
    /// takes the rest. `None` when the text does not match or there is no such star.
    pub fn captures<'t>(&self, text: &'t [u8], star: usize) -> Option<&'t [u8]> {
        let mut seen = 0;
        let mut captured = None;
        let matched = self.place(text, |range| {
            seen += 1;
            if seen == star {
                captured = Some(range);
            }
        });
        captured.filter(|_| matched).map(|range| &text[range])
    }

    /// Places the segments, and passes the range of each star to `on_star`. False, perhaps after some stars, when not
    /// all segments match.
    fn place(&self, text: &[u8], mut on_star: impl FnMut(Range<usize>)) -> bool {
        if text.len() < self.min_len || (text.is_empty() && !matches!(&self.pattern[..], b"" | b"*")) {
            return false;
        }
        let [first, middle @ .., last] = &self.segments[..] else {
            let [only] = &self.segments[..] else { unreachable!("there is always a segment") };
            return text.len() == only.len() && only.fits(text);
        };
        // They do not overlap: min_len counts both.
        let end = text.len() - last.len();
        if !first.fits(text) || !last.fits(&text[end..]) {
            return false;
        }
        let mut at = first.len();
        for segment in middle {
            let Some(offset) = segment.find(&text[at..end]) else { return false };
            on_star(at..at + offset);
            at += offset + segment.len();
        }
        on_star(at..end);
        true
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({})", self.pattern.escape_ascii())
    }
}

/// What stands between two stars.
#[derive(Clone, PartialEq, Eq)]
enum Segment {
    /// Bytes only: the usual case, and the fast one.
    Literal(Box<[u8]>),
    /// Anything else.
    Mixed(Box<[Atom]>),
}

impl Segment {
    fn new(atoms: Vec<Atom>) -> Self {
        let literal = atoms.iter().map(|atom| if let Atom::Byte(byte) = atom { Some(*byte) } else { None }).collect();
        match literal {
            Some(bytes) => Segment::Literal(bytes),
            None => Segment::Mixed(atoms.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Segment::Literal(bytes) => bytes.len(),
            Segment::Mixed(atoms) => atoms.len(),
        }
    }

    /// Whether the segment matches at the start of `text`.
    fn fits(&self, text: &[u8]) -> bool {
        match self {
            Segment::Literal(bytes) => {
                steps::count(bytes.len());
                // Byte by byte: most differ in the first one, so a call of memcmp costs more (measured, a key against
                // 20 suffixes: 28 ns instead of 520).
                bytes.len() <= text.len() && bytes.iter().zip(text).all(|(wanted, byte)| wanted == byte)
            }
            Segment::Mixed(atoms) => {
                steps::count(atoms.len());
                atoms.len() <= text.len() && atoms.iter().zip(text).all(|(atom, &byte)| atom.fits(byte))
            }
        }
    }

    /// The leftmost position in `text` where the segment matches.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let places = (text.len() + 1).checked_sub(self.len())?;
        (0..places).find(|&at| self.fits(&text[at..]))
    }

    fn add_needs(&self, needs: &mut Prefilter) {
        match self {
            Segment::Literal(bytes) => bytes.windows(2).for_each(|pair| needs.add(pair[0], pair[1])),
            Segment::Mixed(atoms) => atoms.windows(2).for_each(|pair| {
                if let [Atom::Byte(a), Atom::Byte(b)] = pair {
                    needs.add(*a, *b);
                }
            }),
        }
    }
}

/// What stands for exactly one byte.
#[derive(Clone, PartialEq, Eq)]
enum Atom {
    Byte(u8),
    Any,
    Class(Box<Class>),
}

impl Atom {
    fn fits(&self, byte: u8) -> bool {
        match self {
            Atom::Byte(wanted) => *wanted == byte,
            Atom::Any => true,
            Atom::Class(class) => class.has(byte),
        }
    }
}

/// A set of bytes, one bit each.
#[derive(Clone, PartialEq, Eq)]
struct Class([u64; 4]);

impl Class {
    /// The class whose `[` was just read, and what follows it.
    fn parse(pattern: &[u8]) -> (Self, &[u8]) {
        let (negated, mut rest) = match pattern {
            [b'^', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut class = Class([0; 4]);
        loop {
            // The order is the server's and causes its quirks: an escape before `]`, and `]` before a range.
            rest = match rest {
                [b'\\', escaped, rest @ ..] => {
                    class.add(*escaped..=*escaped);
                    rest
                }
                [] => break,
                [b']', after @ ..] => {
                    rest = after;
                    break;
                }
                [from, b'-', to, rest @ ..] => {
                    class.add(*from.min(to)..=*from.max(to));
                    rest
                }
                [byte, rest @ ..] => {
                    class.add(*byte..=*byte);
                    rest
                }
            };
        }
        if negated {
            class.0.iter_mut().for_each(|bits| *bits = !*bits);
        }
        (class, rest)
    }

    fn add(&mut self, bytes: std::ops::RangeInclusive<u8>) {
        for byte in bytes {
            self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }
}

/// The pairs of neighbouring bytes of a text, as 64 bits: one comparison rules out most patterns.
///
/// Each pair sets one bit, so a text that a pattern matches has all bits of the pattern's own pairs. The converse does
/// not hold, because several pairs share a bit: the prefilter only ever rules out. It is computed once per key and
/// saves searching the key for each of many patterns such as `*:profile:*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefilter(u64);

impl Prefilter {
    const NOTHING: Prefilter = Prefilter(0);

    /// Longer texts have nearly every bit set and are not worth computing.
    const LONGEST: usize = 192;

    /// The prefilter of a text.
    pub fn of(text: &[u8]) -> Self {
        if text.len() > Self::LONGEST {
            return Prefilter(u64::MAX);
        }
        let mut prefilter = Prefilter::NOTHING;
        text.windows(2).for_each(|pair| prefilter.add(pair[0], pair[1]));
        prefilter
    }

    fn add(&mut self, a: u8, b: u8) {
        // The top six bits of a product with an odd constant, so that every bit of both bytes counts.
        self.0 |= 1 << (u16::from_le_bytes([a, b]).wrapping_mul(0x9e37) >> 10);
    }

    /// Whether a pattern with these needs may match the text. False is certain.
    pub fn has(self, needs: Prefilter) -> bool {
        needs.0 & !self.0 == 0
    }
}

/// Counts comparisons, so that a test can check the bound. Empty outside tests.
mod steps {
    #[cfg(test)]
    std::thread_local! {
        pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[cfg(test)]
    pub(super) fn count(steps: usize) {
        STEPS.set(STEPS.get() + steps);
    }

    #[cfg(not(test))]
    #[inline(always)]
    pub(super) fn count(_: usize) {}
}

/// A matcher that is obviously right and exponentially slow, to test the fast one against.
#[cfg(test)]
pub(crate) mod oracle {
    /// Whether `KEYS pattern` lists `text`.
    pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
        if text.is_empty() {
            return pattern.is_empty() || pattern == b"*";
        }
        rest_matches(pattern, text)
    }

    fn rest_matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| rest_matches(rest, &text[taken..])),
            (_, []) => false,
            ([b'?', rest @ ..], [_, text @ ..]) => rest_matches(rest, text),
            ([b'[', b'^', class @ ..], [byte, text @ ..]) => {
                let (has, rest) = in_class(class, *byte);
                !has && rest_matches(rest, text)
            }
            ([b'[', class @ ..], [byte, text @ ..]) => {
                let (has, rest) = in_class(class, *byte);
                has && rest_matches(rest, text)
            }
            ([b'\\', escaped, rest @ ..], [byte, text @ ..]) => escaped == byte && rest_matches(rest, text),
            ([wanted, rest @ ..], [byte, text @ ..]) => wanted == byte && rest_matches(rest, text),
        }
    }

    fn in_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
        let (here, rest) = match class {
            [] => return (false, class),
            [b'\\', escaped, rest @ ..] => (*escaped == byte, rest),
            [b']', rest @ ..] => return (false, rest),
            [from, b'-', to, rest @ ..] => ((*from.min(to)..=*from.max(to)).contains(&byte), rest),
            [wanted, rest @ ..] => (*wanted == byte, rest),
        };
        let (later, rest) = in_class(rest, byte);
        (here || later, rest)
    }
}

#[cfg(test)]
mod tests;
