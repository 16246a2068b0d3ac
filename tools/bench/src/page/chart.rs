//! Lines over time or over percentiles, as SVG.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// Of the view box: charts scale with the page, so letters are large enough for a phone.
const SIZE: (u32, u32) = (640, 360);
const LETTERS: (&str, u32) = ("sans-serif", 20);
const GRID: RGBColor = RGBColor(226, 230, 236);
const INK: RGBColor = RGBColor(40, 46, 56);

/// Colours of groups: told apart by the colour-blind too, dark enough on white.
pub const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 90, 181),
    RGBColor(200, 60, 20),
    RGBColor(20, 120, 90),
    RGBColor(130, 60, 150),
];

/// A line: whole, or dashed for the second figure of a group.
pub struct Line {
    pub colour: RGBColor,
    pub dashed: bool,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart {
    pub across: &'static str,
    pub up: &'static str,
    /// Whether both axes are of percentiles and of powers of ten.
    pub percentiles: bool,
    pub lines: Vec<Line>,
}

/// Where a percentile stands: each nine is one step.
pub fn nines(percentile: f64) -> f64 {
    -(1.0 - (percentile / 100.0).min(0.999_999)).log10()
}

fn percentile_label(nines: f64) -> String {
    match nines {
        n if n < 0.1 => "0".into(),
        n if n < 1.5 => "90".into(),
        n if n < 2.5 => "99".into(),
        n => format!("99.{}", "9".repeat((n + 0.5) as usize - 2)),
    }
}

/// 1 200 000 as 1.2M: short enough beside an axis.
pub fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", trim(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trim(v / 1e3)),
        v => trim(v),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

impl Chart {
    /// An empty string where there is nothing to draw.
    pub fn svg(&self) -> Result<String, String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().count() == 0 {
            return Ok(String::new());
        }
        let across = points().map(|point| point.0).fold(0.0, f64::max);
        let highest = points().map(|point| point.1).fold(0.0, f64::max).max(1e-3);
        let lowest = points()
            .map(|point| point.1)
            .filter(|y| *y > 0.0)
            .fold(highest, f64::min);
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = if self.percentiles {
            let (floor, ceiling) = (
                10f64.powf(lowest.log10().floor()),
                10f64.powf(highest.log10().ceil()),
            );
            let up = (floor..ceiling.max(floor * 10.0)).log_scale();
            self.draw(
                &area,
                (0.0..across.max(1.0)).step(1.0),
                up,
                percentile_label,
            )
        } else {
            let across = (0.0..across.max(1.0)).step((across / 8.0).ceil().max(1.0));
            self.draw(&area, across, 0.0..highest * 1.08, |second| {
                format!("{second:.0}")
            })
        };
        drawn.map_err(|error| format!("cannot draw {}: {error}", self.up))?;
        drop(area);
        // It scales with the page, and is told to those who do not see it.
        let fixed = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
        let label = format!("role=\"img\" aria-label=\"{} by {}\"", self.up, self.across);
        Ok(svg.replacen(&fixed, &label, 1))
    }

    fn draw<'a, X, Y>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
        x: X,
        y: Y,
        x_label: fn(f64) -> String,
    ) -> Result<(), Box<dyn std::error::Error + 'a>>
    where
        X: AsRangedCoord<Value = f64>,
        Y: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let letters = || TextStyle::from(LETTERS.into_font()).color(&INK);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(24)
            .x_label_area_size(54)
            .y_label_area_size(80)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(letters())
            .axis_desc_style(letters())
            .x_desc(self.across)
            .y_desc(self.up)
            .x_labels(9)
            .y_labels(6)
            .x_label_formatter(&|value| x_label(*value))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for line in &self.lines {
            let style = line.colour.stroke_width(2);
            let points = line.points.iter().copied();
            if line.dashed {
                chart.draw_series(DashedLineSeries::new(points, 7, 5, style))?;
            } else {
                chart.draw_series(LineSeries::new(points, style))?;
            }
        }
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_and_percentiles_count_nines() {
        assert_eq!(
            [950.0, 1200.0, 50_000.0, 2_500_000.0].map(short),
            ["950", "1.2k", "50k", "2.5M"]
        );
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0, 4.0].map(percentile_label),
            ["0", "90", "99", "99.9", "99.99"]
        );
        assert!((nines(99.9) - 3.0).abs() < 1e-9 && nines(100.0) <= 6.1);
    }

    #[test]
    fn a_chart_scales_and_an_empty_one_is_none() {
        let line = |points| Line {
            colour: COLOURS[0],
            dashed: true,
            points,
        };
        let chart = |points, percentiles| Chart {
            across: "s",
            up: "us",
            percentiles,
            lines: vec![line(points)],
        };
        assert_eq!(chart(Vec::new(), false).svg(), Ok(String::new()));
        for percentiles in [false, true] {
            let svg = chart(vec![(0.0, 10.0), (3.0, 700.0)], percentiles)
                .svg()
                .unwrap();
            assert!(
                svg.contains("viewBox")
                    && svg.contains("aria-label")
                    && !svg.contains("width=\"640\" height=\"360\" viewBox")
            );
        }
    }
}
