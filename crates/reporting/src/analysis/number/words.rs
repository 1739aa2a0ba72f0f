//! English words with a meaning for numbers.

use rust_decimal::Decimal;
use time::Month;

/// The value of a cardinal word below one hundred, and of the powers of ten.
pub(super) enum Cardinal {
    /// `seven`, `forty`
    Value(u32),
    /// `hundred`, `thousand`, `million`
    Power(u32),
}

const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] =
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// The cardinal that a lowercase word means.
pub(super) fn cardinal(word: &str) -> Option<Cardinal> {
    let position = |words: &[&str]| {
        words.iter().position(|&other| other == word).and_then(|at| u32::try_from(at).ok())
    };
    if let Some(value) = position(&UNITS) {
        return Some(Cardinal::Value(value));
    }
    if let Some(at) = position(&TENS) {
        return Some(Cardinal::Value(20 + at * 10));
    }
    match word {
        "hundred" => Some(Cardinal::Power(100)),
        _ => thousands(word).map(Cardinal::Power),
    }
}

/// Adds the words of one cardinal.
#[derive(Default)]
pub(super) struct CardinalSum {
    total: Decimal,
    /// Below one thousand: what the next power multiplies.
    group: Decimal,
    last: Last,
    too_large: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    #[default]
    Nothing,
    Tens,
    Value,
    Power,
}

impl CardinalSum {
    /// Whether the word goes on with this cardinal: `forty one` does, `two three` does not.
    pub(super) fn accepts(&self, next: &Cardinal) -> bool {
        match (self.last, next) {
            (_, Cardinal::Power(_)) | (Last::Nothing | Last::Power, _) => true,
            (Last::Tens, Cardinal::Value(value)) => *value < 10,
            (Last::Value, Cardinal::Value(_)) => false,
        }
    }

    /// Whether `and` can follow.
    pub(super) fn may_join(&self) -> bool {
        self.last == Last::Power
    }

    pub(super) fn add(&mut self, next: &Cardinal) {
        match *next {
            Cardinal::Value(value) => {
                self.group += Decimal::from(value);
                self.last = if value >= 20 { Last::Tens } else { Last::Value };
            }
            Cardinal::Power(power) => {
                let product = self.group.max(Decimal::ONE).checked_mul(Decimal::from(power));
                self.too_large |= product.is_none();
                let product = product.unwrap_or_default();
                if power == 100 {
                    self.group = product;
                } else {
                    self.total = self.total.checked_add(product).unwrap_or_default();
                    self.group = Decimal::ZERO;
                }
                self.last = Last::Power;
            }
        }
    }

    /// The cardinal; `None` if it is too large.
    pub(super) fn value(&self) -> Option<Decimal> {
        self.total.checked_add(self.group).filter(|_| !self.too_large)
    }
}

fn thousands(word: &str) -> Option<u32> {
    match word {
        "thousand" => Some(1_000),
        "million" => Some(1_000_000),
        "billion" => Some(1_000_000_000),
        _ => None,
    }
}

/// The factor of a magnitude behind a number: `1.2M`, `3 thousand`.
pub(super) fn magnitude(word: &str) -> Option<Decimal> {
    let factor: i64 = match word {
        "k" | "K" => 1_000,
        "m" | "M" | "mn" | "mio" => 1_000_000,
        "b" | "B" | "bn" => 1_000_000_000,
        "t" | "T" | "tn" | "trillion" => 1_000_000_000_000,
        _ => return thousands(&word.to_lowercase()).map(Decimal::from),
    };
    Some(Decimal::from(factor))
}

/// The milliseconds of a unit of time.
pub(super) fn duration(word: &str) -> Option<Decimal> {
    let milliseconds = match word {
        "ms" | "msec" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return None,
    };
    Some(Decimal::from(milliseconds))
}

/// Quantities without a value that can be compared with a figure.
pub(super) fn is_vague(word: &str) -> bool {
    matches!(
        word,
        "half"
            | "halves"
            | "halved"
            | "halving"
            | "thirds"
            | "quarters"
            | "fifths"
            | "tenths"
            | "twice"
            | "thrice"
            | "double"
            | "doubled"
            | "doubles"
            | "doubling"
            | "triple"
            | "tripled"
            | "triples"
            | "tripling"
            | "quadruple"
            | "quadrupled"
            | "dozen"
            | "dozens"
            | "hundreds"
            | "thousands"
            | "millions"
            | "billions"
            | "trillions"
    ) || word.ends_with("fold") && word.len() > 4 && word != "manifold" && word != "unfold"
}

/// Words of a fraction if a number or `a` stands before them, or `of` behind them.
pub(super) fn is_fraction(word: &str) -> bool {
    matches!(
        word,
        "third"
            | "quarter"
            | "fifth"
            | "sixth"
            | "seventh"
            | "eighth"
            | "ninth"
            | "tenth"
            | "hundredth"
            | "thousandth"
    )
}

/// Nouns that are counted: the number before them is a number of things.
pub(super) fn is_counted(word: &str) -> bool {
    const NOUNS: [&str; 18] = [
        "deposit",
        "deposits",
        "withdrawal",
        "withdrawals",
        "movement",
        "movements",
        "transaction",
        "transactions",
        "entry",
        "entries",
        "refusal",
        "refusals",
        "account",
        "accounts",
        "request",
        "requests",
        "currency",
        "currencies",
    ];
    NOUNS.contains(&word)
}

/// The currency of a symbol, if only one currency has it.
pub(super) fn symbol(mark: char) -> Option<&'static str> {
    match mark {
        '€' => Some("EUR"),
        '£' => Some("GBP"),
        '₩' => Some("KRW"),
        '₹' => Some("INR"),
        _ => None,
    }
}

/// The month of its English name or of the first three letters.
pub(super) fn month(word: &str) -> Option<Month> {
    const MONTHS: [(&str, Month); 12] = [
        ("january", Month::January),
        ("february", Month::February),
        ("march", Month::March),
        ("april", Month::April),
        ("may", Month::May),
        ("june", Month::June),
        ("july", Month::July),
        ("august", Month::August),
        ("september", Month::September),
        ("october", Month::October),
        ("november", Month::November),
        ("december", Month::December),
    ];
    if !word.starts_with(char::is_uppercase) {
        return None;
    }
    let lower = word.to_lowercase();
    let found = MONTHS.iter().find(|(name, _)| {
        *name == lower
            || lower.len() == 3 && name.starts_with(&lower)
            || lower == "sept" && *name == "september"
    });
    found.map(|&(_, month)| month)
}
