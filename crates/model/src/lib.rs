//! The money protocol as a model.
pub mod action;
pub mod broker;
pub mod check;
pub mod drain;
pub mod properties;
pub mod protocol;
pub mod reached;
pub mod rules;
pub mod scenario;
pub mod state;

mod account_service;
mod transaction_service;
mod worker;
