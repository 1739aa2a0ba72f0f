//! Reads the numbers of a text from its pieces.

mod dates;

use rust_decimal::Decimal;

use super::{
    Meaning, Number, Unit,
    literal::{self, Literal},
    pieces::{self, Piece},
    words,
};

/// Every number in the text, in its order.
pub(in crate::analysis) fn read(text: &str) -> Vec<Number> {
    let pieces = pieces::split(text);
    let mut reader = Reader { pieces: &pieces, at: 0, sentence: 0, after_rank: false };
    let mut numbers = Vec::new();
    while reader.at < pieces.len() {
        let start = reader.at;
        if let Some(meaning) = reader.next_meaning() {
            let end = reader.at.max(start + 1);
            reader.after_rank = matches!(meaning, Meaning::Rank(_));
            let text = text_of(pieces.get(start..end).unwrap_or_default());
            numbers.push(Number { text, meaning, sentence: reader.sentence });
        }
        reader.at = reader.at.max(start + 1);
    }
    numbers
}

struct Reader<'p, 'a> {
    pieces: &'p [Piece<'a>],
    at: usize,
    sentence: usize,
    /// Only commas and conjunctions came since a rank: `accounts 1, 2 and 3`.
    after_rank: bool,
}

impl<'a> Reader<'_, 'a> {
    fn piece(&self, ahead: usize) -> Option<Piece<'a>> {
        self.pieces.get(self.at + ahead).copied()
    }

    fn before(&self, behind: usize) -> Option<Piece<'a>> {
        self.at.checked_sub(behind).and_then(|at| self.pieces.get(at)).copied()
    }

    /// The number that starts here. Moves behind it.
    fn next_meaning(&mut self) -> Option<Meaning> {
        match self.piece(0)? {
            Piece::Literal(text) => Some(self.digits(text)),
            Piece::ForeignDigit(_) => Some(Meaning::Unreadable),
            Piece::Word(word) => {
                let found = self.words(word);
                if found.is_none() && !matches!(word, "and" | "to" | "or" | "through") {
                    self.after_rank = false;
                }
                found
            }
            Piece::LineEnd => self.end_sentence(),
            Piece::Mark('.' | '!' | '?' | ';')
                if !matches!(self.piece(1), Some(Piece::Word(_) | Piece::Mark(_))) =>
            {
                self.end_sentence()
            }
            Piece::Mark(',' | '-' | '–') | Piece::Space => None,
            Piece::Mark(_) => {
                self.after_rank = false;
                None
            }
        }
    }

    fn end_sentence(&mut self) -> Option<Meaning> {
        self.sentence += 1;
        self.after_rank = false;
        None
    }

    fn digits(&mut self, text: &'a str) -> Meaning {
        if let Some(meaning) = self.date().or_else(|| self.time_of_day()) {
            return meaning;
        }
        let label = self.before(1);
        self.at += 1;
        let Some(literal) = literal::parse(text) else { return Meaning::Unreadable };
        // `10 000`: a group of three digits behind a space.
        if let (Some(Piece::Space), Some(Piece::Literal(next))) = (self.piece(0), self.piece(1))
            && literal.decimals == 0
            && next.len() >= 3
            && next.bytes().take(3).all(|byte| byte.is_ascii_digit())
            && next.as_bytes().get(3).is_none_or(|byte| !byte.is_ascii_digit())
        {
            return Meaning::Unreadable;
        }
        if let Some(Piece::Word("p" | "P")) = label {
            return literal.small().map_or(Meaning::Unreadable, Meaning::Percentile);
        }
        if let Some(meaning) = self.date_in_words(literal).or_else(|| self.percentile(literal)) {
            return meaning;
        }
        self.quantity(literal, 2)
    }

    /// `99th percentile`, `99 of 100`, `99 out of 100`
    fn percentile(&mut self, literal: Literal) -> Option<Meaning> {
        let number = literal.small()?;
        let following: Vec<_> = (0..7).filter_map(|ahead| self.piece(ahead)).collect();
        let length = match following.as_slice() {
            [
                Piece::Word("th"),
                Piece::Space | Piece::Mark('-'),
                Piece::Word("percentile" | "percentiles"),
                ..,
            ] => 3,
            [Piece::Space, Piece::Word("percentile"), ..] => 2,
            [Piece::Space, Piece::Word("of"), Piece::Space, Piece::Literal("100"), ..] => 4,
            [
                Piece::Space,
                Piece::Word("out"),
                Piece::Space,
                Piece::Word("of"),
                Piece::Space,
                Piece::Literal("100"),
                ..,
            ] => 6,
            _ => return None,
        };
        self.at += length;
        Some(Meaning::Percentile(number))
    }

    /// A quantity whose number ends here; it took `back` pieces with the one before it.
    fn quantity(&mut self, literal: Literal, back: usize) -> Meaning {
        let mut factor = Decimal::ONE;
        let mut attached = true;
        if let Some((word, length, is_attached)) = self.word_ahead()
            && let Some(size) = words::magnitude(word)
            && (is_attached || word.len() > 1)
        {
            factor = size;
            self.at += length;
            attached = is_attached;
        }
        let unit = self.unit_ahead(back);
        let shown = match unit {
            Some(Found::Percent) => {
                return percent(literal.percent().filter(|_| factor == Decimal::ONE));
            }
            Some(Found::Duration(size)) => {
                return quantity(
                    factor.checked_mul(size).and_then(|size| literal.quantity(size)),
                    Unit::Duration,
                );
            }
            Some(Found::Unreadable) => return Meaning::Unreadable,
            Some(Found::Ordinal) | None => literal.quantity(factor),
            Some(Found::Money(code)) => {
                return quantity(literal.quantity(factor), Unit::Money(code));
            }
            Some(Found::Count) => return quantity(literal.quantity(factor), Unit::Count),
        };
        // A word that touches the digits and has no known meaning: `1e6`, `2x`.
        if attached && matches!(self.piece(0), Some(Piece::Word(_))) {
            return Meaning::Unreadable;
        }
        if factor == Decimal::ONE && self.is_rank(back) {
            return literal.small().map_or(Meaning::Unreadable, Meaning::Rank);
        }
        quantity(shown, Unit::Unknown)
    }

    /// The word here, or behind a space or hyphen; its length in pieces; whether it touches.
    fn word_ahead(&self) -> Option<(&'a str, usize, bool)> {
        match (self.piece(0), self.piece(1)) {
            (Some(Piece::Word(word)), _) => Some((word, 1, true)),
            (Some(Piece::Space | Piece::Mark('-' | '‑')), Some(Piece::Word(word))) => {
                Some((word, 2, false))
            }
            _ => None,
        }
    }

    /// The unit behind the number, else the one before it.
    fn unit_ahead(&mut self, back: usize) -> Option<Found> {
        match (self.piece(0), self.piece(1)) {
            (Some(Piece::Mark('%')), _) => {
                self.at += 1;
                return Some(Found::Percent);
            }
            (Some(Piece::Space), Some(Piece::Mark('%'))) => {
                self.at += 2;
                return Some(Found::Percent);
            }
            (Some(Piece::Mark('×' | '‰' | '^' | '/' | '*')), _)
            | (Some(Piece::Space), Some(Piece::Mark('×'))) => {
                return Some(Found::Unreadable);
            }
            (Some(Piece::Mark(mark)), _) if words::symbol(mark).is_some() => {
                self.at += 1;
                return words::symbol(mark).map(|code| Found::Money(code.to_owned()));
            }
            _ => {}
        }
        if let Some((word, length, attached)) = self.word_ahead() {
            if let Some(size) = words::duration(word) {
                self.at += length;
                return Some(Found::Duration(size));
            }
            match word {
                "percent" | "percentage" => {
                    self.at += length;
                    return Some(Found::Percent);
                }
                "per" if matches!(self.piece(length + 1), Some(Piece::Word("cent"))) => {
                    self.at += length + 2;
                    return Some(Found::Percent);
                }
                "st" | "nd" | "rd" | "th" if attached => {
                    self.at += length;
                    return Some(Found::Ordinal);
                }
                "times" | "fold" | "bps" | "basis" => return Some(Found::Unreadable),
                _ => {}
            }
            if !attached && words::is_counted(word) {
                return Some(Found::Count);
            }
            if is_code(word) {
                self.at += length;
                // `120 KRW deposits` is a number of deposits.
                return Some(match self.word_ahead() {
                    Some((word, _, false)) if words::is_counted(word) => Found::Count,
                    _ => Found::Money(word.to_owned()),
                });
            }
        }
        self.unit_before(back)
    }

    /// `KRW 1,000`, `KRW1,000`, `€5`
    fn unit_before(&self, back: usize) -> Option<Found> {
        // Pieces of the number itself were taken since its start.
        let start = self
            .pieces
            .get(..self.at)?
            .iter()
            .rposition(|piece| matches!(piece, Piece::Literal(_)));
        let start = start.filter(|_| back == 2)?;
        let before =
            |behind: usize| start.checked_sub(behind).and_then(|at| self.pieces.get(at)).copied();
        match (before(1), before(2)) {
            (Some(Piece::Mark(mark)), _) => {
                words::symbol(mark).map(|code| Found::Money(code.to_owned()))
            }
            (Some(Piece::Word(word)), _) | (Some(Piece::Space), Some(Piece::Word(word)))
                if is_code(word) =>
            {
                Some(Found::Money(word.to_owned()))
            }
            (Some(Piece::Word(_)), _) => Some(Found::Unreadable),
            _ => None,
        }
    }

    fn is_rank(&self, back: usize) -> bool {
        let named = back == 2
            && matches!(
                (self.before(2), self.before(3)),
                (
                    Some(Piece::Space),
                    Some(Piece::Word("account" | "Account" | "accounts" | "Accounts"))
                )
            );
        named || self.after_rank
    }

    /// A number in words, or a quantity without a value.
    fn words(&mut self, word: &'a str) -> Option<Meaning> {
        let lower = word.to_lowercase();
        if words::is_vague(&lower) {
            return Some(Meaning::Unreadable);
        }
        if words::is_fraction(&lower) {
            let of = matches!(
                (self.piece(1), self.piece(2)),
                (Some(Piece::Space), Some(Piece::Word("of")))
            );
            let one = matches!(
                (self.before(1), self.before(2)),
                (
                    Some(Piece::Space | Piece::Mark('-')),
                    Some(Piece::Word("a" | "A" | "one" | "One"))
                )
            );
            return (of || one).then_some(Meaning::Unreadable);
        }
        words::cardinal(&lower)?;
        let (value, length) = self.cardinals();
        self.at += length;
        let Some(value) = value else { return Some(Meaning::Unreadable) };
        // Alone, it is a pronoun.
        if length == 1 && value == Decimal::ONE {
            return None;
        }
        Some(self.quantity(Literal::whole(value), 0))
    }

    /// The value and the length of the cardinal words here: `two hundred and forty-one`.
    /// No value if it is too large.
    fn cardinals(&self) -> (Option<Decimal>, usize) {
        let mut sum = words::CardinalSum::default();
        let (mut ahead, mut length) = (0, 0);
        while let Some(Piece::Word(word)) = self.piece(ahead) {
            let lower = word.to_lowercase();
            let joins = lower == "and" && sum.may_join();
            match words::cardinal(&lower) {
                Some(cardinal) if sum.accepts(&cardinal) => {
                    sum.add(&cardinal);
                    length = ahead + 1;
                }
                None if joins => {}
                _ => break,
            }
            if !matches!(self.piece(ahead + 1), Some(Piece::Space | Piece::Mark('-'))) {
                break;
            }
            ahead += 2;
        }
        (sum.value(), length)
    }
}

enum Found {
    Percent,
    Duration(Decimal),
    Money(String),
    Count,
    /// `3rd`
    Ordinal,
    Unreadable,
}

fn percent(shown: Option<super::Shown>) -> Meaning {
    quantity(shown, Unit::Percent)
}

fn quantity(shown: Option<super::Shown>, unit: Unit) -> Meaning {
    shown.map_or(Meaning::Unreadable, |shown| Meaning::Quantity(shown, unit))
}

/// Three capital letters of a known currency.
fn is_code(word: &str) -> bool {
    contract::Currency::parse(word).is_ok()
}

fn text_of(pieces: &[Piece<'_>]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Space | Piece::LineEnd => text.push(' '),
            Piece::Word(part) | Piece::Literal(part) | Piece::ForeignDigit(part) => {
                text.push_str(part)
            }
            Piece::Mark(mark) => text.push(*mark),
        }
    }
    text
}
