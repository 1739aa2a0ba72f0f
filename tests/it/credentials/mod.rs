//! The credentials of each service in the hands of an intruder: everything outside the service's
//! needs is refused. The needs are written down here once more, by hand.

mod broker;
mod databases;
