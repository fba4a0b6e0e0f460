//! How large the tables of fixed size are, which remember moments by a hash of a name.

/// Slots of a table on a server without a limit of memory, or a large one: 2 MB of numbers.
const MOST_SLOTS: u64 = 1 << 18;
/// Slots on the smallest server: 8 KB.
const FEWEST_SLOTS: u64 = 1 << 10;
/// Bytes of `maxmemory` for each slot: a table of numbers takes 0.3 to 0.6 % of it.
const BYTES_PER_SLOT: u64 = 2_048;

/// How many slots a table gets that is allocated now, on a server with this `maxmemory` (0: no limit).
pub fn slots_for(memory: u64) -> usize {
    if memory == 0 {
        return MOST_SLOTS as usize;
    }
    // The nearest power of two, by ratio.
    let nearest = (memory / BYTES_PER_SLOT * 3 / 4).max(1).next_power_of_two();
    nearest.clamp(FEWEST_SLOTS, MOST_SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_noticeable_part_of_memory_and_full_size_on_a_large_server() {
        let mb = |n: u64| n << 20;
        for (memory, slots) in
            [(0, 1 << 18), (mb(1), 1 << 10), (mb(11), 1 << 13), (mb(512), 1 << 18), (mb(9_999), 1 << 18)]
        {
            assert_eq!(slots_for(memory), slots, "{memory}");
        }
        for megabytes in 3..512 {
            let share = slots_for(mb(megabytes)) as f64 * 8.0 / mb(megabytes) as f64;
            assert!((0.0025..0.006).contains(&share), "{megabytes} MB: {share}");
        }
    }
}
