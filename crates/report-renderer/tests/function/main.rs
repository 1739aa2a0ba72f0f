//! The HTTP function, as the report-service calls it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../renderer/documents.rs"]
#[allow(dead_code)]
mod documents;
mod errors;
mod files;
mod server;
mod stop;
