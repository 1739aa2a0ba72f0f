//! The two fonts of the documents, and the shaping of a line of text.
//!
//! Every width is a multiple of the font size. Digits have the same width, so that
//! amounts in a column align. Numbers and ids are never kerned for the same reason.
//!
//! A character without a glyph is drawn as a box. Search and copying still find the
//! character itself.

use std::{borrow::Cow, ops::Range};

use harfrust::{
    Direction, Feature, FontRef, ShapeOptions, ShapePlan, Shaper, ShaperData, Tag, UnicodeBuffer,
    script,
};
use krilla::text::{Font, GlyphId, KrillaGlyph};

use crate::RenderError;

static REGULAR: &[u8] = include_bytes!("../../fonts/Pretendard-Regular.otf");
static SEMI_BOLD: &[u8] = include_bytes!("../../fonts/Pretendard-SemiBold.otf");

/// Stands for a character without a glyph.
const BOX: char = '\u{25a1}';
/// The characters of numbers, times and ids.
const PLAIN: &str = "0123456789abcdef-\u{2212}+:., %";

/// The weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// The fonts of a document.
pub(super) struct Fonts {
    regular: Face,
    bold: Face,
}

impl Fonts {
    /// # Errors
    /// If a font can't be read.
    pub(super) fn load() -> Result<Self, RenderError> {
        Ok(Self { regular: Face::new(REGULAR)?, bold: Face::new(SEMI_BOLD)? })
    }

    pub(super) const fn face(&self, weight: Weight) -> &Face {
        match weight {
            Weight::Regular => &self.regular,
            Weight::Bold => &self.bold,
        }
    }
}

/// A line of glyphs and its text.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) glyphs: Vec<KrillaGlyph>,
    /// The sum of the advances.
    pub(super) width: f32,
}

/// A font with all that is needed to shape text.
pub(super) struct Face {
    pub(super) font: Font,
    reference: FontRef<'static>,
    data: ShaperData,
    latin: ShapePlan,
    hangul: ShapePlan,
    units_per_em: f32,
    plain: Vec<(char, KrillaGlyph)>,
    missing: Option<KrillaGlyph>,
}

impl Face {
    fn new(bytes: &'static [u8]) -> Result<Self, RenderError> {
        let unreadable = || RenderError::Other("a font can't be read".to_owned());
        let font = Font::new(bytes.into(), 0).ok_or_else(unreadable)?;
        let reference = FontRef::new(bytes).map_err(|_| unreadable())?;
        let data = ShaperData::new(&reference);
        let features = [Feature::new(Tag::new(b"tnum"), 1, ..)];
        let plan = |shaper: &Shaper<'_>, script| {
            ShapePlan::new(shaper, Direction::LeftToRight, Some(script), None, &features)
        };
        let (latin, hangul) = {
            let shaper = data.shaper(&reference).build();
            (plan(&shaper, script::LATIN), plan(&shaper, script::HANGUL))
        };
        let units_per_em = font.units_per_em();
        let (plain, missing) = (Vec::new(), None);
        let mut face = Self { font, reference, data, latin, hangul, units_per_em, plain, missing };
        let glyph = |character: char| face.shape_run(&character.to_string(), 0).into_iter().next();
        let missing = glyph(BOX);
        let plain = PLAIN.chars().filter_map(|character| Some((character, glyph(character)?)));
        (face.plain, face.missing) = (plain.collect(), missing);
        Ok(face)
    }

    /// The glyphs of a text. Control characters are spaces.
    pub(super) fn shape(&self, text: &str) -> Line {
        let text = clean(text);
        let glyphs = self.plain(&text).unwrap_or_else(|| self.shape_runs(&text));
        let width = glyphs.iter().map(|glyph| glyph.x_advance).sum();
        Line { text: text.into_owned(), glyphs, width }
    }

    /// The glyphs of a number, a time or an id, without kerning.
    fn plain(&self, text: &str) -> Option<Vec<KrillaGlyph>> {
        let glyph = |(start, character): (usize, char)| {
            let (_, glyph) = self.plain.iter().find(|(known, _)| *known == character)?;
            let text_range = start..start.saturating_add(character.len_utf8());
            Some(KrillaGlyph { text_range, ..glyph.clone() })
        };
        text.char_indices().map(glyph).collect()
    }

    fn shape_runs(&self, text: &str) -> Vec<KrillaGlyph> {
        runs(text)
            .into_iter()
            .flat_map(|run| {
                let start = run.start;
                self.shape_run(text.get(run).unwrap_or_default(), start)
            })
            .collect()
    }

    /// The glyphs of a run of one script, which begins at `start` in its text.
    fn shape_run(&self, run: &str, start: usize) -> Vec<KrillaGlyph> {
        let korean = run.chars().next().is_some_and(is_hangul);
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(run);
        buffer.set_direction(Direction::LeftToRight);
        buffer.set_script(if korean { script::HANGUL } else { script::LATIN });
        let plan = if korean { &self.hangul } else { &self.latin };
        let shaper = self.data.shaper(&self.reference).build();
        let shaped = shaper.shape(buffer, ShapeOptions::new().plan(Some(plan)));
        let infos = shaped.glyph_infos();
        let clusters: Vec<usize> = infos
            .iter()
            .map(|info| usize::try_from(info.cluster).unwrap_or_default().saturating_add(start))
            .collect();
        let end = start.saturating_add(run.len());
        let glyphs = infos.iter().zip(shaped.glyph_positions()).zip(&clusters);
        glyphs
            .map(|((info, position), cluster)| {
                let next = clusters.iter().find(|next| *next > cluster).unwrap_or(&end);
                let text_range = *cluster..*next;
                match &self.missing {
                    Some(missing) if info.glyph_id == 0 => {
                        KrillaGlyph { text_range, ..missing.clone() }
                    }
                    _ => KrillaGlyph::new(
                        GlyphId::new(info.glyph_id),
                        self.em(position.x_advance),
                        self.em(position.x_offset),
                        self.em(position.y_offset),
                        self.em(position.y_advance),
                        text_range,
                        None,
                    ),
                }
            })
            .collect()
    }

    fn em(&self, units: i32) -> f32 {
        i16::try_from(units).map_or(0.0, f32::from) / self.units_per_em
    }
}

/// The runs of Hangul and of everything else.
fn runs(text: &str) -> Vec<Range<usize>> {
    let mut runs: Vec<(bool, Range<usize>)> = Vec::new();
    for (start, character) in text.char_indices() {
        let (korean, end) = (is_hangul(character), start.saturating_add(character.len_utf8()));
        match runs.last_mut() {
            Some((same, run)) if *same == korean => run.end = end,
            _ => runs.push((korean, start..end)),
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

const fn is_hangul(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}')
}

/// The text without what PDF/A forbids or no reader sees: control characters are
/// spaces, characters of private use are boxes, invisible characters are left out.
fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| cleaned(character) == Some(character)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().filter_map(cleaned).collect())
}

const fn cleaned(character: char) -> Option<char> {
    match character {
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => Some(' '),
        // Soft hyphen, joiners, marks of direction, variation selectors, tags.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{e0000}'..='\u{e0fff}' => None,
        '\u{e000}'..='\u{f8ff}'
        | '\u{fdd0}'..='\u{fdef}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}'..='\u{ffff}'
        | '\u{f0000}'..='\u{10ffff}' => Some(BOX),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(text: &str) -> f32 {
        Fonts::load().unwrap().face(Weight::Regular).shape(text).width
    }

    #[test]
    fn digits_have_the_same_width() {
        let one = width("1");
        for digit in '0'..='9' {
            assert!((width(&digit.to_string()) - one).abs() < f32::EPSILON, "{digit}");
        }
        assert!((width("1,111.11") - width("7,740.08")).abs() < 1e-5);
    }

    #[test]
    fn decomposed_hangul_is_composed() {
        let fonts = Fonts::load().unwrap();
        let face = fonts.face(Weight::Regular);
        let ids = |text: &str| {
            face.shape(text).glyphs.iter().map(|glyph| glyph.glyph_id).collect::<Vec<_>>()
        };
        assert_eq!(ids("\u{1112}\u{1161}\u{11ab}"), ids("\u{d55c}"));
        assert_eq!(ids("e\u{301}"), ids("\u{e9}"));
    }

    #[test]
    fn a_character_without_a_glyph_is_a_box_with_its_own_text() {
        let fonts = Fonts::load().unwrap();
        let face = fonts.face(Weight::Regular);
        let (line, square) = (face.shape("a\u{6f22}b"), face.shape("\u{25a1}"));
        assert_eq!(line.glyphs[1].glyph_id, square.glyphs[0].glyph_id);
        assert_eq!(&line.text[line.glyphs[1].text_range.clone()], "\u{6f22}");
        assert!(line.glyphs.iter().all(|glyph| glyph.glyph_id != GlyphId::new(0)));
    }

    #[test]
    fn controls_and_invisible_characters_are_not_drawn() {
        assert_eq!(clean("a\u{202e}b\nc\u{e000}\u{feff}\0"), "ab c\u{25a1} ");
        assert!(matches!(clean("Jos\u{e9} \u{d55c}\u{ad6d}"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_glyphs_cover_the_text() {
        let line = Fonts::load().unwrap().face(Weight::Bold).shape("AV \u{d55c}\u{ad6d} e\u{301}x");
        let mut end = 0;
        for glyph in &line.glyphs {
            assert_eq!(glyph.text_range.start, end);
            end = glyph.text_range.end;
        }
        assert_eq!(end, line.text.len());
    }
}
