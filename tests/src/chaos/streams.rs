//! Disruptions of the broker's storage: streams with small limits, and an older store.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream::Config};
use contract::Topology;
use devstack::{Fault, FaultClient};
use futures::future::try_join_all;
use tokio::{fs, process::Command, time::timeout};

use super::runner::REQUEST_LIMIT;
use crate::Stack;

/// A broker without a cluster.
pub(super) const BROKER: &str = "nats";
/// The streams of which a disruption changes limits.
const LIMITED: [&str; 3] =
    [contract::TRANSACTION, contract::TRANSACTION_RESULT, contract::DEAD_LETTER];

/// The nodes of a cluster.
const NODES: usize = 3;

/// Whether a fault of this target takes a node away from the others.
pub(super) fn is_of_a_node(target: &str) -> bool {
    !target.contains('/') && target.contains("nats-")
}

/// Changes the configuration of a stream.
pub(super) async fn reconfigure(
    jetstream: &jetstream::Context,
    stream: &str,
    change: impl FnOnce(&mut Config),
) -> Result<()> {
    let changed = async {
        let mut config = jetstream.get_stream(stream).await?.cached_info().config.clone();
        change(&mut config);
        jetstream.update_stream(config).await?;
        Ok(())
    };
    timeout(REQUEST_LIMIT, changed).await?
}

/// Sets the limits of a stream as the services create it.
pub(super) async fn reset_limits(jetstream: &jetstream::Context, stream: &str) -> Result<()> {
    let spec = contract::STANDARD.stream(stream).context("the stream is not in the contract")?;
    let max_bytes = i64::try_from(spec.max_bytes)?;
    reconfigure(jetstream, stream, |config| {
        config.max_bytes = max_bytes;
        config.max_message_size = -1;
    })
    .await
}

/// Sets all limits as the services do.
pub(super) async fn reset_all_limits(jetstream: &jetstream::Context) -> Result<()> {
    for stream in LIMITED {
        reset_limits(jetstream, stream).await?;
    }
    Ok(())
}

/// Waits until each node has had all messages of each stream. Under load, a follower is behind its
/// leader most of the time.
///
/// # Errors
/// If a stream has no leader, or a node is behind for 5 s.
pub(super) async fn replicated(jetstream: &jetstream::Context) -> Result<()> {
    let Topology { streams, report, .. } = &contract::STANDARD;
    // No report-service runs.
    let streams = streams.iter().filter(|stream| stream.name != report.stream);
    let all = try_join_all(streams.map(|stream| are_current(jetstream, stream.name)));
    timeout(REQUEST_LIMIT, all).await?.map(drop)
}

async fn are_current(jetstream: &jetstream::Context, stream: &str) -> Result<()> {
    let (mut leader, mut current) = (None, BTreeSet::new());
    while current.len() < NODES - 1 {
        let stream = jetstream.get_stream(stream).await?;
        let cluster = stream.cached_info().cluster.clone().context("no cluster")?;
        let leads = Some(cluster.leader.context("no leader")?);
        if leads != leader {
            (leader, current) = (leads, BTreeSet::new());
        }
        let replicas = cluster.replicas.into_iter();
        current.extend(replicas.filter(|node| node.current).map(|node| node.name));
    }
    Ok(())
}

/// Copies the broker's store, without the broker running.
pub(super) async fn copy_store(stack: &Stack, faults: &FaultClient) -> Result<()> {
    let (store, copy) = (stack.dir.join(BROKER), stack.dir.join("nats-copy"));
    let _ = fs::remove_dir_all(&copy).await;
    faults.inject(BROKER, Fault::Hold).await?;
    let copied = Command::new("cp").arg("-a").args([&store, &copy]).status().await;
    faults.inject(BROKER, Fault::Release).await?;
    ensure!(copied?.success(), "the store was not copied");
    Ok(())
}

/// Puts the copy into the place of the store.
pub(super) async fn restore_copy(stack: &Stack, faults: &FaultClient) -> Result<()> {
    let (store, copy) = (stack.dir.join(BROKER), stack.dir.join("nats-copy"));
    faults.inject(BROKER, Fault::Hold).await?;
    let restored = async {
        fs::remove_dir_all(&store).await?;
        fs::rename(&copy, &store).await
    };
    let restored = restored.await;
    // Another disruption may have started it meanwhile, with the removed store.
    let _ = faults.inject(BROKER, Fault::Kill).await;
    faults.inject(BROKER, Fault::Release).await?;
    Ok(restored?)
}
