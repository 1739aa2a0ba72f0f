//! What each message of a batch comes to, by the verdicts about its parts.

use async_nats::jetstream::AckKind;

use super::{End, Ending, HAND_BACK_DELAY, LONG_DELAY, Settlement};
use crate::worker::{
    BatchProcessor, Delivery, Handler, Verdict,
    batch::{Content, Fate, Fetched},
    kept::Kept,
};

impl<H: Handler> BatchProcessor<H> {
    pub(super) fn settlement<'a>(
        &self,
        batch: &'a [Fetched<'_>],
        deliveries: &'a [Delivery],
        fates: Vec<Fate>,
    ) -> Settlement<'a> {
        let mut settlement = Settlement { room: self.kept.room(), ..Settlement::default() };
        let mut fates = fates.into_iter();
        for fetched in batch {
            let ending = match &fetched.content {
                Content::Parts(range) => {
                    let parts = deliveries.get(range.clone()).unwrap_or_default();
                    let fates = fates.by_ref().take(parts.len());
                    self.settle_parts(fetched, parts, fates, &mut settlement)
                }
                Content::Invalid(delivery, reason) => {
                    let letter = self.dead_letter(delivery, reason);
                    settlement.publish(delivery, letter, true);
                    let mut ending = Ending::new(fetched.message);
                    ending.span(delivery, Some(reason.clone()));
                    Ending { end: End::Dead, dead: 1, ..ending }
                }
            };
            settlement.endings.push(Some(ending));
        }
        settlement
    }

    /// What one message and its parts come to. Adds what is to be published for it.
    fn settle_parts<'a>(
        &self,
        fetched: &Fetched<'a>,
        parts: &'a [Delivery],
        fates: impl Iterator<Item = Fate>,
        settlement: &mut Settlement<'a>,
    ) -> Ending<'a> {
        let mut ending = Ending::new(fetched.message);
        let (mut locked, mut dead, mut handed_back) = (Vec::new(), Vec::new(), None);
        for (delivery, fate) in parts.iter().zip(fates) {
            match fate {
                Fate::Verdict(Verdict::Done(publish)) => {
                    if let Some(outgoing) = publish {
                        settlement.publish(delivery, outgoing, false);
                    }
                    ending.done += 1;
                    ending.span(delivery, None);
                }
                Fate::Verdict(Verdict::DeadLetter(reason)) => dead.push((delivery, reason)),
                Fate::Verdict(Verdict::Locked) | Fate::Locked => locked.push(delivery),
                Fate::Verdict(Verdict::Unstored { letters, reason }) => {
                    let back = AckKind::Nak(Some(HAND_BACK_DELAY));
                    if self.unstored.keep(
                        self.consumer,
                        fetched.message,
                        back,
                        letters,
                        reason.clone(),
                    ) {
                        ending.end = End::Unstored;
                        return ending;
                    }
                    handed_back = Some((LONG_DELAY, reason));
                }
                Fate::Failed(error) => match self.failed(delivery, &error) {
                    Some(reason) => dead.push((delivery, reason)),
                    None => handed_back = Some((HAND_BACK_DELAY, format!("{error:#}"))),
                },
                Fate::Undecided => {
                    handed_back = Some((HAND_BACK_DELAY, "the process stops".to_owned()));
                }
            }
        }
        let keeps = !locked.is_empty() && locked.len() <= settlement.room;
        if !locked.is_empty() && !keeps && handed_back.is_none() {
            let why = "its account is locked, and too many messages are kept for that";
            if locked.iter().all(|delivery| self.is_last(delivery)) {
                dead.extend(locked.drain(..).map(|delivery| (delivery, why.to_owned())));
            } else {
                handed_back = Some((LONG_DELAY, why.to_owned()));
            }
        }
        if let Some((delay, why)) = handed_back {
            ending.hand_back(delay, &why);
            ending.handed_back = parts.len();
            return ending;
        }
        for (delivery, reason) in dead {
            settlement.publish(delivery, self.dead_letter(delivery, &reason), true);
            ending.dead += 1;
            ending.span(delivery, Some(reason));
        }
        let is_part_done = fetched.is_part_done || ending.done > 0;
        if keeps {
            settlement.room -= locked.len();
            let kept = Kept::new(fetched.message, &locked, is_part_done);
            ending.end = End::Kept(Box::new(kept));
        } else if !is_part_done {
            ending.end = End::Dead;
        }
        ending
    }

    /// After the handler failed with this delivery alone: the reason of its dead letter, if
    /// it was the last delivery.
    fn failed(&self, delivery: &Delivery, error: &anyhow::Error) -> Option<String> {
        let delivered = delivery.number;
        delivery.trace.log_span().in_scope(|| {
            tracing::error!(
                consumer = self.consumer.name,
                delivered,
                error = format!("{error:#}"),
                "processing a message failed"
            );
        });
        self.is_last(delivery).then(|| format!("failed {delivered} times: {error:#}"))
    }
}
