//! The named schemas of strings in the OpenAPI document. Their names come from the code that writes
//! them.

use contract::{Kind, Reason};
use runtime::http::openapi::{names, text};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

/// An amount in a response.
pub(super) struct Money;
/// A sum of amounts in a response.
pub(super) struct Sum;
/// An amount in a request.
pub(super) struct Amount;
/// A currency.
pub(super) struct Currency;
/// The type of a movement.
pub(super) struct MovementType;
/// The public id of a ledger transaction.
pub(super) struct TransactionId;
/// The state of a record.
pub(super) struct RecordStatus;
/// The reason of a FAILED record.
pub(super) struct RefusalReason;
/// Where a request is read.
pub(super) struct Consistency;

impl PartialSchema for Money {
    fn schema() -> RefOr<Schema> {
        let description = "A decimal, zero or more and below 10^18, with exactly the decimals of \
                           its currency (ISO 4217). Never a JSON number: a binary float is not \
                           exact.";
        text(description, r"^(0|[1-9][0-9]{0,17})(\.[0-9]{2,4})?$", "10000")
    }
}

impl PartialSchema for Sum {
    fn schema() -> RefOr<Schema> {
        let description = "A sum, with exactly the decimals of its currency (ISO 4217). Never a \
                           JSON number.";
        text(description, r"^-?(0|[1-9][0-9]*)(\.[0-9]{2,4})?$", "10000")
    }
}

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        let description = "A decimal above zero and below 10^18, with at most the decimals of the \
                           account's currency: `10000` in KRW, `10.50` in USD. No sign, exponent, \
                           white space or leading zero.";
        text(description, r"^(0|[1-9][0-9]{0,17})(\.[0-9]+)?$", "10000")
    }
}

impl PartialSchema for Currency {
    fn schema() -> RefOr<Schema> {
        text("An ISO 4217 code.", "^[A-Z]{3}$", "KRW")
    }
}

impl PartialSchema for MovementType {
    fn schema() -> RefOr<Schema> {
        let meaning = |kind| match kind {
            Kind::Deposit => "into the account.",
            Kind::Withdrawal => "out of the account.",
        };
        names("The type of a movement.", Kind::ALL.map(|kind| (kind.as_str(), meaning(kind))))
    }
}

impl PartialSchema for TransactionId {
    fn schema() -> RefOr<Schema> {
        let description = "The id of a decision of the ledger, the same in records, events and \
                           statements. It has no order and tells nothing of other movements.";
        text(description, "^[0-9a-f]{32}$", "bb761f1f0087d0517a44c459f5705e56")
    }
}

impl PartialSchema for RecordStatus {
    fn schema() -> RefOr<Schema> {
        let states = [
            ("PENDING", "durable; its outcome is still open."),
            ("SUCCESS", "applied to the ledger. Final."),
            ("FAILED", "refused by the ledger for its `reason`; it moved no money. Final."),
        ];
        names("The state of a record.", states)
    }
}

impl PartialSchema for RefusalReason {
    fn schema() -> RefOr<Schema> {
        let meaning = |reason| match reason {
            Reason::CurrencyMismatch => "the ledger holds the account in another currency.",
            Reason::BalanceLimitExceeded => "the balance would reach 10^18.",
            Reason::InsufficientFunds => "the balance would fall below zero.",
        };
        let reasons = Reason::ALL.map(|reason| (reason.as_str(), meaning(reason)));
        names("Why the ledger refused a movement. The first that applies, in this order.", reasons)
    }
}

impl PartialSchema for Consistency {
    fn schema() -> RefOr<Schema> {
        let meaning = "the ledger itself: every decision until the request, even if its result is \
                       still on its way to this service.";
        names("Where a request is read.", [("ledger", meaning)])
    }
}

impl ToSchema for Money {}
impl ToSchema for Sum {}
impl ToSchema for Amount {}
impl ToSchema for Currency {}
impl ToSchema for MovementType {}
impl ToSchema for TransactionId {}
impl ToSchema for RecordStatus {}
impl ToSchema for RefusalReason {}
impl ToSchema for Consistency {}
