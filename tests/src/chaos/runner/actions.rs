//! The actions of an experiment's disruptions.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_nats::{HeaderMap, jetstream};
use devstack::Fault;
use futures::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::{REQUEST_LIMIT, Runner};
use crate::{
    chaos::{
        databases,
        messages::{
            Message, forged_results, large_poison, poison, repeated_commands, with_long_ids,
        },
        plan::{Action, Disruption},
        streams,
    },
    client::new_key,
};

impl Runner {
    /// Performs the action and, after its duration, undoes it.
    pub(super) async fn perform(&self, disruption: &Disruption) -> Result<()> {
        let duration = disruption.duration.unwrap_or_default();
        match &disruption.action {
            Action::Fault { target, fault: Fault::Wipe, .. } => {
                let _away = self.nodes.read().await;
                self.wipe(target, disruption.to_string()).await
            }
            Action::Fault { target, fault, undo } => {
                let of_a_node = streams::is_of_a_node(target);
                let _away = if of_a_node { Some(self.nodes.read().await) } else { None };
                let injected = self.faults.inject(target, *fault).await;
                sleep(duration).await;
                if let Some(undo) = undo {
                    // A process killed meanwhile can't be thawed.
                    let _ = self.faults.inject(target, *undo).await;
                }
                injected.map(drop)
            }
            Action::ExhaustConnections => {
                let connections = databases::take_connections(&self.stack).await;
                self.faults.inject("*/postgres", Fault::Cut).await?;
                sleep(duration).await;
                drop(connections);
                Ok(())
            }
            Action::HoldRows(databases, count) => {
                let hold = |name| databases::hold_rows(&self.stack, name, *count);
                let holders = try_join_all(databases.iter().copied().map(hold));
                let holders = timeout(REQUEST_LIMIT, holders).await??;
                sleep(duration).await;
                drop(holders);
                Ok(())
            }
            Action::ReadOnly(databases) => {
                databases::set_read_only(&self.stack, databases, true).await?;
                let cut = self.faults.inject("*/postgres", Fault::Cut).await;
                sleep(duration).await;
                databases::undone(|| databases::set_read_only(&self.stack, databases, false))
                    .await?;
                cut.map(drop)
            }
            Action::AwaitStandby => {
                databases::set_absent_standby(&self.stack, true).await?;
                sleep(duration).await;
                databases::undone(|| databases::set_absent_standby(&self.stack, false)).await
            }
            Action::SetClock(offset) => {
                let clock = self.clock.as_ref().context("libfaketime is not installed")?;
                clock.jump(offset);
                sleep(duration).await;
                clock.jump("+0");
                Ok(())
            }
            Action::LimitStream(stream, bytes) => {
                // Each node discards from its own copy. One that is away then discards nothing, and
                // what the others discarded comes back once it leads.
                let _whole = if self.cluster && *stream == contract::TRANSACTION_RESULT {
                    let whole = self.nodes.write().await;
                    let is_whole = || async { streams::replicated(&self.broker().await?).await };
                    databases::undone(is_whole).await.context("the cluster is not whole")?;
                    Some(whole)
                } else {
                    None
                };
                self.limit(stream, duration, |config| config.max_bytes = *bytes).await
            }
            Action::LimitMessages(stream, bytes) => {
                self.limit(stream, duration, |config| config.max_message_size = *bytes).await
            }
            Action::RestoreStore => {
                streams::copy_store(&self.stack, &self.faults).await?;
                sleep(duration).await;
                streams::restore_copy(&self.stack, &self.faults).await
            }
            Action::RepeatCommands(count) => {
                let recent = self.load.recent((*count).into());
                publish_all(&self.broker().await?, repeated_commands(&recent)).await
            }
            Action::PublishPoison(count) => {
                publish_all(&self.broker().await?, (0..*count).map(poison).collect()).await
            }
            Action::PublishLargePoison(count) => {
                let jetstream = self.broker().await?;
                let largest = jetstream.client().max_payload();
                let messages = (0..*count).map(|number| large_poison(number, largest));
                publish_all(&jetstream, messages.collect()).await
            }
            Action::PublishLongIds(count) => {
                let messages = with_long_ids(&self.load.recent(usize::from(*count).div_ceil(2)));
                publish_with_ids(&self.broker().await?, messages).await
            }
            Action::PublishForgedResults(count) => {
                let recent = self.load.recent((*count).into());
                publish_all(&self.broker().await?, forged_results(&recent)).await
            }
            Action::DeleteStream(stream) => {
                let jetstream = self.broker().await?;
                timeout(REQUEST_LIMIT, jetstream.delete_stream(stream)).await??;
                Ok(())
            }
            Action::PurgeStream(stream) => {
                let jetstream = self.broker().await?;
                let purge =
                    async { Ok(jetstream.get_stream_no_info(stream).await?.purge().await?) };
                timeout(REQUEST_LIMIT, purge).await?.map(drop)
            }
            Action::DeleteConsumer(stream, consumer) => {
                let jetstream = self.broker().await?;
                let delete = jetstream.delete_consumer_from_stream(consumer, stream);
                timeout(REQUEST_LIMIT, delete).await??;
                Ok(())
            }
            Action::StepDown(stream) => {
                let jetstream = self.broker().await?;
                let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
                let client = jetstream.client();
                let request = client.request(subject, "".into());
                timeout(REQUEST_LIMIT, request).await??;
                Ok(())
            }
        }
    }

    /// Wipes the broker, or a node of a cluster that is whole. Otherwise all nodes are wiped at
    /// once: one after the other, they could leave a stream with messages that no node has.
    async fn wipe(&self, broker: &str, name: String) -> Result<()> {
        let whole = async { streams::replicated(&self.broker().await?).await };
        if broker == streams::BROKER || whole.await.is_ok() {
            return self.faults.inject(broker, Fault::Wipe).await.map(drop);
        }
        self.timeline.log(&format!("  {name}: the cluster is not whole: all nodes are wiped"));
        for fault in [Fault::Hold, Fault::Wipe, Fault::Release] {
            self.faults.inject("nats-*", fault).await?;
        }
        Ok(())
    }

    /// Changes a stream, and sets its limits as before after this time.
    async fn limit(
        &self,
        stream: &str,
        duration: Duration,
        change: impl FnOnce(&mut jetstream::stream::Config),
    ) -> Result<()> {
        let changed = async { streams::reconfigure(&self.broker().await?, stream, change).await };
        let changed = changed.await;
        sleep(duration).await;
        // A change without an answer may have been made.
        let reset = || async { streams::reset_limits(&self.broker().await?, stream).await };
        databases::undone(reset).await?;
        changed
    }
}

/// Publishes all messages, many at a time, and awaits their PubAcks.
async fn publish_all(jetstream: &jetstream::Context, messages: Vec<Message>) -> Result<()> {
    publish_with_ids(jetstream, messages.into_iter().map(|message| (new_key(), message))).await
}

/// As [`publish_all`], with these message ids.
async fn publish_with_ids(
    jetstream: &jetstream::Context,
    messages: impl IntoIterator<Item = (String, Message)>,
) -> Result<()> {
    let publish = messages.into_iter().map(|(id, (subject, payload))| async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let sent = jetstream.publish_with_headers(subject.to_owned(), headers, payload.into());
        sent.await?.await.map_err(|error| anyhow!(error))
    });
    timeout(REQUEST_LIMIT, try_join_all(publish)).await??;
    Ok(())
}
