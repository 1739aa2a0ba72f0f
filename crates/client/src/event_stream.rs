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
/// it after a restart.
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
    /// The id of the last event.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
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
        match connection.next().await {
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
