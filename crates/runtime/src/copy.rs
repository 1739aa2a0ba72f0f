//! Rows in bulk: `COPY … FROM STDIN (FORMAT binary)`.
//!
//! For PostgreSQL a copied row costs about two thirds of one that comes out of
//! `unnest`, since neither arrays nor a plan stand between the row and its
//! table. It takes one round trip more, it has no `ON CONFLICT`, and it gives
//! nothing back: for a handful of rows an `INSERT` is the better way.
//!
//! sqlx 0.9.0 does not set TCP_NODELAY (its issue 4335, mended after that
//! version), and a COPY ends in two small writes: unless the rows fill several
//! packets, the second waits 40 ms for the acknowledgement of the first. Over
//! loopback a packet holds 64 KiB. Until then this is for Unix-domain sockets,
//! and for where nobody waits.
//!
//! Values are encoded by sqlx, as arguments of a statement are. The format
//! carries no types, so each value must be of exactly its column's (an `i64`
//! for a `bigint`, a `Decimal` for a `numeric`): nobody converts.

use std::ops::{Deref, DerefMut};

use sqlx::{
    Encode, PgConnection, PgPool, Postgres, encode::IsNull, pool::PoolConnection,
    postgres::PgArgumentBuffer,
};

/// "Files" begin with this, two words of flags and a header of no length; see
/// PostgreSQL's documentation of COPY, "Binary Format".
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const FLAGS_AND_NO_HEADER: [u8; 8] = [0; 8];
const NULL: i32 = -1;
const END: i16 = -1;

/// Rows as COPY reads them.
#[derive(Debug)]
pub struct Rows {
    data: PgArgumentBuffer,
    columns: i16,
}

impl Rows {
    /// No rows yet; each will have this many values.
    #[must_use]
    pub fn of(columns: i16) -> Self {
        let mut data = PgArgumentBuffer::default();
        data.extend_from_slice(SIGNATURE);
        data.extend_from_slice(&FLAGS_AND_NO_HEADER);
        Self { data, columns }
    }

    /// Begins a row. Its values are put in the order of the statement's
    /// columns; PostgreSQL refuses a row with more or fewer of them.
    pub fn row(&mut self) -> &mut Self {
        self.data.extend_from_slice(&self.columns.to_be_bytes());
        self
    }

    /// A value of the row; `None` is NULL.
    ///
    /// # Errors
    /// If it can't be encoded. The rows are of no use any more then.
    pub fn put<'v>(&mut self, value: impl Encode<'v, Postgres>) -> sqlx::Result<&mut Self> {
        let at = self.data.len();
        self.data.extend_from_slice(&NULL.to_be_bytes());
        let from = self.data.len();
        if let IsNull::No = value.encode(&mut self.data).map_err(sqlx::Error::Encode)? {
            let length = i32::try_from(self.data.len() - from)
                .map_err(|error| sqlx::Error::Encode(error.into()))?;
            if let Some(place) = self.data.get_mut(at..from) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(self)
    }

    /// Sends them; `statement` is a `COPY … FROM STDIN (FORMAT binary)`. The
    /// connection has to be [`Undisturbed`]. Gives the number of rows.
    ///
    /// # Errors
    /// The database's; none of the rows are there then.
    pub async fn copy(
        mut self,
        connection: &mut PgConnection,
        statement: &'static str,
    ) -> sqlx::Result<u64> {
        self.data.extend_from_slice(&END.to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.data.as_slice()).await?;
        copy.finish().await
    }
}

/// A connection that goes back to its pool only if [`Undisturbed::keep`] says
/// so, and is closed otherwise.
///
/// sqlx knows how many answers are outstanding where a statement was given up,
/// by a timeout for instance, and reads them before the next; but not where
/// that was a COPY. The next user of the connection would take the COPY's
/// answer for its own: a commit that never was, or a question answered with no
/// rows.
#[derive(Debug)]
pub struct Undisturbed {
    connection: PoolConnection<Postgres>,
    whole: bool,
}

impl Undisturbed {
    /// A connection of the pool.
    ///
    /// # Errors
    /// The pool's.
    pub async fn acquire(pool: &PgPool) -> sqlx::Result<Self> {
        Ok(Self { connection: pool.acquire().await?, whole: false })
    }

    /// Every statement was awaited to its end, be it an error of the database:
    /// the next one may have it.
    pub fn keep(mut self) {
        self.whole = true;
    }
}

impl Deref for Undisturbed {
    type Target = PoolConnection<Postgres>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl DerefMut for Undisturbed {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if !self.whole {
            self.connection.close_on_drop();
        }
    }
}
