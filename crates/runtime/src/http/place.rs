//! The place of an invalid part of a request.

use std::fmt::Write;

use serde::Serialize;

/// Where the invalid part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// In the body.
    Body {
        /// The field, or what else of the body is invalid.
        pointer: Pointer,
        /// The field's name, or its path if it lies deeper.
        #[serde(skip)]
        field: Option<String>,
    },
    /// In a header.
    Header {
        /// The header's name.
        header: &'static str,
    },
    /// In the query of the URL.
    Parameter {
        /// The parameter's name.
        parameter: String,
    },
}

impl Place {
    /// The name of the field, header or parameter.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Body { field, .. } => field.as_deref(),
            Self::Header { header } => Some(header),
            Self::Parameter { parameter } => Some(parameter),
        }
    }
}

/// A JSON pointer into the body, as a URI fragment (RFC 6901, section 6): `#/items/3/amount`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pointer(String);

impl Default for Pointer {
    /// The whole body.
    fn default() -> Self {
        Self("#".to_owned())
    }
}

impl Pointer {
    /// The field with this name, of an object at this pointer.
    #[must_use]
    pub fn field(mut self, name: &str) -> Self {
        self.0.push('/');
        for byte in name.bytes() {
            match byte {
                b'~' => self.0.push_str("~0"),
                b'/' => self.0.push_str("~1"),
                // RFC 3986, section 3.5.
                b'a'..=b'z'
                | b'A'..=b'Z'
                | b'0'..=b'9'
                | b'-'
                | b'.'
                | b'_'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'?' => self.0.push(char::from(byte)),
                // Writing to a string can't fail.
                _ => {
                    let _ = write!(self.0, "%{byte:02X}");
                }
            }
        }
        self
    }

    /// The item with this index, of an array at this pointer.
    #[must_use]
    pub fn item(mut self, index: usize) -> Self {
        let _ = write!(self.0, "/{index}");
        self
    }

    /// What another pointer finds in the part at this one.
    #[must_use]
    pub fn join(mut self, inner: &Self) -> Self {
        self.0.push_str(inner.0.trim_start_matches('#'));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_escaped_as_a_fragment() {
        let pointer = |field: &str| Pointer::default().field(field).0;
        for (field, expected) in [
            ("amount", "#/amount"),
            ("a/b~c", "#/a~1b~0c"),
            ("", "#/"),
            ("two words", "#/two%20words"),
            ("\u{e9}#\"%", "#/%C3%A9%23%22%25"),
            ("a.b[0]", "#/a.b%5B0%5D"),
        ] {
            assert_eq!(pointer(field), expected);
        }
        let item = Pointer::default().field("items").item(3);
        assert_eq!(item.clone().join(&Pointer::default().field("amount")).0, "#/items/3/amount");
        assert_eq!(item.join(&Pointer::default()).0, "#/items/3");
    }
}
