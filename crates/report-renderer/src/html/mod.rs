//! Reports as one HTML file each: style and charts are inside, nothing is loaded and
//! nothing runs. A policy in the page forbids both, should a text ever be taken for
//! markup.

pub(crate) mod activity;
mod chart;
mod markup;
mod page;
pub(crate) mod reconciliation;
