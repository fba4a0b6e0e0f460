//! Invalidations as replicas and AOFs have them: the words of `SMARTCACHE.MARK`, one command a line, with bytes that
//! are no printable ASCII escaped.

use smartcache::testing::TestNode;

use super::assert_golden;

/// 2026-11-22 19:34:13 UTC, in milliseconds.
const THEN: u64 = 1_795_376_053_113;

/// Invalidations of every kind: hard, soft, spread over time and guarded, of each selector, with bytes that are no
/// text.
fn invalidate(node: &mut TestNode, mut after_each: impl FnMut(&mut TestNode)) {
    let commands: [&[&[u8]]; 8] = [
        &[b"TAGS", b"1", b"team:7"],
        &[b"TAGS", b"2", b"\x00\xff\r\n", b"user:42", b"SOFT"],
        &[b"TAGS", b"1", b"slow", b"SOFT", b"OVER", b"30000", b"GUARD", b"5000"],
        &[b"PREFIXES", b"2", b"page:", b"\xfe:"],
        &[b"PREFIXES", b"1", b"soft:", b"SOFT", b"GUARD", b"1"],
        &[b"PATTERNS", b"2", b"*:profile", b"user:[0-9]*:\\*"],
        &[b"ALL", b"SOFT", b"OVER", b"60000"],
        &[b"ALL", b"GUARD", b"5000"],
    ];
    for words in commands {
        let answer = node.call_words(&[&[&b"SMARTCACHE.INVALIDATE"[..]], words].concat());
        assert!(!answer.starts_with("(error)"), "{answer}");
        after_each(node);
        node.advance(1);
    }
}

fn line(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ") + "\n"
}

fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().unwrap();
        rest = after;
        bytes.push(match kind {
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            }
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            other => other,
        });
    }
    bytes
}

/// Stores an entry that carries all the tags. A tag that no entry carries needs no mark, and without any entry
/// everything is forgotten.
fn keep_marks(node: &mut TestNode) {
    let tags: [&[u8]; 4] = [b"team:7", b"\x00\xff\r\n", b"user:42", b"slow"];
    let words: [&[u8]; 6] = [b"SMARTCACHE.SET", b"stays", b"v", b"PERSIST", b"TAGS", b"4"];
    node.obey(&[&words[..], &tags[..]].concat());
}

/// What a primary replicates: its invalidations as they happen, then what its sweep and its cron add.
fn replicated() -> String {
    let mut node = TestNode::at(THEN);
    let mut text = String::new();
    let mut take = |node: &mut TestNode| text.extend(node.replicated.drain(..).map(|words| line(&words)));
    invalidate(&mut node, &mut take);
    node.sweep();
    take(&mut node);
    node.advance(3_600_000);
    node.sweep();
    take(&mut node);
    node.cron();
    take(&mut node);
    text
}

/// What stands behind the keys of a rewritten AOF.
fn rewritten() -> String {
    let mut node = TestNode::at(THEN);
    node.call("SMARTCACHE.INVALIDATE PREFIXES 1 gone:");
    keep_marks(&mut node);
    node.sweep();
    node.advance(3_600_000);
    node.cron(); // forgets that one
    invalidate(&mut node, |_| {});
    node.marks_as_words().iter().map(|(db, words)| format!("{db} SMARTCACHE.MARK {}", line(words))).collect()
}

#[test]
fn what_is_replicated_does_not_change() {
    let text = replicated();
    for kind in ["HARD", "SOFT", "SWEPT", "DROP", "TAGS", "PREFIXES", "PATTERNS", "ALL"] {
        assert!(text.split([' ', '\n']).any(|word| word == kind), "{kind} is not among\n{text}");
    }
    assert_golden("mark/v2/replicated.txt", &text);
}

#[test]
fn what_an_empty_cache_replicates_does_not_change() {
    let mut node = TestNode::at(THEN);
    node.call("SMARTCACHE.INVALIDATE ALL");
    node.sweep();
    node.advance(3_600_000);
    node.cron();
    let text: String = node.replicated.iter().map(|words| line(words)).collect();
    assert_golden("mark/v1/emptied.txt", &text);
}

#[test]
fn what_is_behind_a_rewritten_aof_does_not_change() {
    let text = rewritten();
    assert!(text.contains(" FORGOT "), "{text}");
    assert_golden("mark/v1/rewritten.txt", &text);
}

#[test]
fn marks_of_yesterday_are_obeyed_by_a_replica() {
    for version in ["v1", "v2"] {
        let golden = super::golden(&format!("mark/{version}/replicated.txt"), replicated().as_bytes());
        let mut replica = TestNode::replica_at(THEN + 10_000);
        keep_marks(&mut replica);
        let mut judged = String::new();
        for line in String::from_utf8(golden).unwrap().lines() {
            let words: Vec<Vec<u8>> = line.split(' ').map(unescaped).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            assert_eq!(replica.obey(&words), "OK", "{line}");
            for (db, words) in replica.marks_as_words() {
                judged += &format!("{db} {}", self::line(&words));
            }
            judged.push('\n');
        }
        assert_golden(&format!("mark/{version}/obeyed.txt"), &judged);
    }
}
