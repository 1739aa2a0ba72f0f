//! The findings of `passbook verify`.

use report_document::Reconciliation;

use super::{
    About,
    columns::{Plan, table},
    font::Weight,
    letter::{self, Tile},
    sheet::{Frame, Paragraph, Sheet},
    style::*,
    table::Cell,
};
use crate::number::count;

const TITLE: &str = "Reconciliation report";

pub(super) fn about(report: &Reconciliation) -> About {
    About {
        title: format!("{TITLE}, {}", subtitle(report)),
        issuer: report.issuer.clone(),
        id: format!("reconciliation {}", report.template),
        date: None,
        frame: Frame {
            header: (TITLE.to_owned(), subtitle(report)),
            footer: format!("{} · {TITLE}", report.issuer),
        },
    }
}

pub(super) fn write(sheet: &mut Sheet<'_>, report: &Reconciliation) {
    letter::head(sheet, &report.issuer, TITLE, &subtitle(report));
    let (verdict, color) = match findings(report) {
        0 => ("The books agree.", GOOD),
        _ => ("The books do not agree.", BAD),
    };
    let style = Paragraph { size: 13.0, weight: Weight::Bold, color, ..Paragraph::default() };
    sheet.paragraph(verdict, style);
    sheet.y += 10.0;
    let checks = u64::try_from(report.checks.len()).unwrap_or(u64::MAX);
    let examined = report.checks.iter().map(|check| check.examined);
    let tiles = [
        Tile::new("Checks", count(checks), String::new()),
        Tile::new("Rows examined", count(examined.fold(0, u64::saturating_add)), String::new()),
        Tile::new("Findings", count(findings(report)), String::new()),
    ];
    letter::tiles(sheet, &tiles);
    list_checks(sheet, report);
    list_findings(sheet, report);
}

fn list_checks(sheet: &mut Sheet<'_>, report: &Reconciliation) {
    sheet.heading(2, "Checks", 80.0);
    sheet.y += 4.0;
    let plans = [
        Plan::text("Check"),
        Plan::prose("Rule"),
        Plan::number("Rows"),
        Plan::number("Findings"),
        Plan::text("Result"),
    ];
    let rows = report.checks.iter().map(|check| {
        vec![
            Cell::new(&check.name).bold(),
            Cell::new(&check.description),
            Cell::new(count(check.examined)),
            Cell::new(count(check.findings)),
            match check.findings {
                0 => Cell::colored("agrees", GOOD),
                _ => Cell::colored("differs", BAD),
            },
        ]
    });
    table(sheet, "What was compared", &plans, &rows.collect::<Vec<_>>());
}

fn list_findings(sheet: &mut Sheet<'_>, report: &Reconciliation) {
    sheet.heading(2, "Findings", 80.0);
    sheet.y += 4.0;
    if report.findings.is_empty() {
        sheet.paragraph("There are no findings.", Paragraph::default());
    } else {
        let plans = [Plan::text("Check"), Plan::prose("Subject"), Plan::prose("Detail")];
        let rows = report.findings.iter().map(|finding| {
            vec![
                Cell::new(&finding.check).bold(),
                Cell::new(&finding.subject),
                Cell::new(&finding.detail),
            ]
        });
        let summary = "What is wrong, in the order of the checks";
        table(sheet, summary, &plans, &rows.collect::<Vec<_>>());
    }
    if report.omitted > 0 {
        let more = format!("Left out here: {} more.", count(report.omitted));
        sheet.paragraph(&more, Paragraph { color: MUTED, ..Paragraph::default() });
    }
}

fn findings(report: &Reconciliation) -> u64 {
    report.checks.iter().map(|check| check.findings).fold(0, u64::saturating_add)
}

fn subtitle(report: &Reconciliation) -> String {
    match findings(report) {
        0 => "No findings".to_owned(),
        1 => "1 finding".to_owned(),
        number => format!("{} findings", count(number)),
    }
}
