//! Settles records: the effect of a result on its record.

use std::fmt;

use contract::{Balance, Movement, Outcome, Reason, TransactionResult};

/// How a record was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The ledger's id of the transaction.
    pub transaction_id: i64,
    /// The record's final state.
    pub settled_as: SettledAs,
}

/// The two final states of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledAs {
    /// SUCCESS, with the balance after the transaction.
    Success(Balance),
    /// FAILED, with the reason of the refusal.
    Failed(Reason),
}

impl SettledAs {
    /// The balance after the transaction; `None` for a refusal.
    #[must_use]
    pub const fn balance_after(self) -> Option<Balance> {
        match self {
            Self::Success(balance) => Some(balance),
            Self::Failed(_) => None,
        }
    }

    /// The reason of the refusal; `None` for a success.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Success(_) => None,
            Self::Failed(reason) => Some(reason),
        }
    }
}

impl From<&TransactionResult> for Settlement {
    fn from(result: &TransactionResult) -> Self {
        let settled_as = match result.outcome {
            Outcome::Applied { balance_after, .. } => SettledAs::Success(balance_after),
            Outcome::Refused(reason) => SettledAs::Failed(reason),
        };
        Self { transaction_id: result.transaction_id, settled_as }
    }
}

/// The effect of a result on its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The record is PENDING and is settled.
    Settles(Settlement),
    /// The record was settled before, with the same outcome.
    None,
    /// The result does not belong to the record. Nothing changes.
    Contradicts(Contradiction),
}

/// How a result contradicts its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Another account, type, amount or currency.
    Movement,
    /// The record was settled with another outcome.
    Outcome,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Movement => "the result has another account, type, amount or currency",
            Self::Outcome => "the record was settled with another outcome",
        })
    }
}

/// Decides the effect of a result on a record of this movement. `settlement` is
/// `None` while the record is PENDING. Only a PENDING record changes.
#[must_use]
pub fn effect_of(
    movement: Movement,
    settlement: Option<Settlement>,
    result: &TransactionResult,
) -> Effect {
    if movement != result.movement() {
        return Effect::Contradicts(Contradiction::Movement);
    }
    let decided = Settlement::from(result);
    match settlement {
        None => Effect::Settles(decided),
        Some(settlement) if settlement == decided => Effect::None,
        Some(_) => Effect::Contradicts(Contradiction::Outcome),
    }
}

#[cfg(test)]
mod tests {
    use contract::{AccountId, Amount, Currency, Kind, RecordId};
    use time::OffsetDateTime;

    use super::*;

    fn result(outcome: Outcome) -> TransactionResult {
        let currency = Currency::parse("KRW").unwrap();
        TransactionResult {
            record_id: RecordId::new(),
            transaction_id: 7,
            account_id: AccountId::new(),
            kind: Kind::Deposit,
            amount: Amount::parse("100", currency).unwrap(),
            currency,
            outcome,
            processed_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_a_pending_record_takes_an_outcome() {
        let mut result = result(Outcome::Refused(Reason::InsufficientFunds));
        let movement = result.movement();
        let settled_as = SettledAs::Failed(Reason::InsufficientFunds);
        let settlement = Settlement { transaction_id: 7, settled_as };
        assert_eq!(effect_of(movement, None, &result), Effect::Settles(settlement));
        assert_eq!(effect_of(movement, Some(settlement), &result), Effect::None);
        let balance_after = Balance::zero(movement.currency);
        result.outcome = Outcome::Applied { balance_after, account_seq: 1 };
        let contradiction = Effect::Contradicts(Contradiction::Outcome);
        assert_eq!(effect_of(movement, Some(settlement), &result), contradiction);
    }

    #[test]
    fn a_result_of_another_movement_changes_nothing() {
        let mut result = result(Outcome::Refused(Reason::InsufficientFunds));
        let movement = result.movement();
        result.amount = Amount::parse("101", movement.currency).unwrap();
        let contradiction = Effect::Contradicts(Contradiction::Movement);
        assert_eq!(effect_of(movement, None, &result), contradiction);
    }
}
