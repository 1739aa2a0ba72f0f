//! Plots as SVG.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, WHITE,
};

use crate::section::Plot;

/// Width and height in pixels.
const SIZE: (u32, u32) = (760, 420);
/// Distinguishable with every kind of colour vision (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
const FONT: &str = "sans-serif";

/// Writes the plot as SVG. The x axis is logarithmic, the y axis starts at zero.
pub(crate) fn draw(plot: &Plot, path: &Path) -> Result<()> {
    let points = || plot.lines.iter().flat_map(|(_, points)| points);
    let first = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let last = points().map(|(x, _)| *x).fold(first, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&plot.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (first * 0.9..last * 1.1).log_scale(),
                0.0..top.max(f64::MIN_POSITIVE),
            )?;
        chart.configure_mesh().x_desc(&plot.x).y_desc(&plot.y).light_line_style(WHITE).draw()?;
        for ((name, points), colour) in plot.lines.iter().zip(COLOURS.into_iter().cycle()) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
            chart
                .draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(RGBColor(190, 190, 190))
            .draw()?;
        area.present()?;
    }
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_texts_and_its_points() {
        let plot = Plot {
            file: "a".into(),
            title: "Settled a second".into(),
            x: "clients".into(),
            y: "a second".into(),
            lines: vec![("Passbook".into(), vec![(1.0, 100.0), (256.0, 9000.0)])],
        };
        let path = std::env::temp_dir().join(format!("passbook-plot-{}.svg", std::process::id()));
        draw(&plot, &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for word in ["<svg", "Settled a second", "clients", "Passbook", "<polyline", "<circle"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
