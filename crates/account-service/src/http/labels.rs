//! The labels of a request, and their schemas.

use std::{collections::BTreeMap, fmt};

use runtime::http::problem::{INVALID_FIELD, Place, Pointer, Problem};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::labels::{Description, LabelError, Labels, Metadata, Reference};

/// The metadata of a request or a response.
pub(super) struct MetadataSchema;

impl PartialSchema for MetadataSchema {
    fn schema() -> RefOr<Schema> {
        let text = |least, most| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(least))
                .max_length(Some(most))
        };
        let description = format!(
            "The client's own entries, at most {} bytes of keys and values. Values may have line \
             breaks and tabs, keys no control characters.",
            Metadata::MAX_BYTES
        );
        let schema = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some(description))
            .property_names(Some(text(1, Metadata::MAX_KEY)))
            .max_properties(Some(Metadata::MAX_ENTRIES))
            .additional_properties(Some(text(0, Metadata::MAX_VALUE)))
            .examples([serde_json::json!({ "order": "4711" })]);
        schema.build().into()
    }
}

impl ToSchema for MetadataSchema {
    fn name() -> std::borrow::Cow<'static, str> {
        "Metadata".into()
    }
}

/// The entries of a JSON object, each key once.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with strings")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Self, A::Error> {
        while let Some((key, value)) = entries.next_entry::<String, String>()? {
            if self.0.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate field `{key}`")));
            }
            self.0.insert(key, value);
        }
        Ok(self)
    }
}

/// The labels of a movement.
///
/// # Errors
/// `invalid-field`
pub(super) fn of_movement(
    reference: Option<String>,
    description: Option<String>,
    metadata: Option<Entries>,
) -> Result<Labels, Problem> {
    let description = description.map(Description::try_from).transpose();
    Ok(Labels {
        description: description.map_err(|error| invalid("description", &error))?,
        ..of_account(reference, metadata)?
    })
}

/// The labels of an account.
///
/// # Errors
/// `invalid-field`
pub(super) fn of_account(
    reference: Option<String>,
    metadata: Option<Entries>,
) -> Result<Labels, Problem> {
    let reference = reference.map(Reference::try_from).transpose();
    let metadata = Metadata::try_from(metadata.unwrap_or_default().0);
    Ok(Labels {
        reference: reference.map_err(|error| invalid("reference", &error))?,
        description: None,
        metadata: metadata.map_err(|error| invalid("metadata", &error))?,
    })
}

/// The reference in a query.
///
/// # Errors
/// `invalid-field`
pub(super) fn in_query(reference: String) -> Result<Reference, Problem> {
    Reference::try_from(reference).map_err(|error| {
        INVALID_FIELD.because(format!("reference {error}.")).at_parameter("reference")
    })
}

fn invalid(field: &str, error: &LabelError) -> Problem {
    if let LabelError::Value { key, reason } = error {
        let pointer = Pointer::default().field(field).field(key);
        let field = format!("{field}.{key}");
        let problem = INVALID_FIELD.because(format!("{field} {reason}."));
        return problem.at_place(Place::Body { pointer, field: Some(field) });
    }
    INVALID_FIELD.because(format!("{field} {error}.")).at(field)
}
