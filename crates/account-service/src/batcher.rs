//! Batches concurrent requests to the database. Requests that arrive while one batch
//! is processed form the next batch, and one statement serves the whole batch. A
//! request that arrives in an idle moment is a batch of one, without a delay.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::{mpsc, oneshot};

/// Maximum queued requests. A full queue blocks the senders.
const CAPACITY: usize = 10_000;
/// Maximum requests in a batch.
pub const MAX_BATCH: usize = 1000;

/// The sending end.
#[derive(Debug)]
pub struct Batcher<Q, A>(mpsc::Sender<(Q, Responder<A>)>);

/// The receiving end: batches of requests.
#[derive(Debug)]
pub struct Batches<Q, A>(mpsc::Receiver<(Q, Responder<A>)>);

/// Sends the response to one request.
#[derive(Debug)]
pub struct Responder<A>(oneshot::Sender<A>);

/// The response to a queued request; `None` if the receiving end was dropped. The
/// request may be processed even if this is dropped.
#[derive(Debug)]
pub struct PendingResponse<A>(oneshot::Receiver<A>);

/// Creates both ends of the queue.
#[must_use]
pub fn channel<Q, A>() -> (Batcher<Q, A>, Batches<Q, A>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Batcher(sender), Batches(receiver))
}

impl<Q, A> Batcher<Q, A> {
    /// Queues a request and awaits its response; `None` if the receiving end was
    /// dropped. The request may be processed even if this future is dropped.
    pub async fn request(&self, request: Q) -> Option<A> {
        self.enqueue(request).await?.await
    }

    /// Queues a request without awaiting its response, so that several requests
    /// of one caller share a batch. `None` if the receiving end was dropped.
    pub async fn enqueue(&self, request: Q) -> Option<PendingResponse<A>> {
        let (sender, receiver) = oneshot::channel();
        self.0.send((request, Responder(sender))).await.ok()?;
        Some(PendingResponse(receiver))
    }
}

impl<A> Future for PendingResponse<A> {
    type Output = Option<A>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

impl<Q, A> Batches<Q, A> {
    /// The next batch and its responders; `None` once every [`Batcher`] is dropped and
    /// the queue is empty. Requests whose client disconnected are skipped.
    pub async fn next(&mut self) -> Option<(Vec<Q>, Vec<Responder<A>>)> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            if self.0.recv_many(&mut batch, MAX_BATCH).await == 0 {
                return None;
            }
            batch.retain(|(_, responder)| !responder.0.is_closed());
        }
        Some(batch.into_iter().unzip())
    }
}

impl<A> Responder<A> {
    /// Sends the response, unless the client disconnected.
    pub fn respond(self, response: A) {
        let _ = self.0.send(response);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn concurrent_requests_share_a_batch() {
        let (batcher, mut batches) = channel::<u32, u32>();
        let first = batcher.request(1);
        let others = join_all([batcher.request(2), batcher.request(3), batcher.request(4)]);
        let processing = async {
            let (requests, responders) = batches.next().await.unwrap();
            assert_eq!(requests, [1, 2, 3, 4]);
            for (request, responder) in requests.into_iter().zip(responders) {
                responder.respond(request * 10);
            }
        };
        let (one, others, ()) = futures::join!(first, others, processing);
        assert_eq!((one, others), (Some(10), vec![Some(20), Some(30), Some(40)]));
    }

    #[tokio::test]
    async fn a_request_whose_client_disconnected_is_skipped() {
        let (batcher, mut batches) = channel::<u32, u32>();
        {
            let disconnected = batcher.request(1);
            assert!(disconnected.boxed().now_or_never().is_none());
        }
        let waiting = batcher.request(2);
        let (requests, response) = futures::join!(
            async {
                let (requests, responders) = batches.next().await.unwrap();
                responders.into_iter().for_each(|responder| responder.respond(7));
                requests
            },
            waiting
        );
        assert_eq!((requests, response), (vec![2], Some(7)));
        drop(batcher);
        assert!(batches.next().await.is_none());
    }
}
