//! URLs of databases, each optional on its own.

use clap::Args;

/// The databases to work on.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArguments {
    /// URL of the account-service's database.
    #[arg(long, value_name = "URL", env = "PASSBOOK_ACCOUNT_DATABASE_URL", hide_env_values = true)]
    pub(crate) account_database_url: Option<String>,
    /// URL of the transaction-service's database.
    #[arg(
        long,
        value_name = "URL",
        env = "PASSBOOK_TRANSACTION_DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) transaction_database_url: Option<String>,
}
