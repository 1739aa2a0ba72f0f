//! Questions that are answered in groups: whoever asks while a group is being
//! answered is in the next one, and one statement does for all of it. Alone, a
//! question is a group of one, and waits for nobody.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// Questions that wait to be answered; who brings more waits to bring them.
const CAPACITY: usize = 10_000;
/// Questions in a group at most.
pub const MOST: usize = 1000;

/// Where to ask.
#[derive(Debug)]
pub struct Asking<Q, A>(mpsc::Sender<(Q, Waiting<A>)>);

/// The other end of an [`Asking`].
#[derive(Debug)]
pub struct Asked<Q, A>(mpsc::Receiver<(Q, Waiting<A>)>);

/// Whoever waits for an answer.
#[derive(Debug)]
pub struct Waiting<A>(oneshot::Sender<A>);

/// The answer to a question that was brought; `None` if nobody is left to give
/// one. Dropped before, the question may be answered all the same.
#[derive(Debug)]
pub struct Answer<A>(oneshot::Receiver<A>);

/// Makes both ends.
#[must_use]
pub fn channel<Q, A>() -> (Asking<Q, A>, Asked<Q, A>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Asking(sender), Asked(receiver))
}

impl<Q, A> Asking<Q, A> {
    /// Waits for the answer; `None` if there is nobody to give one. Dropped
    /// before, the question may be answered all the same.
    pub async fn ask(&self, question: Q) -> Option<A> {
        self.bring(question).await?.await
    }

    /// Brings a question without waiting for its answer: whoever has several
    /// brings them all first. `None` if there is nobody to answer.
    pub async fn bring(&self, question: Q) -> Option<Answer<A>> {
        let (answer, answered) = oneshot::channel();
        self.0.send((question, Waiting(answer))).await.ok()?;
        Some(Answer(answered))
    }
}

impl<A> Future for Answer<A> {
    type Output = Option<A>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

impl<Q, A> Asked<Q, A> {
    /// The next group, and who waits for it; `None` once every [`Asking`] is
    /// gone and all was answered. Who has gone meanwhile is left out.
    pub async fn next(&mut self) -> Option<(Vec<Q>, Vec<Waiting<A>>)> {
        self.gather(1, Instant::now()).await
    }

    /// As [`Asked::next`]. With fewer than `expected` it waits for others to
    /// come, until `latest`.
    pub async fn gather(
        &mut self,
        expected: usize,
        latest: Instant,
    ) -> Option<(Vec<Q>, Vec<Waiting<A>>)> {
        let mut group = Vec::new();
        while group.is_empty() {
            if self.0.recv_many(&mut group, MOST).await == 0 {
                return None;
            }
            while group.len() < expected.min(MOST) {
                let room = MOST - group.len();
                let more = timeout_at(latest, self.0.recv_many(&mut group, room)).await;
                // The time is over, or nobody is left who could ask.
                if more.unwrap_or(0) == 0 {
                    break;
                }
            }
            group.retain(|(_, waiting)| !waiting.0.is_closed());
        }
        Some(group.into_iter().unzip())
    }
}

impl<A> Waiting<A> {
    /// Answers; whoever has gone does not hear it.
    pub fn answer(self, answer: A) {
        let _ = self.0.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn who_asks_meanwhile_is_in_the_next_group() {
        let (asking, mut asked) = channel::<u32, u32>();
        let first = asking.ask(1);
        let others = join_all([asking.ask(2), asking.ask(3), asking.ask(4)]);
        let answering = async {
            let (questions, waiting) = asked.next().await.unwrap();
            assert_eq!(questions, [1, 2, 3, 4]);
            for (question, waiting) in questions.into_iter().zip(waiting) {
                waiting.answer(question * 10);
            }
        };
        let (one, others, ()) = futures::join!(first, others, answering);
        assert_eq!((one, others), (Some(10), vec![Some(20), Some(30), Some(40)]));
    }

    #[tokio::test]
    async fn a_group_waits_for_those_it_expects_and_for_no_longer_than_it_may() {
        let (asking, mut asked) = channel::<u32, ()>();
        let soon = || Instant::now() + Duration::from_millis(50);
        let late = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            asking.ask(2).await
        };
        let gathered = async {
            let begun = Instant::now();
            let (both, _) = asked.gather(2, begun + Duration::from_secs(60)).await.unwrap();
            (both, begun.elapsed())
        };
        let (_, _, (both, took)) = futures::join!(asking.ask(1), late, gathered);
        assert_eq!(both, [1, 2]);
        assert!(took < Duration::from_secs(30), "{took:?}");

        let latest = soon();
        let gathered = async {
            let (one, _) = asked.gather(2, latest).await.unwrap();
            (one, Instant::now())
        };
        let (_, (one, at)) = futures::join!(asking.ask(3), gathered);
        assert_eq!(one, [3]);
        assert!(at >= latest && at < latest + Duration::from_secs(30), "{:?}", at - latest);
    }

    #[tokio::test]
    async fn who_has_gone_is_left_out() {
        let (asking, mut asked) = channel::<u32, u32>();
        {
            let gone = asking.ask(1);
            assert!(gone.boxed().now_or_never().is_none());
        }
        let waits = asking.ask(2);
        let (questions, answer) = futures::join!(
            async {
                let (questions, waiting) = asked.next().await.unwrap();
                waiting.into_iter().for_each(|it| it.answer(7));
                questions
            },
            waits
        );
        assert_eq!((questions, answer), (vec![2], Some(7)));
        drop(asking);
        assert!(asked.next().await.is_none());
    }
}
