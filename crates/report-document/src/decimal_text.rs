//! Decimals as strings in JSON.

use std::{borrow::Cow, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    Decimal::from_str(&text).map_err(D::Error::custom)
}
