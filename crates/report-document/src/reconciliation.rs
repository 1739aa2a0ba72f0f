//! The findings of `passbook verify`.

use serde::{Deserialize, Serialize};

/// What was compared, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconciliation {
    /// The version of the layout.
    pub template: u32,
    /// The institution that issues the report.
    pub issuer: String,
    /// The checks, in their order.
    pub checks: Vec<Check>,
    /// The findings, in the order of their checks.
    pub findings: Vec<Finding>,
    /// The number of findings that are left out.
    pub omitted: u64,
}

/// One invariant, and how many rows it was checked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// A short name.
    pub name: String,
    /// The invariant, as a sentence.
    pub description: String,
    /// The number of rows examined.
    pub examined: u64,
    /// The number of findings.
    pub findings: u64,
}

/// One violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The name of the check.
    pub check: String,
    /// The account, record or transaction.
    pub subject: String,
    /// What is wrong.
    pub detail: String,
}
