//! Errors as one line of text.

use std::error::Error as StdError;

use anyhow::{Chain, Error};

/// The error followed by its causes, separated by colons.
///
/// A cause is left out when the text before already ends with it: sqlx repeats its causes.
pub(crate) fn describe(error: &Error) -> String {
    join(error.chain())
}

/// As [`describe`].
pub(crate) fn describe_cause(cause: &(dyn StdError + 'static)) -> String {
    join(Chain::new(cause))
}

fn join(chain: Chain<'_>) -> String {
    chain.map(ToString::to_string).fold(String::new(), |line, cause| {
        if line.is_empty() {
            cause
        } else if line.ends_with(&cause) {
            line
        } else {
            format!("{line}: {cause}")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_appears_once() {
        let refused = sqlx::Error::Io(io::Error::other("connection refused"));
        let error = anyhow!(refused).context("the account database");
        let line = "the account database: error communicating with database: connection refused";
        assert_eq!(describe(&error), line);
        assert_eq!(describe(&anyhow!("inner").context("outer")), "outer: inner");
    }
}
