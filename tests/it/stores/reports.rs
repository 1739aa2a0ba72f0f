//! The report-service's store: claims, leases and fencing, without any replica.

use std::time::Duration;

use audit_log::Actor;
use contract::{AuditEntryId, ReportId, ReportQueue, UserId};
use futures::future::join_all;
use report_document::Format;
use report_service::{
    alert::Alerts,
    job::{Outcome, State, Tries},
    report::{AttemptKey, NewReport, Parameters},
    store::{self, Accepted, Beat, Claim, Success},
};
use runtime::{http::idempotency_key::IdempotencyKey, postgres::PgPool, telemetry::trace::Trace};
use tests::{Stack, broker, client::new_key, eventually};
use uuid::Uuid;

use super::impatient;

const LEASE: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(60);
const TRIES: Tries = Tries { max_failures: 2, delay: Duration::ZERO };

fn ann() -> UserId {
    UserId::try_from("ann".to_owned()).unwrap()
}

fn actor(user_id: &UserId) -> Actor<'_> {
    Actor { entry: AuditEntryId::new(), user_id, api_key: None }
}

async fn ask(pool: &PgPool) -> ReportId {
    let new = NewReport {
        id: ReportId::new(),
        requested_by: "ann".to_owned(),
        account_owner: None,
        key: IdempotencyKey::parse(&new_key()).unwrap(),
        parameters: Parameters::Reconciliation,
        formats: vec![Format::Pdf],
        unique_at: None,
        retry_of: None,
        most_open: None,
    };
    match store::insert(pool, &new, &Trace::begin(), actor(&ann())).await.unwrap() {
        Accepted::New(report) => report.id,
        other => panic!("{other:?}"),
    }
}

/// Claims a report, which must be this one. Gives its key.
async fn claimed(pool: &PgPool, id: ReportId, lease: Duration) -> AttemptKey {
    match store::claim(pool, "test", lease, 1).await.unwrap() {
        Claim::Claimed(claimed) => {
            assert_eq!(claimed.report.id, id);
            claimed.key()
        }
        other => panic!("{other:?}"),
    }
}

async fn state(pool: &PgPool, id: ReportId) -> State {
    store::find(pool, id).await.unwrap().unwrap().state
}

async fn lease_is_over(pool: &PgPool, id: ReportId) {
    eventually("the lease is over", LEASE, || async {
        let over = "SELECT lease_until < clock_timestamp() FROM reports WHERE id = $1";
        let over: bool = sqlx::query_scalar(over).bind(id.as_uuid()).fetch_one(pool).await.unwrap();
        over.then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_report_has_a_lease_and_only_its_attempt_can_end_it() {
    let stack = Stack::start_servers("report-store").await;
    let pool = stack.reports().await;

    // Claims at the same moment: one gets the oldest report.
    let (first, second) = (ask(&pool).await, ask(&pool).await);
    let claims = join_all((0..8).map(|_| store::claim(&pool, "test", LEASE, 1))).await;
    let got = claims.iter().filter_map(|claim| match claim.as_ref().unwrap() {
        Claim::Claimed(claimed) => Some(claimed.key()),
        Claim::Busy => None,
        Claim::NothingDue => panic!("two reports are due"),
    });
    let got: Vec<_> = got.collect();
    assert_eq!(got.iter().map(|key| key.report).collect::<Vec<_>>(), [first]);

    // A failure frees the place, and the oldest report goes on.
    let failed = Outcome::Failed("full".to_owned());
    store::end(&pool, got[0], &failed, TRIES).await.unwrap().unwrap();
    let late = claimed(&pool, first, Duration::from_millis(1)).await;
    assert_eq!(late.number, 2);

    // After its lease, an attempt changes nothing, even before another one has the report.
    lease_is_over(&pool, first).await;
    let beat = store::beat(&pool, late, LEASE, &store::Progress::default()).await.unwrap();
    assert_eq!(beat, Beat::Lost);
    let success = store::succeed(&pool, late, &[], RETENTION).await.unwrap();
    assert_eq!((success, state(&pool, first).await), (Success::Fenced, State::Running));

    // Lost for the second time: FAILED, and the next one has its turn.
    let lost = store::expire_lost(&pool, TRIES).await.unwrap();
    assert_eq!(lost.len(), 1);
    assert_eq!(state(&pool, first).await, State::Failed);
    assert_eq!(store::open_alerts(&pool).await.unwrap(), 1);
    assert!(store::end(&pool, late, &Outcome::HandedOver, TRIES).await.unwrap().is_none());

    // A hand-over and a claim: the earlier attempt is fenced off.
    let earlier = claimed(&pool, second, LEASE).await;
    store::end(&pool, earlier, &Outcome::HandedOver, TRIES).await.unwrap().unwrap();
    let later = claimed(&pool, second, LEASE).await;
    let success = store::succeed(&pool, earlier, &[], RETENTION).await.unwrap();
    assert_eq!((success, state(&pool, second).await), (Success::Fenced, State::Running));
    for _ in 0..2 {
        // The second time, the answer to the first commit was lost.
        let success = store::succeed(&pool, later, &[], RETENTION).await.unwrap();
        assert_eq!((success, state(&pool, second).await), (Success::Committed, State::Succeeded));
    }

    // Times of a clock that was a day ahead hold up nothing: the lease, the next attempt and
    // its message.
    let ahead = ask(&pool).await;
    let attempt = claimed(&pool, ahead, LEASE).await;
    let set = "UPDATE reports SET lease_until = lease_until + interval '1 day',
                   sent_at = now() + interval '1 day' WHERE id = $1";
    sqlx::query(set).bind(ahead.as_uuid()).execute(&pool).await.unwrap();
    let short = Duration::from_millis(1);
    assert_eq!(store::cap_times(&pool, short).await.unwrap(), 1);
    lease_is_over(&pool, ahead).await;
    store::expire_lost(&pool, Tries { max_failures: 9, ..TRIES }).await.unwrap();
    assert_eq!(state(&pool, ahead).await, State::Queued);
    let set = "UPDATE reports SET not_before = now() + interval '1 day',
                   sent_at = now() + interval '1 day' WHERE id = $1";
    sqlx::query(set).bind(ahead.as_uuid()).execute(&pool).await.unwrap();
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 1);
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 0);
    let soon = "SELECT not_before <= now() + interval '10 minutes' AND sent_at IS NULL
                FROM reports WHERE id = $1";
    let soon: bool = sqlx::query_scalar(soon).bind(ahead.as_uuid()).fetch_one(&pool).await.unwrap();
    assert!(soon);
    assert_eq!(attempt.report, ahead);
    store::cancel(&pool, ahead, actor(&ann())).await.unwrap();

    // Cancelled while it runs: it never succeeds.
    let third = ask(&pool).await;
    let running = claimed(&pool, third, LEASE).await;
    store::cancel(&pool, third, actor(&ann())).await.unwrap();
    let success = store::succeed(&pool, running, &[], RETENTION).await.unwrap();
    assert_eq!(success, Success::Cancelled);
    store::end(&pool, running, &failed, TRIES).await.unwrap().unwrap();
    assert_eq!(state(&pool, third).await, State::Cancelled);
    a_claim_that_a_failover_lost_changes_nothing(&pool).await;
}

/// The promoted standby has the report as it was before the claim, and gives the same number again.
async fn a_claim_that_a_failover_lost_changes_nothing(pool: &PgPool) {
    let id = ask(pool).await;
    let lost = claimed(pool, id, LEASE).await;
    for statement in [
        "DELETE FROM report_attempts WHERE report_id = $1",
        "UPDATE reports SET state = 'QUEUED', attempt = 0, fence = NULL, lease_until = NULL,
             worker = NULL WHERE id = $1",
    ] {
        sqlx::query(statement).bind(id.as_uuid()).execute(pool).await.unwrap();
    }
    let next = claimed(pool, id, LEASE).await;
    assert_eq!(next.number, lost.number);
    let progress = store::Progress::default();
    let beat = async |key| store::beat(pool, key, LEASE, &progress).await.unwrap();
    assert_eq!((beat(lost).await, beat(next).await), (Beat::Lost, Beat::Extended));
    let success = async |key| store::succeed(pool, key, &[], RETENTION).await.unwrap();
    assert_eq!(success(lost).await, Success::Fenced);
    let failed = Outcome::Failed("lost".to_owned());
    assert_eq!(store::end(pool, lost, &failed, TRIES).await.unwrap(), None);
    assert_eq!(success(next).await, Success::Committed);
    assert_eq!(success(lost).await, Success::Fenced);
    assert_eq!(state(pool, id).await, State::Succeeded);
}

#[tokio::test]
async fn a_report_whose_row_another_transaction_holds_delays_no_other() {
    let stack = Stack::start_servers("report-row-lock").await;
    let pool = impatient(&stack.file().databases.report);
    let (first, second) = (ask(&pool).await, ask(&pool).await);
    let claim = || store::claim(&pool, "test", LEASE, 2);
    let mut holder = stack.reports().await.begin().await.unwrap();
    let lock = sqlx::query("SELECT id FROM reports WHERE id = $1 FOR UPDATE");
    lock.bind(first.as_uuid()).fetch_all(&mut *holder).await.unwrap();
    match claim().await.unwrap() {
        Claim::Claimed(claimed) => assert_eq!(claimed.report.id, second),
        other => panic!("{other:?}"),
    }
    // Only the locked report is due: its message must not be acked.
    assert!(claim().await.unwrap_err().is_locked());
    holder.rollback().await.unwrap();
    match claim().await.unwrap() {
        Claim::Claimed(claimed) => assert_eq!(claimed.report.id, first),
        other => panic!("{other:?}"),
    }
}

/// The redrive, the clean-up and the alerts go through many rows: a held one is left for later.
#[tokio::test]
async fn rows_that_another_transaction_holds_delay_no_round_of_the_report_service() {
    let stack = Stack::start_servers("report-rows-held").await;
    let (pool, holder) = (impatient(&stack.file().databases.report), stack.reports().await);
    let [lost, held] = [ask(&pool).await, ask(&pool).await];
    for id in [lost, held] {
        assert!(matches!(
            store::claim(&pool, "test", Duration::from_millis(1), 2).await.unwrap(),
            Claim::Claimed(_)
        ));
        lease_is_over(&pool, id).await;
    }
    let mut hold = holder.begin().await.unwrap();
    let attempt = "SELECT FROM report_attempts WHERE report_id = $1 FOR UPDATE";
    sqlx::query(attempt).bind(held.as_uuid()).fetch_all(&mut *hold).await.unwrap();
    let expired = async |expected: &[ReportId]| {
        let expired = store::expire_lost(&pool, TRIES).await.unwrap();
        let expired: Vec<_> = expired.into_iter().map(|(id, ..)| id).collect();
        assert_eq!(expired, expected);
    };
    expired(&[lost]).await;
    hold.rollback().await.unwrap();
    expired(&[held]).await;

    // Both are QUEUED, with times of a clock that was ahead, and messages without a PubAck.
    let ahead = "UPDATE reports SET not_before = now() + interval '1 day'";
    sqlx::query(ahead).execute(&pool).await.unwrap();
    let mut hold = holder.begin().await.unwrap();
    let report = "SELECT FROM reports WHERE id = $1 FOR UPDATE";
    sqlx::query(report).bind(held.as_uuid()).fetch_all(&mut *hold).await.unwrap();
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 1);
    let sent = "UPDATE reports SET sent_at = now() WHERE id = $1";
    sqlx::query(sent).bind(lost.as_uuid()).execute(&pool).await.unwrap();
    store::set_unsent(&pool, &[held, lost]).await.unwrap();
    let unsent = "SELECT sent_at IS NULL FROM reports WHERE id = $1";
    let unsent: bool =
        sqlx::query_scalar(unsent).bind(lost.as_uuid()).fetch_one(&pool).await.unwrap();
    assert!(unsent);
    hold.rollback().await.unwrap();
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 1);

    // An expired file, and alerts.
    for statement in [
        "INSERT INTO report_artifacts (report_id, format, attempt, path, size, sha256, file_name,
             media_type, expires_at)
         SELECT id, 'pdf', 1, id, 1, sha256(''), 'a', 'b', now() - interval '1 day' FROM reports",
        "INSERT INTO report_alerts (report_id, payload, next_try_at)
         SELECT id, '{}', now() + interval '1 day' FROM reports",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let mut hold = holder.begin().await.unwrap();
    for table in [
        "SELECT FROM report_artifacts WHERE report_id = $1 FOR UPDATE",
        "SELECT FROM report_alerts WHERE report_id = $1 FOR UPDATE",
    ] {
        sqlx::query(table).bind(held.as_uuid()).fetch_all(&mut *hold).await.unwrap();
    }
    for file in store::expired(&pool, None, 10).await.unwrap() {
        store::set_deleted(&pool, &file).await.unwrap();
    }
    let left = store::expired(&pool, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|file| file.report_id).collect::<Vec<_>>(), [held.as_uuid()]);
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 1);
    hold.rollback().await.unwrap();
    assert_eq!(store::cap_times(&pool, LEASE).await.unwrap(), 1);
    an_alert_that_fails_delays_no_other(&stack, &pool, [lost, held]).await;
}

/// The row of the first one is held after its alert was claimed. A trigger stands for it.
async fn an_alert_that_fails_delays_no_other(
    stack: &Stack,
    pool: &PgPool,
    [first, second]: [ReportId; 2],
) {
    let trigger = format!(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'held' USING ERRCODE = 'lock_not_available'; END $$;
         CREATE TRIGGER hold BEFORE UPDATE OF dead_lettered_at ON report_alerts FOR EACH ROW
             WHEN (new.report_id = '{first}') EXECUTE FUNCTION hold();
         UPDATE report_alerts SET next_try_at = now() - interval '1 hour';
         UPDATE report_alerts SET next_try_at = now() - interval '2 hours'
             WHERE report_id = '{first}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(pool).await.unwrap();
    let jetstream = broker::connect(stack).await;
    let config = async_nats::jetstream::stream::Config {
        name: contract::DEAD_LETTER.to_owned(),
        subjects: vec!["dead-letter.>".to_owned()],
        ..Default::default()
    };
    jetstream.get_or_create_stream(config).await.unwrap();
    let queue = ReportQueue::DEFAULT;
    let alerts = Alerts { pool: pool.clone(), jetstream, queue, webhook: None };
    let error = alerts.run_once().await.unwrap_err();
    assert!(format!("{error:#}").contains(&first.to_string()), "{error:#}");
    let taken = "SELECT report_id FROM report_alerts WHERE taken_at IS NOT NULL";
    let taken: Vec<Uuid> = sqlx::query_scalar(taken).fetch_all(pool).await.unwrap();
    assert_eq!(taken, [second.as_uuid()]);
}
