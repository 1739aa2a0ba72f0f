//! Reads the figures of reports from the `reporting` views of the ledger and of the
//! account-service.
