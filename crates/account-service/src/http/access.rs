//! Permissions of callers: those without `accounts:any` use their own accounts only.

use contract::{Scope, UserId};
use runtime::http::{bearer::Caller, problem::Problem};

/// Checks that the caller may use the accounts of this owner. Otherwise they do not exist to the
/// caller: `not_found` is the problem.
pub(super) fn check_owner(
    caller: &Caller,
    owner: &UserId,
    not_found: impl FnOnce() -> Problem,
) -> Result<(), Problem> {
    if caller.may_use(owner.as_str()) {
        return Ok(());
    }
    Err(not_found().hidden_from(&caller.user_id))
}

/// The only owner whose accounts the caller may see; `None` if it may see all.
pub(super) fn only_owner(caller: &Caller) -> Option<UserId> {
    (!caller.scopes.contains(Scope::AccountsAny)).then(|| caller.user_id.clone())
}
