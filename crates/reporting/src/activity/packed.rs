//! Compact forms of the large parts of a checkpoint: bytes, as base64 in JSON.

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use uuid::Uuid;

use super::{
    largest::{AccountSum, Bucket},
    units::Units,
};

/// Appends a number in groups of seven bits, lowest first (LEB128).
fn write(bytes: &mut Vec<u8>, number: u128) {
    let mut rest = number;
    loop {
        let group = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        if rest == 0 {
            bytes.push(group);
            return;
        }
        bytes.push(group | 0x80);
    }
}

/// Reads the values that were written.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u128> {
        let mut number = 0_u128;
        for shift in (0..128).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u128::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn uuid(&mut self) -> Option<Uuid> {
        let (bytes, rest) = self.0.split_first_chunk::<16>()?;
        self.0 = rest;
        Some(Uuid::from_bytes(*bytes))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn deserialize<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
    read(&mut Reader(&bytes)).ok_or_else(|| D::Error::custom("a damaged checkpoint"))
}

/// The sums of accounts.
pub(super) mod accounts {
    use super::*;

    pub(in crate::activity) fn serialize<S: Serializer>(
        sums: &HashMap<Uuid, AccountSum>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<_> = sums.iter().collect();
        sorted.sort_unstable_by_key(|(account, _)| **account);
        let mut bytes = Vec::with_capacity(sums.len() * 32);
        for (account, sum) in sorted {
            bytes.extend_from_slice(account.as_bytes());
            let numbers =
                [sum.currency.into(), sum.count.into(), sum.credits.get(), sum.debits.get()];
            numbers.into_iter().for_each(|number| write(&mut bytes, number));
        }
        super::serialize(&bytes, serializer)
    }

    pub(in crate::activity) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<Uuid, AccountSum>, D::Error> {
        super::deserialize(deserializer, |reader| {
            let mut sums = HashMap::new();
            while !reader.is_empty() {
                let account = reader.uuid()?;
                let sum = AccountSum {
                    currency: reader.number()?.try_into().ok()?,
                    count: reader.number()?.try_into().ok()?,
                    credits: Units::from_raw(reader.number()?),
                    debits: Units::from_raw(reader.number()?),
                };
                sums.insert(account, sum);
            }
            Some(sums)
        })
    }
}

/// The states of buckets: one byte each.
pub(super) mod buckets {
    use super::*;

    pub(in crate::activity) fn serialize<S: Serializer>(
        buckets: &[Bucket],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let byte = |bucket: &Bucket| match bucket {
            Bucket::Active => 0,
            Bucket::Deferred => 1,
            Bucket::Done => 2,
        };
        super::serialize(&buckets.iter().map(byte).collect::<Vec<u8>>(), serializer)
    }

    pub(in crate::activity) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Bucket>, D::Error> {
        let bucket = |byte: &u8| match byte {
            0 => Some(Bucket::Active),
            1 => Some(Bucket::Deferred),
            2 => Some(Bucket::Done),
            _ => None,
        };
        super::deserialize(deserializer, |reader| reader.0.iter().map(bucket).collect())
    }
}

/// The bounds of buckets, by currency.
pub(super) mod bounds {
    use super::*;

    pub(in crate::activity) fn serialize<S: Serializer>(
        bounds: &BTreeMap<u16, Vec<u64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        for (&currency, bounds) in bounds {
            write(&mut bytes, currency.into());
            write(&mut bytes, u128::try_from(bounds.len()).unwrap_or(0));
            bounds.iter().for_each(|&bound| write(&mut bytes, bound.into()));
        }
        super::serialize(&bytes, serializer)
    }

    pub(in crate::activity) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u16, Vec<u64>>, D::Error> {
        super::deserialize(deserializer, |reader| {
            let mut bounds = BTreeMap::new();
            while !reader.is_empty() {
                let currency = reader.number()?.try_into().ok()?;
                let length = reader.number()?;
                let read = (0..length).map(|_| reader.number()?.try_into().ok());
                bounds.insert(currency, read.collect::<Option<Vec<u64>>>()?);
            }
            Some(bounds)
        })
    }
}
