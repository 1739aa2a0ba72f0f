//! The marks on a page: text, lines, areas.

use krilla::{
    color::rgb,
    geom::{PathBuilder, Point, Rect},
    paint::{Fill, LineCap, Stroke},
    surface::Surface,
};

use super::{
    font::{Fonts, Line, Weight},
    style::Color,
};

/// A mark on a page.
pub(super) enum Draw {
    /// A line of text; `y` is its baseline.
    Text { x: f32, y: f32, line: Line, size: f32, weight: Weight, color: Color },
    /// A line through the points.
    Stroke { points: Vec<(f32, f32)>, width: f32, color: Color },
    /// A rectangle.
    Area { x: f32, y: f32, width: f32, height: f32, color: Color },
}

impl Draw {
    /// A horizontal line.
    pub(super) fn rule(left: f32, right: f32, y: f32, width: f32, color: Color) -> Self {
        Self::Stroke { points: vec![(left, y), (right, y)], width, color }
    }

    pub(super) fn onto(self, surface: &mut Surface<'_>, fonts: &Fonts) {
        match self {
            Self::Text { x, y, line, size, weight, color } => {
                fill(surface, color);
                let font = fonts.face(weight).font.clone();
                let start = Point::from_xy(x, y);
                surface.draw_glyphs(start, &line.glyphs, font, &line.text, size, false);
            }
            Self::Stroke { points, width, color } => {
                let mut path = PathBuilder::new();
                for (index, (x, y)) in points.into_iter().enumerate() {
                    if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
                }
                surface.set_fill(None);
                surface.set_stroke(Some(Stroke {
                    paint: rgb::Color::from(color).into(),
                    width,
                    line_cap: LineCap::Butt,
                    ..Stroke::default()
                }));
                if let Some(path) = path.finish() {
                    surface.draw_path(&path);
                }
                surface.set_stroke(None);
            }
            Self::Area { x, y, width, height, color } => {
                let mut path = PathBuilder::new();
                if let Some(rectangle) = Rect::from_xywh(x, y, width, height) {
                    path.push_rect(rectangle);
                }
                fill(surface, color);
                if let Some(path) = path.finish() {
                    surface.draw_path(&path);
                }
            }
        }
    }
}

fn fill(surface: &mut Surface<'_>, color: Color) {
    surface.set_fill(Some(Fill { paint: rgb::Color::from(color).into(), ..Fill::default() }));
}
