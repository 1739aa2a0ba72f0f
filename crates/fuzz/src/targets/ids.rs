//! Ids, names, and cursors.

use account_service::events::{EventIds, EventKind, LoggedEvent};
use contract::{AccountId, Currency, Kind, ParseIdError, Reason, RecordId, Scope, Scopes, UserId};
use runtime::http::page::Page;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{assert_refusal, is_visible, text};

/// An accepted id or name is printed as it was written; a UUID in lowercase.
pub(super) fn names(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let id = text.parse::<RecordId>();
    assert_eq!(id.is_ok(), is_uuid(text), "{text:?}");
    if let Ok(id) = id {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(id.to_string().parse(), Ok::<_, ParseIdError>(id));
    }
    let json = serde_json::to_string(text).unwrap();
    assert_eq!(serde_json::from_str(&json).ok(), id.ok());
    let user = UserId::try_from(text.to_owned());
    assert_eq!(user.is_ok(), is_visible(text), "{text:?}");
    assert!(user.ok().is_none_or(|user| user.as_str() == text));
    assert!(Currency::parse(text).ok().is_none_or(|currency| currency.code() == text));
    assert!(Kind::parse(text).is_none_or(|kind| kind.as_str() == text));
    assert!(Reason::parse(text).is_none_or(|reason| reason.as_str() == text));
    let scopes = Scopes::parse(text);
    assert_eq!(Scopes::parse(&scopes.to_string()), scopes);
    let words: Vec<_> = text.split(' ').collect();
    for scope in Scope::ALL {
        assert_eq!(scopes.contains(scope), words.contains(&scope.as_str()), "{text:?}");
    }
}

fn is_uuid(text: &str) -> bool {
    let is_part = |part: &str, length| {
        part.len() == length && part.chars().all(|character| character.is_ascii_hexdigit())
    };
    let parts: Vec<_> = text.split('-').collect();
    parts.len() == 5
        && parts.iter().zip([8, 4, 4, 4, 12]).all(|(part, length)| is_part(part, length))
}

/// Lines: a cursor, a limit, and two filters, each of which may be missing. An accepted cursor is
/// the one that its list gives, and no other list accepts it.
pub(super) fn cursors(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let mut lines = text.split('\n');
    let (cursor, limit) = (lines.next().unwrap_or_default(), lines.next());
    let (first, second) = (lines.next(), lines.next());
    let own = [Some("records"), first, second];
    if let Ok(page) = Page::parse(limit, None, &own) {
        assert_limit(page, limit);
    }
    match Page::parse(limit, Some(cursor), &own) {
        Ok(page) => {
            assert_eq!(page.cursor(page.before.unwrap()), cursor);
        }
        Err(problem) => assert_refusal(&problem, input),
    }
    let mut id = [0; 16];
    id.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    let id = Uuid::from_bytes(id);
    let cursor = Page::parse(None, None, &own).unwrap().cursor(id);
    assert_eq!(Page::parse(None, Some(&cursor), &own).unwrap().before, Some(id));
    let joined = format!("{}{}", first.unwrap_or_default(), second.unwrap_or_default());
    let others: [&[Option<&str>]; 6] = [
        &[Some("accounts"), first, second],
        &[Some("records"), second, first],
        &[Some("records"), Some(&joined), None],
        &[Some("records"), None, Some(&joined)],
        &[Some("records"), first, second, None],
        &[Some("records"), first],
    ];
    for other in others.into_iter().filter(|other| *other != own) {
        assert!(Page::parse(None, Some(&cursor), other).is_err(), "{own:?} {other:?}");
    }
}

fn assert_limit(page: Page, limit: Option<&str>) {
    assert!((1..=100).contains(&page.limit));
    let Some(limit) = limit else { return };
    assert_eq!(page.limit.to_string(), limit.trim_start_matches('0'));
}

/// A text is the id of one event at most: of the one that has this id.
pub(super) fn event_ids(input: &[u8]) {
    let (ids, others) = (EventIds::new(&[1; 32]), EventIds::new(&[2; 32]));
    let mut number = [0; 8];
    number.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    let number = i64::from_be_bytes(number);
    let event = LoggedEvent {
        position: number.saturating_abs().max(1),
        sequence: 1,
        kind: EventKind::AccountCreated,
        account: AccountId::from_uuid(Uuid::nil()),
        owner: UserId::try_from("ann".to_owned()).unwrap(),
        record: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
    };
    let id = ids.id(&event);
    let claimed = ids.read(&id).unwrap();
    assert!(ids.is_of(claimed, &event) && !ids.is_origin(claimed));
    assert_eq!(claimed.position, event.position);
    assert!(!others.is_of(others.read(&id).unwrap(), &event));
    let Some(text) = text(input) else { return };
    let Some(claimed) = ids.read(text) else { return };
    assert_eq!(text.len(), 32);
    assert_eq!(ids.is_origin(claimed), text == ids.origin());
    assert_eq!(ids.is_of(claimed, &event), text == id);
}
