//! The reconciliation report as a page.

use report_document::{Check, Reconciliation};

use super::{
    markup::Markup,
    page::{self, Heading, section},
};
use crate::number::count;

pub(crate) fn page(report: &Reconciliation) -> String {
    let findings = total(&report.checks, |check| check.findings);
    let heading = Heading {
        title: "Reconciliation report",
        issuer: &report.issuer,
        subtitle: match findings {
            0 => "No findings".to_owned(),
            1 => "1 finding".to_owned(),
            _ => format!("{} findings", count(findings)),
        },
        template: report.template,
    };
    page::page(&heading, |html| {
        verdict(html, report, findings);
        section(html, "Checks", |html| checks(html, &report.checks));
        section(html, "Findings", |html| list(html, report));
    })
}

fn verdict(html: &mut Markup, report: &Reconciliation, findings: u64) {
    let examined = count(total(&report.checks, |check| check.examined));
    if findings == 0 {
        html.raw("<p class=\"verdict good\"><strong>The books agree.</strong> ");
    } else {
        html.raw("<p class=\"verdict bad\"><strong>The books do not agree.</strong> ");
    }
    html.text(count(u64::try_from(report.checks.len()).unwrap_or(u64::MAX)));
    html.raw(" checks examined ").text(examined).raw(" rows.</p>\n");
}

fn checks(html: &mut Markup, checks: &[Check]) {
    html.raw("<div class=\"scroll\"><table>\n<caption>What was compared</caption>\n<thead><tr>")
        .raw("<th scope=\"col\">Check</th><th scope=\"col\">Rule</th>")
        .raw("<th scope=\"col\" class=\"n\">Rows</th><th scope=\"col\" class=\"n\">Findings</th>")
        .raw("<th scope=\"col\">Result</th></tr></thead>\n<tbody>\n");
    for check in checks {
        html.raw("<tr><th scope=\"row\">").text(&check.name).raw("</th><td>");
        html.text(&check.description).raw("</td><td class=\"n\">").text(count(check.examined));
        html.raw("</td><td class=\"n\">").text(count(check.findings)).raw("</td><td>");
        if check.findings == 0 {
            html.raw("<span class=\"badge good\">✓ agrees</span>");
        } else {
            html.raw("<span class=\"badge bad\">✕ differs</span>");
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}

fn list(html: &mut Markup, report: &Reconciliation) {
    if report.findings.is_empty() {
        html.raw("<p class=\"none\">There are no findings.</p>\n");
    } else {
        html.raw(
            "<div class=\"scroll\"><table>\n<caption>What is wrong, in the order of the checks",
        )
        .raw("</caption>\n<thead><tr><th scope=\"col\">Check</th>")
        .raw("<th scope=\"col\">Subject</th><th scope=\"col\">Detail</th></tr></thead>\n")
        .raw("<tbody>\n");
        for finding in &report.findings {
            html.raw("<tr><th scope=\"row\">").text(&finding.check).raw("</th><td class=\"id\">");
            html.text(&finding.subject).raw("</td><td>").text(&finding.detail).raw("</td></tr>\n");
        }
        html.raw("</tbody></table></div>\n");
    }
    if report.omitted > 0 {
        html.raw("<p class=\"more\">Left out here: ")
            .text(count(report.omitted))
            .raw(" more.</p>\n");
    }
}

fn total(checks: &[Check], of: impl Fn(&Check) -> u64) -> u64 {
    checks.iter().map(of).fold(0, u64::saturating_add)
}
