//! The job protocol of reports.

pub mod action;
pub mod cases;
pub mod counterexample;
pub mod drain;
pub mod invariants;
pub mod protocol;
pub mod replica;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod situations;
pub mod state;
pub mod stream;

mod attempts;
mod broker;
mod faults;
mod service;
mod state_machine;
mod steps;
mod transitions;
