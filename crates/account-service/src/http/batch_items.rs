//! The items of a batch, each read on its own: a malformed one is refused alone.

use std::fmt;

use runtime::http::{json_body, problem::Problem};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The items of a JSON array, of which at most `MOST` are read.
#[derive(Debug)]
pub(super) struct Items<T, const MOST: u16> {
    /// The first items, each as it was read.
    pub(super) read: Vec<Result<T, Problem>>,
    /// The number of all items.
    pub(super) count: usize,
}

impl<'de, T: DeserializeOwned, const MOST: u16> Deserialize<'de> for Items<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items { read: Vec::new(), count: 0 })
    }
}

impl<'de, T: DeserializeOwned, const MOST: u16> Visitor<'de> for Items<T, MOST> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self, A::Error> {
        while self.count < usize::from(MOST) {
            let Some(item) = items.next_element::<Box<RawValue>>()? else { return Ok(self) };
            self.read.push(json_body::object("The item", item.get().as_bytes()));
            self.count += 1;
        }
        while items.next_element::<IgnoredAny>()?.is_some() {
            self.count += 1;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Item {
        amount: String,
    }

    #[derive(Debug, Deserialize)]
    struct Batch {
        items: Items<Item, 4>,
    }

    #[test]
    fn each_item_is_read_alone_and_no_more_than_the_limit() {
        let json = r#"{"items":[{"amount":"1"},{"amount":1},[],{"amount":"1","amount":"2"},7,{}]}"#;
        let batch: Batch = json_body::object("The body", json.as_bytes()).unwrap();
        let read: Vec<_> = batch.items.read.iter().map(Result::is_ok).collect();
        assert_eq!((read, batch.items.count), (vec![true, false, false, false], 6));
        for json in
            [r#"{"items":[{"amount":"1"},}"#, r#"{"items":[{"amount":"1"#, r#"{"items":{}}"#]
        {
            assert!(json_body::object::<Batch>("The body", json.as_bytes()).is_err(), "{json}");
        }
    }
}
