//! Rust as tokens: enough to find imports, to count lines, and to leave out tests.

use std::collections::{BTreeSet, HashSet};

/// A word, a literal, or a sign. Of the signs only `::` is more than one character.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) last_line: usize,
    pub(super) is_name: bool,
}

/// The tokens of a text, and the lines that hold comments.
pub(super) struct Lexed {
    pub(super) tokens: Vec<Token>,
    pub(super) comment_lines: BTreeSet<usize>,
}

pub(super) fn lex(text: &str) -> Lexed {
    let chars: Vec<char> = text.chars().collect();
    let char_at = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut lexed = Lexed { tokens: Vec::new(), comment_lines: BTreeSet::new() };
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let start = at;
        let first_line = line;
        let mut is_name = false;
        match chars[at] {
            c if c.is_whitespace() => {
                line += usize::from(c == '\n');
                at += 1;
                continue;
            }
            '/' if char_at(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                lexed.comment_lines.insert(line);
                continue;
            }
            '/' if char_at(at + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (char_at(at), char_at(at + 1)) {
                        ('/', '*') => (depth, at) = (depth + 1, at + 2),
                        ('*', '/') => (depth, at) = (depth - 1, at + 2),
                        _ => at += 1,
                    }
                    if depth == 0 || at >= chars.len() {
                        break;
                    }
                }
                line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
                lexed.comment_lines.extend(first_line..=line);
                continue;
            }
            // A character, or a lifetime.
            '\'' if char_at(at + 1) == '\\' || char_at(at + 2) == '\'' => {
                at += if char_at(at + 1) == '\\' { 3 } else { 2 };
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' => {
                at += 1;
                while is_word(char_at(at)) {
                    at += 1;
                }
            }
            '"' => at = after_string(&chars, at),
            c if is_word(c) => {
                while is_word(char_at(at)) {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                if char_at(at) == '"' && ["b", "c"].contains(&word.as_str()) {
                    at = after_string(&chars, at);
                } else if char_at(at + hashes) == '"' && ["r", "br", "cr"].contains(&word.as_str()) {
                    at = after_raw_string(&chars, at + hashes + 1, hashes);
                } else if word == "b" && char_at(at) == '\'' {
                    at += if char_at(at + 1) == '\\' { 3 } else { 2 };
                    while at < chars.len() && chars[at] != '\'' {
                        at += 1;
                    }
                    at += 1;
                } else {
                    is_name = !c.is_ascii_digit();
                }
            }
            ':' if char_at(at + 1) == ':' => at += 2,
            _ => at += 1,
        }
        at = at.min(chars.len());
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
        let text = chars[start..at].iter().collect();
        lexed.tokens.push(Token { text, line: first_line, last_line: line, is_name });
    }
    lexed
}

/// Behind the string that opens at `at`.
fn after_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Behind the raw string whose text begins at `at`.
fn after_raw_string(chars: &[char], mut at: usize, hashes: usize) -> usize {
    let closes = |at: usize| chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    while at < chars.len() && !closes(at) {
        at += 1;
    }
    at + 1 + hashes
}

/// Leaves out what stands behind `#[cfg(test)]` and `#[test]`, attribute and all.
pub(super) fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "#" && tokens.get(at + 1).is_some_and(|token| token.text == "[") {
            let end = after_brackets(&tokens, at + 1);
            let attribute: String = tokens[at + 2..end - 1].iter().map(|token| token.text.as_str()).collect();
            if attribute == "test" || attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,") {
                at = after_item(&tokens, end);
            } else {
                kept.extend_from_slice(&tokens[at..end]);
                at = end;
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the bracket that closes the one at `at`.
fn after_brackets(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Behind the item, field, variant or arm that begins at `at`, or behind its attributes.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    const ITEMS: &[&str] = &[
        "pub",
        "fn",
        "mod",
        "use",
        "impl",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "unsafe",
        "async",
        "let",
        "extern",
        "macro_rules",
    ];
    while tokens.get(at).is_some_and(|token| token.text == "#") {
        at = after_brackets(tokens, at + 1);
    }
    let is_item = tokens.get(at).is_some_and(|token| ITEMS.contains(&token.text.as_str()));
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            ")" | "]" | "}" => return at, // the end of what it stands in
            "{" => return after_brackets(tokens, at),
            "(" | "[" => at = after_brackets(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Lines that hold at least part of a token.
pub(super) fn code_lines(tokens: &[Token]) -> usize {
    tokens.iter().flat_map(|token| token.line..=token.last_line).collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_comments_and_tests_are_not_lines_of_code() {
        let text =
            "// one\n\nfn f() {\n    /* two */\n    \"a\n    b\";\n}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
        assert_eq!(code_lines(&without_tests(lex(text).tokens)), 4);
        assert_eq!(lex(text).comment_lines.into_iter().collect::<Vec<_>>(), [1, 4]);
    }
}
