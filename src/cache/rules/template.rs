//! Makes tags from keys: `user:{1}` with the pattern `user:*:profile` gives `user:42:profile` the tag `user:42`.
//!
//! `{n}` is what the n-th star of the pattern matched (see [`Glob::captures`]). `{{` is a brace; `}` needs no doubling.

use crate::cache::{glob::Glob, units};

/// The longest template, in bytes; also the longest tag.
pub const MAX_TAG_LEN: usize = 255;

/// A rule's `TAG`, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    text: Box<[u8]>,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(Box<[u8]>),
    Star(usize),
}

impl Template {
    /// Reads a template. The error ends a sentence that begins with the template.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_TAG_LEN {
            return Err(format!("must have 1 to {MAX_TAG_LEN} bytes"));
        }
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'{' {
                literal.push(byte);
            } else if let Some(after) = rest.strip_prefix(b"{") {
                rest = after;
                literal.push(b'{');
            } else {
                let (star, after) = Self::star(rest).ok_or("has a brace that is neither {1}, {2} and so on nor {{")?;
                rest = after;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Star(star));
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// The `1}` of `{1}`, and what comes after it.
    fn star(text: &[u8]) -> Option<(usize, &[u8])> {
        let end = text.iter().position(|&byte| byte == b'}')?;
        let star = usize::try_from(units::parse_int(&text[..end]).ok()?).ok()?;
        (star > 0).then_some((star, &text[end + 1..]))
    }

    /// The template as it was written.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The highest star it uses; 0 for none.
    pub(super) fn stars(&self) -> usize {
        self.parts.iter().map(|part| if let Part::Star(star) = part { *star } else { 0 }).max().unwrap_or(0)
    }

    /// The tag for a key that `glob` matches; `None` when it would be empty or too long.
    pub(super) fn tag(&self, glob: &Glob, key: &[u8]) -> Option<Vec<u8>> {
        let mut tag = Vec::new();
        for part in &self.parts {
            tag.extend_from_slice(match part {
                Part::Literal(bytes) => bytes,
                Part::Star(star) => glob.captures(key, *star)?,
            });
        }
        (1..=MAX_TAG_LEN).contains(&tag.len()).then_some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(template: &str, pattern: &str, key: &str) -> Option<String> {
        let template = Template::parse(template.as_bytes()).unwrap();
        template.tag(&Glob::new(pattern.as_bytes()), key.as_bytes()).map(|tag| String::from_utf8(tag).unwrap())
    }

    #[test]
    fn a_template_is_filled_with_what_the_stars_match() {
        assert_eq!(tag("user:{1}", "user:*:profile", "user:42:profile").unwrap(), "user:42");
        assert_eq!(tag("{2}/{1}/{2}", "*:*", "a:b").unwrap(), "b/a/b");
        assert_eq!(tag("all", "user:*", "user:1").unwrap(), "all");
        assert_eq!(tag("{{{1}}", "*", "x").unwrap(), "{x}");
    }

    #[test]
    fn a_tag_that_would_be_empty_or_too_long_is_not_made() {
        assert_eq!(tag("{1}", "user:*", "user:"), None);
        assert_eq!(tag("u{1}", "*", &"x".repeat(254)).unwrap().len(), 255);
        assert_eq!(tag("u{1}", "*", &"x".repeat(255)), None);
    }

    #[test]
    fn a_brace_that_is_no_star_is_refused() {
        for text in ["{", "{}", "{0}", "{-1}", "{x}", "{1", "a{ 1}", "{01}", "{99999999999999999999}", ""] {
            assert!(Template::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Template::parse(&[b'x'; 256]).is_err());
    }
}
