//! A client: one connection, with one request at a time.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Shape, connection::Connection, request::RequestWriter, sampler::Sampler, schedule::Schedule,
    tally::Tally,
};

/// Pause before each attempt to reconnect.
const PAUSE: Duration = Duration::from_millis(50);
/// Attempts to reconnect. A client stops after the last one.
const ATTEMPTS: u32 = 200;

/// Shared by all clients of a run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: RequestWriter,
    pub(crate) sampler: Sampler,
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
            Shape::Single => self.writer.movement(request, self.sampler.draw()),
            Shape::Batch(movements) => {
                self.writer.batch(request, (0..movements).map(|_| self.sampler.draw()));
            }
        }
    }
}

/// Sends requests until the schedule ends.
pub(crate) async fn run(shared: &Shared, mut connection: Connection, address: SocketAddr) {
    let mut request = Vec::new();
    while let Some(due) = shared.schedule.next().await {
        shared.write(&mut request);
        let error = match connection.exchange(&request).await {
            Ok(response) => {
                shared.tally().record_response(shared.shape, response, due.elapsed());
                continue;
            }
            Err(error) => error,
        };
        shared.tally().record_failure(&error);
        match reconnect(address).await {
            Some(reconnected) => connection = reconnected,
            None => return,
        }
    }
}

/// `None`: every attempt failed.
async fn reconnect(address: SocketAddr) -> Option<Connection> {
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(PAUSE).await;
        if let Ok(connection) = Connection::open(address).await {
            return Some(connection);
        }
    }
    None
}
