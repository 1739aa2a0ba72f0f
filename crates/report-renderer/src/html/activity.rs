//! The activity report as a page. The tables have every figure of the charts.

use std::collections::BTreeMap;

use contract::Kind;
use report_document::{Activity, Analysis, AnalysisSource, LargestAccount, Volume};
use rust_decimal::Decimal;

use super::{
    chart,
    markup::Markup,
    page::{self, Heading, section, tile},
};
use crate::{
    number::{count, duration, grouped},
    series::{Point, Series, Step, by_currency, series},
    words,
};

pub(crate) fn page(activity: &Activity) -> String {
    let heading = Heading {
        title: "Activity report",
        issuer: &activity.issuer,
        subtitle: words::period(&activity.period),
        template: activity.template,
    };
    page::page(&heading, |html| {
        tiles(html, activity);
        section(html, "Volume by currency", |html| totals(html, &activity.totals));
        volumes(html, activity);
        section(html, "Refused requests", |html| refusals(html, activity));
        section(html, "Largest accounts", |html| largest(html, &activity.largest_accounts));
        section(html, "Unusual entries", |html| unusual(html, activity));
        section(html, "Time to settlement", |html| settlement(html, activity));
        if let Some(analysis) = &activity.analysis {
            section(html, "Analysis", |html| prose(html, analysis));
        }
    })
}

fn tiles(html: &mut Markup, activity: &Activity) {
    let applied = sum(activity.totals.iter().map(|total| total.count));
    let refused = sum(activity.refusals.iter().map(|refusal| refusal.count));
    let currencies: BTreeMap<&str, ()> =
        activity.totals.iter().map(|total| (total.currency.as_str(), ())).collect();
    let unusual = format!("{} listed", count(length(&activity.unusual.items)));
    let of_all =
        format!("{} of all requests", words::percent(refused, applied.saturating_add(refused)));
    let currency_names = currencies.keys().take(6).copied().collect::<Vec<_>>().join(", ");
    html.raw("<dl class=\"tiles\">\n");
    let deposits = activity.totals.iter().filter(|total| total.r#type == Kind::Deposit);
    let deposits = sum(deposits.map(|total| total.count));
    let withdrawals = applied.saturating_sub(deposits);
    let both = format!("{} deposits, {} withdrawals", count(deposits), count(withdrawals));
    tile(html, "Movements", &count(applied), &both);
    tile(html, "Currencies", &currencies.len().to_string(), &currency_names);
    tile(html, "Refused requests", &count(refused), &of_all);
    let p99 = format!("99 of 100 within {}", duration(activity.settlement.p99_ms));
    tile(html, "Median time to settlement", &duration(activity.settlement.p50_ms), &p99);
    tile(html, "Unusual entries", &count(activity.unusual.count), &unusual);
    html.raw("</dl>\n");
}

fn totals(html: &mut Markup, totals: &[Volume]) {
    let by_currency = by_currency(totals);
    if by_currency.is_empty() {
        html.raw("<p class=\"none\">No money moved in this period.</p>\n");
        return;
    }
    let rows = by_currency.into_iter().map(|(currency, point)| (currency.to_owned(), point));
    point_table(html, "Movements by currency and type", "Currency", rows);
}

/// Deposits, withdrawals and their difference, a row each.
fn point_table(
    html: &mut Markup,
    caption: &str,
    first: &'static str,
    rows: impl Iterator<Item = (String, Point)>,
) {
    html.raw("<div class=\"scroll\"><table>\n<caption>").text(caption).raw("</caption>\n<thead>");
    html.raw("<tr><th scope=\"col\">").raw(first).raw("</th>");
    for column in ["Deposits", "Deposited", "Withdrawals", "Withdrawn", "Net"] {
        html.raw("<th scope=\"col\" class=\"n\">").raw(column).raw("</th>");
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for (name, point) in rows {
        let (deposits, withdrawals) = (point.deposits, point.withdrawals);
        html.raw("<tr><th scope=\"row\">").text(name).raw("</th>");
        number(html, count(deposits.0));
        number(html, grouped(deposits.1));
        number(html, count(withdrawals.0));
        number(html, grouped(withdrawals.1));
        number(html, grouped(deposits.1.saturating_sub(withdrawals.1)));
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn volumes(html: &mut Markup, activity: &Activity) {
    let (step, all) = series(&activity.period, &activity.days);
    if all.is_empty() {
        return;
    }
    let title = match step {
        Step::Day => "Volume by day",
        Step::Month => "Volume by month",
        Step::Year => "Volume by year",
    };
    section(html, title, |html| {
        html.raw("<p class=\"legend\"><span class=\"key in\">Deposits</span> ")
            .raw("<span class=\"key out\">Withdrawals</span></p>\n");
        for series in all {
            volume(html, series, step);
        }
    });
}

fn volume(html: &mut Markup, series: Series, step: Step) {
    html.raw("<figure>\n<figcaption>").text(&series.currency).raw("</figcaption>\n");
    html.raw("<div class=\"scroll\">");
    chart::volumes(html, &series, step);
    html.raw("</div>\n<details><summary>Figures by ").raw(step.name()).raw("</summary>\n");
    let caption = format!("{} by {}", series.currency, step.name());
    let first = match step {
        Step::Day => "Day",
        Step::Month => "Month",
        Step::Year => "Year",
    };
    point_table(html, &caption, first, series.points.into_iter());
    html.raw("</details>\n</figure>\n");
}

fn refusals(html: &mut Markup, activity: &Activity) {
    let Some(most) = activity.refusals.iter().map(|refusal| refusal.count).max() else {
        html.raw("<p class=\"none\">No request was refused.</p>\n");
        return;
    };
    let all = sum(activity.refusals.iter().map(|refusal| refusal.count));
    html.raw(
        "<div class=\"scroll\"><table>\n<caption>Refused requests by reason</caption>\n<thead>",
    )
    .raw("<tr><th scope=\"col\">Reason</th><th scope=\"col\">Type</th>")
    .raw("<th scope=\"col\" class=\"n\">Requests</th><th scope=\"col\" class=\"n\">Share</th>")
    .raw("<td class=\"wide\"></td></tr></thead>\n<tbody>\n");
    for refusal in &activity.refusals {
        html.raw("<tr><th scope=\"row\">").text(words::reason(&refusal.reason)).raw("</th><td>");
        html.raw(words::kind(refusal.r#type)).raw("</td>");
        number(html, count(refusal.count));
        number(html, words::percent(refusal.count, all));
        html.raw("<td class=\"wide\">");
        chart::bar(html, Decimal::from(refusal.count), Decimal::from(most));
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn largest(html: &mut Markup, accounts: &[LargestAccount]) {
    if accounts.is_empty() {
        html.raw("<p class=\"none\">No account had a movement.</p>\n");
        return;
    }
    let volume = |account: &LargestAccount| account.credits.saturating_add(account.debits);
    let mut most: BTreeMap<&str, Decimal> = BTreeMap::new();
    for account in accounts {
        let largest = most.entry(&account.currency).or_default();
        *largest = volume(account).max(*largest);
    }
    html.raw(
        "<div class=\"scroll\"><table>\n<caption>The accounts with the largest volume in each ",
    )
    .raw("currency</caption>\n<thead><tr><th scope=\"col\">Account</th>")
    .raw("<th scope=\"col\">Currency</th><th scope=\"col\" class=\"n\">Movements</th>")
    .raw("<th scope=\"col\" class=\"n\">Deposited</th><th scope=\"col\" class=\"n\">Withdrawn")
    .raw("</th><td class=\"wide\"></td></tr></thead>\n<tbody>\n");
    for account in accounts {
        html.raw("<tr><th scope=\"row\" class=\"id\">").text(account.account_id).raw("</th><td>");
        html.text(&account.currency).raw("</td>");
        number(html, count(account.count));
        number(html, grouped(account.credits));
        number(html, grouped(account.debits));
        html.raw("<td class=\"wide\">");
        let whole = most.get(account.currency.as_str()).copied().unwrap_or_default();
        chart::bar(html, volume(account), whole);
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn unusual(html: &mut Markup, activity: &Activity) {
    let unusual = &activity.unusual;
    html.raw("<p>").text(&unusual.method).raw("</p>\n");
    if unusual.items.is_empty() {
        html.raw("<p class=\"none\">No entry was unusual.</p>\n");
        return;
    }
    html.raw("<div class=\"scroll\"><table>\n<caption>The most unusual of ")
        .text(count(unusual.count))
        .raw(" unusual entries</caption>\n<thead><tr><th scope=\"col\">Transaction</th>")
        .raw("<th scope=\"col\">Account</th><th scope=\"col\">Booked at</th>")
        .raw("<th scope=\"col\">Type</th><th scope=\"col\" class=\"n\">Amount</th>")
        .raw("<th scope=\"col\">Currency</th><th scope=\"col\" class=\"n\">Score</th></tr></thead>")
        .raw("\n<tbody>\n");
    for entry in &unusual.items {
        html.raw("<tr><th scope=\"row\" class=\"id\">").text(entry.transaction_id);
        html.raw("</th><td class=\"id\">").text(entry.account_id).raw("</td><td class=\"time\">");
        html.text(words::moment(entry.at))
            .raw("</td><td>")
            .raw(words::kind(entry.r#type))
            .raw("</td>");
        number(html, grouped(entry.amount));
        html.raw("<td>").text(&entry.currency).raw("</td>");
        number(html, format!("{:.1}", entry.score));
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn settlement(html: &mut Markup, activity: &Activity) {
    let times = &activity.settlement;
    if times.count == 0 {
        html.raw("<p class=\"none\">No request was decided.</p>\n");
        return;
    }
    html.raw("<p>From the request to the decision of the ledger, for ")
        .text(count(times.count))
        .raw(" requests.</p>\n<dl class=\"tiles\">\n");
    for (label, ms) in [
        ("Half of them within", times.p50_ms),
        ("90 of 100 within", times.p90_ms),
        ("99 of 100 within", times.p99_ms),
        ("All within", times.max_ms),
    ] {
        tile(html, label, &duration(ms), "");
    }
    html.raw("</dl>\n");
}

fn prose(html: &mut Markup, analysis: &Analysis) {
    html.raw("<div class=\"prose\">\n");
    for paragraph in &analysis.paragraphs {
        html.raw("<p>").text(paragraph).raw("</p>\n");
    }
    html.raw("</div>\n<p class=\"author\">");
    match (analysis.source, &analysis.model) {
        (AnalysisSource::Rules, _) => {
            html.raw("Written by rules of this program from the figures above.");
        }
        (AnalysisSource::Model, model) => {
            let model = model.as_deref().unwrap_or("without a name");
            html.raw("Written by the language model ").text(model);
            html.raw(". Each number in it was found in the figures.");
        }
    }
    if let Some(note) = &analysis.note {
        html.raw(" ").text(note);
    }
    html.raw("</p>\n");
}

fn number(html: &mut Markup, text: String) {
    html.raw("<td class=\"n\">").text(text).raw("</td>");
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}
