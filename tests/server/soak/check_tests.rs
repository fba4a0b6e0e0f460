//! For each rule of the checker a history that violates it and one that nearly does.

use super::check::{Rule, check};
use super::history::Step;

/// Parses lines of a history: sent and answered in ms, connection, database, command, answer.
fn steps(lines: &str) -> Vec<Step> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut steps: Vec<Step> =
        lines.map(|line| Step::parse(line).unwrap_or_else(|| panic!("not a step: {line}"))).collect();
    steps.sort_by_key(|step| step.sent);
    steps
}

/// The rules that a history violates; a tick every 3 ms is added.
fn broken(lines: &str) -> Vec<Rule> {
    let mut all = steps(lines);
    let end = all.iter().map(|step| step.ended).max().unwrap_or(0);
    let ticks = (0..end / 3_000_000).map(|n| format!("{}.1 {}.2 c2 db0 | PING | PONG", 3 * n, 3 * n));
    all.extend(ticks.filter_map(|line| Step::parse(&line)));
    all.sort_by_key(|step| step.sent);
    let mut rules: Vec<Rule> = check(&all).into_iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

/// The history violates this rule and no other.
#[track_caller]
fn breaks(rule: Rule, lines: &str) {
    assert_eq!(broken(lines), [rule], "{lines}");
}

/// The history violates no rule.
#[track_caller]
fn keeps(lines: &str) {
    assert_eq!(broken(lines), [], "{lines}");
}

/// Version 1 is stored, version 2 is written, and at 20 ms the cache gets this command; `lines` follow.
fn after_invalidation(command: &str, lines: &str) -> String {
    format!(
        "1 2 c5 db0 | SMARTCACHE.SET a a@1#1 PX 5000 SWR 5000ms | OK
         10 11 c0 db0 | WRITE a 2 | done
         20 21 c6 db0 | {command}
         {lines}"
    )
}

#[test]
fn what_was_invalidated_is_not_served_as_fresh() {
    let hit = "30 31 c7 db0 | SMARTCACHE.GET a | a@1#1";
    for command in [
        "SMARTCACHE.DEL a | 1",
        "SMARTCACHE.STALE a | 1",
        "DEL a | 1",
        "FLUSHDB SYNC | OK",
        "FLUSHALL | OK",
        "SMARTCACHE.SET a a@2#2 PX 50 | OK",
    ] {
        breaks(Rule::InvalidatedIsNotServed, &after_invalidation(command, hit));
        // Read before the answer arrived.
        keeps(&after_invalidation(command, "20.5 31 c7 db0 | SMARTCACHE.GET a | a@1#1"));
    }
    for state in ["HIT", "STALE"] {
        let answer = format!("30 31 c7 db0 | SMARTCACHE.GETLOCK a | {state} a@1#1 nil 0 20");
        breaks(Rule::InvalidatedIsNotServed, &after_invalidation("SMARTCACHE.DEL a | 1", &answer));
    }
    keeps(&after_invalidation("SMARTCACHE.DEL b | 1", hit));
    keeps(&after_invalidation("SMARTCACHE.DEL a | gone\n 25 25 c9 db0 | CLIENT KILL ID 6 | 1", hit));
}

#[test]
fn entries_made_stale_may_be_served_as_stale() {
    let stale = "30 31 c7 db0 | SMARTCACHE.GETLOCK a | STALE a@1#1 nil 0 20";
    let lease = "22 23 c8 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | STALE a@1#1 T 0 100\n";
    keeps(&after_invalidation("SMARTCACHE.STALE a | 1", &format!("{lease}{stale}")));
    breaks(Rule::InvalidatedIsNotServed, &after_invalidation("FLUSHDB SYNC | OK", stale));
    // The entry in the other database had only been made stale.
    keeps(&after_invalidation("FLUSHDB SYNC | OK", &format!("24 25 c9 db1 | SWAPDB 0 1 | OK\n{stale}")));
}

#[test]
fn soft_invalidation_does_not_affect_strings() {
    let history = "1 2 c5 db0 | SET a a@1#1 PX 5000 | OK
        10 11 c0 db0 | WRITE a 2 | done
        20 21 c6 db0 | SMARTCACHE.STALE a | 0
        30 31 c7 db0 | SMARTCACHE.GET a | a@1#1";
    keeps(history);
    let deleted = history.replace("SMARTCACHE.STALE a | 0", "SMARTCACHE.DEL a | 1");
    breaks(Rule::InvalidatedIsNotServed, &deleted);
    // The deleted entry had moved to the other database, or came from there.
    keeps(&format!("{deleted}\n 24 25 c9 db1 | SWAPDB 0 1 | OK"));
}

#[test]
fn an_absence_is_served_only_while_the_origin_may_have_nothing() {
    let history = |writes: &str| {
        format!(
            "{writes}
             20 21 c6 db0 | SMARTCACHE.DEL a | 0
             30 31 c7 db0 | SMARTCACHE.GETLOCK a | ABSENT nil nil 50 0"
        )
    };
    keeps(&history("1 2 c0 db0 | WRITE a 7 | done"));
    breaks(Rule::InvalidatedIsNotServed, &history("1 2 c0 db0 | WRITE a 7 | done\n 3 4 c0 db0 | WRITE a 8 | done"));
}

#[test]
fn only_what_was_stored_is_served() {
    let history = |answer: &str, served: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | MISS nil T 0 100
             5 6 c9 db0 | SMARTCACHE.STALE a | 0
             10 11 c5 db0 | SMARTCACHE.SET a a@1#1 PX 500 SWR 500ms TOKEN T | {answer}
             12 13 c8 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | STALE a@1#1 U 0 100
             20 21 c7 db0 | {served}"
        )
    };
    keeps(&history("STALE", "SMARTCACHE.GETLOCK a | STALE a@1#1 nil 0 20"));
    breaks(Rule::ServedWasStored, &history("STALE", "SMARTCACHE.GETLOCK a | HIT a@1#1 nil 100 0"));
    breaks(Rule::ServedWasStored, &history("LOST", "SMARTCACHE.GET a | nil"));
    breaks(Rule::ServedWasStored, "1 2 c5 db0 | SMARTCACHE.GET a | a@1#1");
    breaks(
        Rule::ServedWasStored,
        "1 2 c5 db0 | SMARTCACHE.SET b b@1#1 PX 500 | OK
         3 4 c5 db0 | SMARTCACHE.GET a | b@1#1",
    );
}

#[test]
fn nothing_is_served_after_its_time() {
    let history = |when: &str, command: &str| {
        format!("1 2 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 SWR 300ms SIE 500ms | OK\n{when} c7 db0 | {command}")
    };
    keeps(&history("110 111", "SMARTCACHE.GET a | a@1#1"));
    breaks(Rule::ServedIsInTime, &history("310 311", "SMARTCACHE.GET a | a@1#1"));
    keeps(&history("310 311", "SMARTCACHE.GET a STALE | a@1#1"));
    breaks(Rule::ServedIsInTime, &history("810 811", "SMARTCACHE.GET a STALE | a@1#1"));
}

#[test]
fn each_request_has_one_answer_unless_its_connection_was_killed() {
    breaks(Rule::OneAnswerEach, "1 20000 c5 db0 | SMARTCACHE.EXTEND a T 5ms | silence");
    let gone = "1 20 c5 db0 | SMARTCACHE.GETLOCK a WAIT 100ms | gone\n";
    breaks(Rule::OneAnswerEach, gone);
    keeps(&format!("{gone} 10 11 c6 db0 | CLIENT KILL ID 5 | 1"));
    breaks(Rule::OneAnswerEach, &format!("{gone} 10 11 c6 db0 | CLIENT KILL ID 4 | 1"));
    keeps("1 2 c5 db0 | ECHO e7 | e7");
    breaks(Rule::OneAnswerEach, "1 2 c5 db0 | ECHO e7 | e6");
    breaks(Rule::OneAnswerEach, "1 2 c5 db0 | SMARTCACHE.GET a | error ERR what");
    let unblocked = "1 20 c5 db0 | SMARTCACHE.GETLOCK a WAIT 100ms | error UNBLOCKED client unblocked\n";
    breaks(Rule::OneAnswerEach, unblocked);
    keeps(&format!("{unblocked} 10 11 c6 db0 | CLIENT UNBLOCK 5 ERROR | 1"));
    breaks(Rule::OneAnswerEach, "1 2 c5 db0 | SMARTCACHE.GETLOCK a | MISS nil nil 0 0");
}

#[test]
fn answers_come_when_they_are_due() {
    let lease = "1 2 c4 db0 | SMARTCACHE.GETLOCK a LOCK 2000ms | MISS nil T 0 2000\n";
    keeps(&format!("{lease} 5 160 c5 db0 | SMARTCACHE.GETLOCK a WAIT 100ms | BUSY nil nil 0 20"));
    breaks(
        Rule::AnswersComeInTime,
        &format!("{lease} 5 300 c5 db0 | SMARTCACHE.GETLOCK a WAIT 100ms | BUSY nil nil 0 20"),
    );
}

#[test]
fn a_stalled_machine_is_not_the_servers_fault() {
    let late = steps(
        "1 2 c4 db0 | SMARTCACHE.GETLOCK a LOCK 2000ms | MISS nil T 0 2000
         5 900 c5 db0 | SMARTCACHE.GETLOCK a WAIT 100ms | BUSY nil nil 0 20
         6 890 c2 db0 | PING | PONG",
    );
    assert!(check(&late).is_empty());
}

#[test]
fn a_key_is_leased_once_at_a_time() {
    let first = "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | MISS nil T 0 100\n";
    let second = |when: &str| format!("{when} c6 db0 | SMARTCACHE.GETLOCK a LOCK 50ms | MISS nil U 0 50\n");
    breaks(Rule::OneLease, &format!("{first}{}", second("80 81")));
    keeps(&format!("{first}{}", second("101 102")));
    keeps(&format!("{first}80 81 c6 db0 | SMARTCACHE.GETLOCK a OWNER o LOCK 50ms | MISS nil T 0 20"));
    for end in [
        "SMARTCACHE.UNLOCK a T | 1",
        "SMARTCACHE.DEL a | 0",
        "SMARTCACHE.SET a a@1#1 PX 1 | OK",
        "FLUSHDB SYNC | OK",
        "SMARTCACHE.SET a a@1#1 PX 1 TOKEN T | OK",
        "SMARTCACHE.EXTEND a T 5ms | 1",
    ] {
        keeps(&format!("{first}70 71 c6 db0 | {end}\n{}", second("80 81")));
    }
    breaks(Rule::OneLease, &format!("{first}70 71 c6 db1 | FLUSHDB SYNC | OK\n{}", second("80 81")));
    breaks(Rule::OneLease, &format!("{first}70 71 c5 db0 | SMARTCACHE.EXTEND a T 100ms | 1\n{}", second("120 121")));
}

#[test]
fn an_early_lease_may_be_followed_by_another() {
    keeps(
        "1 2 c4 db0 | SMARTCACHE.SET a a@1#1 PX 50 | OK
         40 41 c5 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | HIT a@1#1 T 12 100
         80 81 c6 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | MISS nil U 0 100",
    );
}

/// A load under lease `T` that began at 2 ms and is stored at 50 ms.
fn load(meanwhile: &str, answer: &str) -> String {
    format!(
        "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 20ms | MISS nil T 0 20
         {meanwhile}
         50 51 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 TOKEN T | {answer}"
    )
}

#[test]
fn a_load_that_was_invalidated_is_not_stored_as_fresh() {
    for command in [
        "SMARTCACHE.DEL a | 0",
        "SMARTCACHE.STALE a | 0",
        "FLUSHALL | OK",
        "SWAPDB 0 1 | OK",
        "SMARTCACHE.SET a a@1#9 PX 1 | OK",
    ] {
        breaks(Rule::DistrustedLoads, &load(&format!("10 11 c6 db0 | {command}"), "OK"));
        keeps(&load(&format!("10 11 c6 db0 | {command}"), "LOST"));
        keeps(&load(&format!("1.5 11 c6 db0 | {command}"), "OK"));
        keeps(&load(&format!("45 50.5 c6 db0 | {command}"), "OK"));
    }
    breaks(
        Rule::DistrustedLoads,
        "1 2 c5 db0 | SMARTCACHE.STAMP | S
         10 11 c6 db0 | SMARTCACHE.DEL a | 0
         20 21 c5 db0 | SMARTCACHE.MSET 1 a a@1#1 PX 100 SINCE S | 1",
    );
}

#[test]
fn a_fill_never_replaces_one_that_was_granted_later() {
    let later = "30 31 c6 db0 | SMARTCACHE.GETLOCK a LOCK 20ms | MISS nil U 0 20
        40 41 c6 db0 | SMARTCACHE.SET a a@1#2 PX 2 TOKEN U | OK";
    for answer in ["OK", "STALE"] {
        breaks(Rule::OvertakenLoads, &load(later, answer));
    }
    keeps(&load(later, "LOST"));
    keeps(&load(&later.replace("TOKEN U | OK", "TOKEN U | LOST\n41 42 c6 db0 | SMARTCACHE.DEL a | 0"), "STALE"));
    keeps(&load(&format!("{later}\n43 44 c6 db0 | FLUSHDB SYNC | OK"), "STALE"));
}

#[test]
fn a_fill_that_is_sent_again_is_answered_the_same() {
    let again = |answer: &str| load(&format!("55 56 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 TOKEN T | {answer}"), "OK");
    keeps(&again("OK"));
    breaks(Rule::RetriedFills, &again("LOST"));
}

#[test]
fn tokens_of_others_are_lost() {
    let foreign =
        |answer: &str| load(&format!("40 41 c5 db0 | SMARTCACHE.SET b b@1#1 PX 100 TOKEN T | {answer}"), "OK");
    keeps(&foreign("LOST"));
    breaks(Rule::ForeignTokens, &foreign("OK"));
    breaks(Rule::ForeignTokens, "1 2 c5 db0 | SMARTCACHE.GET a | nil\n3 4 c5 db0 | SMARTCACHE.UNLOCK a T | 1");
}

#[test]
fn a_fill_in_time_is_stored_when_nothing_happened() {
    let history = |meanwhile: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | MISS nil T 0 100
             {meanwhile}
             50 51 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 TOKEN T | STALE"
        )
    };
    breaks(Rule::GoodFillsAreStored, &history(""));
    breaks(Rule::GoodFillsAreStored, &history("10 11 c6 db0 | SMARTCACHE.DEL b | 0"));
    keeps(&history("10 11 c6 db0 | SMARTCACHE.DEL a | 0"));
}

#[test]
fn late_fills_are_stored_too_when_nothing_happened() {
    let of = |key: &str| {
        load("", "STALE")
            .replace(" a", &format!(" {key}"))
            .replace("TOKEN T", &format!("TOKEN T{key}"))
            .replace("nil T", &format!("nil T{key}"))
    };
    keeps(&format!("{}\n{}", of("a"), of("b"))); // they may share a slot
    breaks(Rule::GoodFillsAreStored, &format!("{}\n{}\n{}", of("a"), of("b"), of("c")));
}

#[test]
fn an_unlocked_lease_has_ended() {
    let history = "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 100ms | MISS nil T 0 100
        10 11 c5 db0 | SMARTCACHE.UNLOCK a T | 1
        50 51 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 TOKEN T | LOST";
    keeps(history); // one key alone: it may share a slot
}

#[test]
fn nobody_is_busy_without_a_cause() {
    let busy = "200 201 c6 db0 | SMARTCACHE.GETLOCK a | BUSY nil nil 0 20\n";
    breaks(Rule::BusyHasACause, busy);
    for cause in [
        "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 300ms | MISS nil T 0 300",
        "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 300ms | left",
        "1 2 c5 db0 | SMARTCACHE.UNLOCK a T BACKOFF 200ms | 0",
        "1 2 c5 db0 | CONFIG SET smartcache.max-leases 4 | OK",
    ] {
        keeps(&format!("{cause}\n{busy}"));
        let over = "150 151 c5 db0 | SMARTCACHE.DEL a | 0";
        if cause.contains("MISS") {
            breaks(Rule::BusyHasACause, &format!("{cause}\n{over}\n{busy}"));
        }
    }
    let over = "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 50ms | MISS nil T 0 50";
    breaks(Rule::BusyHasACause, &format!("{over}\n{busy}"));
}

#[test]
fn nobody_is_parked_while_nobody_loads() {
    let history = |end: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 1000ms | MISS nil T 0 1000
             10 500 c6 db0 | SMARTCACHE.GETLOCK a WAIT 490ms LOCK 50ms | MISS nil U 0 50
             {end}"
        )
    };
    breaks(Rule::NobodyIsForgotten, &history("100 101 c5 db0 | SMARTCACHE.UNLOCK a T | 1"));
    breaks(Rule::NobodyIsForgotten, &history("100 101 c5 db0 | SMARTCACHE.DEL a | 0"));
    keeps(&history("450 451 c5 db0 | SMARTCACHE.UNLOCK a T | 1"));
}

#[test]
fn the_first_waiter_is_the_next_to_load() {
    let history = |waited_until: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 1000ms | MISS nil T 0 1000
             10 {waited_until} c6 db0 | SMARTCACHE.GETLOCK a WAIT 490ms LOCK 50ms | BUSY nil nil 0 20
             100 101 c5 db0 | SMARTCACHE.UNLOCK a T | 1
             120 121 c7 db0 | SMARTCACHE.GETLOCK a LOCK 900ms | MISS nil U 0 900"
        )
    };
    breaks(Rule::FirstInLine, &history("500"));
    keeps(&history("130"));
    // Its value was stored after the other caller had got the lease.
    let served = |sent: &str| {
        let store = format!("{sent} 124 c7 db0 | SMARTCACHE.SET a a@1#1 PX 700 TOKEN U | OK");
        history("125").replace("BUSY nil nil 0 20", "HIT a@1#1 nil 700 0") + "\n" + &store
    };
    breaks(Rule::FirstInLine, &served("122"));
    keeps(&served("120.5"));
}

#[test]
fn a_store_answers_all_waiters() {
    let history = |waited_until: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 1000ms | MISS nil T 0 1000
             10 {waited_until} c6 db0 | SMARTCACHE.GETLOCK a WAIT 490ms LOCK 50ms | HIT a@1#1 nil 300 0
             100 101 c5 db0 | SMARTCACHE.SET a a@1#1 PX 700 TOKEN T | OK
             102 103 c7 db0 | SMARTCACHE.GETLOCK a LOCK 900ms | HIT a@1#1 U 5 900"
        )
    };
    breaks(Rule::AStoreAnswersAll, &history("500"));
    keeps(&history("104"));
}

#[test]
fn counters_add_up_and_are_what_the_clients_have_seen() {
    let history = |stats: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK a LOCK 20ms | MISS nil T 0 20
             3 4 c5 db0 | SMARTCACHE.SET a a@1#1 PX 100 TOKEN T | OK
             5 6 c5 db0 | SMARTCACHE.GET a | a@1#1
             9 9 c0 db0 | SMARTCACHE.STATS | {stats}"
        )
    };
    let right = "requests=2 hits=1 misses=1 misses_cold=1 leases_granted=1 fills=1 waits=0";
    keeps(&history(right));
    for (from, to) in [
        ("requests=2", "requests=3"),
        ("fills=1", "fills=1 leases_expired=1"),
        ("fills=1", "fills=1 leases=1"),
        ("fills=1", "fills=1 waiters=1"),
        ("waits=0", "waits=1"),
        ("requests=2 hits=1", "requests=3 hits=2"),
        ("leases_granted=1 fills=1", "leases_granted=2 fills=2"),
        ("waits=0", "waits=0 fills_unknown=1"),
    ] {
        breaks(Rule::CountersAddUp, &history(&right.replace(from, to)));
    }
}
