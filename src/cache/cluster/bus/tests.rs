use proptest::prelude::*;

use super::*;

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

fn lines(commands: Vec<Vec<Cow<'_, [u8]>>>) -> Vec<String> {
    let line =
        |words: Vec<Cow<'_, [u8]>>| words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join(" ");
    commands.into_iter().map(line).collect()
}

#[test]
fn a_message_is_decoded_as_it_was_encoded() {
    let mut bus = Bus::new(7);
    let bytes = bus.message(3, &[&b"SMARTCACHE.RULE"[..], b"DEL", b"\0\xff", b""]);
    assert_eq!(
        Message::decode(&bytes),
        Ok(Message { incarnation: 7, number: 1, db: 3, words: vec![b"SMARTCACHE.RULE", b"DEL", b"\0\xff", b""] })
    );
    assert_eq!(Message::decode(&bus.message(0, &["x"])).unwrap().number, 2);
}

#[test]
fn version_1_is_these_bytes() {
    let bytes = Message::encode(0x0102_0304_0506_0708, 9, 1, &["AB", ""]);
    assert_eq!(
        bytes,
        b"SmCa\x01\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x02\0\0\0AB\0\0\0\0"
    );
}

#[test]
fn foreign_newer_and_damaged_messages_are_distinguished() {
    let good = Message::encode(1, 1, 0, &["SMARTCACHE.RULE", "DEL", "r"]);
    assert_eq!(Message::decode(b""), Err(DecodeError::Foreign));
    assert_eq!(Message::decode(b"SmC"), Err(DecodeError::Foreign));
    assert_eq!(Message::decode(b"hello, other module"), Err(DecodeError::Foreign));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(Message::decode(&with(4, 2)), Err(DecodeError::Newer(2)));
    assert_eq!(Message::decode(b"SmCa\xffwhatever"), Err(DecodeError::Newer(255)), "whatever follows");
    for bytes in [with(4, 0), with(24, 0x80), with(25, 0), with(25, 4), with(28, 0x7f), with(29, 200), with(32, 0xff)] {
        assert!(matches!(Message::decode(&bytes), Err(DecodeError::Damaged(_))), "{bytes:?}");
    }
    for len in 4..good.len() {
        assert!(matches!(Message::decode(&good[..len]), Err(DecodeError::Damaged(_))), "{len}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(Message::decode(&longer), Err(DecodeError::Damaged(_))));
    let empty = vec![""; MAX_WORDS + 1];
    assert!(matches!(Message::decode(&Message::encode(1, 1, 0, &empty)), Err(DecodeError::Damaged(_))));
    assert!(Message::decode(&Message::encode(1, 1, 0, &empty[1..])).is_ok());
    let fits = vec![0; MAX_BYTES - HEAD - LENGTH];
    assert!(Message::decode(&Message::encode(1, 1, 0, &[&fits[..]])).is_ok());
    assert!(Message::decode(&Message::encode(1, 1, 0, &[&fits[..], b""])).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(mut bytes: Vec<u8>, ours: bool) {
        if ours {
            bytes.splice(0..0, *b"SmCa\x01");
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::encode(message.incarnation, message.number, message.db, &message.words), bytes);
        }
    }

    #[test]
    fn split_commands_hold_every_name_once_and_each_fits(
        lens in proptest::collection::vec(0..40_usize, 1..60), bytes in 110..300_usize, most in 8..20_usize,
    ) {
        let listed: Vec<_> = lens.iter().enumerate().map(|(n, len)| vec![n as u8; *len]).collect();
        let count = listed.len().to_string();
        let mut words = vec![&b"C"[..], b"SOFT", b"TAGS", count.as_bytes()];
        words.extend(listed.iter().map(Vec::as_slice));
        words.extend([&b"WAIT"[..], b"5", b"GUARD", b"1"]);
        let pass = PassOn { without: words.len() - 4..words.len() - 2, counted: 4..words.len() - 4 };
        let mut found = Vec::new();
        for command in pass.commands_within("C", &words, bytes, most).unwrap() {
            let n = command.len();
            prop_assert!(n <= most && command.iter().map(|word| LENGTH + word.len()).sum::<usize>() <= bytes);
            prop_assert_eq!(&command[..3], &[&b"C"[..], b"SOFT", b"TAGS"]);
            prop_assert_eq!(String::from_utf8_lossy(&command[3]), (n - 6).to_string());
            prop_assert_eq!(&command[n - 2..], &[&b"GUARD"[..], b"1"]);
            found.extend(command[4..n - 2].iter().map(|word| word.to_vec()));
        }
        prop_assert_eq!(found, listed);
    }

    #[test]
    fn each_number_is_new_once(numbers in proptest::collection::vec(100..160_u64, 0..200)) {
        let (mut bus, mut received) = (Bus::new(1), std::collections::HashSet::new());
        for number in numbers {
            prop_assert_eq!(bus.is_new(&[b'a'; 40], 5, number), received.insert(number), "{}", number);
        }
    }
}

#[test]
fn a_command_is_passed_on_with_its_own_words_under_its_full_name() {
    let sent = words("smartcache.rule set r MATCH * TTL 5");
    let commands = PassOn::default().commands("SMARTCACHE.RULE SET", &sent).unwrap();
    assert_eq!(lines(commands), ["SMARTCACHE.RULE SET r MATCH * TTL 5"]);
}

#[test]
fn words_that_concern_only_the_caller_are_left_out() {
    let sent = words("I WAIT 5 TAGS 2 a b SOFT");
    let commands = |without: Range<usize>| {
        lines(PassOn { without, counted: 5..7 }.commands("SMARTCACHE.INVALIDATE", &sent).unwrap())
    };
    assert_eq!(commands(1..3), ["SMARTCACHE.INVALIDATE TAGS 2 a b SOFT"]);
    assert_eq!(commands(7..8), ["SMARTCACHE.INVALIDATE WAIT 5 TAGS 2 a b"]);
    let all = words("I ALL WAIT 5");
    let commands = PassOn { without: 2..4, counted: 0..0 }.commands("SMARTCACHE.INVALIDATE", &all);
    assert_eq!(lines(commands.unwrap()), ["SMARTCACHE.INVALIDATE ALL"]);
}

#[test]
fn a_long_list_of_names_is_split() {
    let sent = words("I TAGS 5 a bb ccc dddd e SOFT");
    let pass = PassOn { without: 0..0, counted: 3..8 };
    let parts = |bytes, most| pass.commands_within("I", &sent, bytes, most).map(lines);
    assert_eq!(parts(1_000, 100).unwrap(), ["I TAGS 5 a bb ccc dddd e SOFT"]);
    assert_eq!(parts(1_000, 6).unwrap(), ["I TAGS 2 a bb SOFT", "I TAGS 2 ccc dddd SOFT", "I TAGS 1 e SOFT"]);
    let around = 5 + 8 + 8 + LENGTH + 1;
    assert_eq!(parts(around + 5 + 6, 9).unwrap()[..2], ["I TAGS 2 a bb SOFT", "I TAGS 1 ccc SOFT"]);
    assert_eq!(parts(around + 7, 9), Err(TooLong), "dddd alone is too long");
    assert_eq!((parts(10, 9), parts(1_000, 3)), (Err(TooLong), Err(TooLong)));
}

#[test]
fn the_most_tags_of_a_command_need_ten_messages() {
    let tags: Vec<_> = (0..10_000).map(|n| format!("{n:0>255}")).collect();
    let mut sent = words("SMARTCACHE.INVALIDATE TAGS 10000");
    sent.extend(tags.iter().map(String::as_bytes));
    let pass = PassOn { without: 0..0, counted: 3..sent.len() };
    let commands = pass.commands("SMARTCACHE.INVALIDATE", &sent).unwrap();
    assert_eq!(commands.len(), 10);
    for command in &commands {
        assert!(Message::decode(&Message::encode(1, 1, 0, command)).is_ok());
    }
}

#[test]
fn a_duplicate_is_not_new_and_a_new_incarnation_starts_over() {
    let (a, b) = ([b'a'; 40], [b'b'; 40]);
    let mut bus = Bus::new(1);
    assert!(bus.is_new(&a, 5, 1) && !bus.is_new(&a, 5, 1));
    assert!(bus.is_new(&b, 5, 1), "another sender");
    assert!(bus.is_new(&a, 5, 3) && bus.is_new(&a, 5, 2) && !bus.is_new(&a, 5, 2), "out of order");
    assert!(bus.is_new(&a, 5, 1_000) && !bus.is_new(&a, 5, 3), "older than the window");
    assert!(bus.is_new(&a, 5, 937) && !bus.is_new(&a, 5, 936));
    assert!(bus.is_new(&a, 6, 1) && !bus.is_new(&a, 6, 1), "a new incarnation");
    assert!(bus.is_new(&a, 6, u64::MAX) && !bus.is_new(&a, 6, 0) && !bus.is_new(&a, 6, u64::MAX));
}

#[test]
fn the_number_of_remembered_senders_is_limited() {
    let sender = |n: usize| <NodeId>::try_from(format!("{n:0>40}").as_bytes()).unwrap();
    let mut bus = Bus::new(1);
    for n in 0..MAX_SENDERS {
        assert!(bus.is_new(&sender(n), 1, 1));
    }
    assert!(!bus.is_new(&sender(0), 1, 1), "received again");
    assert!(bus.is_new(&sender(MAX_SENDERS), 1, 1));
    assert_eq!(bus.senders.len(), MAX_SENDERS);
    assert!(
        !bus.is_new(&sender(0), 1, 1) && bus.is_new(&sender(1), 1, 1),
        "the sender that was silent longest is forgotten"
    );
}

#[test]
fn the_queue_is_limited() {
    let mut bus = Bus::new(1);
    assert!(bus.enqueue(b"first") && bus.enqueue(b"second"));
    assert_eq!(
        (bus.dequeue().as_deref(), bus.dequeue().as_deref(), bus.dequeue()),
        (Some(&b"first"[..]), Some(&b"second"[..]), None)
    );
    let big = vec![0; MAX_BYTES];
    let queued = (0..100).filter(|_| bus.enqueue(&big)).count();
    assert_eq!(queued, MAX_QUEUED_BYTES / MAX_BYTES);
    assert_eq!((bus.drop_queued(), bus.has_queued(), bus.queue_bytes), (queued, false, 0));
    assert_eq!((0..=MAX_QUEUED).filter(|_| bus.enqueue(b"x")).count(), MAX_QUEUED);
}
