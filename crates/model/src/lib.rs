//! The money protocol as a model.
pub mod action;
pub mod broker;
pub mod cases;
pub mod check;
pub mod drain;
pub mod properties;
pub mod protocol;
pub mod reached;
pub mod rules;
pub mod scenario;
pub mod state;
pub mod story;

mod account_service;
mod faults;
mod transaction_service;
mod worker;
