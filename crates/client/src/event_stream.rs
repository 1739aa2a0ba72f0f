//! Follows the event log over as many connections as it takes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff};
use tokio::time::{Instant, sleep_until};

use crate::{Cause, Client, Error, Event, EventFilter, Retry, pieces::Events, sse::Message};

/// The pause after the end of a stream, if the server names none.
const PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Follows the events after this one, live. `None` begins with the oldest.
    #[must_use]
    pub fn follow(&self, filter: EventFilter, last: Option<String>) -> EventStream {
        EventStream {
            client: self.clone(),
            filter,
            last,
            connection: None,
            next_try: None,
            failure: None,
        }
    }
}

/// The events of the log, one after the other. A broken connection is replaced: the new one goes on
/// after the last event. Nothing is lost in between.
///
/// A consumer stores [`EventStream::last`] durably after it has handled the event, and begins with
/// it after a restart. With a filter, it also stores it now and then while no event comes.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    filter: EventFilter,
    last: Option<String>,
    connection: Option<Events>,
    next_try: Option<Instant>,
    failure: Option<Failure>,
}

/// No connection succeeds.
#[derive(Debug)]
struct Failure {
    since: Instant,
    pauses: ExponentialBackoff,
}

impl EventStream {
    /// The id of the last event, or a later one that the server gave: a filter may leave out many
    /// events, and a new stream begins behind them.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.connection.as_ref().and_then(Events::last_id).or(self.last.as_deref())
    }

    /// Waits for the next event. A call that is dropped before its end loses no event.
    ///
    /// # Errors
    /// The stream is refused, an event has an unknown form, or no connection succeeded for the
    /// patience of the client's [`Retry`]. Another call tries again.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(next_try) = self.next_try {
                sleep_until(next_try).await;
                self.next_try = None;
            }
            match self.message().await {
                Ok(Some(message)) => {
                    let event: Event = serde_json::from_str(&message.data).map_err(|error| {
                        self.connection = None;
                        Error::new(Cause::UnexpectedAnswer(error.to_string()))
                    })?;
                    self.last = Some(event.id.clone());
                    return Ok(event);
                }
                Ok(None) => self.connect_again(),
                Err(error) => self.fail(error)?,
            }
        }
    }

    /// The next message of the connection; `None` at its end.
    async fn message(&mut self) -> Result<Option<Message>, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let request = self.filter.stream(self.last())?;
                let connection = Events::open(&self.client, &request).await?;
                self.failure = None;
                self.connection.insert(connection)
            }
        };
        let next = connection.next().await;
        // Not with a message: another call asks for one that can't be read again.
        if let (Ok(None) | Err(_), Some(id)) = (&next, connection.last_id()) {
            self.last = Some(id.to_owned());
        }
        match next {
            // A silence is an end: the server sends comments.
            Err(error) if error.may_retry() => Ok(None),
            next => next,
        }
    }

    /// The server ended the stream, as at the end of a token, or it broke.
    fn connect_again(&mut self) {
        let ended = self.connection.take();
        let pause = ended.and_then(|connection| connection.pause()).unwrap_or(PAUSE);
        // Clients that lost their streams together do not come back together.
        let jitter = Retry::pauses().build().next().unwrap_or_default();
        self.next_try = Some(Instant::now() + pause + jitter);
    }

    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.connection = None;
        let failure = self.failure.get_or_insert_with(|| Failure {
            since: Instant::now(),
            pauses: Retry::pauses().build(),
        });
        let pause = failure.pauses.next().unwrap_or(PAUSE);
        let pause = pause.saturating_add(error.retry_after().unwrap_or_default());
        let later = failure.since.elapsed().saturating_add(pause);
        if !error.may_retry() || later > self.client.retry().patience {
            self.failure = None;
            return Err(error);
        }
        self.next_try = Some(Instant::now() + pause);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const EVENT: &str = "id: 3\ndata: {\"id\":\"3\",\"type\":\"account.created\",\
        \"timestamp\":\"2026-11-29T09:00:00Z\",\"sequence\":1,\"accountSeq\":null,\
        \"accountId\":\"01a20008-a367-77bd-a6bf-eaa3667171b3\",\"data\":{}}\n\n";

    /// Answers a request with this stream, and gives the head of the request.
    async fn answer(server: &TcpListener, stream: &str) -> String {
        let (mut connection, _) = server.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.unwrap());
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        connection.write_all(format!("{answer}{stream}").as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn a_new_connection_goes_on_after_an_id_without_an_event() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let client = Client::new(&url, "token").unwrap();
        let mut events = client.follow(EventFilter::default(), Some("1".to_owned()));
        let served = async {
            let first = answer(&server, "retry: 1\n\n:\n\nid: 2\n\n").await;
            (first, answer(&server, EVENT).await)
        };
        let ((first, second), event) = tokio::join!(served, events.next());
        assert!(first.contains("\r\nlast-event-id: 1\r\n"), "{first}");
        assert!(second.contains("\r\nlast-event-id: 2\r\n"), "{second}");
        assert_eq!((event.unwrap().id, events.last()), ("3".to_owned(), Some("3")));
    }
}
