//! Draws the next movement: whose, and which way.

use anyhow::{Context, Result};
use rand::distr::{Distribution, weighted::WeightedIndex};

use crate::{Choice, Mix};

/// One movement to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Movement<'a> {
    pub(crate) account: &'a str,
    pub(crate) direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
    /// A withdrawal of more than can be there.
    TooMuch,
}

/// Draws movements.
#[derive(Debug)]
pub(crate) struct Draw {
    accounts: Vec<String>,
    weights: Option<WeightedIndex<f64>>,
    hot: bool,
    mix: Mix,
}

impl Draw {
    /// # Errors
    /// When there is no account to draw.
    pub(crate) fn new(accounts: &[String], choice: Choice, mix: Mix) -> Result<Self> {
        let weights = match choice {
            Choice::Zipf(exponent) => {
                let ranks = (1_u32..).take(accounts.len());
                let weights = ranks.map(|rank| f64::from(rank).powf(-exponent));
                Some(WeightedIndex::new(weights).context("a Zipf distribution")?)
            }
            Choice::Uniform | Choice::Hot => None,
        };
        accounts.first().context("there is no account to move money of")?;
        Ok(Self { accounts: accounts.to_vec(), weights, hot: choice == Choice::Hot, mix })
    }

    pub(crate) fn next(&self) -> Movement<'_> {
        let at = match &self.weights {
            _ if self.hot => 0,
            Some(weights) => weights.sample(&mut rand::rng()),
            None => rand::random_range(0..self.accounts.len()),
        };
        let account = self.accounts.get(at).map_or("", String::as_str);
        Movement { account, direction: self.direction() }
    }

    fn direction(&self) -> Direction {
        let Mix { withdrawals, refused } = self.mix;
        let out = withdrawals > 0.0 && rand::random::<f64>() < withdrawals;
        match out {
            false => Direction::In,
            true if rand::random::<f64>() < refused => Direction::TooMuch,
            true => Direction::Out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(choice: Choice, mix: Mix) -> Vec<(usize, Direction)> {
        let accounts: Vec<_> = (0..100).map(|it| it.to_string()).collect();
        let draw = Draw::new(&accounts, choice, mix).unwrap();
        (0..10_000)
            .map(|_| draw.next())
            .map(|it| (it.account.parse().unwrap(), it.direction))
            .collect()
    }

    #[test]
    fn accounts_are_drawn_as_asked() {
        let of = |choice| {
            let drawn = drawn(choice, Mix::default());
            drawn.iter().filter(|(account, _)| *account == 0).count()
        };
        assert_eq!(of(Choice::Hot), 10_000);
        assert!((20..250).contains(&of(Choice::Uniform)));
        // 1 / (1 + 1/2 + … + 1/100) = 19%.
        assert!((1_500..2_500).contains(&of(Choice::Zipf(1.0))));
        assert!(Draw::new(&[], Choice::Uniform, Mix::default()).is_err());
    }

    #[test]
    fn half_are_withdrawals_and_a_third_of_those_too_large() {
        let drawn = drawn(Choice::Uniform, Mix { withdrawals: 0.5, refused: 1.0 / 3.0 });
        let of = |direction| drawn.iter().filter(|(_, it)| *it == direction).count();
        assert!((4_500..5_500).contains(&of(Direction::In)));
        assert!((1_300..2_000).contains(&of(Direction::TooMuch)));
    }
}
