//! Permissions of callers: those without `accounts:any` see the endpoints of their own accounts
//! only.

use contract::{Scope, WebhookEndpointId};
use runtime::http::{bearer::Caller, database::read, problem::Problem};

use super::{Api, problems::endpoint_not_found};
use crate::store::{self, EndpointRow};

/// The endpoint, if the caller may see it. Otherwise it does not exist to the caller.
///
/// # Errors
/// `webhook-endpoint-not-found`
pub(super) async fn find(
    api: &Api,
    caller: &Caller,
    id: WebhookEndpointId,
) -> Result<EndpointRow, Problem> {
    let row = read(store::find_endpoint(&api.pool, id.as_uuid())).await?;
    match row {
        Some(row) if may_use(caller, &row) => Ok(row),
        Some(_) => Err(endpoint_not_found(id).hidden_from(&caller.user_id)),
        None => Err(endpoint_not_found(id)),
    }
}

fn may_use(caller: &Caller, row: &EndpointRow) -> bool {
    match &row.owner_id {
        Some(owner) => caller.may_use(owner),
        None => caller.scopes.contains(Scope::AccountsAny),
    }
}
