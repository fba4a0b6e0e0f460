use proptest::prelude::*;

use super::*;

#[test]
fn durations_are_seconds_unless_they_have_a_unit() {
    for (text, ms) in [
        ("0", 0),
        ("30", 30_000),
        ("0.5", 500),
        ("250ms", 250),
        ("1.5s", 1_500),
        ("5m", 300_000),
        ("0.5H", 1_800_000),
        ("7d", 604_800_000),
        ("2MS", 2),
        ("007", 7_000),
        ("36500d", MAX_DURATION_MS),
    ] {
        assert_eq!(parse_duration(text.as_bytes()), Ok(ms), "{text}");
    }
}

#[test]
fn a_duration_is_rounded_to_the_nearest_millisecond_but_never_to_nothing() {
    for (text, ms) in [
        ("0.29", 290),
        ("0.30000000000000004", 300),
        ("0.0004", 1),
        ("0.4ms", 1),
        ("1.4ms", 1),
        ("1.5ms", 2),
        ("0.0000000000000000000000000000001", 1),
        ("0.000000000000000000000000000000", 0),
        ("59.9999999999999999999999999999m", 3_600_000),
    ] {
        assert_eq!(parse_duration(text.as_bytes()), Ok(ms), "{text}");
    }
}

#[test]
fn only_a_plain_decimal_with_or_without_a_unit_is_a_duration() {
    for text in [
        "", " ", "s", "ms", "-1", "-0", "+5", "1e3", "NaN", "inf", "0x10", " 5", "5 ", "5 s", "5\n", "1.", ".5", "1.s",
        "1..2", "1.2.3", "5w", "5sm", "1h30m", "5s\0", "٣", "1_000", "1,5",
    ] {
        assert_eq!(parse_duration(text.as_bytes()), Err(UnitError::NotDuration), "{text:?}");
    }
}

#[test]
fn a_duration_beyond_a_hundred_years_is_too_long_however_it_is_written() {
    let digits = "9".repeat(5_000);
    for text in ["36500.0000001d", "3153600000001ms", "18446744073709551616", "184467440737095516160d", &digits] {
        assert_eq!(parse_duration(text.as_bytes()), Err(UnitError::DurationTooLong), "{text}");
    }
}

#[test]
fn fractions_are_decimals_or_percentages_up_to_one() {
    for (text, fraction) in [("0", 0.0), ("1", 1.0), ("0.1", 0.1), ("10%", 0.1), ("29%", 0.29), ("12.5%", 0.125)] {
        assert_eq!(parse_fraction(text.as_bytes()), Ok(fraction), "{text}");
    }
    for text in ["", "%", "-0.1", "1e-1", "0.1%%", "10 %", "ten", ".1", "inf"] {
        assert_eq!(parse_fraction(text.as_bytes()), Err(UnitError::NotFraction), "{text:?}");
    }
    for text in ["1.1", "100.1%", "9".repeat(400).as_str()] {
        assert_eq!(parse_fraction(text.as_bytes()), Err(UnitError::FractionTooLarge), "{text}");
    }
}

#[test]
fn numbers_are_finite_and_not_negative() {
    for (text, number) in [("0", 0.0), ("2", 2.0), ("0.75", 0.75), ("1000000", MAX_NUMBER)] {
        assert_eq!(parse_number(text.as_bytes()), Ok(number), "{text}");
    }
    for text in ["", "-1", "+1", "1e3", "nan", "inf", "1.", "1x", "0x1", "1 "] {
        assert_eq!(parse_number(text.as_bytes()), Err(UnitError::NotNumber), "{text:?}");
    }
    for text in ["1000000.5", "9".repeat(400).as_str()] {
        assert_eq!(parse_number(text.as_bytes()), Err(UnitError::NumberTooLarge), "{text}");
    }
}

#[test]
fn sizes_read_as_in_the_servers_own_configuration() {
    for (text, bytes) in [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("64k", 64_000),
        ("64kb", 65_536),
        ("3M", 3_000_000),
        ("512MB", 536_870_912),
        ("1g", 1_000_000_000),
        ("1gb", 1_073_741_824),
    ] {
        assert_eq!(parse_bytes(text.as_bytes()), Ok(bytes), "{text}");
    }
    for text in ["", "kb", "-1", "1.5kb", "1tb", "1 kb", "0x1", "+1"] {
        assert_eq!(parse_bytes(text.as_bytes()), Err(UnitError::NotBytes), "{text:?}");
    }
    for text in ["9223372036854775808", "8589934592gb", "99999999999999999999999999999999999999999"] {
        assert_eq!(parse_bytes(text.as_bytes()), Err(UnitError::BytesTooLarge), "{text}");
    }
}

#[test]
fn an_integer_has_one_spelling() {
    for number in [0, 1, -1, 42, i64::MAX, i64::MIN] {
        assert_eq!(parse_int(number.to_string().as_bytes()), Ok(number));
    }
    for text in ["", "-", "+5", "-0", "00", "01", " 1", "1 ", "1.0", "1e3", "9223372036854775808", "0x1", "--1"] {
        assert_eq!(parse_int(text.as_bytes()), Err(UnitError::NotInteger), "{text:?}");
    }
}

#[test]
fn texts_are_the_shortest_exact_ones() {
    for (ms, text, seconds) in [
        (0, "0", "0"),
        (1, "1ms", "0.001"),
        (250, "250ms", "0.25"),
        (1_500, "1500ms", "1.5"),
        (90_000, "90s", "90"),
        (3_600_000, "1h", "3600"),
        (DAY, "1d", "86400"),
        (MAX_DURATION_MS, "36500d", "3153600000"),
    ] {
        assert_eq!((format_duration(ms).as_str(), format_seconds(ms).as_str()), (text, seconds));
    }
    for (fraction, text) in [(0.0, "0"), (0.2, "20%"), (0.29, "29%"), (0.125, "12.5%"), (1.0, "100%")] {
        assert_eq!(format_fraction(fraction), text);
    }
    for (bytes, text) in [(0, "0"), (64, "64"), (1_000, "1000"), (65_536, "64kb"), (512 << 20, "512mb")] {
        assert_eq!(format_bytes(bytes), text);
    }
}

#[test]
fn a_quoted_value_is_one_short_printable_line() {
    assert_eq!(quote(b"abc"), "'abc'");
    assert_eq!(quote(b"a\r\nb\0\xff'"), r"'a\r\nb\x00\xff\''");
    assert_eq!(quote(&[b'x'; 100]).len(), 69);
}

proptest! {
    #[test]
    fn every_duration_reads_back_as_it_was_written(ms in 0..=MAX_DURATION_MS) {
        prop_assert_eq!(parse_duration(format_duration(ms).as_bytes()), Ok(ms));
        prop_assert_eq!(parse_duration(format_seconds(ms).as_bytes()), Ok(ms));
    }

    #[test]
    fn every_fraction_number_size_and_integer_reads_back(
        fraction in 0.0..=1.0_f64, percent in 0..=10_000_u32, number in 0.0..=MAX_NUMBER, bytes in 0..=i64::MAX as u64,
        int: i64,
    ) {
        let percent = f64::from(percent) / 10_000.0;
        prop_assert_eq!(parse_fraction(format_fraction(fraction).as_bytes()), Ok(fraction));
        prop_assert_eq!(parse_fraction(format_fraction(percent).as_bytes()), Ok(percent));
        prop_assert_eq!(parse_number(format_number(number).as_bytes()), Ok(number));
        prop_assert_eq!(parse_bytes(format_bytes(bytes).as_bytes()), Ok(bytes));
        prop_assert_eq!(parse_int(int.to_string().as_bytes()), Ok(int));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes: Vec<u8>, texty in "[0-9.%+eEsmhdkgbxinfa -]{0,40}") {
        for text in [&bytes[..], texty.as_bytes()] {
            if let Ok(ms) = parse_duration(text) {
                prop_assert!(ms <= MAX_DURATION_MS);
            }
            if let Ok(fraction) = parse_fraction(text) {
                prop_assert!((0.0..=1.0).contains(&fraction));
            }
            if let Ok(number) = parse_number(text) {
                prop_assert!((0.0..=MAX_NUMBER).contains(&number));
            }
            let _ = (parse_bytes(text), parse_int(text), quote(text));
        }
    }
}
