//! One client: a connection, and one request after the other on it.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Shape, choice::Draw, connection::Connection, request::Requests, schedule::Schedule,
    tally::Tally,
};

/// Before it connects again.
const PAUSE: Duration = Duration::from_millis(50);
/// A client whose replica does not come back within these ends.
const ATTEMPTS: u32 = 200;

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) requests: Requests,
    pub(crate) draw: Draw,
    pub(crate) shape: Shape,
    pub(crate) schedule: Schedule,
    pub(crate) tally: Mutex<Tally>,
}

impl Shared {
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, request: &mut Vec<u8>) {
        match self.shape {
            Shape::Single => self.requests.movement(request, self.draw.next()),
            Shape::Batch(movements) => {
                self.requests.batch(request, (0..movements).map(|_| self.draw.next()));
            }
        }
    }
}

/// Sends requests as the schedule says, to its end.
pub(crate) async fn run(shared: &Shared, mut connection: Connection, address: SocketAddr) {
    let mut request = Vec::new();
    while let Some(due) = shared.schedule.next().await {
        shared.write(&mut request);
        let failed = match connection.exchange(&request).await {
            Ok(answer) => {
                shared.tally().answered(shared.shape, answer, due.elapsed());
                continue;
            }
            Err(error) => error,
        };
        shared.tally().failed(&failed);
        match reconnect(address).await {
            Some(again) => connection = again,
            None => return,
        }
    }
}

/// `None` when the replica stays away.
async fn reconnect(address: SocketAddr) -> Option<Connection> {
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(PAUSE).await;
        if let Ok(connection) = Connection::open(address).await {
            return Some(connection);
        }
    }
    None
}
