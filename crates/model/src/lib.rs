//! Models of the protocols of Passbook. Every interleaving of their steps is
//! explored within bounds. The models contain no I/O and no code of the services:
//! they state their duties, and show the reason for each rule.
//!
//! - [`money`]: deposits and withdrawals, between two databases and two streams.
//! - [`job`]: reports, one at a time, between one database, one stream and the
//!   storage of files.
//! - [`redrive`]: how the redrive of the money protocol finds PENDING records.
//!
//! In all, a commit is one step, and databases survive everything. Everything else
//! can fail between any two steps. A rule of a protocol can be switched off. The
//! invariants that break without it are the reason for it.
//!
//! `cargo run -p model -- --rules` prints the broken invariants without each rule,
//! `--worlds` explores the worlds of the tests. Other options describe a world of the
//! money protocol, and those of `jobs` a world of the job protocol.

pub mod exploration;
pub mod job;
pub mod money;
pub mod named;
pub mod redrive;
