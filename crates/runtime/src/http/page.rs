//! Pages of a list, newest first. The cursor is the id of the page's last item.

use axum::extract::{Query, rejection::QueryRejection};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::problem::{INVALID_FIELD, Problem};

/// Items per page without `limit`.
const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;

/// The requested page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Maximum items.
    pub limit: u16,
    /// Only items with an id below this.
    pub before: Option<Uuid>,
}

impl Page {
    /// Parses the parameters `limit` and `cursor`.
    ///
    /// # Errors
    /// `invalid-field`
    pub fn parse(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = limit.map_or(Ok(DEFAULT_LIMIT), parse_limit)?;
        Ok(Self { limit, before: cursor.map(parse_cursor).transpose()? })
    }

    /// How many items to read: one more than the limit shows whether there is
    /// another page.
    #[must_use]
    pub const fn to_read(self) -> u16 {
        self.limit.saturating_add(1)
    }

    /// Cuts the items that were read down to the limit. Returns the cursor of the
    /// next page, if there is one.
    pub fn cut<T>(self, items: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<String> {
        let more = items.len() > usize::from(self.limit);
        items.truncate(usize::from(self.limit));
        items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(id(last)))
    }
}

/// The parameters of a list's query.
///
/// # Errors
/// `invalid-field`, with the names of the known parameters.
pub fn query<T>(query: Result<Query<T>, QueryRejection>, known: &str) -> Result<T, Problem> {
    query.map(|Query(parameters)| parameters).map_err(|error| {
        INVALID_FIELD.because(format!("The query takes {known}: {}.", error.body_text()))
    })
}

fn parse_limit(text: &str) -> Result<u16, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        INVALID_FIELD.because(format!("limit must be 1 to {MAX_LIMIT}.")).at("limit")
    })
}

fn parse_cursor(text: &str) -> Result<Uuid, Problem> {
    let id = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    id.ok_or_else(|| {
        INVALID_FIELD.because("cursor must be the nextCursor of the previous page.").at("cursor")
    })
}
