//! The bearer token of the API.

use clap::{Args, builder::NonEmptyStringValueParser};

/// The token with which a command calls the API.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgument {
    /// Bearer token of the API. Set the variable, or PASSBOOK_TOKEN_FILE to the path of a file with
    /// the token, not the flag: other users of the machine can read argument lists.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "PASSBOOK_TOKEN",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) token: Option<String>,
}
