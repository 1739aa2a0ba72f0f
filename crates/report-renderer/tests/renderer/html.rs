//! The HTML reports: one file, nothing from outside, nothing that runs.

use report_document::{Document, Format};

use crate::{
    documents::{activity, reconciliation},
    text,
};

fn pages() -> [String; 2] {
    let (activity, reconciliation) = (activity(), reconciliation());
    [
        text(Format::Html, &Document::Activity(&activity)),
        text(Format::Html, &Document::Reconciliation(&reconciliation)),
    ]
}

#[test]
fn texts_of_others_stay_texts() {
    let [activity, reconciliation] = pages();
    assert!(activity.contains("&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(reconciliation.contains("&lt;b&gt;record&lt;/b&gt;"));
    for page in [activity, reconciliation] {
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>record"));
        assert!(page.contains("Passbook Bank &amp; Söhne &lt;한국&gt;"));
    }
}

#[test]
fn a_page_refers_to_nothing_outside() {
    for page in pages() {
        for reference in [" src=\"", "href=\"", "url(", "@import", "<link", "<iframe", "style=\""] {
            assert!(!page.contains(reference), "{reference}");
        }
        assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
        assert!(page.contains("<meta charset=\"utf-8\">"));
        assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    }
}

#[test]
fn every_table_has_a_caption_and_scopes() {
    for page in pages() {
        let tables = page.matches("<table").count();
        assert!(tables > 0);
        assert_eq!(page.matches("<caption").count(), tables);
        assert_eq!(page.matches("<th ").count(), page.matches("<th scope=").count());
        assert_eq!(page.matches("<th>").count(), 0);
        for element in ["table", "tr", "td", "th", "section", "svg", "p", "div", "figure"] {
            let (opened, closed) = (format!("<{element}"), format!("</{element}>"));
            let opened = page
                .match_indices(&opened)
                .filter(|(at, text)| page[at + text.len()..].starts_with([' ', '>']));
            assert_eq!(opened.count(), page.matches(&closed).count(), "{element}");
        }
    }
}
