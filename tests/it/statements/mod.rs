//! Statements: their figures against sums in SQL, the wait until a period is final, and
//! ledgers that contradict themselves. The entries are written into the ledger with
//! chosen times.

mod figures;
mod fixture;
mod order;
mod snapshots;
mod views;
