use rust_decimal::Decimal;
use time::Month;

use super::*;

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn only(text: &str) -> Meaning {
    let numbers = read(text);
    assert_eq!(numbers.len(), 1, "{text}: {numbers:?}");
    numbers.into_iter().next().unwrap().meaning
}

fn assert_quantity(text: &str, value: &str, tolerance: &str, unit: &Unit) {
    let Meaning::Quantity(shown, found) = only(text) else { panic!("{text}: {:?}", only(text)) };
    assert_eq!((shown.value, shown.tolerance), (decimal(value), decimal(tolerance)), "{text}");
    assert_eq!(&found, unit, "{text}");
}

#[test]
fn a_quantity_is_rounded_to_its_last_shown_digit() {
    use Unit::Unknown;
    for (text, value, tolerance) in [
        ("about 12,345 of them", "12345", "0.5"),
        ("12345", "12345", "0.5"),
        ("12,300", "12300", "50"),
        ("12,000", "12000", "500"),
        ("10,000", "10000", "500"),
        ("10", "10", "0.5"),
        ("7", "7", "0.05"),
        ("0.50", "0.5", "0.005"),
        ("1.2M", "1200000", "50000"),
        ("2 million", "2000000", "50000"),
        ("1.25 billion", "1250000000", "5000000"),
        ("3k", "3000", "50"),
        ("4.7bn", "4700000000", "50000000"),
        ("forty-one", "41", "0.5"),
        ("three hundred and five", "305", "0.5"),
        ("Two million three hundred thousand", "2300000", "50000"),
        ("12", "12", "0.5"),
    ] {
        assert_quantity(text, value, tolerance, &Unknown);
    }
}

#[test]
fn a_unit_is_read_with_its_number() {
    let money = |code: &str| Unit::Money(code.to_owned());
    for (text, value, tolerance, unit) in [
        ("12.5%", "12.5", "0.05", Unit::Percent),
        ("40 %", "40", "0.5", Unit::Percent),
        ("3 percent", "3", "0.5", Unit::Percent),
        ("3.25 per cent", "3.25", "0.005", Unit::Percent),
        ("250 ms", "250", "5", Unit::Duration),
        ("2.6 seconds", "2600", "50", Unit::Duration),
        ("2.6s", "2600", "50", Unit::Duration),
        ("1.0 minutes", "60000", "3000", Unit::Duration),
        ("1,234.50 EUR", "1234.5", "0.005", money("EUR")),
        ("EUR 1,234.50", "1234.5", "0.005", money("EUR")),
        ("EUR1,234.50", "1234.5", "0.005", money("EUR")),
        ("€1.2 million", "1200000", "50000", money("EUR")),
        ("4.0bn KRW", "4000000000", "50000000", money("KRW")),
        ("1,236 deposits", "1236", "0.5", Unit::Count),
        ("1,236 EUR deposits", "1236", "0.5", Unit::Count),
    ] {
        assert_quantity(text, value, tolerance, &unit);
    }
}

#[test]
fn dates_times_ranks_and_percentiles_are_read() {
    let day = |month, day| Meaning::Day(Date::from_calendar_date(2026, month, day).unwrap());
    for (text, meaning) in [
        ("on 2026-03-29.", day(Month::March, 29)),
        ("29 March 2026", day(Month::March, 29)),
        ("the 29th of March 2026", day(Month::March, 29)),
        ("March 29, 2026", day(Month::March, 29)),
        ("March 29", Meaning::DayOfMonth(29, Month::March)),
        ("29 Mar", Meaning::DayOfMonth(29, Month::March)),
        ("March 2026", Meaning::Month(2026, Month::March)),
        ("2026-03", Meaning::Month(2026, Month::March)),
        ("at 14:30", Meaning::TimeOfDay(52_200)),
        ("account 3 of KRW", Meaning::Rank(3)),
        ("p99", Meaning::Percentile(99)),
        ("the 99th percentile", Meaning::Percentile(99)),
        ("99 of 100", Meaning::Percentile(99)),
        ("90 out of 100", Meaning::Percentile(90)),
    ] {
        assert_eq!(only(text), meaning, "{text}");
    }
    let ranks: Vec<_> =
        read("accounts 1, 2 and 3 of EUR").into_iter().map(|number| number.meaning).collect();
    assert_eq!(ranks, [1, 2, 3].map(Meaning::Rank));
}

#[test]
fn numbers_in_other_forms_are_unreadable() {
    for text in [
        "1,5",
        "1.234,50",
        "1,23,456",
        "1.2.3",
        "1'000",
        "1_000",
        "10 000",
        "10\u{a0}000",
        "1e6",
        "2x",
        "3 times",
        "half",
        "twice",
        "doubled",
        "a third",
        "third of all",
        "a quarter of",
        "dozens",
        "thousands",
        "tenfold",
        "½",
        "٣",
        "１２",
        "x²",
        "Q3",
        "B2B",
        "12 bps",
        "2026-13-01",
        "31 February 2026",
        "hundred hundred hundred hundred hundred hundred hundred \
         hundred hundred hundred hundred hundred hundred hundred hundred hundred",
        "99999999999999999999999999999999",
        "9999999999999999999999999999 billion",
        "1%%2",
    ] {
        let numbers = read(text);
        let unreadable = numbers.iter().any(|number| number.meaning == Meaning::Unreadable);
        assert!(unreadable || text == "1%%2", "{text}: {numbers:?}");
    }
}

#[test]
fn words_that_are_no_numbers_are_not_read() {
    for text in
        ["one of them", "No one", "the third-largest", "a second account", "first", "May", "often"]
    {
        assert_eq!(read(text), [], "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
        let _ = read(&text);
    }

    #[test]
    fn no_text_of_numbers_and_words_makes_the_reader_panic(
        text in "((million|hundred|one|nine|and|March|account|p|EUR|%|ms|[0-9,.]{1,30}|:|-|\n)[ -]?){0,24}"
    ) {
        let _ = read(&text);
    }

    /// Every digit of a text belongs to a number that was read.
    #[test]
    fn each_digit_is_in_a_number(text in "([a-zA-Z0-9,.:% -]|€|KRW|½){0,60}") {
        let found: usize = read(&text)
            .iter()
            .map(|number| number.text.chars().filter(char::is_ascii_digit).count())
            .sum();
        proptest::prop_assert_eq!(found, text.chars().filter(char::is_ascii_digit).count());
    }
}
