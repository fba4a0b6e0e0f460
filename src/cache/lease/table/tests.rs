use super::*;
use crate::cache::clock::Stamp;
use crate::cache::stats::miss_reasons::MissReasons;
use crate::cache::stats::{Counters, Stats};

const KEY: &[u8] = b"k";

type Counted = fn(&Counters) -> u64;

fn at(ms: u64) -> Now {
    Now::from_us(ms * 1_000)
}

/// A lease of this connection that ends then.
fn lease(client: u64, until_ms: u64) -> Lease {
    let token = Token { stamp: Stamp(client), mono_ms: 0 };
    Lease { token, until_ms, client, user: "ada".into(), owner: None, rule: RuleId(7), early: false }
}

fn nothing() -> (Leases, Stats) {
    (Leases::default(), Stats::new(at(0), 0, Arc::new(MissReasons::new([0; 16]))))
}

fn leased(until_ms: u64) -> (Leases, Stats) {
    let (mut leases, mut stats) = nothing();
    leases.grant(0, KEY, lease(1, until_ms), &mut stats.at(at(0)));
    (leases, stats)
}

fn park(leases: &mut Leases, client: u64, wait_ms: u64) -> WaiterId {
    leases.park((0, KEY), (client, "ada".into()), wait_ms, WaitOptions::default(), at(0))
}

#[test]
fn a_lease_ends_once_and_is_counted_by_how_it_ended() {
    let ends: [(LeaseEnd, Counted); 7] = [
        (LeaseEnd::Filled, |count| count.fills),
        (LeaseEnd::FilledStale, |count| count.fills_stale),
        (LeaseEnd::FilledLost, |count| count.fills_lost),
        (LeaseEnd::Failed, |count| count.fills_failed),
        (LeaseEnd::Released, |count| count.leases_released),
        (LeaseEnd::Voided, |count| count.leases_voided),
        (LeaseEnd::Expired, |count| count.leases_expired),
    ];
    for (how, counted) in ends {
        let (mut leases, mut stats) = leased(9);
        assert_eq!((leases.live(), leases.of_rule(RuleId(7))), (1, 1));
        assert!(leases.end(0, KEY, how, &mut stats.at(at(0))));
        assert!(!leases.end(0, KEY, how, &mut stats.at(at(0))), "{how:?}");
        let count = *stats.at(at(0)).of(RuleId(7));
        assert_eq!((counted(&count), count.leases_granted), (1, 1));
        assert_eq!((leases.live(), leases.of_rule(RuleId(7))), (0, 0));
        assert!(leases.is_idle());
        leases.validate();
    }
}

#[test]
fn a_waiter_is_answered_once_and_counted_by_how_its_wait_ended() {
    let ends: [(WaitOutcome, Counted); 4] = [
        (WaitOutcome::Served, |count| count.waits_served),
        (WaitOutcome::Promoted, |count| count.waits_promoted),
        (WaitOutcome::TimedOut, |count| count.waits_timed_out),
        (WaitOutcome::Dropped, |count| count.waits_dropped),
    ];
    for (how, counted) in ends {
        let (mut leases, mut stats) = leased(9);
        let id = park(&mut leases, 2, 5);
        leases.validate();
        leases.answer(id, how, Answer::ask_again(), &mut stats.at(at(3)));
        leases.answer(id, how, Answer::ask_again(), &mut stats.at(at(4)));
        assert!(!leases.leave(id, WaitOutcome::Dropped, &mut stats.at(at(4))), "it has been answered");
        assert_eq!(leases.next_answer(), Some((id, Answer::ask_again())));
        assert_eq!(leases.next_answer(), None, "{how:?}");
        let count = *stats.at(at(4)).of(RuleId(7));
        assert_eq!((counted(&count), count.waits), (1, 1), "for the rule of the lease");
        leases.validate();
    }
}

#[test]
fn whoever_leaves_is_not_answered() {
    let (mut leases, mut stats) = leased(9);
    let ids = [2, 3, 4].map(|client| park(&mut leases, client, 5));
    assert!(leases.leave(ids[1], WaitOutcome::Dropped, &mut stats.at(at(1))));
    leases.answer(ids[1], WaitOutcome::Served, Answer::ask_again(), &mut stats.at(at(2)));
    assert!(!leases.has_answers());
    assert_eq!(leases.first_waiter(0, KEY), Some(ids[0]));
    leases.leave(ids[0], WaitOutcome::Dropped, &mut stats.at(at(1)));
    assert_eq!((leases.first_waiter(0, KEY), leases.waiting()), (Some(ids[2]), 1));
    leases.validate();
}

#[test]
fn an_answer_can_be_taken_out_of_turn() {
    let (mut leases, mut stats) = leased(9);
    let ids = [2, 3].map(|client| park(&mut leases, client, 5));
    ids.iter().for_each(|id| leases.answer(*id, WaitOutcome::Served, Answer::ask_again(), &mut stats.at(at(1))));
    assert_eq!(leases.take_answer(ids[1]), Some(Answer::ask_again()));
    assert_eq!(leases.take_answer(ids[1]), None);
    assert_eq!(leases.next_answer().map(|(id, _)| id), Some(ids[0]));
}

#[test]
fn what_comes_due_comes_in_order_and_stays_due_until_it_is_dealt_with() {
    let (mut leases, mut stats) = leased(30);
    let id = park(&mut leases, 2, 20);
    leases.grant(1, KEY, lease(3, 10), &mut stats.at(at(0)));
    leases.back_off(0, b"failed", 40);
    assert_eq!((leases.next_due(), leases.due_now(at(9))), (Some(10), None));
    for _ in 0..2 {
        assert_eq!(leases.due_now(at(50)), Some(Deadline::Key(1, KEY.into())));
    }
    leases.end(1, KEY, LeaseEnd::Expired, &mut stats.at(at(0)));
    assert_eq!(leases.due_now(at(50)), Some(Deadline::Waiter(id)));
    leases.leave(id, WaitOutcome::TimedOut, &mut stats.at(at(50)));
    assert_eq!(leases.due_now(at(50)), Some(Deadline::Key(0, KEY.into())));
    leases.end(0, KEY, LeaseEnd::Expired, &mut stats.at(at(0)));
    assert_eq!(leases.due_now(at(50)), Some(Deadline::Key(0, b"failed"[..].into())));
    leases.end_backoff(0, b"failed");
    assert_eq!((leases.next_due(), leases.is_idle()), (None, true));
    leases.validate();
}

#[test]
fn a_lease_that_is_extended_is_due_then_and_not_before() {
    let (mut leases, mut stats) = leased(10);
    leases.extend(0, KEY, 30);
    assert_eq!(leases.next_due(), Some(30));
    leases.extend(0, KEY, 5);
    assert_eq!(leases.next_due(), Some(5));
    leases.validate();
    leases.end(0, KEY, LeaseEnd::Filled, &mut stats.at(at(0)));
    leases.extend(0, KEY, 50);
    assert_eq!(leases.next_due(), None, "what has ended is not revived");
}

#[test]
fn a_second_back_off_replaces_the_first() {
    let mut leases = Leases::default();
    leases.back_off(0, KEY, 50);
    leases.back_off(0, KEY, 20);
    assert_eq!((leases.backoff_ms(0, KEY, at(5)), leases.next_due()), (Some(15), Some(20)));
    assert_eq!(leases.backoff_ms(0, KEY, at(20)), None);
    leases.validate();
}

#[test]
fn a_flush_ends_the_leases_and_back_offs_of_its_database_and_has_those_who_wait_for_them_woken() {
    for (db, named, left) in [(Some(0), 1, 1), (Some(1), 0, 2), (None, 1, 0)] {
        let (mut leases, mut stats) = leased(9);
        leases.grant(0, b"alone", lease(2, 9), &mut stats.at(at(0)));
        leases.grant(1, KEY, lease(3, 9), &mut stats.at(at(0)));
        leases.back_off(0, b"failed", 9);
        let id = park(&mut leases, 4, 9);
        leases.void(db, &mut stats.at(at(0)));
        assert_eq!(leases.live(), if db == Some(1) { 2 } else { left }, "{db:?}");
        assert_eq!(leases.backoff_ms(0, b"failed", at(0)).is_some(), db == Some(1));
        while leases.free_some() {}
        if named == 0 {
            continue;
        }
        assert_eq!(leases.due_now(at(0)), Some(Deadline::Key(0, KEY.into())));
        assert_eq!(leases.first_waiter(0, KEY), Some(id));
        leases.leave(id, WaitOutcome::Dropped, &mut stats.at(at(1)));
        leases.validate();
    }
}

#[test]
fn a_circle_is_seen_over_any_number_of_connections() {
    let (mut leases, mut stats) = nothing();
    let key = |n: u64| n.to_string().into_bytes();
    for n in 0..100 {
        leases.grant(0, &key(n), lease(n, 9), &mut stats.at(at(0)));
    }
    for n in 0..99 {
        assert!(leases.would_deadlock(0, &key(n), n), "for its own lease");
        assert!(!leases.would_deadlock(0, &key(n + 1), n));
        leases.park((0, &key(n + 1)), (n, "ada".into()), 5, WaitOptions::default(), at(0));
    }
    assert!((0..100).all(|n| leases.would_deadlock(0, &key(n), 99)));
    assert!(!leases.would_deadlock(0, &key(0), 1_000), "who holds nothing closes no circle");
    assert!(!leases.would_deadlock(1, &key(0), 99), "nobody loads that key of another database");
    leases.validate();
}

#[test]
fn after_a_burst_nothing_is_left_behind() {
    let (mut leases, mut stats) = nothing();
    let key = |n: u64| n.to_string().into_bytes();
    for n in 0..10_000 {
        leases.grant(0, &key(n), lease(n, 9), &mut stats.at(at(0)));
        leases.park((0, &key(n)), (10_000 + n, "ada".into()), 5, WaitOptions::default(), at(0));
    }
    for n in 0..10_000 {
        leases.end(0, &key(n), LeaseEnd::Expired, &mut stats.at(at(0)));
        let id = leases.first_waiter(0, &key(n)).unwrap();
        leases.answer(id, WaitOutcome::Served, Answer::ask_again(), &mut stats.at(at(9)));
    }
    while leases.next_answer().is_some() {}
    assert!(leases.is_idle() && leases.waiting() == 0 && leases.next_due().is_none() && leases.databases.is_empty());
    leases.validate();
}

#[test]
fn a_flush_of_any_number_of_leases_counts_them_at_once_and_leaves_their_memory_for_later() {
    let (mut leases, mut stats) = nothing();
    let key = |n: u64| n.to_string().into_bytes();
    for n in 0..1_000 {
        leases.grant(0, &key(n), lease(n, 9), &mut stats.at(at(0)));
        leases.back_off(0, &key(1_000 + n), 9);
    }
    leases.void(Some(0), &mut stats.at(at(0)));
    assert_eq!(stats.at(at(0)).of(RuleId(7)).leases_voided, 1_000);
    assert_eq!((leases.live(), leases.of_rule(RuleId(7)), leases.of_user("ada")), (0, 0, 0));
    assert!(leases.is_idle() && leases.next_due().is_none() && leases.oldest().is_none());
    leases.grant(0, &key(5), lease(1, 9), &mut stats.at(at(0)));
    leases.validate();
    let slices = std::iter::repeat_with(|| leases.free_some()).take_while(|more| *more).count();
    assert!(slices >= 2_000 / 64, "{slices}");
    assert!(!leases.has_remains());
    assert_eq!((leases.live(), stats.at(at(0)).of(RuleId(7)).leases_voided), (1, 1_000), "those that came later stay");
}

#[test]
fn who_waits_when_a_database_is_flushed_stays_in_line() {
    let (mut leases, mut stats) = leased(9);
    let first = park(&mut leases, 2, 5);
    let second = park(&mut leases, 3, 5);
    leases.void(None, &mut stats.at(at(0)));
    leases.void(None, &mut stats.at(at(0)));
    assert_eq!((leases.waiters_of(0, KEY), leases.first_waiter(0, KEY)), (2, Some(first)));
    assert_eq!(leases.due_now(at(0)), Some(Deadline::Key(0, KEY.into())), "they are woken");
    assert_eq!(leases.due_now(at(0)), None, "once");
    leases.leave(first, WaitOutcome::Served, &mut stats.at(at(1)));
    leases.leave(second, WaitOutcome::Served, &mut stats.at(at(1)));
    assert!(leases.is_idle());
}
