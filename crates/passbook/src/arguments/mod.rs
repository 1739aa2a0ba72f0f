//! Arguments shared by several commands.

mod databases;
mod nats;
mod report_queue;
#[cfg(feature = "dev")]
mod stack_dir;
mod stream_storage;
mod system;
mod text;
mod token;

pub(crate) use databases::DatabaseArguments;
pub(crate) use nats::NatsArguments;
pub(crate) use report_queue::ReportQueueArguments;
#[cfg(feature = "dev")]
pub(crate) use stack_dir::{StackDir, StackState};
pub(crate) use stream_storage::StreamStorageArguments;
pub(crate) use system::{System, SystemArguments};
pub(crate) use text::non_blank;
pub(crate) use token::TokenArgument;
