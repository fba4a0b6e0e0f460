//! For each rule of the judge histories that violate it, and some that nearly do.

use super::check::Rule;
use super::history::Step;
use super::judge::judge;

fn broken(lines: &str) -> Vec<Rule> {
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut all: Vec<Step> = lines.map(|line| Step::parse(line).unwrap_or_else(|| panic!("{line}"))).collect();
    all.sort_by_key(|step| step.sent);
    let mut rules: Vec<Rule> = judge(&all).into_iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[track_caller]
fn breaks(rule: Rule, lines: &str) {
    assert_eq!(broken(lines), [rule], "{lines}");
}

#[track_caller]
fn keeps(lines: &str) {
    assert_eq!(broken(lines), [], "{lines}");
}

/// A value with tags `t1` and `of:1` is stored, `event` happens, and it is served as fresh at 30 ms.
fn then_fresh(event: &str) -> String {
    format!(
        "1 2 c5 db0 | SMARTCACHE.SET u:1 u:1#1 PX 5000 SWR 500ms TAGS 1 t1 | OK
         {event}
         30 31 c7 db0 | SMARTCACHE.GET u:1 | u:1#1"
    )
}

#[test]
fn an_invalidated_entry_is_not_served_as_fresh() {
    for names in ["TAGS 1 t1", "TAGS 2 t3 of:1", "PREFIXES 1 u:", "PREFIXES 2 v: u:1", "PATTERNS 1 *:[13]", "ALL"] {
        let invalidated = |how: &str| then_fresh(&format!("10 11 c6 db0 | SMARTCACHE.INVALIDATE {names}{how} | 1"));
        breaks(Rule::EndedIsNotFresh, &invalidated(""));
        breaks(Rule::EndedIsNotFresh, &invalidated(" SOFT"));
        breaks(Rule::EndedIsNotFresh, &invalidated(" GUARD 5ms WAIT 1ms"));
        keeps(&invalidated(" SOFT OVER 50ms"));
        keeps(&invalidated("").replace("c6 db0", "c6 db1"));
        keeps(&invalidated("").replace("10 11 ", "10 30.5 "));
        keeps(&invalidated("").replace("10 11 ", "1.5 11 "));
        keeps(&invalidated("").replace("| 1\n", "| gone\n"));
        for read in
            ["GETLOCK u:1 | HIT u:1#1 nil 50 0", "GET u:1 STATE | HIT u:1#1 nil 50 0", "MGET v:1 u:1 | nil u:1#1"]
        {
            breaks(Rule::EndedIsNotFresh, &invalidated("").replace("GET u:1 | u:1#1", read));
        }
    }
    for names in ["TAGS 1 t2", "TAGS 1 of:2", "PREFIXES 1 v:", "PATTERNS 1 ?:2"] {
        keeps(&then_fresh(&format!("10 11 c6 db0 | SMARTCACHE.INVALIDATE {names} | 1")));
    }
}

#[test]
fn a_ramp_ends_within_its_duration() {
    let history = then_fresh("10 11 c6 db0 | SMARTCACHE.INVALIDATE ALL SOFT OVER 50ms | 1");
    breaks(Rule::EndedIsNotFresh, &history.replace("30 31", "300 301"));
}

#[test]
fn hard_is_not_served_as_stale_and_soft_only_within_the_windows() {
    let history = |how: &str, when: &str| {
        then_fresh(&format!("10 11 c6 db0 | SMARTCACHE.INVALIDATE TAGS 1 t1{how} | 1")).replace(
            "30 31 c7 db0 | SMARTCACHE.GET u:1 | u:1#1",
            &format!("{when} c7 db0 | SMARTCACHE.GET u:1 STALE | u:1#1"),
        )
    };
    breaks(Rule::EndedIsNotServed, &history("", "30 31"));
    keeps(&history(" SOFT", "30 31"));
    keeps(&history(" SOFT", "700 701"));
    breaks(Rule::EndedIsNotServed, &history(" SOFT", "720 721"));
}

#[test]
fn the_begin_of_the_load_counts() {
    let load = |claim: &str, inv: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK u:1 | MISS nil T 0 300
             1 2 c8 db0 | SMARTCACHE.STAMP | S
             {inv} c6 db0 | SMARTCACHE.INVALIDATE TAGS 1 t1 GUARD 20ms | 0
             20 21 c5 db0 | SMARTCACHE.SET u:1 u:1#1 PX 5000 TAGS 1 t1 {claim} | OK"
        )
    };
    for claim in ["TOKEN T", "SINCE S"] {
        breaks(Rule::DistrustedLoads, &load(claim, "10 11"));
        keeps(&load(claim, "10 11").replace("| OK", "| STALE"));
        // It began within the guard, or (with coarse clocks) perhaps after it.
        breaks(Rule::DistrustedLoads, &load(claim, "0.1 0.2"));
        keeps(&load(claim, "0.1 0.2").replace("20ms", "15ms"));
    }
    keeps(&load("", "10 11"));
}

#[test]
fn an_invalidated_entry_stays_invalidated_wherever_it_moves() {
    let inv = "10 11 c6 db0 | SMARTCACHE.INVALIDATE PREFIXES 1 u: | 0\n";
    let moved = "15 16 c6 db0 | RENAME u:1 v:1 | OK\n";
    let read = |history: String, db: u8| {
        history.replace("c7 db0 | SMARTCACHE.GET u:1", &format!("c7 db{db} | SMARTCACHE.GET v:1"))
    };
    breaks(Rule::EndedIsNotFresh, &read(then_fresh(&format!("{inv}{moved}")), 0));
    breaks(Rule::EndedIsNotFresh, &read(then_fresh(&format!("{inv}{}", moved.replace("RENAME", "COPY"))), 1));
    // It had moved before.
    keeps(&read(then_fresh(&format!("{inv}{}", moved.replace("15 16", "5 6"))), 0));
    // A selector that names it where it is counts, whenever it arrived there.
    let by_new_name = inv.replace("PREFIXES 1 u:", "PREFIXES 1 v:");
    breaks(Rule::EndedIsNotFresh, &read(then_fresh(&format!("{by_new_name}{moved}")), 0));
}

#[test]
fn a_guard_applies_to_loads_and_not_to_moved_entries() {
    let history = |db: u8| {
        format!(
            "1 2 c6 db0 | SMARTCACHE.INVALIDATE ALL GUARD 100ms | 0
             3 4 c5 db{db} | SMARTCACHE.GETLOCK u:1 | MISS nil T 0 300
             5 6 c5 db{db} | SMARTCACHE.SET u:1 u:1#1 PX 5000 TOKEN T | OK
             7 8 c5 db{db} | COPY u:1 v:1 DB 0 | 1
             9 10 c5 db0 | SMARTCACHE.GET v:1 | u:1#1"
        )
    };
    keeps(&history(1));
    assert_eq!(broken(&history(0)), [Rule::EndedIsNotFresh, Rule::DistrustedLoads]);
}

#[test]
fn swapped_databases_keep_their_invalidations() {
    let inv = "10 11 c6 db0 | SMARTCACHE.INVALIDATE ALL | 1\n";
    let swap = "15 16 c0 db0 | SWAPDB 0 1 | OK\n";
    keeps(&then_fresh(&format!("{}{inv}", swap.replace("15 16", "8 9"))).replace("c7 db0", "c7 db1"));
    breaks(Rule::EndedIsNotFresh, &then_fresh(&format!("{inv}{swap}")).replace("c7 db0", "c7 db1"));
    keeps(&then_fresh(&format!("{inv}{}", swap.replace("15 16", "29 32"))).replace("c7 db0", "c7 db1"));
}

#[test]
fn a_failover_may_lose_only_what_was_not_confirmed() {
    let inv = "10 11 c6 db0 | SMARTCACHE.INVALIDATE ALL | 1\n";
    let confirmed = "12 13 c6 db0 | WAIT 1 500 | 1\n";
    let lost = "15 16 c0 db0 | FAILOVER | done\n";
    keeps(&then_fresh(&format!("{inv}{lost}")));
    keeps(&then_fresh(&format!("{inv}{}{lost}", confirmed.replace("| 1", "| 0"))));
    breaks(Rule::EndedIsNotFresh, &then_fresh(&format!("{inv}{confirmed}{lost}")));
    breaks(Rule::EndedIsNotFresh, &then_fresh(&format!("{inv}{}", lost.replace("FAILOVER", "HANDOVER"))));
    breaks(Rule::EndedIsNotFresh, &then_fresh(&format!("{inv}{}", lost.replace("FAILOVER", "CRASH"))));
    let of_replica = |history: String| history.replace("| SMARTCACHE.GET", "| REPLICA SMARTCACHE.GET");
    keeps(&of_replica(then_fresh(inv)));
    breaks(Rule::EndedIsNotFresh, &of_replica(then_fresh(&format!("{inv}{confirmed}"))));
}

#[test]
fn an_absence_is_invalidated_too() {
    let history = |inv: &str| {
        format!(
            "1 2 c5 db0 | SMARTCACHE.ABSENT w:1 PX 500 TAGS 1 t1 | OK
             {inv}
             30 31 c7 db0 | SMARTCACHE.GETLOCK w:1 | ABSENT nil nil 50 0"
        )
    };
    keeps(&history(""));
    for command in ["SMARTCACHE.INVALIDATE TAGS 1 t1 | 1", "SMARTCACHE.STALE w:1 | 1", "FLUSHDB SYNC | OK"] {
        breaks(Rule::EndedIsNotFresh, &history(&format!("10 11 c6 db0 | {command}")));
        keeps(&history(&format!("10 11 c6 db0 | {command}\n12 13 c6 db0 | SMARTCACHE.ABSENT w:1 PX 500 | OK")));
    }
}

#[test]
fn a_fill_that_is_sent_again_is_answered_as_it_was() {
    for what in ["SMARTCACHE.SET w:1 w:1#1 PX 500", "SMARTCACHE.ABSENT w:1 PX 500"] {
        keeps(&format!(
            "1 2 c5 db0 | SMARTCACHE.GETLOCK w:1 | MISS nil T 0 300
             3 4 c5 db0 | {what} TOKEN T | OK
             5 6 c6 db0 | SMARTCACHE.INVALIDATE ALL | 1
             7 8 c5 db0 | {what} TOKEN T | OK"
        ));
    }
}

#[test]
fn only_what_was_stored_is_served_and_no_error_is_a_surprise() {
    breaks(Rule::ServedWasStored, "1 2 c5 db0 | SMARTCACHE.GET u:1 | u:1#1");
    breaks(Rule::OneAnswerEach, "1 2 c5 db0 | SMARTCACHE.GET u:1 | error ERR what");
    breaks(Rule::OneAnswerEach, "1 2 c5 db0 | SMARTCACHE.GET u:1 | silence");
    keeps("1 2 c5 db0 | SMARTCACHE.GET u:1 | error LOADING Redis is loading");
}
