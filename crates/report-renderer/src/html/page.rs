//! The frame of a page: policy, style, heading and footer.

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::markup::Markup;

const STYLE: &str = include_str!("style.css");

/// The heading of a page.
pub(super) struct Heading<'a> {
    pub(super) title: &'static str,
    pub(super) issuer: &'a str,
    /// The line below the title.
    pub(super) subtitle: String,
    pub(super) template: u32,
}

/// A page with this heading around the content.
pub(super) fn page(heading: &Heading<'_>, content: impl FnOnce(&mut Markup)) -> String {
    let mut html = Markup::default();
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ")
        .raw("style-src 'sha256-")
        .text(STANDARD.encode(Sha256::digest(STYLE)))
        .raw("'; base-uri 'none'; form-action 'none'\">\n")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
        .text(format_args!("{}: {}", heading.title, heading.subtitle))
        .raw("</title>\n<style>")
        .raw(STYLE)
        .raw("</style>\n</head>\n<body>\n<header>\n<p class=\"issuer\">")
        .text(heading.issuer)
        .raw("</p>\n<h1>")
        .text(heading.title)
        .raw("</h1>\n<p class=\"subtitle\">")
        .text(&heading.subtitle)
        .raw("</p>\n</header>\n<main>\n");
    content(&mut html);
    html.raw("</main>\n<footer>\n<p>").text(heading.issuer).raw(" · ").text(heading.title);
    html.raw(" · layout version ")
        .text(heading.template)
        .raw("</p>\n</footer>\n</body>\n</html>\n");
    html.finish()
}

/// A section with a heading.
pub(super) fn section(html: &mut Markup, title: &'static str, content: impl FnOnce(&mut Markup)) {
    html.raw("<section>\n<h2>").raw(title).raw("</h2>\n");
    content(html);
    html.raw("</section>\n");
}

/// A figure with its label, for the top of a report.
pub(super) fn tile(html: &mut Markup, label: &'static str, value: &str, note: &str) {
    html.raw("<div class=\"tile\"><dt>").raw(label).raw("</dt><dd>").text(value);
    if !note.is_empty() {
        html.raw("<span class=\"note\">").text(note).raw("</span>");
    }
    html.raw("</dd></div>\n");
}
