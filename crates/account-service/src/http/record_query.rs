//! The query of `GET /v1/accounts/{id}/records`.

use contract::{AccountId, Kind};
use runtime::http::{
    idempotency_key::IdempotencyKey,
    page::Page,
    parameter::{self, unknown},
    problem::{INVALID_FIELD, Problem},
};
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use utoipa::IntoParams;

use super::{labels, schemas};
use crate::{record::Status, store::RecordFilter};

/// The parameters of the query. Each may be left out.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordsQuery {
    /// Only records in this state.
    #[param(value_type = Option<schemas::RecordStatus>)]
    status: Option<String>,
    /// Only records of this type.
    #[param(value_type = Option<schemas::MovementType>)]
    r#type: Option<String>,
    /// The key of the request. It finds the record of the key's first caller, and those of the
    /// account's owner and of the token's user; with `requestedBy`, that of this caller.
    #[param(min_length = 1)]
    idempotency_key: Option<String>,
    /// The caller who made the request.
    #[param(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    requested_by: Option<String>,
    /// Only records with this reference.
    #[param(min_length = 1, max_length = 255)]
    reference: Option<String>,
    /// Only records accepted at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<String>,
    /// Only records accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
    /// Maximum items of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `nextCursor` of the previous page. All other parameters but `limit` must be the same.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

impl RecordsQuery {
    /// The names of the parameters, for a sentence.
    pub(super) const KNOWN: &str =
        "status, type, idempotencyKey, requestedBy, reference, from, to, limit and cursor";

    /// The page of the list of this account's records.
    ///
    /// # Errors
    /// `invalid-field` or `invalid-cursor`
    pub(super) fn page(&self, account: AccountId) -> Result<Page, Problem> {
        let account = account.to_string();
        let list = [
            Some("records"),
            Some(&account),
            self.status.as_deref(),
            self.r#type.as_deref(),
            self.idempotency_key.as_deref(),
            self.requested_by.as_deref(),
            self.from.as_deref(),
            self.to.as_deref(),
            self.reference.as_deref(),
        ];
        Page::parse(self.limit.as_deref(), self.cursor.as_deref(), &list)
    }

    /// The filter, and the key.
    ///
    /// # Errors
    /// `invalid-field`
    pub(super) fn filter(&self) -> Result<(RecordFilter, Option<IdempotencyKey>), Problem> {
        let status = self.status.as_deref().map(|name| {
            let known = Status::ALL.map(Status::as_str);
            Status::parse(name).ok_or_else(|| unknown("status", &known))
        });
        let kind = self.r#type.as_deref().map(|name| {
            let known = Kind::ALL.map(Kind::as_str);
            Kind::parse(name).ok_or_else(|| unknown("type", &known))
        });
        let key = self.idempotency_key.as_deref().map(|key| {
            let detail = "idempotencyKey must be 1 to 255 visible ASCII characters.";
            let problem = || INVALID_FIELD.because(detail).at_parameter("idempotencyKey");
            IdempotencyKey::parse(key).ok_or_else(problem)
        });
        let requested_by =
            self.requested_by.clone().map(|user| parameter::user("requestedBy", user));
        let reference = self.reference.clone().map(labels::in_query).transpose()?;
        let time = |name, text: &Option<String>| {
            text.as_deref().map(|text| parse_time(name, text)).transpose()
        };
        let (from, to) = (time("from", &self.from)?, time("to", &self.to)?);
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(INVALID_FIELD.because("to must be after from.").at_parameter("to"));
        }
        let filter = RecordFilter {
            status: status.transpose()?,
            kind: kind.transpose()?,
            from,
            to,
            requested_by: requested_by.transpose()?,
            reference,
        };
        Ok((filter, key.transpose()?))
    }
}

/// A time as a parameter. `name` is that of the parameter.
///
/// # Errors
/// `invalid-field`
pub(super) fn parse_time(name: &'static str, text: &str) -> Result<OffsetDateTime, Problem> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    // In UTC, as statements send it: an offset can lead out of the years 1 to 9999.
    let has_year = |time: &OffsetDateTime| {
        time.checked_to_offset(UtcOffset::UTC).is_some_and(|utc| utc.year() >= 1)
    };
    time.filter(has_year).ok_or_else(|| {
        let detail = format!(
            "{name} must be a time such as 2026-11-29T09:00:00Z (RFC 3339). In a URL, a + is \
             written as %2B."
        );
        INVALID_FIELD.because(detail).at_parameter(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_strictly() {
        for good in ["2026-11-29T09:00:00Z", "2026-11-29T18:00:00.5+09:00", "9999-12-31T23:59:59Z"]
        {
            assert!(parse_time("from", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2026-11-29",
            "1764406800",
            "2026-11-29T09:00:00 09:00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ] {
            assert!(parse_time("from", bad).is_err(), "{bad}");
        }
    }
}
