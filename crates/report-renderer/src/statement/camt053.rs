//! A statement as ISO 20022 camt.053.001.08, "Bank to Customer Statement".
//!
//! - The ids of the message and the statement are a digest of the account, the period
//!   and the template, and the creation time is the period's end. So the same period
//!   gives the same message.
//! - The schema allows 34 characters for an account and 35 for a reference. Ids of
//!   accounts and records are written without hyphens: 32 characters.
//! - An entry has the id of its transaction as `AcctSvcrRef`, its number in the
//!   account as `NtryRef`, and the record's id as `InstrId`.
//! - The client's reference is the `EndToEndId`, cut to 35 characters. A longer one is in
//!   `AddtlTxInf` as a whole. The description is in `Ustrd`, in parts of 140 characters.
//! - The schema has no place for a running balance. `AddtlNtryInf` has it as text.
//! - An amount has at most 18 digits. A sum with more is left out, a longer balance is
//!   [`RenderError::AmountTooLong`].

use std::{
    fs::File,
    io::{BufWriter, Write},
};

use contract::Kind;
use report_document::{Entries, Entry, Format, Statement, Total};
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use super::{ends_with_a_day, one_line, rfc3339, xml::Xml};
use crate::{Progress, RenderError, number, rows};

const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08";
/// Digits of an amount: `ActiveOrHistoricCurrencyAndAmount`.
const MAX_DIGITS: usize = 18;
/// Characters of a reference: `Max35Text`.
const MAX_REFERENCE: usize = 35;
/// Characters of a remittance text: `Max140Text`.
const MAX_REMITTANCE: usize = 140;

pub(crate) fn render(
    statement: &Statement,
    entries: &dyn Entries,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    let mut xml = Xml::new(BufWriter::new(file))?;
    let (id, created) = (message_id(statement)?, rfc3339(statement.period.to)?);
    xml.open_with("Document", ("xmlns", NAMESPACE))?;
    xml.open("BkToCstmrStmt")?;
    xml.open("GrpHdr")?;
    xml.leaf("MsgId", &id)?;
    xml.leaf("CreDtTm", &created)?;
    xml.close("GrpHdr")?;
    xml.line()?;
    xml.open("Stmt")?;
    xml.leaf("Id", &id)?;
    xml.leaf("CreDtTm", &created)?;
    xml.open("FrToDt")?;
    xml.leaf("FrDtTm", &rfc3339(statement.period.from)?)?;
    xml.leaf("ToDtTm", &created)?;
    xml.close("FrToDt")?;
    xml.line()?;
    account(&mut xml, statement)?;
    balances(&mut xml, statement)?;
    summary(&mut xml, statement)?;
    rows::for_each(statement, entries, progress, |row| entry(&mut xml, statement, row))?;
    xml.close("Stmt")?;
    xml.close("BkToCstmrStmt")?;
    xml.close("Document")?;
    xml.line()?;
    Ok(xml.into_inner().flush()?)
}

/// `PB` and 32 hex digits: unique to the account, the period and the template.
fn message_id(statement: &Statement) -> Result<String, RenderError> {
    let (from, to) = (rfc3339(statement.period.from)?, rfc3339(statement.period.to)?);
    let period = &statement.period.time_zone;
    let text = format!("{}\n{from}\n{to}\n{period}\n{}", statement.account_id, statement.template);
    let digest = Sha256::digest(text);
    let half = digest.iter().take(16);
    Ok(half.fold(String::from("PB"), |id, byte| format!("{id}{byte:02x}")))
}

fn account<W: Write>(xml: &mut Xml<W>, statement: &Statement) -> Result<(), RenderError> {
    xml.open("Acct")?;
    xml.open("Id")?;
    xml.open("Othr")?;
    xml.leaf("Id", &statement.account_id.as_uuid().simple().to_string())?;
    xml.close("Othr")?;
    xml.close("Id")?;
    xml.leaf("Ccy", &statement.currency)?;
    if !statement.owner_id.is_empty() {
        xml.open("Ownr")?;
        xml.leaf("Nm", &first(&statement.owner_id, 140))?;
        xml.close("Ownr")?;
    }
    if !statement.issuer.is_empty() {
        xml.open("Svcr")?;
        xml.open("FinInstnId")?;
        xml.leaf("Nm", &first(&statement.issuer, 140))?;
        xml.close("FinInstnId")?;
        xml.close("Svcr")?;
    }
    xml.close("Acct")?;
    Ok(xml.line()?)
}

fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

/// The booked balances at the start (`OPBD`) and at the end (`CLBD`). A balance has a
/// date if the period starts and ends with a day, else a time.
fn balances<W: Write>(xml: &mut Xml<W>, statement: &Statement) -> Result<(), RenderError> {
    let period = &statement.period;
    let starts_with_a_day = period.from.time() == time::Time::MIDNIGHT;
    let from = starts_with_a_day.then(|| period.from.date());
    let to = if ends_with_a_day(period) { period.to.date().previous_day() } else { None };
    for (code, balance, date, at) in [
        ("OPBD", statement.opening.balance, from, period.from),
        ("CLBD", statement.closing.balance, to, period.to),
    ] {
        xml.open("Bal")?;
        xml.open("Tp")?;
        xml.open("CdOrPrtry")?;
        xml.leaf("Cd", code)?;
        xml.close("CdOrPrtry")?;
        xml.close("Tp")?;
        amount(xml, statement, balance.abs())?;
        xml.leaf("CdtDbtInd", indicator(balance))?;
        xml.open("Dt")?;
        match date {
            Some(date) => xml.leaf("Dt", &date.to_string())?,
            None => xml.leaf("DtTm", &rfc3339(at)?)?,
        }
        xml.close("Dt")?;
        xml.close("Bal")?;
        xml.line()?;
    }
    Ok(())
}

fn summary<W: Write>(xml: &mut Xml<W>, statement: &Statement) -> Result<(), RenderError> {
    let (credits, debits) = (&statement.credits, &statement.debits);
    let both = credits.amount.checked_add(debits.amount).filter(|sum| fits(*sum));
    let net = credits.amount.checked_sub(debits.amount).filter(|net| fits(*net));
    xml.open("TxsSummry")?;
    xml.open("TtlNtries")?;
    xml.leaf("NbOfNtries", &statement.entries().to_string())?;
    if let Some(sum) = both {
        xml.leaf("Sum", &sum.to_string())?;
    }
    if let Some(net) = net {
        xml.open("TtlNetNtry")?;
        xml.leaf("Amt", &net.abs().to_string())?;
        xml.leaf("CdtDbtInd", indicator(net))?;
        xml.close("TtlNetNtry")?;
    }
    xml.close("TtlNtries")?;
    total(xml, "TtlCdtNtries", credits)?;
    total(xml, "TtlDbtNtries", debits)?;
    xml.close("TxsSummry")?;
    Ok(xml.line()?)
}

fn total<W: Write>(xml: &mut Xml<W>, name: &str, total: &Total) -> Result<(), RenderError> {
    xml.open(name)?;
    xml.leaf("NbOfNtries", &total.count.to_string())?;
    if fits(total.amount) {
        xml.leaf("Sum", &total.amount.to_string())?;
    }
    Ok(xml.close(name)?)
}

fn entry<W: Write>(
    xml: &mut Xml<W>,
    statement: &Statement,
    entry: &Entry,
) -> Result<(), RenderError> {
    // Payments, counter transactions: cash deposit or cash withdrawal.
    let (indicator, sub_family) = match entry.r#type {
        Kind::Deposit => ("CRDT", "CDPT"),
        Kind::Withdrawal => ("DBIT", "CWDL"),
    };
    let transaction = entry.transaction_id.to_string();
    xml.open("Ntry")?;
    xml.leaf("NtryRef", &entry.account_seq.to_string())?;
    amount(xml, statement, entry.amount)?;
    xml.leaf("CdtDbtInd", indicator)?;
    xml.open("Sts")?;
    xml.leaf("Cd", "BOOK")?;
    xml.close("Sts")?;
    xml.open("BookgDt")?;
    xml.leaf("DtTm", &rfc3339(entry.at)?)?;
    xml.close("BookgDt")?;
    xml.open("ValDt")?;
    xml.leaf("Dt", &entry.at.date().to_string())?;
    xml.close("ValDt")?;
    xml.leaf("AcctSvcrRef", &transaction)?;
    xml.open("BkTxCd")?;
    xml.open("Domn")?;
    xml.leaf("Cd", "PMNT")?;
    xml.open("Fmly")?;
    xml.leaf("Cd", "CNTR")?;
    xml.leaf("SubFmlyCd", sub_family)?;
    xml.close("Fmly")?;
    xml.close("Domn")?;
    xml.close("BkTxCd")?;
    xml.open("NtryDtls")?;
    xml.open("TxDtls")?;
    xml.open("Refs")?;
    xml.leaf("AcctSvcrRef", &transaction)?;
    xml.leaf("InstrId", &entry.record_id.as_uuid().simple().to_string())?;
    let reference = entry.reference.as_deref().map(one_line);
    if let Some(reference) = &reference {
        xml.leaf("EndToEndId", &first(reference, MAX_REFERENCE))?;
    }
    xml.close("Refs")?;
    amount(xml, statement, entry.amount)?;
    xml.leaf("CdtDbtInd", indicator)?;
    if let Some(description) = &entry.description {
        remittance(xml, &one_line(description))?;
    }
    if let Some(long) = reference.filter(|text| text.chars().count() > MAX_REFERENCE) {
        xml.leaf("AddtlTxInf", &format!("Reference: {long}"))?;
    }
    xml.close("TxDtls")?;
    xml.close("NtryDtls")?;
    let balance = format!("Balance after: {} {}", entry.balance_after, statement.currency);
    xml.leaf("AddtlNtryInf", &balance)?;
    xml.close("Ntry")?;
    Ok(xml.line()?)
}

fn remittance<W: Write>(xml: &mut Xml<W>, description: &str) -> Result<(), RenderError> {
    xml.open("RmtInf")?;
    let mut rest = description;
    while !rest.is_empty() {
        let part = first(rest, MAX_REMITTANCE);
        xml.leaf("Ustrd", &part)?;
        rest = rest.get(part.len()..).unwrap_or_default();
    }
    Ok(xml.close("RmtInf")?)
}

fn amount<W: Write>(
    xml: &mut Xml<W>,
    statement: &Statement,
    amount: Decimal,
) -> Result<(), RenderError> {
    if !fits(amount) {
        return Err(RenderError::AmountTooLong {
            format: Format::Camt053,
            digits: number::digits(amount),
            limit: MAX_DIGITS,
        });
    }
    Ok(xml.leaf_with("Amt", ("Ccy", &statement.currency), &amount.to_string())?)
}

/// Trailing zeros after the point don't count: the schema compares values.
fn fits(amount: Decimal) -> bool {
    number::digits(amount) <= MAX_DIGITS
}

fn indicator(amount: Decimal) -> &'static str {
    if amount.is_sign_negative() && !amount.is_zero() { "DBIT" } else { "CRDT" }
}
