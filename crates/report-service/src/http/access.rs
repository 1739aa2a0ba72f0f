//! Permissions of callers: those without `accounts:any` see the statements of their own accounts
//! only.

use contract::Scope;
use report_document::Kind;
use runtime::http::{bearer::Caller, problem::Problem};

use super::problems::report_not_found;
use crate::report::Report;

/// Checks that the caller may ask for reports of this kind.
///
/// # Errors
/// `forbidden`
pub(super) fn check_kind(caller: &Caller, kind: Kind) -> Result<(), Problem> {
    if kind == Kind::Statement { Ok(()) } else { caller.require(Scope::AccountsAny) }
}

/// Checks that the caller may see this report. Otherwise it does not exist to the caller.
///
/// # Errors
/// `report-not-found`
pub(super) fn check_report(caller: &Caller, report: &Report) -> Result<(), Problem> {
    let owner = report.account_owner.as_deref();
    let allowed =
        caller.may_use(&report.requested_by) || owner.is_some_and(|owner| caller.may_use(owner));
    if allowed { Ok(()) } else { Err(report_not_found(report.id)) }
}
