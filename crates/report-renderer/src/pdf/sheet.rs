//! Pages with a header and a footer, filled from top to bottom.
//!
//! A footer says "Page 3 of 12", so a document is laid out twice: the first time only
//! counts the pages. Each page is written when it is full.
//!
//! Every piece of content belongs to a tag (heading, paragraph, cell), or is an
//! artifact: lines, colours, and the header and footer of a page.

use std::num::NonZeroU16;

use krilla::{
    Document,
    destination::XyzDestination,
    geom::Point,
    outline::{Outline, OutlineNode},
    page::PageSettings,
    tagging::{Artifact, ArtifactType, ContentTag, Tag, TagGroup, TagKind, TagTree},
};

use super::{
    draw::Draw,
    font::{Fonts, Line, Weight},
    style::*,
    text,
};
use crate::RenderError;

/// What is written on a page, in order.
enum Op {
    Open(TagKind),
    Close,
    /// Content of the innermost open tag.
    Content(Vec<Draw>),
    Artifact(ArtifactType, Vec<Draw>),
    Bookmark(String, f32),
}

/// The texts at the edges of each page.
pub(super) struct Frame {
    /// Above the content of each page but the first.
    pub(super) header: (String, String),
    /// Below the content of each page, left of the page number.
    pub(super) footer: String,
}

/// The file that is written.
struct Output {
    document: Document,
    open: Vec<TagGroup>,
    tree: TagTree,
    outline: Outline,
}

/// The pages of a document.
pub(super) struct Sheet<'a> {
    pub(super) fonts: &'a Fonts,
    frame: &'a Frame,
    /// None while pages are counted.
    output: Option<Output>,
    /// The pages before this one.
    page: usize,
    pages: usize,
    /// The top of the free space.
    pub(super) y: f32,
    ops: Vec<Op>,
}

impl<'a> Sheet<'a> {
    /// Pages that are only counted.
    pub(super) const fn counting(fonts: &'a Fonts, frame: &'a Frame) -> Self {
        Self { fonts, frame, output: None, page: 0, pages: 0, y: TOP, ops: Vec::new() }
    }

    /// Pages that are written.
    pub(super) fn writing(
        fonts: &'a Fonts,
        frame: &'a Frame,
        document: Document,
        pages: usize,
    ) -> Self {
        let (open, tree, outline) = (Vec::new(), TagTree::new(), Outline::new());
        let output = Some(Output { document, open, tree, outline });
        Self { fonts, frame, output, page: 0, pages, y: TOP, ops: Vec::new() }
    }

    /// The index of this page.
    pub(super) const fn page(&self) -> usize {
        self.page
    }

    pub(super) const fn is_counting(&self) -> bool {
        self.output.is_none()
    }

    /// The number of pages, when the content is complete.
    pub(super) fn count(self) -> usize {
        self.page.saturating_add(1)
    }

    /// The document, when the content is complete.
    ///
    /// # Errors
    /// If the pages are not as many as were counted.
    pub(super) fn finish(mut self) -> Result<Document, RenderError> {
        self.flush();
        let written = self.page;
        let Some(Output { mut document, tree, outline, .. }) = self.output else {
            return Err(RenderError::Other("counted pages are not written".to_owned()));
        };
        if written != self.pages {
            let message = format!("{written} pages, but {} were counted", self.pages);
            return Err(RenderError::Other(message));
        }
        document.set_tag_tree(tree.with_lang(Some("en".to_owned())));
        document.set_outline(outline);
        Ok(document)
    }

    /// Ends the page.
    pub(super) fn break_page(&mut self) {
        self.flush();
        self.y = TOP;
    }

    /// Ends the page if the height does not fit. Returns whether it ended.
    pub(super) fn reserve(&mut self, height: f32) -> bool {
        let full = self.y + height > BOTTOM && self.y > TOP;
        if full {
            self.break_page();
        }
        full
    }

    pub(super) fn open(&mut self, tag: impl Into<TagKind>) {
        self.push(|| Op::Open(tag.into()));
    }

    pub(super) fn close(&mut self) {
        self.push(|| Op::Close);
    }

    /// Content of the innermost open tag.
    pub(super) fn content(&mut self, draws: Vec<Draw>) {
        self.push(|| Op::Content(draws));
    }

    /// Decoration.
    pub(super) fn decorate(&mut self, draws: Vec<Draw>) {
        self.push(|| Op::Artifact(ArtifactType::Layout, draws));
    }

    fn push(&mut self, op: impl FnOnce() -> Op) {
        if self.output.is_some() {
            self.ops.push(op());
        }
    }

    /// A heading with a bookmark. It stays with at least `following` points of content.
    pub(super) fn heading(&mut self, level: u16, title: &str, following: f32) {
        let size = if level == 1 { TITLE } else { HEADING };
        self.reserve(size * LEADING + following);
        let top = self.y;
        self.push(|| Op::Bookmark(title.to_owned(), top));
        let level = NonZeroU16::new(level).unwrap_or(NonZeroU16::MIN);
        self.open(Tag::Hn(level, Some(title.to_owned())));
        let line = self.fonts.face(Weight::Bold).shape(title);
        self.line(line, LEFT, size, Weight::Bold, ACCENT);
        self.close();
    }

    /// A paragraph that may go on on the next page.
    pub(super) fn paragraph(&mut self, text: &str, style: Paragraph) {
        self.open(Tag::P);
        let face = self.fonts.face(style.weight);
        for line in text::wrap(face, text, style.size, style.width, style.lines) {
            self.reserve(style.size * LEADING);
            self.line(line, style.x, style.size, style.weight, style.color);
        }
        self.close();
    }

    /// A line of the innermost tag.
    fn line(&mut self, line: Line, x: f32, size: f32, weight: Weight, color: Color) {
        let y = self.y + size * ASCENT;
        self.content(vec![Draw::Text { x, y, line, size, weight, color }]);
        self.y += size * LEADING;
    }

    /// Writes the page with its header and footer.
    fn flush(&mut self) {
        let (fonts, page) = (self.fonts, self.page);
        self.page = page.saturating_add(1);
        let edges = match &self.output {
            Some(_) => self.frame.edges(fonts, self.page, self.pages),
            None => return,
        };
        let ops = std::mem::take(&mut self.ops);
        if let Some(output) = &mut self.output {
            output.write_page(fonts, page, ops.into_iter().chain(edges));
        }
    }
}

/// How a paragraph is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paragraph {
    pub(super) x: f32,
    pub(super) width: f32,
    pub(super) size: f32,
    pub(super) weight: Weight,
    pub(super) color: Color,
    /// The largest number of lines.
    pub(super) lines: usize,
}

impl Default for Paragraph {
    fn default() -> Self {
        let (weight, color) = (Weight::Regular, INK);
        Self { x: LEFT, width: WIDTH, size: BODY, weight, color, lines: usize::MAX }
    }
}

impl Frame {
    /// The header and footer of a page.
    fn edges(&self, fonts: &Fonts, page: usize, pages: usize) -> Vec<Op> {
        let face = fonts.face(Weight::Regular);
        let text = |x, y, line| Draw::Text {
            x,
            y,
            line,
            size: SMALL,
            weight: Weight::Regular,
            color: MUTED,
        };
        let right = |y, line: Line| text(RIGHT - line.width * SMALL, y, line);
        let number = face.shape(&format!("Page {page} of {pages}"));
        let room = WIDTH - number.width * SMALL - 24.0;
        let (y, rule) = (BOTTOM + 30.0, BOTTOM + 18.0);
        let footer = vec![
            Draw::rule(LEFT, RIGHT, rule, 0.5, HAIRLINE),
            text(LEFT, y, text::shorten(face, &self.footer, SMALL, room)),
            right(y, number),
        ];
        let mut edges = vec![Op::Artifact(ArtifactType::Footer, footer)];
        if page > 1 {
            let (left_text, right_text) = &self.header;
            let right_line = text::shorten(face, right_text, SMALL, WIDTH * 0.6);
            let room = WIDTH - right_line.width * SMALL - 24.0;
            let header = vec![
                text(LEFT, 46.0, text::shorten(face, left_text, SMALL, room)),
                right(46.0, right_line),
                Draw::rule(LEFT, RIGHT, 54.0, 0.5, HAIRLINE),
            ];
            edges.push(Op::Artifact(ArtifactType::Header, header));
        }
        edges
    }
}

impl Output {
    fn write_page(&mut self, fonts: &Fonts, index: usize, ops: impl Iterator<Item = Op>) {
        let settings = PageSettings::from_wh(PAGE_WIDTH, PAGE_HEIGHT).unwrap_or_default();
        let mut page = self.document.start_page_with(settings);
        let mut surface = page.surface();
        for op in ops {
            match op {
                Op::Open(tag) => self.open.push(TagGroup::new(tag)),
                Op::Close => {
                    let Some(mut group) = self.open.pop() else { continue };
                    // A document has a million groups; most have one child.
                    group.children.shrink_to_fit();
                    match self.open.last_mut() {
                        Some(parent) => parent.push(group),
                        None => self.tree.push(group),
                    }
                }
                Op::Content(draws) => {
                    let id = surface.start_tagged(ContentTag::Other);
                    draws.into_iter().for_each(|draw| draw.onto(&mut surface, fonts));
                    surface.end_tagged();
                    if let Some(parent) = self.open.last_mut() {
                        parent.push(id);
                    }
                }
                Op::Artifact(kind, draws) => {
                    surface.start_tagged(ContentTag::Artifact(Artifact::with_kind(kind)));
                    draws.into_iter().for_each(|draw| draw.onto(&mut surface, fonts));
                    surface.end_tagged();
                }
                Op::Bookmark(title, y) => {
                    let target = XyzDestination::new(index, Point::from_xy(LEFT, y));
                    self.outline.push_child(OutlineNode::new(title, target));
                }
            }
        }
        surface.finish();
        page.finish();
    }
}
