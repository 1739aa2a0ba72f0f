//! Pages of a list, newest first. A cursor is the id of the page's last item and a digest of
//! the list and its filters: it continues the list that it was made for, and no other.

use axum::extract::{Query, rejection::QueryRejection};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use uuid::Uuid;

use super::problem::{INVALID_FIELD, Problem};
use crate::problem_types;

problem_types! {
    /// A parameter of the query is unknown, repeated or not decodable.
    pub const INVALID_QUERY: (BAD_REQUEST, "invalid-query",
        "The query of the URL is invalid.",
        "Send the parameters that `detail` names, each at most once.");
    /// The cursor is not that of the previous page of the same list.
    pub const INVALID_CURSOR: (BAD_REQUEST, "invalid-cursor",
        "The cursor does not belong to this list.",
        "Send `nextCursor` as it is, with the same filters. Begin at the first page if they changed.");
}

/// Items per page without `limit`.
const DEFAULT_LIMIT: u16 = 20;
const MAX_LIMIT: u16 = 100;

/// The digest of a list and its filters, truncated. It tells lists apart; it is no secret.
type ListDigest = [u8; 8];

/// The requested page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Maximum items.
    pub limit: u16,
    /// Only items with an id below this.
    pub before: Option<Uuid>,
    list: ListDigest,
}

impl Page {
    /// Parses the parameters `limit` and `cursor`. `list` is all that decides which items the
    /// list has: its name, its filters, and the caller if it has the caller's items only. `None`
    /// is the filter that is not set.
    ///
    /// # Errors
    /// `invalid-field` or `invalid-cursor`
    pub fn parse(
        limit: Option<&str>,
        cursor: Option<&str>,
        list: &[Option<&str>],
    ) -> Result<Self, Problem> {
        let limit = self::limit(limit)?;
        let list = list_digest(list);
        let before = cursor.map(|cursor| parse_cursor(cursor, list)).transpose()?;
        Ok(Self { limit, before, list })
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
        items.last().filter(|_| more).map(|last| self.cursor(id(last)))
    }

    /// The cursor of the items with ids below this.
    #[must_use]
    pub fn cursor(self, id: Uuid) -> String {
        URL_SAFE_NO_PAD.encode([id.as_bytes(), &self.list[..]].concat())
    }
}

/// The parameter `limit`: maximum items of a page.
///
/// # Errors
/// `invalid-field`
pub fn limit(parameter: Option<&str>) -> Result<u16, Problem> {
    parameter.map_or(Ok(DEFAULT_LIMIT), parse_limit)
}

/// The parameters of a list's query.
///
/// # Errors
/// `invalid-query`, with the names of the known parameters.
pub fn query<T>(query: Result<Query<T>, QueryRejection>, known: &str) -> Result<T, Problem> {
    query.map(|Query(parameters)| parameters).map_err(|error| {
        let text = error.body_text();
        let named = text
            .split_once("field `")
            .and_then(|(before, rest)| Some((before, rest.split('`').next()?)));
        let Some((before, name)) = named else {
            return INVALID_QUERY.because(format!("The query takes {known}: {text}."));
        };
        let reason =
            if before.trim_end().ends_with("duplicate") { "occurs twice" } else { "is unknown" };
        let detail = format!("The parameter {name} {reason}. The query takes {known}.");
        INVALID_QUERY.because(detail).at_parameter(name)
    })
}

fn list_digest(list: &[Option<&str>]) -> ListDigest {
    let mut text = Vec::new();
    for part in list {
        // A part can't be mistaken for two.
        let length = part.map_or(u64::MAX, |part| u64::try_from(part.len()).unwrap_or_default());
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(part.unwrap_or_default().as_bytes());
    }
    let mut start = ListDigest::default();
    for (to, from) in start.iter_mut().zip(digest(&SHA256, &text).as_ref()) {
        *to = *from;
    }
    start
}

fn parse_limit(text: &str) -> Result<u16, Problem> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text.parse().ok().filter(|limit| is_number && (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| {
        INVALID_FIELD.because(format!("limit must be 1 to {MAX_LIMIT}.")).at_parameter("limit")
    })
}

fn parse_cursor(text: &str, list: ListDigest) -> Result<Uuid, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let id = bytes.as_deref().and_then(|bytes| {
        let (id, of_list) = bytes.split_first_chunk::<16>()?;
        (of_list == list).then(|| Uuid::from_bytes(*id))
    });
    id.ok_or_else(|| {
        let detail = "cursor must be the nextCursor of the previous page of this list, with the \
                      same filters.";
        INVALID_CURSOR.because(detail).at_parameter("cursor")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        limit: Option<String>,
    }

    #[test]
    fn a_wrong_parameter_is_named_with_the_reason() {
        for (uri, reason) in [
            ("/?limit=1&limit=2", "The parameter limit occurs twice."),
            ("/?lim=1", "The parameter lim is unknown."),
            ("/?duplicate=1", "The parameter duplicate is unknown."),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let problem = query(Query::<Example>::try_from_uri(&uri), "limit").unwrap_err();
            let problem = serde_json::to_string(&problem).unwrap();
            assert!(problem.contains(reason), "{problem}");
        }
        for limit in ["0", "101", "+5", "-1", "5 ", ""] {
            assert!(super::limit(Some(limit)).is_err(), "{limit}");
        }
    }

    #[test]
    fn a_cursor_continues_only_its_own_list() {
        let own = [Some("records"), Some("a"), None, Some("b")];
        let page = Page::parse(None, None, &own).unwrap();
        let id = Uuid::now_v7();
        let cursor = page.cursor(id);
        assert_eq!(Page::parse(None, Some(&cursor), &own).unwrap().before, Some(id));
        let others: [&[Option<&str>]; 6] = [
            &[Some("records"), Some("a"), Some(""), Some("b")],
            &[Some("records"), Some("a"), Some("b"), None],
            &[Some("records"), Some("ab"), None, None],
            &[Some("accounts"), Some("a"), None, Some("b")],
            &own[..3],
            &[],
        ];
        for other in others {
            assert!(Page::parse(None, Some(&cursor), other).is_err(), "{other:?}");
        }
        let short = URL_SAFE_NO_PAD.encode(id.as_bytes());
        for cursor in ["", "x", "AAAA", &short, &format!("{cursor}AAAA"), &format!("{cursor}=")] {
            assert!(Page::parse(None, Some(cursor), &own).is_err(), "{cursor}");
        }
    }
}
