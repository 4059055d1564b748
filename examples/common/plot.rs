//! Lines over numbers, as SVG. Every figure stands in a table beside it, too.

use std::ops::Range;

use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;

use super::common::{Result, thousands};

const QUIET: RGBColor = RGBColor(0x5f, 0x6b, 0x7a);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xec);
const COLORS: [RGBColor; 6] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0xd6, 0x7d, 0x2c),
    RGBColor(0x2f, 0x8f, 0x6b),
    RGBColor(0x80, 0x5a, 0xb8),
    RGBColor(0xc0, 0x50, 0x7c),
    RGBColor(0x7a, 0x86, 0x94),
];
const WIDTH: u32 = 760;
const HEIGHT: u32 = 260;

pub struct Plot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// Powers of ten along x, along y.
    pub log: (bool, bool),
    /// A part of the x axis that is set off, and why.
    pub shade: Option<(Range<f64>, &'a str)>,
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// The types of the scales differ; what is drawn does not.
macro_rules! draw {
    ($chart:ident, $plot:ident, $x:expr, $y:expr) => {{
        let (least, most) = ($plot.ranges().1.start, $plot.ranges().1.end);
        let mut chart = $chart.build_cartesian_2d($x, $y)?;
        if let Some((part, why)) = &$plot.shade {
            let shade = Rectangle::new(
                [(part.start, least), (part.end, most)],
                GRID.mix(0.6).filled(),
            );
            chart
                .draw_series([shade])?
                .label(*why)
                .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], GRID.filled()));
        }
        chart
            .configure_mesh()
            .x_label_formatter(&|x| number(*x))
            .y_label_formatter(&|y| number(*y))
            .x_desc($plot.x)
            .y_desc($plot.y)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(QUIET)
            .draw()?;
        for (nth, (name, points)) in $plot.lines.iter().enumerate() {
            let color = COLORS[nth % COLORS.len()];
            chart
                .draw_series([PathElement::new(points.clone(), color.stroke_width(2))])?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .draw()?;
    }};
}

/// The plots one below the other.
pub fn svg(plots: &[Plot]) -> Result<String> {
    let mut svg = String::new();
    {
        let size = (WIDTH, HEIGHT * plots.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (plot, area) in plots.iter().zip(root.split_evenly((plots.len(), 1))) {
            let (x, y) = plot.ranges();
            let mut chart = ChartBuilder::on(&area);
            chart
                .caption(plot.title, ("sans-serif", 15))
                .margin(8)
                .margin_right(28)
                .x_label_area_size(32)
                .y_label_area_size(62);
            match plot.log {
                (false, false) => draw!(chart, plot, x.clone(), y.clone()),
                (true, false) => draw!(chart, plot, x.clone().log_scale(), y.clone()),
                (false, true) => draw!(chart, plot, x.clone(), y.clone().log_scale()),
                (true, true) => draw!(chart, plot, x.clone().log_scale(), y.clone().log_scale()),
            }
        }
        root.present()?;
    }
    Ok(svg)
}

impl Plot<'_> {
    fn ranges(&self) -> (Range<f64>, Range<f64>) {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let least = |log: bool, least: f64| if log { least * 0.9 } else { 0.0 };
        let (x, y) = (
            points().map(|point| point.0).fold(f64::INFINITY, f64::min),
            points().map(|point| point.1).fold(f64::INFINITY, f64::min),
        );
        let most_x = points().map(|point| point.0).fold(0.0, f64::max);
        let most_y = points().map(|point| point.1).fold(0.0, f64::max);
        (
            least(self.log.0, x)..most_x.max(f64::MIN_POSITIVE),
            least(self.log.1, y)
                ..(most_y * if self.log.1 { 4.0 } else { 1.3 }).max(f64::MIN_POSITIVE),
        )
    }
}

/// Without decimals where it needs none.
fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        thousands(value as i64)
    } else {
        format!("{value:.3}").trim_end_matches('0').to_owned()
    }
}
