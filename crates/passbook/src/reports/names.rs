//! Names of kinds, formats and states as arguments.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use client::ReportState;
use report_document::{Format, Kind};

/// A kind by its name.
pub(super) fn kind() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::as_str))
}

/// A state by its name, in any case.
pub(super) fn state() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(ReportState::ALL.map(ReportState::as_str))
        .map(|state| state.to_uppercase())
}

/// The name of any format.
pub(super) fn format() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str))
}

/// The name of a format of statements.
pub(super) fn statement_format() -> impl TypedValueParser<Value = String> {
    format_of(Kind::Statement)
}

/// The name of a format of activity reports.
pub(super) fn activity_format() -> impl TypedValueParser<Value = String> {
    format_of(Kind::Activity)
}

/// The name of a format of reconciliation reports.
pub(super) fn reconciliation_format() -> impl TypedValueParser<Value = String> {
    format_of(Kind::Reconciliation)
}

fn format_of(kind: Kind) -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(kind.formats().iter().map(|format| format.as_str()))
}
