//! Statements on the pool itself, each within the pool's limit.

use futures::{
    TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use sqlx::{
    Describe, Either, Execute, Executor, Postgres, SqlStr,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::timeout;

use super::PgPool;

/// Each statement takes a connection for itself.
impl<'p> Executor<'p> for &PgPool {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<PgQueryResult>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            let answer = timeout(pool.limit, connection.execute(query)).await;
            connection.answered(answer, pool.limit)
        })
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Vec<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            let answer = timeout(pool.limit, connection.fetch_all(query)).await;
            connection.answered(answer, pool.limit)
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            let answer = timeout(pool.limit, connection.fetch_optional(query)).await;
            connection.answered(answer, pool.limit)
        })
    }

    /// Reads all rows first: a stream of many rows is read from a connection instead.
    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let all = async move {
            let mut connection = pool.acquire().await?;
            let answer = connection.fetch_many(query).try_collect::<Vec<_>>();
            let answer = timeout(pool.limit, answer).await;
            let all = connection.answered(answer, pool.limit)?;
            Ok::<_, sqlx::Error>(stream::iter(all).map(Ok::<_, sqlx::Error>))
        };
        Box::pin(stream::once(all).try_flatten())
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move {
            let mut connection = pool.acquire().await?;
            let answer = timeout(pool.limit, connection.prepare_with(sql, parameters)).await;
            connection.answered(answer, pool.limit)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { (*pool.acquire().await?).describe(sql).await })
    }
}
