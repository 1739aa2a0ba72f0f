//! The places for connections. Where they are short, connections without a request in process
//! and those with a response that nobody reads are closed, so that silent and slow clients can't
//! keep others out. `address_places` has the
//! share of each address.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::connection::{Connection, Heads, MAX_IN_HEAD};

/// The connections are looked through after so many new ones, and after this time.
const LOOK_AFTER: usize = 256;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Interval of the looks while too many wait for a head: each looks at all connections.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// Interval of the attempts to make room while every connection has a request in process.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Connections that have had no request yet, and are not closed. Those that are being closed count:
/// where there is little processor time, they would take all memory.
const MAX_UNSERVED: usize = 3072;

/// Connections that are closed at a time, at least. Of few places, a quarter.
const MIN_CLOSED: usize = 16;

/// The open connections, and the places for them.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    free: Arc<Semaphore>,
    unserved: Arc<Semaphore>,
    /// Some may be closed already.
    connections: Vec<Arc<Connection>>,
    heads: Arc<Heads>,
    /// Connections since the last look.
    added: usize,
    looked: Instant,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        let free = Arc::new(Semaphore::new(most));
        Self {
            most,
            free,
            unserved: Arc::new(Semaphore::new(MAX_UNSERVED)),
            connections: Vec::new(),
            heads: Arc::default(),
            added: 0,
            looked: Instant::now(),
        }
    }

    /// Waits until the connections must be looked through.
    pub(super) async fn due(&self) {
        tokio::select! {
            () = tokio::time::sleep_until(self.looked + LOOK_EVERY) => {}
            () = self.too_many_heads() => {}
        }
    }

    async fn too_many_heads(&self) {
        tokio::time::sleep_until(self.looked + LOOK_PAUSE).await;
        self.heads.too_many().await;
    }

    /// A place for a new connection. Closes others if there is none, and waits while all of them
    /// have a request in process.
    pub(super) async fn take(&mut self) -> (Arc<Connection>, OwnedSemaphorePermit) {
        if self.added >= LOOK_AFTER {
            self.make_room();
        }
        let place = self.permit(Arc::clone(&self.free)).await;
        let unserved = self.permit(Arc::clone(&self.unserved)).await;
        let connection = Connection::new(&self.heads, unserved);
        self.connections.push(Arc::clone(&connection));
        self.added += 1;
        (connection, place)
    }

    async fn permit(&mut self, permits: Arc<Semaphore>) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                return permit;
            }
            self.make_room();
            let permit = Arc::clone(&permits).acquire_owned();
            if let Ok(Ok(permit)) = tokio::time::timeout(RETRY_AFTER, permit).await {
                return permit;
            }
        }
    }

    /// Closes connections that wait for a head, if there are too many: those with a large
    /// part of it first, then the oldest. Without a free place, it closes a part of those without
    /// a request, too, and of those whose client does not read its response.
    pub(super) fn make_room(&mut self) {
        self.connections.retain(|connection| !connection.is_closed());
        self.added = 0;
        self.looked = Instant::now();
        let in_head = self.sorted(|connection| connection.in_head_since());
        let too_many = in_head.len().saturating_sub(MAX_IN_HEAD);
        in_head.iter().take(too_many).for_each(|connection| connection.close());
        if self.free.available_permits() == 0 && too_many == 0 {
            // Those that wait for a head go first.
            let mut idle = in_head;
            idle.extend(self.sorted(|connection| {
                connection.idle_since().filter(|_| connection.in_head_since().is_none())
            }));
            idle.extend(self.sorted(|connection| connection.stuck_since()));
            let closed = self.most.div_ceil(16).max(MIN_CLOSED.min(self.most / 4));
            idle.iter().take(closed).for_each(|connection| connection.close());
        }
        self.connections.iter().for_each(|connection| connection.release());
    }

    /// The connections with such a rank, the lowest first.
    fn sorted<R: Ord>(&self, rank: impl Fn(&Connection) -> Option<R>) -> Vec<Arc<Connection>> {
        let ranked = self.connections.iter().filter_map(|each| Some((rank(each)?, each)));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        ranked.into_iter().map(|(_, connection)| Arc::clone(connection)).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Version};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_without_a_request_wait_at_their_bound_until_one_is_served_or_closed() {
        let mut places = Places::new(2 * MAX_UNSERVED);
        let waits =
            async |places: &mut Places| tokio::time::timeout(LOOK_EVERY, places.take()).await;
        let mut open = Vec::new();
        for _ in 0..MAX_UNSERVED {
            open.push(waits(&mut places).await.unwrap());
        }
        assert!(waits(&mut places).await.is_err());
        // Closing takes time: those that are being closed count.
        assert!(open.iter().any(|(connection, _)| connection.is_closed()));
        let (served, _) = &open[0];
        let request = served.request(Version::HTTP_11);
        let next = waits(&mut places).await.unwrap();
        assert!(waits(&mut places).await.is_err());
        open[1].0.ended();
        assert!(waits(&mut places).await.is_ok());
        drop((request, next));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_place_the_oldest_connections_without_a_request_are_closed() {
        let mut places = Places::new(8);
        let mut open = Vec::new();
        for _ in 0..8 {
            open.push(places.take().await);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let request = open[0].0.request(Version::HTTP_11);
        let soon = RETRY_AFTER / 2;
        assert!(tokio::time::timeout(soon, places.take()).await.is_err());
        let closed: Vec<_> = open.iter().map(|(connection, _)| connection.is_closed()).collect();
        assert_eq!(closed, [false, true, true, false, false, false, false, false]);
        drop(open.remove(1));
        assert!(tokio::time::timeout(soon, places.take()).await.is_ok());
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_place_a_connection_whose_response_nobody_reads_is_closed() {
        let mut places = Places::new(8);
        let mut open = Vec::new();
        for _ in 0..8 {
            open.push(places.take().await);
        }
        let request = |(connection, _): &(Arc<Connection>, _)| connection.request(Version::HTTP_11);
        let responses: Vec<_> = open[..2]
            .iter()
            .map(|each| request(each).respond(Body::from("unread"), None))
            .collect();
        let requests: Vec<_> = open[2..].iter().map(request).collect();
        let soon = RETRY_AFTER / 2;
        assert!(tokio::time::timeout(soon, places.take()).await.is_err());
        assert!(open.iter().all(|(connection, _)| !connection.is_closed()));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(tokio::time::timeout(soon, places.take()).await.is_err());
        let closed: Vec<_> = open.iter().map(|(connection, _)| connection.is_closed()).collect();
        assert_eq!(closed, [true, true, false, false, false, false, false, false]);
        drop((responses, requests));
    }
}
