use super::*;
use proptest::prelude::*;

fn at_ms(ms: u64) -> Now {
    Now::from_us(ms * 1_000)
}

fn value(fresh_until: u64, swr: u64, sie: u64) -> Entry {
    Entry::new(Parts {
        stamp: Stamp(1),
        fresh_until: Some(fresh_until),
        absent: false,
        stale: false,
        swr,
        sie,
        load_ms: None,
        codec: 0,
        raw_len: 1,
        rule: RuleId(0),
        tags: &[],
        stored: b"v",
    })
}

/// An entry that holds these tags.
pub(in crate::cache) fn holding(stamp: u64, tags: &[TagId]) -> Entry {
    Entry::new(Parts {
        stamp: Stamp(stamp),
        fresh_until: None,
        absent: false,
        stale: false,
        swr: 0,
        sie: 0,
        load_ms: None,
        codec: 0,
        raw_len: 0,
        rule: RuleId(0),
        tags,
        stored: b"",
    })
}

#[test]
fn an_entry_is_fresh_then_stale_then_dead() {
    let entry = value(1_000, 500, 2_000);
    let judged = |ms| entry.as_ref().freshness(at_ms(ms));
    assert_eq!(judged(999), Freshness::Fresh { left_ms: Some(1) });
    assert_eq!(judged(1_000), Freshness::Stale { in_swr: true });
    assert_eq!(judged(1_500), Freshness::Stale { in_swr: false });
    assert_eq!(judged(3_000), Freshness::Dead);
    assert_eq!(entry.as_ref().gone_at(), Some(3_000));
}

#[test]
fn freshness_ended_by_command_does_not_come_back_when_the_clock_steps_back() {
    let mut entry = value(10_000, 500, 0);
    entry.as_mut().make_stale(at_ms(5_000));
    assert_eq!(entry.as_ref().freshness(at_ms(4_000)), Freshness::Stale { in_swr: true });
    assert_eq!(entry.as_ref().freshness(at_ms(5_500)), Freshness::Dead);
}

#[test]
fn ending_freshness_twice_does_not_move_the_windows() {
    let mut entry = value(1_000, 500, 0);
    entry.as_mut().make_stale(at_ms(1_400));
    assert_eq!(entry.as_ref().freshness(at_ms(1_500)), Freshness::Dead);
}

#[test]
fn a_killed_entry_is_dead_even_inside_a_window_of_a_hundred_years() {
    let mut entry = value(10_000, u64::MAX, 0);
    entry.as_mut().kill();
    assert_eq!(entry.as_ref().freshness(at_ms(5_000)), Freshness::Dead);
    assert_eq!(entry.as_ref().freshness(at_ms(0)), Freshness::Dead);
}

#[test]
fn an_entry_of_a_later_versions_codec_is_dead_for_this_version() {
    let entry = Entry::new(Parts { codec: 200, fresh_until: None, stale: false, ..sample(&[]) });
    assert_eq!(entry.as_ref().freshness(at_ms(0)), Freshness::Dead);
}

#[test]
fn an_absent_entry_has_no_windows() {
    let mut parts = Parts { absent: true, stored: b"", raw_len: 0, ..sample(&[]) };
    parts.fresh_until = Some(1_000);
    let entry = Entry::new(parts);
    assert_eq!(entry.as_ref().freshness(at_ms(1_000)), Freshness::Dead);
    assert_eq!(entry.as_ref().gone_at(), Some(1_000));
}

#[test]
fn a_plain_entry_costs_24_bytes_beyond_its_value() {
    assert_eq!(value(1, 0, 0).into_bytes().len(), HEADER + 1);
}

fn sample(tags: &[TagId]) -> Parts<'_> {
    Parts {
        stamp: Stamp(7),
        fresh_until: None,
        absent: false,
        stale: true,
        swr: 5,
        sie: 6,
        load_ms: Some(8),
        codec: 2,
        raw_len: 99,
        rule: RuleId(3),
        tags,
        stored: b"stored",
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        stamp: u64,
        fresh_until in proptest::option::of(0..=LAST_MOMENT),
        absent: bool, stale: bool,
        swr in 0..=LAST_MOMENT, sie in 0..=LAST_MOMENT,
        load_ms: Option<u32>, codec in 0u8..9, raw_len: u32, rule: u16,
        ids in proptest::collection::vec(any::<u32>(), 0..=MAX_TAGS),
        stored in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let tags: Vec<_> = ids.iter().map(|id| TagId(*id)).collect();
        let parts = Parts {
            stamp: Stamp(stamp), fresh_until, absent, stale, swr, sie, load_ms, codec, raw_len,
            rule: RuleId(rule), tags: &tags, stored: &stored,
        };
        let entry = Entry::new(parts);
        let e = entry.as_ref();
        prop_assert_eq!(e.stamp(), parts.stamp);
        prop_assert_eq!(e.fresh_until(), fresh_until);
        prop_assert_eq!((e.absent(), e.stale()), (absent, stale));
        prop_assert_eq!(e.windows(), (swr, sie));
        prop_assert_eq!(e.load_ms(), load_ms);
        prop_assert_eq!(e.codec_number(), codec);
        prop_assert_eq!(e.raw_len(), if codec == 0 { stored.len() } else { raw_len as usize });
        prop_assert_eq!(e.rule(), RuleId(rule));
        prop_assert_eq!(e.tags().collect::<Vec<_>>(), tags);
        prop_assert_eq!(e.stored(), &stored[..]);
        let mut header = [0; HEADER];
        header.copy_from_slice(&e.allocation()[..HEADER]);
        prop_assert_eq!(allocation_len(&header), e.allocation().len());
    }
}
