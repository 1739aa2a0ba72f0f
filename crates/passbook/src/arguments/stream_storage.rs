//! The storage of the streams, as the services are configured.

use clap::Args;
use contract::StreamStorage;

/// The configured size of the streams.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StreamStorageArguments {
    /// Bytes of all streams in each server of the broker, as the services are configured: 16MiB to
    /// 64TiB. Half of them are for results, a quarter for commands, an eighth for dead letters.
    #[arg(
        long = "stream-storage",
        value_name = "SIZE",
        env = contract::STREAM_STORAGE_VARIABLE,
        value_parser = StreamStorage::parse,
        default_value = StreamStorage::DEFAULT_TEXT
    )]
    pub(crate) stream_storage: StreamStorage,
}
