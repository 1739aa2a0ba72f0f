//! HTML text under construction. Markup is always a literal of this program; every
//! other text is escaped.

use std::fmt::{Display, Write};

/// A piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Appends markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends a text, also inside a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a `String` does not fail.
        let _ = write!(Escape(&mut self.0), "{text}");
        self
    }

    /// The HTML so far.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_markup() {
        let mut markup = Markup::default();
        markup.raw("<p title=\"").text("\"><b>'&\u{1b}").raw("\">");
        assert_eq!(markup.finish(), "<p title=\"&quot;&gt;&lt;b&gt;&#39;&amp;\u{fffd}\">");
    }
}
