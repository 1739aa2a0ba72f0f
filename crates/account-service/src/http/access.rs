//! Permissions of callers: a customer may use their own accounts, a teller or an
//! admin any account.

use contract::UserId;
use runtime::http::{
    bearer::{Caller, Role},
    problem::{FORBIDDEN, Problem},
};

/// Checks that the caller may use the accounts of this owner.
///
/// # Errors
/// `forbidden`
pub(super) fn check_owner(caller: &Caller, owner: &UserId) -> Result<(), Problem> {
    if caller.role == Role::Customer && caller.user_id != *owner {
        return Err(FORBIDDEN.because("A customer may use their own accounts only."));
    }
    Ok(())
}

/// The only owner whose accounts the caller may see; `None` if it may see all.
pub(super) fn only_owner(caller: &Caller) -> Option<UserId> {
    (caller.role == Role::Customer).then(|| caller.user_id.clone())
}
