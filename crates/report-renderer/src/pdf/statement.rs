//! The statement of an account.

use contract::Kind;
use report_document::{Entries, Entry, Statement};
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::{
    About,
    columns::SIZES,
    font::{Fonts, Weight},
    letter::{self, Tile},
    sheet::{Frame, Paragraph, Sheet},
    style::*,
    table::{Align, Cell, Column, NOTE, SIDE, Table},
    text,
};
use crate::{
    Progress, RenderError,
    number::count,
    rows,
    words::{self, moment, offset},
};

const TITLE: &str = "Account statement";
/// Lines of an entry without labels, in the table's size: the second and the third one are notes.
const ENTRY_LINES: f32 = 1.0 + 2.0 * NOTE;
/// The most lines of a reference and of a description. A longer one ends in an ellipsis.
const REFERENCE_LINES: usize = 2;
const DESCRIPTION_LINES: usize = 4;

pub(super) fn about(statement: &Statement) -> About {
    let period = words::period(&statement.period);
    let account = statement.account_id;
    About {
        title: format!("{TITLE} {account}, {period}"),
        issuer: statement.issuer.clone(),
        id: format!(
            "statement {account} {} {} {}",
            statement.period.from, statement.period.to, statement.template
        ),
        date: Some(statement.period.to),
        frame: Frame {
            header: (format!("{TITLE} {account}"), period),
            footer: format!("{} · {TITLE}", statement.issuer),
        },
    }
}

pub(super) fn write(
    sheet: &mut Sheet<'_>,
    statement: &Statement,
    entries: &dyn Entries,
    progress: Progress<'_>,
) -> Result<(), RenderError> {
    letter::head(sheet, &statement.issuer, TITLE, &words::period(&statement.period));
    facts(sheet, statement);
    summary(sheet, statement);
    sheet.heading(2, "Entries", 120.0);
    sheet.y += 4.0;
    let grid = Grid::of(statement, sheet.fonts);
    let summary = format!("Entries of the account in {}", statement.currency);
    let mut table = Table::begin(sheet, &summary, grid.columns(), grid.size);
    let opening = money(statement.opening.balance, statement);
    table.row(sheet, &line("Opening balance", ["", "", &opening]));
    if sheet.is_counting() {
        // Most entries have no labels, and their height is known without their text.
        let height = table.row_height(ENTRY_LINES);
        rows::for_each(statement, entries, &mut |_| progress(0), |entry| {
            if entry.reference.is_none() && entry.description.is_none() {
                table.skip(sheet, height);
            } else {
                table.row(sheet, &cells(entry, statement));
            }
            Ok(())
        })?;
    } else {
        rows::for_each(statement, entries, progress, |entry| {
            table.row(sheet, &cells(entry, statement));
            Ok(())
        })?;
    }
    let (credits, debits) = (statement.credits.amount, statement.debits.amount);
    let (credits, debits) = (money(credits, statement), money(debits, statement));
    let closing = money(statement.closing.balance, statement);
    table.row(sheet, &line("Total", [&debits, &credits, ""]));
    table.row(sheet, &line("Closing balance", ["", "", &closing]));
    table.end(sheet);
    notes(sheet, statement);
    Ok(())
}

fn facts(sheet: &mut Sheet<'_>, statement: &Statement) {
    let period = &statement.period;
    let facts = [
        ("Account holder", statement.owner_id.clone()),
        ("Account", statement.account_id.to_string()),
        ("Currency", statement.currency.clone()),
        ("From", moment(period.from)),
        ("To (exclusive)", moment(period.to)),
        ("Time zone", period.time_zone.clone()),
    ];
    letter::facts(sheet, &facts);
}

fn summary(sheet: &mut Sheet<'_>, statement: &Statement) {
    let entries = |number: u64| match number {
        1 => "1 entry".to_owned(),
        _ => format!("{} entries", count(number)),
    };
    let amount = |value| money(value, statement);
    let (credits, debits) = (&statement.credits, &statement.debits);
    let tiles = [
        Tile::new("Opening balance", amount(statement.opening.balance), statement.currency.clone()),
        Tile::new("Credits", amount(credits.amount), entries(credits.count)),
        Tile::new("Debits", amount(debits.amount), entries(debits.count)),
        Tile::new("Closing balance", amount(statement.closing.balance), statement.currency.clone()),
    ];
    letter::tiles(sheet, &tiles);
}

fn notes(sheet: &mut Sheet<'_>, statement: &Statement) {
    let style = Paragraph { size: SMALL, color: MUTED, ..Paragraph::default() };
    if statement.entries() == 0 {
        sheet.paragraph("The account has no entries in this period.", style);
    }
    let note = format!(
        "All amounts are in {}. Each time is the local time in {} with its offset from UTC. The \
         balance of an entry is the balance after it. The closing balance is the opening balance \
         plus the credits minus the debits, and is the ledger's balance after entry {} of the \
         account.",
        statement.currency,
        statement.period.time_zone,
        count(statement.closing.account_seq.unsigned_abs()),
    );
    sheet.reserve(4.0 * SMALL * LEADING);
    sheet.paragraph(&note, style);
}

/// A row without an entry: a label, and what the columns of amounts hold.
fn line(label: &str, amounts: [&str; 3]) -> [Cell; 5] {
    let [debit, credit, balance] = amounts.map(|amount| Cell::new(amount).bold());
    [Cell::default(), Cell::new(label).bold(), debit, credit, balance].map(Cell::in_one_line)
}

fn cells(entry: &Entry, statement: &Statement) -> [Cell; 5] {
    let (date, time) = date_and_time(entry.at);
    let amount = Cell::new(money(entry.amount, statement));
    let (debit, credit) = match entry.r#type {
        Kind::Deposit => (Cell::default(), amount),
        Kind::Withdrawal => (amount, Cell::default()),
    };
    let reference = entry.reference.as_deref().unwrap_or_default();
    let description = entry.description.as_deref().unwrap_or_default();
    let details = Cell::new(words::kind(entry.r#type))
        .lines(1)
        .text(reference, REFERENCE_LINES)
        .text(description, DESCRIPTION_LINES)
        .note(format!("transaction {}", entry.transaction_id))
        .lines(1)
        .note(format!("record {}", entry.record_id))
        .lines(1);
    let balance = Cell::new(money(entry.balance_after, statement));
    let [date, debit, credit, balance] =
        [Cell::new(date).note(time), debit, credit, balance].map(Cell::in_one_line);
    [date, details, debit, credit, balance]
}

/// `2026-03-29` and `03:00:00 +02:00`.
fn date_and_time(at: OffsetDateTime) -> (String, String) {
    let (hour, minute, second) = at.to_hms();
    let time = format!("{hour:02}:{minute:02}:{second:02} {}", offset(at.offset()));
    (at.date().to_string(), time)
}

/// The amount with the currency's decimals.
fn money(mut value: Decimal, statement: &Statement) -> String {
    value.rescale(statement.exponent);
    text::amount(value)
}

/// The widths of the columns. No amount is wider than its column, because no amount
/// is larger than the sum of all.
struct Grid {
    size: f32,
    date: f32,
    details: f32,
    amount: f32,
    balance: f32,
}

impl Grid {
    fn of(statement: &Statement, fonts: &Fonts) -> Self {
        let bold = |text: &str| fonts.face(Weight::Bold).shape(text).width;
        let money = |value| bold(&money(value, statement));
        let widest = |widths: &[f32]| widths.iter().copied().fold(0.0, f32::max);
        let (opening, closing) = (statement.opening.balance, statement.closing.balance);
        let (credits, debits) = (statement.credits.amount, statement.debits.amount);
        let titles = bold("Debit").max(bold("Credit"));
        let amount = widest(&[titles, money(credits), money(debits)]);
        let highest = opening.saturating_add(credits);
        let lowest = opening.saturating_sub(debits).min(Decimal::ZERO);
        let balances = [bold("Balance"), money(closing), money(highest), money(lowest)];
        let balance = widest(&balances);
        let date = bold("0000-00-00").max(bold("00:00:00 +00:00") * NOTE);
        let transaction = bold("transaction dddddddddddddddddddddddddddddddd");
        let record = bold("record dddddddd-dddd-dddd-dddd-dddddddddddd");
        let details = transaction.max(record) * NOTE;
        let sides = 2.0 * SIDE;
        let smallest = SIZES.last().copied().unwrap_or(8.0);
        let fits = |size: &f32| {
            let widths = date + details + 2.0 * amount + balance;
            widths * size + 5.0 * sides <= WIDTH
        };
        let size = SIZES.iter().copied().find(fits).unwrap_or(smallest);
        let column = |width: f32| width * size + sides;
        let (date, amount, balance) = (column(date), column(amount), column(balance));
        // The details are shortened before an amount is.
        let details = (WIDTH - date - 2.0 * amount - balance).max(0.0);
        Self { size, date, details, amount, balance }
    }

    fn columns(&self) -> Vec<Column> {
        let column = |title, align, width| Column { title, align, width };
        vec![
            column("Date", Align::Left, self.date),
            column("Details", Align::Left, self.details),
            column("Debit", Align::Right, self.amount),
            column("Credit", Align::Right, self.amount),
            column("Balance", Align::Right, self.balance),
        ]
    }
}
