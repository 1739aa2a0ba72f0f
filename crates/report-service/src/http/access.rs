//! Permissions of callers: a customer may see the statements of their own accounts, a
//! teller or an admin every report.

use report_document::Kind;
use runtime::http::{
    bearer::{Caller, Role},
    problem::{FORBIDDEN, Problem},
};

use super::problems::report_not_found;
use crate::report::Report;

/// Checks that the caller may ask for reports of this kind.
///
/// # Errors
/// `forbidden`
pub(super) fn check_kind(caller: &Caller, kind: Kind) -> Result<(), Problem> {
    if caller.role == Role::Customer && kind != Kind::Statement {
        let detail = format!("A customer may ask for statements only, not for a report of {kind}.");
        return Err(FORBIDDEN.because(detail));
    }
    Ok(())
}

/// Checks that the caller may ask for statements of an account.
///
/// # Errors
/// `forbidden`
pub(super) fn check_owner(caller: &Caller, owner: &str) -> Result<(), Problem> {
    if caller.role == Role::Customer && caller.user_id.as_str() != owner {
        return Err(FORBIDDEN.because("A customer may use their own accounts only."));
    }
    Ok(())
}

/// Checks that the caller may see this report. To a customer, the report of another
/// user does not exist.
///
/// # Errors
/// `report-not-found`
pub(super) fn check_report(caller: &Caller, report: &Report) -> Result<(), Problem> {
    let user = caller.user_id.as_str();
    let own = report.requested_by == user || report.account_owner.as_deref() == Some(user);
    if caller.role == Role::Customer && !own {
        return Err(report_not_found(report.id));
    }
    Ok(())
}
