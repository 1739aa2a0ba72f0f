//! Parameters of a query, as filters.

use contract::UserId;

use super::problem::{INVALID_FIELD, Problem};

/// A user as a filter. `name` is that of the parameter.
///
/// # Errors
/// `invalid-field`
pub fn user(name: &'static str, user: String) -> Result<UserId, Problem> {
    let invalid = |error| INVALID_FIELD.because(format!("{name} {error}.")).at_parameter(name);
    user.try_into().map_err(invalid)
}

/// The problem of a parameter that must be one of these.
#[must_use]
pub fn unknown(name: &'static str, known: &[&str]) -> Problem {
    let which = if known.len() == 1 { "" } else { "one of " };
    let detail = format!("{name} must be {which}{}.", known.join(", "));
    INVALID_FIELD.because(detail).at_parameter(name)
}
