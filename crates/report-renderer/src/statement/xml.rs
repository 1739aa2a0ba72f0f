//! Elements of XML, written one by one.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

/// A writer of elements. It escapes all texts.
pub(super) struct Xml<W: Write>(Writer<W>);

impl<W: Write> Xml<W> {
    /// Starts a document in UTF-8.
    pub(super) fn new(writer: W) -> io::Result<Self> {
        let mut xml = Self(Writer::new(writer));
        xml.0.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        xml.line()?;
        Ok(xml)
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<()> {
        self.0.write_event(Event::Start(BytesStart::new(name)))
    }

    pub(super) fn open_with(&mut self, name: &str, attribute: (&str, &str)) -> io::Result<()> {
        self.0.write_event(Event::Start(BytesStart::new(name).with_attributes([attribute])))
    }

    pub(super) fn close(&mut self, name: &str) -> io::Result<()> {
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    /// An element with a text.
    pub(super) fn leaf(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.open(name)?;
        self.text(text)?;
        self.close(name)
    }

    /// An element with an attribute and a text.
    pub(super) fn leaf_with(
        &mut self,
        name: &str,
        attribute: (&str, &str),
        text: &str,
    ) -> io::Result<()> {
        self.open_with(name, attribute)?;
        self.text(text)?;
        self.close(name)
    }

    /// A line break between two elements.
    pub(super) fn line(&mut self) -> io::Result<()> {
        self.0.get_mut().write_all(b"\n")
    }

    pub(super) fn into_inner(self) -> W {
        self.0.into_inner()
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.0.write_event(Event::Text(BytesText::new(&allowed(text))))
    }
}

/// XML 1.0 has no form for most control characters: each becomes U+FFFD.
/// <https://www.w3.org/TR/xml/#charsets>
pub(super) fn allowed(text: &str) -> Cow<'_, str> {
    let is_forbidden = |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(is_forbidden) {
        Cow::Owned(text.replace(is_forbidden, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}
