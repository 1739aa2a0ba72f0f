//! Text as HTML: the part of Markdown that descriptions use.

/// Text without markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with code between backticks.
pub(super) fn inline(text: &str) -> String {
    let escaped = escape(text);
    let parts = escaped.split('`').enumerate().map(|(number, part)| match number % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    });
    parts.collect()
}

/// Paragraphs, and lists of lines with a dash.
pub(super) fn markdown(text: &str) -> String {
    let mut html = String::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let (items, lines): (Vec<_>, Vec<_>) =
            block.lines().partition(|line| line.starts_with("- "));
        if !lines.is_empty() {
            html += &format!("<p>{}</p>\n", inline(&lines.join("\n")));
        }
        if !items.is_empty() {
            let items = items.iter().map(|item| inline(item.trim_start_matches("- ")));
            let items: String = items.map(|item| format!("<li>{item}\n")).collect();
            html += &format!("<ul>\n{items}</ul>\n");
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_become_paragraphs_lists_and_code() {
        let text = "One `<code>` & more.\n- `a`: first\n- second\n\nTwo.";
        let html = "<p>One <code>&lt;code&gt;</code> &amp; more.</p>\n\
                    <ul>\n<li><code>a</code>: first\n<li>second\n</ul>\n<p>Two.</p>\n";
        assert_eq!(markdown(text), html);
    }
}
