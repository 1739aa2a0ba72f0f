//! Questions that are answered in groups: whoever asks while a group is being
//! answered is in the next one, and one statement does for all of it. Nobody
//! waits for others to come: alone, a question is a group of one.

use tokio::sync::{mpsc, oneshot};

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
        let (answer, answered) = oneshot::channel();
        self.0.send((question, Waiting(answer))).await.ok()?;
        answered.await.ok()
    }
}

impl<Q, A> Asked<Q, A> {
    /// The next group, and who waits for it; `None` once every [`Asking`] is
    /// gone and all was answered. Who has gone meanwhile is left out.
    pub async fn next(&mut self) -> Option<(Vec<Q>, Vec<Waiting<A>>)> {
        let mut group = Vec::new();
        while group.is_empty() {
            if self.0.recv_many(&mut group, MOST).await == 0 {
                return None;
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
