//! Messages with commands, with all deliveries used up.

use anyhow::Result;
use contract::{ConsumerSpec, STANDARD, TRANSACTION};
use reconciliation::Finding;
use time::OffsetDateTime;

use super::{MAX_SUSPECTS, RECHECK_AFTER, dead_letters::advised};
use crate::{
    age,
    broker::{self, Broker},
    verify::report::{Report, StreamCounts},
};

/// Finds messages behind their consumer's ack floor. Such a message was delivered as often as
/// allowed without an ack, and is never delivered again.
pub(super) async fn verify(broker: &Broker, report: &mut Report) -> Result<()> {
    for consumer in STANDARD.consumers.iter().filter(|consumer| consumer.stream == TRANSACTION) {
        let mut lost = lost_messages(broker, consumer, &mut report.streams).await?;
        if !lost.is_empty() {
            tokio::time::sleep(RECHECK_AFTER).await;
            let advised = advised(broker, consumer.name).await?;
            lost = lost_messages(broker, consumer, &mut StreamCounts::default()).await?;
            lost.retain(|(sequence, _)| sequence.is_none_or(|number| !advised.contains(&number)));
        }
        for (sequence, stored) in lost {
            let age = age::format(age::since(stored));
            report.dropped.count(Some(match sequence {
                None => {
                    let subject = format!("consumer {}", consumer.name);
                    Finding::new(subject, "is missing, but commands wait")
                }
                Some(sequence) => {
                    let detail = format!("is {age} old and will never be delivered again");
                    Finding::new(format!("message {sequence} with commands"), detail)
                }
            }));
        }
    }
    Ok(())
}

/// Sequence and time of each lost message. Without the consumer, one entry without a sequence
/// stands for all messages.
async fn lost_messages(
    broker: &Broker,
    consumer: &ConsumerSpec,
    counts: &mut StreamCounts,
) -> Result<Vec<(Option<u64>, OffsetDateTime)>> {
    let Some(stream) = broker.stream(TRANSACTION).await? else { return Ok(Vec::new()) };
    let Some(info) = broker::consumer(&stream, consumer.name).await? else {
        let first = stream.get_first_raw_message_by_subject(consumer.filter, 1).await;
        let first = broker::optional_message(first)?;
        return Ok(first.map(|message| (None, message.time)).into_iter().collect());
    };
    counts.command_messages_in_flight += broker::unsettled(&info);
    let exhausted = broker::exhausted_messages(&stream, &info, MAX_SUSPECTS).await?;
    Ok(exhausted.into_iter().map(|(sequence, time)| (Some(sequence), time)).collect())
}
