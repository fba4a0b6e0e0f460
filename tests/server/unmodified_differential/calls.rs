//! Random calls of the server's own commands, from what it says of them itself (`COMMAND`, `COMMAND DOCS`): a command
//! that a later server adds is among them.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::support::{Conn, Reply};

/// The words of one command.
pub(super) type Call = Vec<Vec<u8>>;

/// What is drawn from. Strings come first: what is promised is about them.
const GROUPS: [(&str, u32); 9] = [
    ("string", 40),
    ("generic", 25),
    ("bitmap", 12),
    ("hyperloglog", 6),
    ("hash", 3),
    ("list", 3),
    ("set", 3),
    ("sorted-set", 3),
    ("geo", 1),
];

/// Commands that are not drawn, each with its reason.
const LEFT_OUT: [(&str, &str); 10] = [
    ("DUMP", "the bytes are those of the entry; dumped and restored by a step of their own"),
    ("RESTORE", "see DUMP"),
    ("MIGRATE", "needs another server"),
    ("SCAN", "which keys a step returns depends on the seed of the server's hash; drawn with a COUNT that returns all"),
    ("WAIT", "about replicas"),
    ("WAITAOF", "about the AOF"),
    ("PFDEBUG", "about the inside of a value"),
    ("PFSELFTEST", "takes seconds, and has no keys"),
    ("LCS", "drawn by name, with keys of short strings"),
    ("LOLWUT", "draws pictures"),
];

/// One command as the server describes it.
pub(super) struct Command {
    pub(super) name: String,
    weight: u32,
    pub(super) blocks: bool,
    keys: &'static [&'static str],
    args: Vec<Arg>,
}

enum Kind {
    Key,
    Integer,
    Double,
    Text,
    Pattern,
    UnixTime,
    Token,
    OneOf(Vec<Arg>),
    Block(Vec<Arg>),
}

struct Arg {
    name: String,
    token: Option<String>,
    kind: Kind,
    optional: bool,
    multiple: bool,
    token_each_time: bool,
}

/// All commands that may touch a string, but for those that are left out.
pub(super) fn commands(conn: &mut Conn) -> Vec<Command> {
    let docs = conn.call("COMMAND DOCS");
    let table = conn.call("COMMAND");
    let mut found = Vec::new();
    for (name, doc) in docs.pairs() {
        let group = doc.field("group").text();
        let Some((_, weight)) = GROUPS.iter().find(|(known, _)| *known == group) else { continue };
        let name = name.to_uppercase();
        let row = table.array().iter().map(Reply::array).find(|row| row[0].text().eq_ignore_ascii_case(&name));
        let Some(row) = row else { continue };
        let flags = row[2].texts();
        let tips = row[7].texts();
        // Containers (OBJECT) have no calls of their own. Times of fields end in the middle of a history.
        let has_none = !doc.pairs().iter().any(|(field, _)| field == "arguments");
        let of_fields =
            name.starts_with('H') && (name.contains("EXPIRE") || name.contains("EX") || name.contains("TTL"));
        let drawn = tips.iter().any(|tip| tip == "nondeterministic_output");
        let admin = flags.iter().any(|flag| flag == "admin");
        if LEFT_OUT.iter().any(|(left_out, _)| *left_out == name)
            || has_none
            || drawn
            || admin
            || (of_fields && name != "HEXISTS")
        {
            continue;
        }
        let blocks = flags.iter().any(|flag| flag == "blocking");
        let args = doc.field("arguments").array().iter().map(Arg::read).collect();
        // Others often get a key of their own, or they would mostly meet strings.
        let keys = match group.as_str() {
            "string" | "generic" | "bitmap" => &KEYS[..],
            "hyperloglog" => &KEYS[5..7],
            _ => &KEYS[4..6],
        };
        found.push(Command { name, weight: *weight, blocks, keys, args });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

impl Arg {
    fn read(doc: &Reply) -> Arg {
        let pairs = doc.pairs();
        let text = |name: &str| pairs.iter().find(|(field, _)| field == name).map(|(_, value)| value.text());
        let inner = || doc.field("arguments").array().iter().map(Arg::read).collect();
        let flags =
            pairs.iter().find(|(field, _)| field == "flags").map(|(_, value)| value.texts()).unwrap_or_default();
        let has = |flag: &str| flags.iter().any(|found| found == flag);
        let kind = match text("type").unwrap_or_default().as_str() {
            "key" => Kind::Key,
            "integer" => Kind::Integer,
            "double" => Kind::Double,
            "pattern" => Kind::Pattern,
            "unix-time" => Kind::UnixTime,
            "pure-token" => Kind::Token,
            "oneof" => Kind::OneOf(inner()),
            "block" => Kind::Block(inner()),
            _ => Kind::Text,
        };
        Arg {
            name: text("name").unwrap_or_default(),
            token: text("token"),
            kind,
            optional: has("optional"),
            multiple: has("multiple"),
            token_each_time: has("multiple_token"),
        }
    }
}

/// Draws calls.
pub(super) struct Calls<'a> {
    pub(super) commands: &'a [Command],
    pub(super) rng: StdRng,
    /// Unix time, seconds.
    pub(super) now: i64,
    /// The keys that most of the call's are drawn from.
    pub(super) keys: &'static [&'static str],
    /// The key that several calls in a row are about: what one leaves behind, the next one finds.
    pub(super) at: &'static str,
}

pub(super) const KEYS: [&str; 8] = ["k0", "k1", "k2", "k3", "k4", "{t}5", "lock:6", "k\0\u{e4}7"];

impl Calls<'_> {
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub(super) fn key(&mut self) -> Vec<u8> {
        if self.chance(30) {
            return self.at.as_bytes().to_vec();
        }
        let keys = if self.chance(35) { &KEYS[..] } else { self.keys };
        keys.choose(&mut self.rng).expect("there are keys").as_bytes().to_vec()
    }

    /// One call. Most are right; some have a word too many or too few, or a word that does not belong.
    pub(super) fn call(&mut self, may_block: bool) -> Call {
        if self.chance(15) {
            self.at = KEYS.choose(&mut self.rng).expect("there are keys");
        }
        if self.chance(15) {
            return self.everyday();
        }
        let commands = self.commands;
        let command = loop {
            let found = commands.choose_weighted(&mut self.rng, |command| command.weight).expect("there are commands");
            if may_block || !found.blocks {
                break found;
            }
        };
        let mut words = vec![command.name.as_bytes().to_vec()];
        self.keys = command.keys;
        self.list(&command.args, &mut words);
        self.keys = &KEYS;
        match self.rng.random_range(0..100) {
            0 => drop(words.pop()),
            1 => words.push(self.text()),
            2 if words.len() > 1 => {
                let at = self.rng.random_range(1..words.len());
                words[at] = self.text();
            }
            3 => words[0].make_ascii_lowercase(),
            4 => words.truncate(1),
            _ => {}
        }
        words
    }

    /// What caches say most, and what the table cannot say: SCAN and LCS.
    fn everyday(&mut self) -> Call {
        let key = self.key();
        let text = |text: &str| text.as_bytes().to_vec();
        match self.rng.random_range(0..9) {
            8 => vec![self.pick(&["FLUSHDB", "FLUSHDB", "FLUSHALL"])],
            0 | 1 => vec![text("SET"), key, self.value()],
            2 => vec![text("SET"), key, self.value(), text("EX"), self.seconds()],
            3 => vec![text("SETEX"), key, self.seconds(), self.value()],
            4 => vec![text("GET"), key],
            5 => vec![text("DEL"), key],
            6 => {
                let mut words = vec![text("SCAN"), text("0"), text("COUNT"), text("1000")];
                if self.chance(50) {
                    words.extend([text("TYPE"), self.type_name()]);
                }
                if self.chance(50) {
                    words.extend([text("MATCH"), self.pattern()]);
                }
                words
            }
            _ => {
                let mut words = vec![text("LCS"), key, self.key()];
                for option in ["LEN", "IDX", "WITHMATCHLEN"] {
                    if self.chance(25) {
                        words.push(text(option));
                    }
                }
                words
            }
        }
    }

    fn list(&mut self, args: &[Arg], words: &mut Call) {
        let mut count_of_keys = None;
        for arg in args {
            if arg.name == "numkeys" && arg.token.is_none() {
                count_of_keys = Some(words.len());
            }
            let before = words.len();
            self.arg(arg, words);
            if let (Kind::Key, Some(at)) = (&arg.kind, count_of_keys) {
                let keys = words.len() - before;
                if !self.chance(4) {
                    words[at] = keys.to_string().into_bytes();
                }
                count_of_keys = None;
            }
        }
    }

    fn arg(&mut self, arg: &Arg, words: &mut Call) {
        if arg.optional && !self.chance(35) {
            return;
        }
        let times = if arg.multiple { *[1, 1, 2, 2, 3].choose(&mut self.rng).expect("there are numbers") } else { 1 };
        for time in 0..times {
            if let Some(token) = &arg.token
                && (time == 0 || arg.token_each_time)
            {
                words.push(token.as_bytes().to_vec());
            }
            match &arg.kind {
                Kind::Token => {}
                Kind::OneOf(choices) => {
                    let choice = choices.choose(&mut self.rng).expect("there are choices");
                    self.arg(choice, words);
                }
                Kind::Block(inner) => self.list(inner, words),
                Kind::Key => words.push(self.key()),
                Kind::Integer => words.push(self.integer(&arg.name)),
                Kind::Double => words.push(self.double()),
                Kind::Pattern => words.push(self.pattern()),
                Kind::UnixTime => words.push(self.unix_time(arg.name.contains("milli"))),
                Kind::Text => words.push(match arg.name.as_str() {
                    "type" => self.type_name(),
                    "encoding" => self.pick(&["u8", "i8", "u4", "i16", "u1", "i64", "u63", "u64", "i32", "x"]),
                    "operation" => self.pick(&["AND", "OR", "XOR", "NOT", "and", "x"]),
                    "value" | "element" => self.value(),
                    "min" | "max" => self.pick(&["-inf", "+inf", "0", "(1", "10", "[a", "(b", "-", "+", "x"]),
                    _ => self.text(),
                }),
            }
        }
    }

    fn pick(&mut self, texts: &[&str]) -> Vec<u8> {
        texts.choose(&mut self.rng).expect("there are texts").as_bytes().to_vec()
    }

    fn integer(&mut self, name: &str) -> Vec<u8> {
        if name.contains("seconds") || name.contains("ttl") {
            return if name.contains("milli") { self.milliseconds() } else { self.seconds() };
        }
        if name.contains("db") {
            return self.pick(&["0", "1", "1", "99", "-1", "x"]);
        }
        if (name == "bit" || name == "value") && !self.chance(15) {
            return self.pick(&["0", "1"]);
        }
        match self.rng.random_range(0..10) {
            0..5 => self.pick(&["0", "1", "2", "3", "7", "8", "10"]),
            5..7 => self.pick(&["-1", "-2", "-5", "63", "100", "1000"]),
            7 => self.pick(&["9223372036854775807", "-9223372036854775808", "4294967296", "2147483647", "-2147483648"]),
            8 => self.rng.random_range(-50..5000).to_string().into_bytes(),
            _ => self.pick(&["#1", "#3", "", "1.5", " 1", "x", "18446744073709551616", "0x10", "+1"]),
        }
    }

    /// Never near the end of a key's life: two servers answer at two moments.
    fn seconds(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..20) {
            0..16 => self.rng.random_range(1_000..1_000_000).to_string().into_bytes(),
            16 => self.pick(&["0", "-1", "-100000"]),
            17 => self.pick(&["9223372036854775807", "-9223372036854775808", "9223372036854775", "9223370000000000"]),
            18 => b"100000".to_vec(),
            _ => self.pick(&["x", "", "1.5"]),
        }
    }

    fn milliseconds(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..20) {
            0..14 => self.rng.random_range(1_000_000..1_000_000_000).to_string().into_bytes(),
            // The history waits until it is over.
            14..16 => b"12".to_vec(),
            16 => self.pick(&["0", "-1", "-100000"]),
            17 => self.pick(&["9223372036854775807", "-9223372036854775808", "9223370000000000000"]),
            18 => b"100000000".to_vec(),
            _ => self.pick(&["x", "", "1.5"]),
        }
    }

    fn unix_time(&mut self, milli: bool) -> Vec<u8> {
        let unit = if milli { 1000 } else { 1 };
        match self.rng.random_range(0..10) {
            0..7 => ((self.now + self.rng.random_range(1_000..1_000_000)) * unit).to_string().into_bytes(),
            7 => ((self.now - self.rng.random_range(1_000..1_000_000)) * unit).to_string().into_bytes(),
            _ => self.pick(&["0", "-1", "1", "9223372036854775807", "9223372036854775", "x"]),
        }
    }

    fn double(&mut self) -> Vec<u8> {
        let texts =
            ["0", "1", "1.5", "-2.25", "10", "1e2", "3.0e-5", "0.1", "inf", "-inf", "nan", "1e308", "x", "", "(1"];
        self.pick(&texts)
    }

    fn pattern(&mut self) -> Vec<u8> {
        self.pick(&["*", "k*", "k[0-3]", "lock:*", "k?", "{t}*", "#", "none*", "k4", "\\k1"])
    }

    fn type_name(&mut self) -> Vec<u8> {
        self.pick(&["string", "string", "STRING", "hash", "list", "smrtcache", "none", "x"])
    }

    fn text(&mut self) -> Vec<u8> {
        if self.chance(30) {
            self.value()
        } else {
            self.pick(&["a", "b", "1", "2", "m", "7", "km", "", "(a", "[b", "+"])
        }
    }

    /// Numbers, texts, bytes; some long enough to be compressed.
    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..20) {
            0..6 => self.pick(&["0", "1", "10", "-5", "007", "9223372036854775807", "-9223372036854775808", "12345"]),
            6..9 => self.pick(&["3.14", "1.0", "-0", "1e5", "inf", "5.0e3", " 1", "1 ", "nan"]),
            9..14 => self.pick(&["", "a", "value", "foobar", "hello world", "ohmytext", "mynewtext"]),
            14 => vec![0xff, 0, 0x80, 0xc3, 0x28, b'\r', b'\n'],
            15 => (0..=255).collect(),
            16 => b"{\"id\":1,\"name\":\"x\"},".repeat(40),
            17 => b"a".repeat(3_000),
            18 => (0..600).map(|_| self.rng.random()).collect(),
            _ => b"0123456789".repeat(2_000),
        }
    }
}
