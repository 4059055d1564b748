//! Pictures as SVG: `Plot` draws lines over numbers, `Chart` bars, columns and lines over labels. Every figure is in a
//! table beside its picture.
#![allow(dead_code)] // each example draws one of them

use std::fmt::Display;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::common::{Result, grouped};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The page's style sheet names these colours too, and has others for them in the dark.
const INK: RGBColor = RGBColor(0x1f, 0x29, 0x33);
const QUIET: RGBColor = RGBColor(0x5f, 0x6b, 0x7a);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xec);
const SERIES: [RGBColor; 8] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0xd6, 0x7d, 0x2c),
    RGBColor(0x2f, 0x8f, 0x6b),
    RGBColor(0x80, 0x5a, 0xb8),
    RGBColor(0x2a, 0x9d, 0xb0),
    RGBColor(0xc0, 0x50, 0x7c),
    RGBColor(0xb0, 0x93, 0x1e),
    RGBColor(0x7a, 0x86, 0x94),
];

const FONT: &str = "sans-serif";
/// Plotters prints it a fifth smaller.
const SIZE: i32 = 16;

/// Lines over numbers.
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
            .x_label_formatter(&|x| plain(*x))
            .y_label_formatter(&|y| plain(*y))
            .x_desc($plot.x)
            .y_desc($plot.y)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(QUIET)
            .draw()?;
        for (nth, (name, points)) in $plot.lines.iter().enumerate() {
            let color = SERIES[nth % SERIES.len()];
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
        let size = (760, 260 * plots.len() as u32);
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A group of bars for each label, from top to bottom.
    Bars,
    /// A column for each label, its series one on the other.
    Columns,
    Lines,
}

/// Bars, columns or lines over labels.
pub struct Chart<'a> {
    pub style: Style,
    pub labels: Vec<String>,
    pub series: Vec<Series>,
    pub axis: &'a str,
    /// How a number is printed.
    pub print: &'a dyn Fn(f64) -> String,
}

pub struct Series {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

/// The colour of the nth series.
pub fn color(nth: usize) -> impl Display {
    let RGBColor(red, green, blue) = SERIES[nth % SERIES.len()];
    format!("#{red:02X}{green:02X}{blue:02X}")
}

impl Chart<'_> {
    pub fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, (660, self.height())).into_drawing_area();
        match self.style {
            Style::Bars => self.bars(&root)?,
            Style::Columns | Style::Lines => self.over_time(&root)?,
        }
        root.present()?;
        drop(root);
        // Within HTML the name space is understood, and a page without addresses is seen to load nothing.
        Ok(svg.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""))
    }

    fn height(&self) -> u32 {
        match self.style {
            Style::Bars => (self.labels.len() as f64 * self.lane()) as u32 + 56,
            Style::Columns | Style::Lines => 300,
        }
    }

    /// The height of a label's bars and the room between them and the next.
    fn lane(&self) -> f64 {
        self.series.len() as f64 * 18.0 + 14.0
    }

    fn bars(&self, root: &Area) -> Result<()> {
        let labels: Vec<String> = self.labels.iter().map(|label| shortened(label)).collect();
        let longest = labels.iter().map(|label| label.chars().count()).max();
        let label_width = (longest.unwrap_or_default() as i32 * 7 + 20).clamp(80, 230);
        let (low, high) = self.range();
        // Beyond its end a bar has its number.
        let room = (high - low) * 0.16;
        let low = if low < 0.0 { low - room } else { low };
        let mut plane = ChartBuilder::on(root)
            .margin_right(10)
            .x_label_area_size(46)
            .y_label_area_size(label_width)
            .build_cartesian_2d(low..high + room, self.labels.len() as f64..0.0)?;
        plane
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(6)
            .x_desc(self.axis)
            .x_label_formatter(&|value| plain(*value))
            .label_style(style(QUIET))
            .axis_desc_style(style(QUIET))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(0)
            .draw()?;
        for (at, label) in labels.into_iter().enumerate() {
            let (_, y) = plane.backend_coord(&(0.0, at as f64 + 0.5));
            let anchor = style(INK).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(label, (label_width - 10, y), anchor))?;
        }
        let (gap, thick) = (7.0 / self.lane(), 18.0 / self.lane());
        for (nth, series) in self.series.iter().enumerate() {
            let fill = SERIES[nth % SERIES.len()].filled();
            for (at, value) in series.values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let top = at as f64 + gap + nth as f64 * thick;
                let corners = [(0.0, top + thick * 0.06), (value, top + thick * 0.94)];
                plane.draw_series([Rectangle::new(corners, fill)])?;
                let (x, y) = plane.backend_coord(&(value, top + thick / 2.0));
                let (beside, side) = if value < 0.0 {
                    (x - 5, HPos::Right)
                } else {
                    (x + 5, HPos::Left)
                };
                let small = (FONT, SIZE - 2).into_font().color(&QUIET);
                let anchor = small.pos(Pos::new(side, VPos::Center));
                root.draw(&Text::new((self.print)(value), (beside, y), anchor))?;
            }
        }
        self.zero(&mut plane, [(0.0, 0.0), (0.0, self.labels.len() as f64)])
    }

    fn over_time(&self, root: &Area) -> Result<()> {
        let (low, high) = self.range();
        let room = (high - low) * 0.06;
        let low = if low < 0.0 { low - room } else { low };
        let count = self.labels.len() as f64;
        let mut plane = ChartBuilder::on(root)
            .margin_top(10)
            .margin_right(14)
            .x_label_area_size(30)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..count, low..high + room)?;
        plane
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(6)
            .y_desc(self.axis)
            .y_label_formatter(&|value| plain(*value))
            .label_style(style(QUIET))
            .axis_desc_style(style(QUIET))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(0)
            .draw()?;
        let every = self.labels.len().div_ceil(8).max(1);
        for (at, label) in self.labels.iter().enumerate().step_by(every) {
            let (x, y) = plane.backend_coord(&(at as f64 + 0.5, low));
            let anchor = style(QUIET).pos(Pos::new(HPos::Center, VPos::Top));
            root.draw(&Text::new(label.clone(), (x, y + 9), anchor))?;
        }
        match self.style {
            Style::Lines => self.lines(&mut plane)?,
            _ => self.columns(&mut plane)?,
        }
        self.zero(&mut plane, [(0.0, 0.0), (count, 0.0)])
    }

    fn columns(&self, plane: &mut Plane) -> Result<()> {
        for at in 0..self.labels.len() {
            let (mut above, mut below) = (0.0, 0.0);
            for (nth, series) in self.series.iter().enumerate() {
                let Some(value) = series.values[at] else {
                    continue;
                };
                let end = if value < 0.0 { &mut below } else { &mut above };
                let left = at as f64 + 0.16;
                let corners = [(left, *end), (left + 0.68, *end + value)];
                let fill = SERIES[nth % SERIES.len()].filled();
                plane.draw_series([Rectangle::new(corners, fill)])?;
                *end += value;
            }
        }
        Ok(())
    }

    fn lines(&self, plane: &mut Plane) -> Result<()> {
        for (nth, series) in self.series.iter().enumerate() {
            let color = SERIES[nth % SERIES.len()];
            let known = series.values.iter().enumerate();
            let points: Vec<(f64, f64)> = known
                .filter_map(|(at, value)| Some((at as f64 + 0.5, (*value)?)))
                .collect();
            plane.draw_series(points.iter().map(|at| Circle::new(*at, 3, color.filled())))?;
            plane.draw_series([PathElement::new(points, color.stroke_width(2))])?;
        }
        Ok(())
    }

    fn zero(&self, plane: &mut Plane, line: [(f64, f64); 2]) -> Result<()> {
        plane.draw_series([PathElement::new(line.to_vec(), QUIET.stroke_width(1))])?;
        Ok(())
    }

    /// From the lowest to the highest that is drawn, nought included.
    fn range(&self) -> (f64, f64) {
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for at in 0..self.labels.len() {
            let values = self.series.iter().filter_map(|series| series.values[at]);
            if self.style == Style::Columns {
                high = high.max(values.clone().filter(|value| *value > 0.0).sum());
                low = low.min(values.filter(|value| *value < 0.0).sum());
            } else {
                for value in values {
                    (low, high) = (low.min(value), high.max(value));
                }
            }
        }
        if low == high { (0.0, 1.0) } else { (low, high) }
    }
}

fn style(color: RGBColor) -> TextStyle<'static> {
    (FONT, SIZE).into_font().color(&color)
}

/// A number at an axis.
fn plain(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches('-');
    let sign = if negative && text != "-0" {
        "\u{2212}"
    } else {
        ""
    };
    format!("{sign}{}{rest}", grouped(digits))
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= 29 {
        return label.to_owned();
    }
    label.chars().take(28).chain(['…']).collect()
}
