//! Replies as text.

use super::server_commands::Replied;
use crate::cache::Reply;
use crate::cache::ports::NativeReply;
use std::fmt::Write;

/// Answers as one line of text: `[1, "two", (nil)]`, `{"name": 3}`.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    items: Vec<Item>,
    /// Lines of help, the one kind of text beside `OK` that is sent as simple strings.
    pub(super) help: bool,
}

#[derive(Debug)]
enum Item {
    Leaf(String),
    Array(usize),
    Map(usize),
}

impl Transcript {
    pub(super) fn text(self) -> String {
        let mut items = self.items.into_iter();
        let mut out = String::new();
        Self::write(&mut items, &mut out);
        assert!(items.next().is_none(), "one answer, one element: {out}");
        out
    }

    fn write(items: &mut impl Iterator<Item = Item>, out: &mut String) {
        let (open, close, len, pairs) = match items.next().expect("a container's elements follow it") {
            Item::Leaf(text) => return out.push_str(&text),
            Item::Array(len) => ('[', ']', len, false),
            Item::Map(len) => ('{', '}', len, true),
        };
        out.push(open);
        for at in 0..len {
            if at > 0 {
                out.push_str(", ");
            }
            Self::write(items, out);
            if pairs {
                out.push_str(": ");
                Self::write(items, out);
            }
        }
        out.push(close);
    }

    fn leaf(&mut self, text: String) {
        self.items.push(Item::Leaf(text));
    }
}

impl Reply for Transcript {
    fn native(&mut self, reply: &dyn NativeReply) {
        match reply.as_any().downcast_ref::<Replied>().expect("a test's commands reply so") {
            Replied::Ok => self.leaf("OK".into()),
            Replied::Nil => self.nil(),
            Replied::Int(n) => self.int(*n),
            Replied::Text(text) => self.bulk(text),
            Replied::Error(text) => self.leaf(text.clone()),
        }
    }
    fn simple(&mut self, text: &str) {
        assert!(text == "OK" || self.help, "clients take a simple string for success, or for a table: {text}");
        self.leaf(text.into());
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.leaf(format!("\"{}\"", bytes.escape_ascii()));
    }
    fn nil(&mut self) {
        self.leaf("(nil)".into());
    }
    fn int(&mut self, n: i64) {
        self.leaf(n.to_string());
    }
    fn double(&mut self, x: f64) {
        let mut text = String::new();
        let _ = write!(text, "{x}");
        self.leaf(text);
    }
    fn array(&mut self, len: usize) {
        self.items.push(Item::Array(len));
    }
    fn map(&mut self, len: usize) {
        self.items.push(Item::Map(len));
    }
}

/// The token in an answer of `GETLOCK`.
pub fn token_of(answer: &str) -> Option<&str> {
    let token = answer.rsplit(", ").nth(2)?.strip_prefix('"')?.strip_suffix('"')?;
    (token.len() == crate::cache::lease::token::LEN).then_some(token)
}

/// An answer of `GETLOCK` with `T` for its token.
pub fn masked(answer: &str) -> String {
    token_of(answer).map_or_else(|| answer.into(), |token| answer.replace(token, "T"))
}

/// The value of a field in a map as answers show it. (No value holds `, "` or `]` but the tags.)
pub fn field_of(map: &str, field: &str) -> String {
    let Some((_, rest)) = map.split_once(&format!("\"{field}\": ")) else { return String::new() };
    let end = match rest.strip_prefix('[') {
        Some(list) => list.find(']').map(|at| at + 2),
        None => rest.find(", \"").or_else(|| rest.find('}')),
    };
    rest[..end.unwrap_or(rest.len())].to_owned()
}
