//! Labels as columns. Metadata is text on the way to and from its column, which is `jsonb`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::labels::{Description, Labels, Metadata, Reference};

/// The labels of new records as the arrays of an insert. Each is empty if no record has such a
/// label, which is the usual and the cheapest case: the statement reads missing values as NULL.
#[derive(Default)]
pub(super) struct LabelArrays<'a> {
    pub(super) references: Vec<Option<&'a str>>,
    pub(super) descriptions: Vec<Option<&'a str>>,
    pub(super) metadata: Vec<Option<String>>,
}

impl<'a> LabelArrays<'a> {
    pub(super) fn new(labels: impl Iterator<Item = &'a Labels> + Clone) -> Self {
        Self {
            references: unless_all_null(labels.clone().map(reference)),
            descriptions: unless_all_null(
                labels.clone().map(|labels| labels.description.as_ref().map(Description::as_str)),
            ),
            metadata: unless_all_null(labels.map(metadata)),
        }
    }
}

/// An empty array instead of one of NULLs only.
pub(super) fn unless_all_null<T>(
    column: impl Iterator<Item = Option<T>> + Clone,
) -> Vec<Option<T>> {
    if column.clone().all(|value| value.is_none()) { Vec::new() } else { column.collect() }
}

/// The column `reference`.
pub(super) fn reference(labels: &Labels) -> Option<&str> {
    labels.reference.as_ref().map(Reference::as_str)
}

/// The column `metadata`; NULL without entries.
pub(super) fn metadata(labels: &Labels) -> Option<String> {
    let entries = labels.metadata.entries();
    let value = |text: &String| Value::String(text.clone());
    let object: Map<_, _> = entries.iter().map(|(key, text)| (key.clone(), value(text))).collect();
    (!object.is_empty()).then(|| Value::Object(object).to_string())
}

/// The labels of a row.
pub(super) struct LabelColumns {
    pub(super) reference: Option<String>,
    pub(super) description: Option<String>,
    pub(super) metadata: Option<String>,
}

impl LabelColumns {
    /// The labels; `None` if no version of this service writes such a value.
    pub(super) fn parse(self) -> Option<Labels> {
        let entries = |text: String| {
            let entries: BTreeMap<_, _> = serde_json::from_str(&text).ok()?;
            Metadata::try_from(entries).ok()
        };
        Some(Labels {
            reference: self.reference.map(Reference::try_from).transpose().ok()?,
            description: self.description.map(Description::try_from).transpose().ok()?,
            metadata: self.metadata.map_or(Some(Metadata::default()), entries)?,
        })
    }
}
