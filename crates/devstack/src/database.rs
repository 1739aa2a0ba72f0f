//! The databases of the stack, as one table. Their URLs, their roles and the
//! passwords of these roles derive from it.

/// A database and the role of its service.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) name: &'static str,
    pub(crate) role: &'static str,
    /// The environment variable of `passbook migrate` with the database's URL.
    pub(crate) url_variable: &'static str,
    /// The environment variable of `passbook provision` with the role's
    /// password.
    pub(crate) password_variable: &'static str,
}

pub(crate) static ACCOUNT: Database = Database {
    name: "account",
    role: "account_service",
    url_variable: "PASSBOOK_ACCOUNT_DATABASE_URL",
    password_variable: "PASSBOOK_ACCOUNT_SERVICE_PASSWORD",
};

pub(crate) static TRANSACTION: Database = Database {
    name: "transaction",
    role: "transaction_service",
    url_variable: "PASSBOOK_TRANSACTION_DATABASE_URL",
    password_variable: "PASSBOOK_TRANSACTION_SERVICE_PASSWORD",
};

pub(crate) static REPORT: Database = Database {
    name: "report",
    role: "report_service",
    url_variable: "PASSBOOK_REPORT_DATABASE_URL",
    password_variable: "PASSBOOK_REPORT_SERVICE_PASSWORD",
};

/// The account database, with the role of the webhook-service: its tables are there too.
pub(crate) static WEBHOOKS: Database = Database {
    name: ACCOUNT.name,
    role: "webhook_service",
    url_variable: ACCOUNT.url_variable,
    password_variable: "PASSBOOK_WEBHOOK_SERVICE_PASSWORD",
};

/// The role that reads the figures of reports from the databases of accounts
/// and transactions.
pub(crate) const REPORT_READER: &str = "report_reader";

/// The role with which the account-service reads the ledger.
pub(crate) const LEDGER_READER: &str = "ledger_reader";

/// Every role of a service, with its database.
pub(crate) static SERVICE_ROLES: [&Database; 4] = [&ACCOUNT, &TRANSACTION, &REPORT, &WEBHOOKS];

pub(crate) static DATABASES: [&Database; 3] = [&ACCOUNT, &TRANSACTION, &REPORT];
