//! What one command, or one turn of a timer, replicates: one command, however much it has changed.
//!
//! The server wraps several in `MULTI` and `EXEC`. Servers before Redis 8.4 and Valkey 9 refuse what is in there while
//! they load an AOF, if the default user may do nothing (`user default off -@all`). So several keys that are gone are
//! one `UNLINK`, and anything else is one `SMARTCACHE.EFFECTS` (`commands/effects.rs`).

use smallvec::{SmallVec, smallvec};

/// The command that carries several messages.
pub const EFFECTS: &str = "SMARTCACHE.EFFECTS";
/// The word for keys that are gone, among these.
pub const GONE: &str = "GONE";
/// What the names of our commands begin with; it is left out there.
const PREFIX: &str = "SMARTCACHE.";

/// One message to replicas and the AOF, of words `W`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<W> {
    /// The key is gone.
    Gone(W),
    /// A command of ours: its name, and the words after it.
    Command(&'static str, SmallVec<[W; 4]>),
}

/// The messages of one command, or of one turn of a timer.
#[derive(Debug)]
pub struct Outbox<W> {
    messages: SmallVec<[Message<W>; 2]>,
}

impl<W> Default for Outbox<W> {
    fn default() -> Self {
        Outbox { messages: SmallVec::new() }
    }
}

impl<W> Outbox<W> {
    /// Adds a message.
    pub fn push(&mut self, message: Message<W>) {
        self.messages.push(message);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The keys, if keys that are gone are all there is: `UNLINK` says it to any server.
    pub fn gone(&self) -> Option<impl Iterator<Item = &W>> {
        let all = self.messages.iter().all(|message| matches!(message, Message::Gone(_)));
        let keys = self.messages.iter().filter_map(|message| match message {
            Message::Gone(key) => Some(key),
            Message::Command(..) => None,
        });
        (all && !self.messages.is_empty()).then_some(keys)
    }

    /// Takes all messages as one command, its name and its words; `word` makes a word of text.
    pub fn take(&mut self, word: impl Fn(&str) -> W) -> Option<(&'static str, SmallVec<[W; 4]>)> {
        if let [Message::Command(..)] = self.messages[..]
            && let Some(Message::Command(name, words)) = self.messages.pop()
        {
            return Some((name, words));
        }
        let mut words: SmallVec<[W; 4]> = SmallVec::new();
        let mut gone: SmallVec<[W; 4]> = SmallVec::new();
        let mut add = |name: &str, rest: SmallVec<[W; 4]>| {
            let head: [W; 2] = [word(&(rest.len() + 1).to_string()), word(name)];
            words.extend(head);
            words.extend(rest);
        };
        for message in std::mem::take(&mut self.messages) {
            match message {
                Message::Gone(key) => gone.push(key), // with those that follow
                Message::Command(name, rest) => {
                    if !gone.is_empty() {
                        add(GONE, std::mem::replace(&mut gone, smallvec![]));
                    }
                    add(name.strip_prefix(PREFIX).unwrap_or(name), rest);
                }
            }
        }
        if !gone.is_empty() {
            add(GONE, gone);
        }
        (!words.is_empty()).then_some((EFFECTS, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(messages: &[Message<String>]) -> String {
        let mut outbox = Outbox::default();
        messages.iter().cloned().for_each(|message| outbox.push(message));
        let all_gone = outbox.gone().is_some();
        let (name, words) = outbox.take(str::to_owned).unwrap_or_default();
        assert!(outbox.is_empty());
        format!("{}{name} {}", if all_gone { "gone: " } else { "" }, words.join(" "))
    }

    #[test]
    fn several_messages_are_one_command() {
        let gone = |key: &str| Message::Gone(key.to_owned());
        let rule = Message::Command("SMARTCACHE.RULE", smallvec!["DEL".into(), "r".into()]);
        assert_eq!(one(&[]), " ");
        assert_eq!(one(&[gone("a"), gone("b")]), "gone: SMARTCACHE.EFFECTS 3 GONE a b");
        assert_eq!(one(std::slice::from_ref(&rule)), "SMARTCACHE.RULE DEL r");
        let mixed = [gone("a"), rule.clone(), gone("b"), gone("c"), rule];
        assert_eq!(one(&mixed), "SMARTCACHE.EFFECTS 2 GONE a 3 RULE DEL r 3 GONE b c 3 RULE DEL r");
    }
}
