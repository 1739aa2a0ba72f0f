//! Permissions of callers: those without `accounts:any` see the statements of their own accounts
//! only.
//!
//! A report belongs to its account, not to the caller who asked for it: a caller may have lost
//! `accounts:any` since, or may hold a second token without it.

use contract::{Scope, UserId};
use report_document::Kind;
use runtime::http::{bearer::Caller, problem::Problem};

use super::problems::report_not_found;
use crate::report::Report;

/// Maximum open reports of a customer.
const MAX_OPEN: u32 = 10;

/// The only owner of accounts whose statements the caller may see; `None` if it may see every
/// report.
pub(super) fn only_owner(caller: &Caller) -> Option<&UserId> {
    (!caller.scopes.contains(Scope::AccountsAny)).then_some(&caller.user_id)
}

/// Whether the caller may see what happens inside the service: replicas, and causes of errors.
pub(super) fn sees_internals(caller: &Caller) -> bool {
    only_owner(caller).is_none()
}

/// Maximum open reports of the caller; `None` without a limit.
pub(super) fn most_open(caller: &Caller) -> Option<u32> {
    only_owner(caller).map(|_| MAX_OPEN)
}

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
    let allowed = match &report.account_owner {
        Some(owner) => caller.may_use(owner),
        None => caller.scopes.contains(Scope::AccountsAny),
    };
    if allowed { Ok(()) } else { Err(report_not_found(report.id).hidden_from(&caller.user_id)) }
}

/// Checks that the caller, who may see this report, may also cancel it. The owner of an account
/// does not cancel the statements that a teller asked for.
///
/// # Errors
/// `forbidden`
pub(super) fn check_cancel(caller: &Caller, report: &Report) -> Result<(), Problem> {
    if report.requested_by == caller.user_id.as_str() {
        return Ok(());
    }
    caller.require(Scope::AccountsAny)
}
