//! Query strings and pages.

use form_urlencoded::Serializer;
use serde::Deserialize;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items in the order of the list.
    pub items: Vec<T>,
    /// The cursor of the next page, for the same filter. `None` on the last page.
    pub next_cursor: Option<String>,
}

/// A path with a query, of the parameters that are present.
pub(crate) fn path(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_parameters_are_left_out_and_values_are_encoded() {
        assert_eq!(path("/v1/a", &[("b", None)]), "/v1/a");
        let parameters = [("b", Some("c d&e=ü".to_owned())), ("f", None), ("g", Some("1".into()))];
        assert_eq!(path("/v1/a", &parameters), "/v1/a?b=c+d%26e%3D%C3%BC&g=1");
    }
}
