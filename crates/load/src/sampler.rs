//! Draws random movements.

use anyhow::{Context, Result};
use rand::distr::{Distribution, weighted::WeightedIndex};

use crate::{AccountDistribution, Mix};

/// A drawn movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SampledMovement<'a> {
    pub(crate) account: &'a str,
    pub(crate) kind: MovementKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MovementKind {
    Deposit,
    Withdrawal,
    /// A withdrawal of more than an account can hold.
    Overdraft,
}

#[derive(Debug)]
pub(crate) struct Sampler {
    accounts: Vec<String>,
    weights: Option<WeightedIndex<f64>>,
    hot: bool,
    mix: Mix,
}

impl Sampler {
    /// # Errors
    /// There are no accounts, or the Zipf exponent is not usable.
    pub(crate) fn new(
        accounts: &[String],
        distribution: AccountDistribution,
        mix: Mix,
    ) -> Result<Self> {
        let weights = match distribution {
            AccountDistribution::Zipf(exponent) => {
                let ranks = (1_u32..).take(accounts.len());
                let weights = ranks.map(|rank| f64::from(rank).powf(-exponent));
                Some(WeightedIndex::new(weights).context("building the Zipf distribution")?)
            }
            AccountDistribution::Uniform | AccountDistribution::Hot => None,
        };
        accounts.first().context("a load needs at least one account")?;
        let hot = distribution == AccountDistribution::Hot;
        Ok(Self { accounts: accounts.to_vec(), weights, hot, mix })
    }

    pub(crate) fn draw(&self) -> SampledMovement<'_> {
        let index = match &self.weights {
            _ if self.hot => 0,
            Some(weights) => weights.sample(&mut rand::rng()),
            None => rand::random_range(0..self.accounts.len()),
        };
        let account = self.accounts.get(index).map_or("", String::as_str);
        SampledMovement { account, kind: self.kind() }
    }

    fn kind(&self) -> MovementKind {
        let Mix { withdrawals, refused } = self.mix;
        let withdrawal = withdrawals > 0.0 && rand::random::<f64>() < withdrawals;
        match withdrawal {
            false => MovementKind::Deposit,
            true if rand::random::<f64>() < refused => MovementKind::Overdraft,
            true => MovementKind::Withdrawal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(distribution: AccountDistribution, mix: Mix) -> Vec<(usize, MovementKind)> {
        let accounts: Vec<_> = (0..100).map(|index: u32| index.to_string()).collect();
        let sampler = Sampler::new(&accounts, distribution, mix).unwrap();
        (0..10_000)
            .map(|_| sampler.draw())
            .map(|movement| (movement.account.parse().unwrap(), movement.kind))
            .collect()
    }

    #[test]
    fn accounts_are_drawn_by_their_distribution() {
        let draws_of_first = |distribution| {
            let movements = draw(distribution, Mix::default());
            movements.iter().filter(|(account, _)| *account == 0).count()
        };
        assert_eq!(draws_of_first(AccountDistribution::Hot), 10_000);
        assert!((20..250).contains(&draws_of_first(AccountDistribution::Uniform)));
        // 1 / (1 + 1/2 + … + 1/100) = 19%.
        assert!((1_500..2_500).contains(&draws_of_first(AccountDistribution::Zipf(1.0))));
        assert!(Sampler::new(&[], AccountDistribution::Uniform, Mix::default()).is_err());
    }

    #[test]
    fn half_are_withdrawals_and_a_third_of_those_overdrafts() {
        let mix = Mix { withdrawals: 0.5, refused: 1.0 / 3.0 };
        let movements = draw(AccountDistribution::Uniform, mix);
        let count = |wanted| movements.iter().filter(|(_, kind)| *kind == wanted).count();
        assert!((4_500..5_500).contains(&count(MovementKind::Deposit)));
        assert!((1_300..2_000).contains(&count(MovementKind::Overdraft)));
    }
}
