//! Reads dates and times of day.

use time::{Date, Month};

use super::{
    super::{Meaning, literal::Literal, pieces::Piece, words},
    Reader,
};

impl<'a> Reader<'_, 'a> {
    /// `2026-03-29`, `2026-03`
    pub(super) fn date(&mut self) -> Option<Meaning> {
        let plain = |piece: Option<Piece<'a>>, length: usize| match piece {
            Some(Piece::Literal(text)) if text.len() == length => text.parse::<u16>().ok(),
            _ => None,
        };
        let dash = |ahead| matches!(self.piece(ahead), Some(Piece::Mark('-' | '‑')));
        let year = plain(self.piece(0), 4).filter(|_| dash(1))?;
        let month = plain(self.piece(2), 2)?;
        let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
        if let Some(day) = plain(self.piece(4), 2).filter(|_| dash(3)) {
            self.at += 5;
            // The time of RFC 3339 follows.
            if let (Some(Piece::Word("T")), Some(Piece::Literal(_))) =
                (self.piece(0), self.piece(1))
            {
                self.at += 1;
            }
            return Some(day_meaning(i32::from(year), month, u32::from(day)));
        }
        self.at += 3;
        Some(month.map_or(Meaning::Unreadable, |month| Meaning::Month(i32::from(year), month)))
    }

    /// `14:30`, `14:30:05`
    pub(super) fn time_of_day(&mut self) -> Option<Meaning> {
        let part = |ahead, limit: u32| match self.piece(ahead) {
            Some(Piece::Literal(text)) if text.len() <= 2 => {
                text.parse::<u32>().ok().filter(|&part| part < limit)
            }
            _ => None,
        };
        let colon = |ahead| matches!(self.piece(ahead), Some(Piece::Mark(':')));
        let hour = part(0, 24).filter(|_| colon(1))?;
        let minute = part(2, 60)?;
        let second = part(4, 60).filter(|_| colon(3));
        self.at += if second.is_some() { 5 } else { 3 };
        Some(Meaning::TimeOfDay(hour * 3600 + minute * 60 + second.unwrap_or(0)))
    }

    /// `29 March 2026`, `29th of March`, `March 29, 2026`, `March 2026`
    pub(super) fn date_in_words(&mut self, literal: Literal) -> Option<Meaning> {
        let number = literal.small()?;
        let month_before = match (self.before(2), self.before(3)) {
            (Some(Piece::Space), Some(Piece::Word(word))) => words::month(word),
            _ => None,
        };
        let mut ahead = 0;
        if matches!(self.piece(0), Some(Piece::Word("st" | "nd" | "rd" | "th"))) {
            ahead = 1;
        }
        if let Some(month) = month_before {
            if (1000..=9999).contains(&number) {
                return Some(Meaning::Month(i32::try_from(number).ok()?, month));
            }
            self.at += ahead;
            let comma = matches!(self.piece(0), Some(Piece::Mark(',')));
            return Some(self.with_year(number, month, usize::from(comma)));
        }
        if let (Some(Piece::Space), Some(Piece::Word("of"))) =
            (self.piece(ahead), self.piece(ahead + 1))
        {
            ahead += 2;
        }
        let (Some(Piece::Space), Some(Piece::Word(word))) =
            (self.piece(ahead), self.piece(ahead + 1))
        else {
            return None;
        };
        let month = words::month(word).filter(|_| number <= 31)?;
        self.at += ahead + 2;
        Some(self.with_year(number, month, 0))
    }

    /// A day, and the year behind it if there is one.
    fn with_year(&mut self, day: u32, month: Month, ahead: usize) -> Meaning {
        if let (Some(Piece::Space), Some(Piece::Literal(year))) =
            (self.piece(ahead), self.piece(ahead + 1))
            && year.len() == 4
            && let Ok(year) = year.parse::<i32>()
        {
            self.at += ahead + 2;
            return day_meaning(year, Some(month), day);
        }
        u8::try_from(day).map_or(Meaning::Unreadable, |day| Meaning::DayOfMonth(day, month))
    }
}

fn day_meaning(year: i32, month: Option<Month>, day: u32) -> Meaning {
    let day = u8::try_from(day).ok();
    let date =
        month.zip(day).and_then(|(month, day)| Date::from_calendar_date(year, month, day).ok());
    date.map_or(Meaning::Unreadable, Meaning::Day)
}
