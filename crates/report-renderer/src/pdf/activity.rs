//! The activity of all accounts. Each chart is beside a table with its figures.

use contract::Kind;
use report_document::{Activity, Analysis, AnalysisSource};
use rust_decimal::Decimal;

use super::{
    About,
    chart::{self, Bar, log_share, log_ticks, share},
    columns::{Plan, table},
    font::Weight,
    letter::{self, Tile},
    sheet::{Frame, Paragraph, Sheet},
    style::*,
    table::Cell,
    text::amount,
};
use crate::{
    number::{count, duration},
    series::{Point, Series, Step, by_currency, series},
    words::{self, moment},
};

const TITLE: &str = "Activity report";

pub(super) fn about(activity: &Activity) -> About {
    let period = words::period(&activity.period);
    About {
        title: format!("{TITLE}, {period}"),
        issuer: activity.issuer.clone(),
        id: format!(
            "activity {} {} {}",
            activity.period.from, activity.period.to, activity.template
        ),
        date: Some(activity.period.to),
        frame: Frame {
            header: (TITLE.to_owned(), period),
            footer: format!("{} · {TITLE}", activity.issuer),
        },
    }
}

pub(super) fn write(sheet: &mut Sheet<'_>, activity: &Activity) {
    letter::head(sheet, &activity.issuer, TITLE, &words::period(&activity.period));
    tiles(sheet, activity);
    totals(sheet, activity);
    let (step, all) = series(&activity.period, &activity.days);
    volumes(sheet, step, &all);
    refusals(sheet, activity);
    settlement(sheet, activity);
    largest(sheet, activity);
    unusual(sheet, activity);
    figures(sheet, step, &all);
    if let Some(analysis) = &activity.analysis {
        prose(sheet, analysis);
    }
}

fn section(sheet: &mut Sheet<'_>, title: &str, following: f32) {
    sheet.y += 6.0;
    sheet.heading(2, title, following);
    sheet.y += 4.0;
}

fn none(sheet: &mut Sheet<'_>, text: &str) {
    sheet.paragraph(text, Paragraph { color: MUTED, ..Paragraph::default() });
    sheet.y += 8.0;
}

fn tiles(sheet: &mut Sheet<'_>, activity: &Activity) {
    let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
    let applied = sum(&mut activity.totals.iter().map(|total| total.count));
    let refused = sum(&mut activity.refusals.iter().map(|refusal| refusal.count));
    let currencies = by_currency(&activity.totals).len();
    let share = words::percent(refused, applied.saturating_add(refused));
    let currencies_note = match currencies {
        1 => "in 1 currency".to_owned(),
        _ => format!("in {currencies} currencies"),
    };
    let p99 = format!("99 of 100 in {}", duration(activity.settlement.p99_ms));
    let tiles = [
        Tile::new("Movements", count(applied), currencies_note),
        Tile::new("Refused requests", count(refused), format!("{share} of all requests")),
        Tile::new("Median time to settlement", duration(activity.settlement.p50_ms), p99),
        Tile::new("Unusual entries", count(activity.unusual.count), String::new()),
    ];
    letter::tiles(sheet, &tiles);
}

fn totals(sheet: &mut Sheet<'_>, activity: &Activity) {
    section(sheet, "Volume by currency and type", 80.0);
    let currencies = by_currency(&activity.totals);
    if currencies.is_empty() {
        return none(sheet, "No money moved in this period.");
    }
    let rows = currencies.iter().map(|(currency, point)| point_row(currency, point));
    let summary = "Movements by currency and type";
    table(sheet, summary, &point_plans("Currency"), &rows.collect::<Vec<_>>());
    let bars: Vec<Bar> =
        currencies.iter().flat_map(|(currency, point)| pair(currency, point)).collect();
    let description = "Bars of the amounts deposited and withdrawn. The larger of both is the \
                       full length in each currency.";
    chart::horizontal(sheet, description, &bars, &[]);
}

/// The bars of a currency's deposits and withdrawals.
fn pair(currency: &str, point: &Point) -> [Bar; 2] {
    let (deposits, withdrawals) = (point.deposits.1, point.withdrawals.1);
    let whole = deposits.max(withdrawals);
    let bar = |name: &str, value: Decimal, color| Bar {
        label: format!("{currency} {name}"),
        value: amount(value),
        share: share(value, whole),
        color,
    };
    [bar("deposited", deposits, CREDIT), bar("withdrawn", withdrawals, DEBIT)]
}

fn point_plans(first: &'static str) -> [Plan; 6] {
    [
        Plan::text(first),
        Plan::number("Deposits"),
        Plan::number("Deposited"),
        Plan::number("Withdrawals"),
        Plan::number("Withdrawn"),
        Plan::number("Net"),
    ]
}

fn point_row(name: &str, point: &Point) -> Vec<Cell> {
    let (deposits, withdrawals) = (point.deposits, point.withdrawals);
    vec![
        Cell::new(name).bold(),
        Cell::new(count(deposits.0)),
        Cell::new(amount(deposits.1)),
        Cell::new(count(withdrawals.0)),
        Cell::new(amount(withdrawals.1)),
        Cell::new(amount(deposits.1.saturating_sub(withdrawals.1))),
    ]
}

fn volumes(sheet: &mut Sheet<'_>, step: Step, all: &[Series]) {
    if all.is_empty() {
        return;
    }
    section(sheet, &format!("Volume by {}", step.name()), chart::VOLUMES_HEIGHT);
    for series in all {
        chart::volumes(sheet, series, step);
    }
}

fn figures(sheet: &mut Sheet<'_>, step: Step, all: &[Series]) {
    for series in all {
        section(sheet, &format!("{} by {}", series.currency, step.name()), 80.0);
        let rows = series.points.iter().map(|(name, point)| point_row(name, point));
        let first = match step {
            Step::Day => "Day",
            Step::Month => "Month",
            Step::Year => "Year",
        };
        let summary = format!("Movements in {} by {}", series.currency, step.name());
        table(sheet, &summary, &point_plans(first), &rows.collect::<Vec<_>>());
    }
}

fn refusals(sheet: &mut Sheet<'_>, activity: &Activity) {
    section(sheet, "Refused requests", 80.0);
    let refusals = &activity.refusals;
    let Some(most) = refusals.iter().map(|refusal| refusal.count).max() else {
        return none(sheet, "No request was refused.");
    };
    let all = refusals.iter().map(|refusal| refusal.count).fold(0, u64::saturating_add);
    let name = |reason: &str, kind: Kind| {
        format!("{}, {}", words::reason(reason), words::kind(kind).to_lowercase())
    };
    let bars = refusals.iter().map(|refusal| Bar {
        label: name(&refusal.reason, refusal.r#type),
        value: format!("{} · {}", count(refusal.count), words::percent(refusal.count, all)),
        share: share(Decimal::from(refusal.count), Decimal::from(most)),
        color: ACCENT,
    });
    let bars: Vec<Bar> = bars.collect();
    chart::horizontal(sheet, "Bars of the refused requests by reason.", &bars, &[]);
    let plans =
        [Plan::text("Reason"), Plan::text("Type"), Plan::number("Requests"), Plan::number("Share")];
    let rows = refusals.iter().map(|refusal| {
        vec![
            Cell::new(words::reason(&refusal.reason)).bold(),
            Cell::new(words::kind(refusal.r#type)),
            Cell::new(count(refusal.count)),
            Cell::new(words::percent(refusal.count, all)),
        ]
    });
    table(sheet, "Refused requests by reason", &plans, &rows.collect::<Vec<_>>());
}

fn settlement(sheet: &mut Sheet<'_>, activity: &Activity) {
    section(sheet, "Time to settlement", 120.0);
    let times = &activity.settlement;
    if times.count == 0 {
        return none(sheet, "No request was decided.");
    }
    let intro = format!(
        "The time from the request to the decision of the ledger, for {} requests, on a \
         logarithmic scale.",
        count(times.count)
    );
    sheet.paragraph(&intro, Paragraph::default());
    sheet.y += 6.0;
    let bar = |label: &str, ms| Bar {
        label: label.to_owned(),
        value: duration(ms),
        share: log_share(ms, times.max_ms),
        color: CREDIT,
    };
    let bars = [
        bar("Half of them within", times.p50_ms),
        bar("90 of 100 within", times.p90_ms),
        bar("99 of 100 within", times.p99_ms),
        bar("All within", times.max_ms),
    ];
    let description = "Bars of the time to settlement on a logarithmic scale.";
    chart::horizontal(sheet, description, &bars, &log_ticks(times.max_ms));
    sheet.y += 6.0;
}

fn largest(sheet: &mut Sheet<'_>, activity: &Activity) {
    section(sheet, "Largest accounts", 80.0);
    if activity.largest_accounts.is_empty() {
        return none(sheet, "No account had a movement.");
    }
    let plans = [
        Plan::text("Account"),
        Plan::text("Currency"),
        Plan::number("Movements"),
        Plan::number("Deposited"),
        Plan::number("Withdrawn"),
    ];
    let rows = activity.largest_accounts.iter().map(|account| {
        vec![
            Cell::new(account.account_id.to_string()),
            Cell::new(&account.currency),
            Cell::new(count(account.count)),
            Cell::new(amount(account.credits)),
            Cell::new(amount(account.debits)),
        ]
    });
    let summary = "The accounts with the largest volume in each currency";
    table(sheet, summary, &plans, &rows.collect::<Vec<_>>());
}

fn unusual(sheet: &mut Sheet<'_>, activity: &Activity) {
    section(sheet, "Unusual entries", 100.0);
    let unusual = &activity.unusual;
    sheet.paragraph(&unusual.method, Paragraph::default());
    sheet.y += 6.0;
    if unusual.items.is_empty() {
        return none(sheet, "No entry was unusual.");
    }
    let plans = [
        Plan::text("Transaction"),
        Plan::text("Account"),
        Plan::text("Booked at"),
        Plan::text("Type"),
        Plan::number("Amount"),
        Plan::text("Currency"),
        Plan::number("Score"),
    ];
    let rows = unusual.items.iter().map(|entry| {
        vec![
            Cell::new(entry.transaction_id.to_string()),
            Cell::new(entry.account_id.to_string()),
            Cell::new(moment(entry.at)),
            Cell::new(words::kind(entry.r#type)),
            Cell::new(amount(entry.amount)),
            Cell::new(&entry.currency),
            Cell::new(format!("{:.1}", entry.score)),
        ]
    });
    let summary = format!("The most unusual of {} unusual entries", count(unusual.count));
    table(sheet, &summary, &plans, &rows.collect::<Vec<_>>());
}

/// The analysis has its own page.
fn prose(sheet: &mut Sheet<'_>, analysis: &Analysis) {
    sheet.break_page();
    sheet.heading(2, "Analysis", 0.0);
    sheet.y += 6.0;
    for paragraph in &analysis.paragraphs {
        sheet.paragraph(paragraph, Paragraph { size: 10.5, ..Paragraph::default() });
        sheet.y += 8.0;
    }
    let mut author = match (analysis.source, &analysis.model) {
        (AnalysisSource::Rules, _) => {
            "Written by rules of this program from the figures above.".to_owned()
        }
        (AnalysisSource::Model, model) => format!(
            "Written by the language model {}. Each number in it was found in the figures.",
            model.as_deref().unwrap_or("without a name")
        ),
    };
    if let Some(note) = &analysis.note {
        author = format!("{author} {note}");
    }
    sheet.y += 4.0;
    let weight = Weight::Regular;
    sheet.paragraph(&author, Paragraph { size: 8.5, color: MUTED, weight, ..Paragraph::default() });
}
