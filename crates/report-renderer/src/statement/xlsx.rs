//! A statement as a workbook with two sheets: a summary, and the entries.
//!
//! A cell's number is a binary float, and Excel keeps 15 digits of it. So a number
//! of at most 15 significant digits is written as a number, and is exact. A longer
//! one is written as text: all digits are there, but Excel does not add it up.
//!
//! A time is the local time in the period's zone, to the millisecond, because a cell
//! has no offset. The offset is in the next column.
//!
//! Rows are written through a temporary file. The deflate library is written in
//! Rust and does not depend on the processor, so the bytes are the same on any
//! machine.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use contract::Kind;
use report_document::{Entries, Entry, Format as FileFormat, Statement};
use rust_decimal::Decimal;
use rust_xlsxwriter::{
    DocProperties, ExcelDateTime, Format, FormatAlign, FormatBorder, Workbook, Worksheet, XlsxError,
};
use time::{OffsetDateTime, UtcOffset};

use super::{rfc3339, xml::allowed};
use crate::{Progress, RenderError, number, rows};

/// Excel's rows of a sheet, without the header.
const MAX_ENTRIES: u64 = 1_048_575;
/// Decimal digits that a cell's number keeps.
const MAX_DIGITS: usize = 15;

/// The header of a column, and its width in characters.
const COLUMNS: [(&str, f64); 11] = [
    ("No.", 9.0),
    ("Booked at", 21.0),
    ("UTC offset", 10.0),
    ("Type", 12.0),
    ("Credit", 20.0),
    ("Debit", 20.0),
    ("Balance", 22.0),
    ("Transaction", 34.0),
    ("Record", 38.0),
    ("Reference", 30.0),
    ("Description", 50.0),
];

pub(crate) fn render(
    statement: &Statement,
    entries: &dyn Entries,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    let rows = statement.entries();
    if rows > MAX_ENTRIES {
        let (format, limit) = (FileFormat::Xlsx, MAX_ENTRIES);
        return Err(RenderError::TooManyRows { format, rows, limit });
    }
    // The library panics if its temporary file can't be written.
    catch_unwind(AssertUnwindSafe(|| workbook(statement, entries, file, progress)))
        .unwrap_or_else(|_| Err(io::Error::other("the temporary file of the rows failed").into()))
}

fn workbook(
    statement: &Statement,
    entries: &dyn Entries,
    file: &mut File,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    let mut workbook = Workbook::new();
    // Excel's dates begin in 1900. A statement of an earlier period has no entries.
    let made = statement.period.to.to_offset(UtcOffset::UTC).max(OffsetDateTime::UNIX_EPOCH);
    let properties = DocProperties::new()
        .set_title(format!("Statement of account {}", statement.account_id))
        .set_author(&statement.issuer)
        .set_creation_datetime(&date_time(made)?);
    workbook.set_properties(&properties);
    let styles = Styles::new(statement.exponent);
    summary(workbook.add_worksheet_with_constant_memory()?, statement, &styles)?;

    let sheet = workbook.add_worksheet_with_constant_memory()?;
    lay_out(sheet, statement, &styles)?;
    let mut row = 0_u32;
    rows::for_each(statement, entries, progress, |entry| {
        row = row.saturating_add(1);
        write_entry(sheet, row, entry, &styles)
    })?;
    let mut file = BufWriter::new(file);
    workbook.save_to_writer(&mut file)?;
    Ok(file.flush()?)
}

/// The formats of cells. The money's has the decimals of the currency.
struct Styles {
    title: Format,
    header: Format,
    label: Format,
    money: Format,
    count: Format,
    id: Format,
    time: Format,
    text: Format,
}

impl Styles {
    fn new(exponent: u32) -> Self {
        let decimals = "0".repeat(usize::try_from(exponent).unwrap_or_default());
        let point = if exponent == 0 { "" } else { "." };
        let right = || Format::new().set_align(FormatAlign::Right);
        Self {
            title: Format::new().set_bold().set_font_size(16),
            header: Format::new().set_bold().set_border_bottom(FormatBorder::Thin),
            label: Format::new().set_bold(),
            money: right().set_num_format(format!("#,##0{point}{decimals}")),
            count: right().set_num_format("#,##0"),
            id: right().set_num_format("0"),
            time: right().set_num_format("yyyy-mm-dd hh:mm:ss.000"),
            text: right(),
        }
    }
}

fn summary(
    sheet: &mut Worksheet,
    statement: &Statement,
    styles: &Styles,
) -> Result<(), RenderError> {
    sheet.set_name("Summary")?.set_column_width(0, 26)?.set_column_width(1, 40)?;
    sheet.set_column_width(2, 24)?;
    sheet.write_string_with_format(0, 0, "Statement of account", &styles.title)?;
    let period = &statement.period;
    let texts = [
        ("Issuer", statement.issuer.clone()),
        ("Account", statement.account_id.to_string()),
        ("Owner", statement.owner_id.clone()),
        ("Currency", statement.currency.clone()),
        ("From", rfc3339(period.from)?),
        ("To (exclusive)", rfc3339(period.to)?),
        ("Time zone", period.time_zone.clone()),
    ];
    let mut row = 2;
    for (label, text) in texts {
        sheet.write_string_with_format(row, 0, label, &styles.label)?;
        sheet.write_string_with_format(row, 1, limited(&text), &styles.text)?;
        row += 1;
    }
    row += 1;
    for (column, header) in [(0, ""), (1, "Amount"), (2, "Entries")] {
        sheet.write_string_with_format(row, column, header, &styles.header)?;
    }
    let figures = [
        ("Opening balance", statement.opening.balance, None),
        ("Deposits", statement.credits.amount, Some(statement.credits.count)),
        ("Withdrawals", statement.debits.amount, Some(statement.debits.count)),
        ("Closing balance", statement.closing.balance, None),
    ];
    for (label, amount, count) in figures {
        row += 1;
        sheet.write_string_with_format(row, 0, label, &styles.label)?;
        write_number(sheet, row, 1, amount, &styles.money)?;
        if let Some(count) = count {
            write_number(sheet, row, 2, Decimal::from(count), &styles.count)?;
        }
    }
    Ok(())
}

/// The header, filters and print layout of the entries.
fn lay_out(
    sheet: &mut Worksheet,
    statement: &Statement,
    styles: &Styles,
) -> Result<(), RenderError> {
    sheet.set_name("Entries")?;
    for (column, (header, width)) in (0_u16..).zip(COLUMNS) {
        sheet.set_column_width(column, width)?;
        sheet.write_string_with_format(0, column, header, &styles.header)?;
    }
    let last_row = u32::try_from(statement.entries()).unwrap_or(u32::MAX);
    sheet.autofilter(0, 0, last_row, 10)?;
    sheet.set_freeze_panes(1, 0)?.set_repeat_rows(0, 0)?;
    sheet.set_landscape().set_paper_size(9).set_print_fit_to_pages(1, 0);
    sheet.set_footer("&L&F&RPage &P of &N");
    Ok(())
}

fn write_entry(
    sheet: &mut Worksheet,
    row: u32,
    entry: &Entry,
    styles: &Styles,
) -> Result<(), RenderError> {
    let amount_column = match entry.r#type {
        Kind::Deposit => 4,
        Kind::Withdrawal => 5,
    };
    let offset = rfc3339(entry.at)?;
    let offset = if entry.at.offset().is_utc() { "+00:00" } else { last(&offset, 6) };
    write_number(sheet, row, 0, Decimal::from(entry.account_seq), &styles.id)?;
    sheet.write_datetime_with_format(row, 1, date_time(entry.at)?, &styles.time)?;
    sheet.write_string(row, 2, offset)?;
    sheet.write_string(row, 3, entry.r#type.as_str())?;
    write_number(sheet, row, amount_column, entry.amount, &styles.money)?;
    write_number(sheet, row, 6, entry.balance_after, &styles.money)?;
    sheet.write_string(row, 7, entry.transaction_id.to_string())?;
    sheet.write_string(row, 8, entry.record_id.to_string())?;
    for (column, label) in [(9, &entry.reference), (10, &entry.description)] {
        if let Some(text) = label {
            // A string, so never a formula.
            sheet.write_string(row, column, allowed(text))?;
        }
    }
    Ok(())
}

/// A number if it stays exact, else its digits as text.
fn write_number(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    value: Decimal,
    style: &Format,
) -> Result<(), RenderError> {
    // Parsing rounds correctly; a conversion by arithmetic need not.
    match value.to_string().parse::<f64>() {
        Ok(number) if number::digits(value) <= MAX_DIGITS => {
            sheet.write_number_with_format(row, column, number, style)?
        }
        _ => sheet.write_string_with_format(row, column, number::grouped(value), style)?,
    };
    Ok(())
}

fn date_time(at: OffsetDateTime) -> Result<ExcelDateTime, RenderError> {
    let year = u16::try_from(at.year()).unwrap_or_default();
    Ok(ExcelDateTime::from_ymd(year, at.month().into(), at.day())?.and_hms_milli(
        at.hour().into(),
        at.minute(),
        at.second(),
        at.millisecond(),
    )?)
}

/// The most characters of a cell.
fn limited(text: &str) -> String {
    text.chars().take(32_767).collect()
}

fn last(text: &str, bytes: usize) -> &str {
    text.len().checked_sub(bytes).and_then(|start| text.get(start..)).unwrap_or(text)
}

impl From<XlsxError> for RenderError {
    fn from(error: XlsxError) -> Self {
        match error {
            XlsxError::IoError(error) => Self::Io(error),
            other => Self::Other(other.to_string()),
        }
    }
}
