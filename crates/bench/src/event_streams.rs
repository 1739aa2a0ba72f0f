//! Clients that follow streams of events. They count the events and parse nothing, because they
//! run on the processors of the measured system.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{stack::Stack, wait::until};

/// Space of each read, in bytes.
const READ: usize = 16 * 1024;
/// The first line of an accepted stream.
const ACCEPTED: &[u8] = b"HTTP/1.1 200 ";
/// Begins the line with the JSON of an event.
const DATA: &[u8] = b"data: ";

/// Open streams. They are closed when this is dropped.
#[derive(Debug)]
pub(crate) struct EventStreams {
    clients: JoinSet<()>,
    received: Arc<AtomicU64>,
}

impl EventStreams {
    /// Opens a stream for each query, at the replicas in turn.
    ///
    /// # Errors
    /// A stream is refused.
    pub(crate) async fn open(stack: &Stack, queries: &[String]) -> Result<Self> {
        let (mut clients, received) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        let replicas = stack.target.replicas.iter().cycle();
        for (query, replica) in queries.iter().zip(replicas) {
            let stream = open(*replica, query, &stack.target.token).await?;
            clients.spawn(read(stream, Arc::clone(&received)));
        }
        Ok(Self { clients, received })
    }

    /// Events received by all streams together.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until all streams together have received this many events.
    ///
    /// # Errors
    /// A stream has ended, or they receive too few or too many.
    pub(crate) async fn receive(&self, events: u64) -> Result<()> {
        until("the events of the streams", async || {
            ensure!(!self.clients.is_empty(), "no stream is open");
            Ok(self.received() >= events)
        })
        .await?;
        let received = self.received();
        ensure!(received == events, "{received} events were received instead of {events}");
        Ok(())
    }
}

/// Sends the request, and reads the status of the response.
async fn open(replica: SocketAddr, query: &str, token: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(replica).await?;
    let request = format!(
        "GET /v1/events?{query} HTTP/1.1\r\nhost: passbook\r\naccept: text/event-stream\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; ACCEPTED.len()];
    stream.read_exact(&mut status).await.context("a stream of events")?;
    ensure!(status == ACCEPTED, "a stream gave {}", String::from_utf8_lossy(&status));
    Ok(stream)
}

/// Counts events until the end of the stream.
async fn read(mut stream: TcpStream, received: Arc<AtomicU64>) {
    let (mut buffer, mut counter) = (Vec::with_capacity(READ), Counter::default());
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        received.fetch_add(counter.count(&buffer), Ordering::Relaxed);
        buffer.clear();
    }
}

/// Counts the lines with the JSON of an event. Chunks of the response end with their events.
#[derive(Debug)]
struct Counter {
    /// Bytes of [`DATA`] at the beginning of this line; `None` once it is decided.
    matched: Option<usize>,
}

impl Default for Counter {
    fn default() -> Self {
        Self { matched: Some(0) }
    }
}

impl Counter {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut events = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Some(matched) = self.matched {
                let rest = DATA.get(matched..).unwrap_or_default();
                let common = rest.iter().zip(line).take_while(|(one, other)| one == other).count();
                events += u64::from(common == rest.len());
                let goes_on = common < rest.len() && common == line.len();
                self.matched = goes_on.then_some(matched + common);
            }
            if line.ends_with(b"\n") {
                self.matched = Some(0);
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_wherever_a_read_ends() {
        let text =
            b"HTTP/1.1 200 OK\r\n\r\nd\r\nretry: 2000\n\n\r\n1f\r\nid: 7\ndata: {data: }\n\n\
                     id: 8\ndata: {}\n\n\r\n3\r\n:\n\n\r\n";
        for end in 0..text.len() {
            let (start, rest) = text.split_at(end);
            let mut counter = Counter::default();
            assert_eq!(counter.count(start) + counter.count(rest), 2, "{end}");
        }
    }
}
