use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{super::sample, *};

const NONE: [&str; 0] = [];

fn facts() -> Facts {
    Facts::of(&Digest::of(&sample::activity()))
}

fn assert_right(text: &str) {
    assert_eq!(facts().wrong_numbers(text), NONE, "{text}");
}

#[test]
fn a_figure_may_be_formatted_and_rounded() {
    for text in [
        "1,236 deposits brought in 123,456.70 EUR.",
        "About 1,240 deposits of EUR 123 thousand.",
        "€123.5k came in, and 98,765 EUR went out.",
        "KRW 4.0bn, or 4,000 million KRW, in 80,000 deposits.",
        "There were two currencies over four days.",
        "Most unusual was 31,234.56 EUR on 29 March, with a score of 12.4, above 3.5.",
        "The p99 is 2.6 s; the slowest took 62 seconds, about 1.0 minutes.",
        "99% settled within 2,643 ms.",
        "Between 2026-03-28 and 2026-04-01 in March 2026.",
    ] {
        assert_right(text);
    }
}

#[test]
fn the_stated_derivations_are_accepted() {
    for (text, what) in [
        ("1,653 movements in EUR", "the sum of both types"),
        ("222,222.13 EUR", "the sum of both types' amounts"),
        ("81,653 applied and 94 refused, 81,747 in all", "sums over currencies and reasons"),
        ("a net inflow of 24,691.27 EUR", "net"),
        ("74.8% of EUR movements were deposits", "a type's share"),
        ("0.1% were refused", "refused of decided"),
        ("88.3% of refusals", "a reason's share"),
        ("75% of KRW volume came on 29 March", "a day's share"),
        ("volume fell by 2,000,000,000 KRW, or 66.7%", "the change to the next day"),
        ("account 1 of EUR moved 90,000.00 EUR, 40.5%", "an account's share"),
        ("an average of 99.88 EUR a deposit", "an average per movement"),
        ("20,413 movements a day", "an average per day"),
        ("49.95% of EUR volume", "the listed accounts' share"),
    ] {
        assert_eq!(facts().wrong_numbers(text), NONE, "{what}: {text}");
    }
}

#[test]
fn an_invented_number_is_found() {
    for (text, wrong) in [
        ("1,237 deposits", "1,237"),
        ("123,456.71 EUR", "123,456.71 EUR"),
        ("123,456.70 USD", "123,456.70 USD"),
        ("some 1,300 deposits", "1,300"),
        ("80.5% of the movements", "80.5%"),
        ("on 27 March", "27 March"),
        ("in 2025", "2025"),
        ("April 2027", "2027"),
        ("account 4 of EUR", "4"),
        ("p95", "95"),
        ("90% of the amounts are small", "90%"),
        ("2.7 seconds", "2.7 seconds"),
        ("2,643 deposits", "2,643"),
        ("three currencies", "three"),
        ("it doubled", "doubled"),
        ("a 5-fold rise", "5"),
        ("123,4 thousand EUR", "123,4"),
        ("record 987654321", "987654321"),
    ] {
        assert_eq!(facts().wrong_numbers(text), [wrong], "{text}");
    }
}

#[test]
fn a_long_period_is_told_by_month() {
    let mut activity = sample::activity();
    activity.period.from = time::macros::datetime!(2025-06-01 00:00 +2);
    let digest = Digest::of(&activity);
    let eur = digest.currencies.first().unwrap();
    assert_eq!(eur.by_part.iter().map(|part| part.part.as_str()).collect::<Vec<_>>(), ["2026-03"]);
    let facts = Facts::of(&digest);
    assert_eq!(facts.wrong_numbers("March 2026, and July 2025"), NONE);
    assert_eq!(facts.wrong_numbers("500 deposits"), ["500"], "a day's figure is not told");
}

proptest! {
    /// A number that differs from every figure by more than rounding is found.
    #[test]
    fn a_number_far_from_all_figures_is_wrong(number in 1_000_000_000_000_u64..10_000_000_000_000) {
        let text = format!("{number} movements, {number} KRW, {number}%, {number} ms");
        prop_assert_eq!(facts().wrong_numbers(&text).len(), 4);
    }

    /// Any figure rounded to at least two digits is accepted.
    #[test]
    fn a_rounded_figure_is_accepted(index in 0_usize..200, digits in 2_u32..8) {
        let facts = facts();
        let counts: Vec<_> = facts.counts.iter().filter(|count| count.fract().is_zero()).collect();
        let figure = **counts.get(index % counts.len()).unwrap();
        let rounded = figure.round_sf(digits).unwrap();
        let text = format!("{} deposits", rounded.trunc());
        prop_assert_eq!(facts.wrong_numbers(&text), NONE);
    }

    /// A figure that is changed in one of its first two digits is found, unless the
    /// change gives another figure.
    #[test]
    fn a_figure_off_by_more_than_rounding_is_wrong(index in 0_usize..200, off in 11_u32..80) {
        let facts = facts();
        let counts: Vec<_> = facts.counts.iter().filter(|count| count.fract().is_zero()).collect();
        let figure = **counts.get(index % counts.len()).unwrap();
        prop_assume!(figure > Decimal::from(99));
        let changed = (figure * Decimal::from(100 + off) / Decimal::ONE_HUNDRED).trunc();
        let near = Decimal::new(6, 2);
        prop_assume!(!facts.counts.iter().any(|other| (*other - changed).abs() <= changed * near));
        let text = format!("{changed} deposits");
        prop_assert_eq!(facts.wrong_numbers(&text), [changed.to_string()]);
    }
}
