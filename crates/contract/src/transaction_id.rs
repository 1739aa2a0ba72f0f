//! The public id of a ledger transaction.
//!
//! The ledger numbers its transactions in one sequence, so a number tells how many the whole
//! system makes. Whatever leaves the system has this id instead. It is a digest of the record's
//! id, which tells nothing of others. A record has one transaction at most. So each service and
//! each report computes the same id, without a secret and without a column. It is no secret
//! either: whoever knows the record's id can compute it.
//!
//! The same in SQL:
//!
//! ```sql
//! encode(substring(sha256(convert_to(E'passbook transaction v1\n', 'UTF8')
//!     || uuid_send(record_id)) FOR 16), 'hex')
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::RecordId;

/// No other digest of a record's id has this before it.
const DOMAIN: &[u8] = b"passbook transaction v1\n";
/// Bytes of the digest that are kept. As text they fit the 35 characters of a reference in
/// ISO 20022.
const LENGTH: usize = 16;

/// The public id of the ledger's decision about a record: 32 hexadecimal digits in lowercase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransactionId([u8; LENGTH]);

impl TransactionId {
    /// The id of the decision about this record.
    #[must_use]
    pub fn of(record: RecordId) -> Self {
        let digest = Sha256::new().chain_update(DOMAIN).chain_update(record.as_uuid()).finalize();
        let mut start = [0; LENGTH];
        for (to, from) in start.iter_mut().zip(digest) {
            *to = from;
        }
        Self(start)
    }
}

/// A text is not a [`TransactionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 hexadecimal digits in lowercase")]
pub struct InvalidTransactionId;

impl FromStr for TransactionId {
    type Err = InvalidTransactionId;

    fn from_str(text: &str) -> Result<Self, InvalidTransactionId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_valid = text.len() == 2 * LENGTH && text.bytes().all(is_digit);
        let value = u128::from_str_radix(text, 16).ok().filter(|_| is_valid);
        value.map(|value| Self(value.to_be_bytes())).ok_or(InvalidTransactionId)
    }
}

impl TryFrom<String> for TransactionId {
    type Error = InvalidTransactionId;

    fn try_from(text: String) -> Result<Self, InvalidTransactionId> {
        text.parse()
    }
}

impl From<TransactionId> for String {
    fn from(id: TransactionId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_in_each_release() {
        let record = "01a20008-a38b-7161-bca5-0ac401b01de7".parse().unwrap();
        let id = TransactionId::of(record);
        assert_eq!(id.to_string(), "bb761f1f0087d0517a44c459f5705e56");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn ids_do_not_have_the_order_of_their_records() {
        let mut records: Vec<_> = (0..100).map(|_| RecordId::new()).collect();
        records.sort_unstable();
        let ids: Vec<_> = records.into_iter().map(TransactionId::of).collect();
        let rises = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((20..80).contains(&rises), "{rises} of 99");
    }

    #[test]
    fn other_text_is_no_id() {
        let id = TransactionId::of(RecordId::FIRST).to_string();
        for text in ["", "4", &id[1..], &format!("{id}0"), &id.replace(&id[..1], "G"), "+"] {
            assert_eq!(text.parse::<TransactionId>(), Err(InvalidTransactionId), "{text}");
        }
        let signed = format!("+{}", &id[1..]);
        assert_eq!(signed.parse::<TransactionId>(), Err(InvalidTransactionId));
    }
}
