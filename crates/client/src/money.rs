//! Money in JSON: a decimal in a string, never a number. For `#[serde(with = "client::money")]`.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserializer, Serializer, de};

/// Writes the decimal as a string.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Reads a decimal from a string, exactly.
///
/// # Errors
/// The text is no decimal.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    deserializer.deserialize_str(Money)
}

struct Money;

impl de::Visitor<'_> for Money {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal in a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
        Decimal::from_str_exact(text)
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// The same for a field that may be null.
pub(crate) mod optional {
    use rust_decimal::Decimal;
    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super")] Decimal);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Decimal>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(value)| value))
    }
}
