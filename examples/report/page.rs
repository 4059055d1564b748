//! A dashboard as a page that needs nothing but itself: no script, no font, no address.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::civil::Date;
use postgres::Client;
use rust_decimal::Decimal;

use super::common::grouped;
use super::dashboard::{Context, Dashboard, Kind, Panel, Table};
use super::plot::{self, Chart, Series, Style};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MINUS: &str = "\u{2212}";

/// Draws every panel of the dashboard, a chart beside its table as they lie side by side in Grafana.
pub fn draw(client: &mut Client, dashboard: &Dashboard, context: &Context) -> Result<String> {
    let mut rows: BTreeMap<i64, Vec<&Panel>> = BTreeMap::new();
    for panel in &dashboard.panels {
        rows.entry(panel.at.1).or_default().push(panel);
    }
    let mut body = String::new();
    for row in rows.values() {
        let mut shown = String::new();
        for panel in row {
            let Some(sql) = &panel.sql else {
                writeln!(body, "<h2>{}</h2>", escaped(&panel.title))?;
                continue;
            };
            let table = context.ask(client, sql)?;
            shown += &panel_html(panel, &table, context)?;
        }
        if !shown.is_empty() {
            writeln!(body, "<div class=\"row\">\n{shown}</div>")?;
        }
    }
    let day = |moment: &str| moment.split('T').next().unwrap_or_default().to_owned();
    let asset = context.values.get("asset").map_or("", String::as_str);
    let currency = currency(context);
    Ok(format!(
        "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{description}</p>
<p class=\"facts\"><b>{asset}</b>, money in {currency}. {from} to {to}, UTC.</p>
</header>
<main>
{body}</main>
</body>
</html>
",
        title = escaped(&dashboard.title),
        css = include_str!("page.css"),
        description = escaped(&dashboard.description),
        asset = escaped(asset),
        currency = escaped(currency),
        from = day(&context.from),
        to = day(&context.to),
    ))
}

fn panel_html(panel: &Panel, table: &Table, context: &Context) -> Result<String> {
    let title = escaped(&context.variables(&panel.title)?);
    let shown = Shown {
        panel,
        table,
        currency: currency(context),
    };
    let inside = match panel.kind.as_str() {
        _ if table.rows.is_empty() => "<p class=\"none\">Nothing to show.</p>\n".to_owned(),
        "stat" => shown.stats()?,
        "table" => shown.rows()?,
        "barchart" => shown.bars(&context.variables(panel.axis_label())?)?,
        "timeseries" => shown.over_time(&context.variables(panel.axis_label())?)?,
        other => return Err(format!("{title}: no way to draw a {other}").into()),
    };
    Ok(format!(
        "<section id=\"panel-{}\" class=\"{} w{}\">\n<h3>{title}</h3>\n<p>{}</p>\n{inside}</section>\n",
        panel.id,
        panel.kind,
        panel.at.2,
        escaped(&panel.description),
    ))
}

struct Shown<'a> {
    panel: &'a Panel,
    table: &'a Table,
    currency: &'a str,
}

impl Shown<'_> {
    fn stats(&self) -> Result<String> {
        let mut html = String::from("<dl>\n");
        for (at, (name, _)) in self.table.columns.iter().enumerate() {
            let value = self.table.rows[0][at].as_deref();
            let value = value.map_or("-".into(), |value| self.printed(name, value, 0));
            writeln!(html, "<div><dt>{}</dt><dd>{value}</dd></div>", words(name))?;
        }
        Ok(html + "</dl>\n")
    }

    fn rows(&self) -> Result<String> {
        let mut html = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        let class = |kind: Kind| match kind {
            Kind::Number => "n",
            Kind::Time => "t",
            Kind::Text => "s",
        };
        for (name, kind) in &self.table.columns {
            write!(html, "<th class=\"{}\">{}</th>", class(*kind), words(name))?;
        }
        let columns = 0..self.table.columns.len();
        let places: Vec<usize> = columns.map(|at| self.places(at)).collect();
        html += "</tr></thead>\n<tbody>\n";
        for row in &self.table.rows {
            html += "<tr>";
            for (at, value) in row.iter().enumerate() {
                let (name, kind) = &self.table.columns[at];
                let text = match (value, kind) {
                    (None, _) => "-".to_owned(),
                    (Some(value), Kind::Number) => self.printed(name, value, places[at]),
                    (Some(value), Kind::Time) => moment(value),
                    (Some(value), Kind::Text) => escaped(value),
                };
                let minus = if *kind == Kind::Number && text.starts_with(MINUS) {
                    " minus"
                } else {
                    ""
                };
                write!(html, "<td class=\"{}{minus}\">{text}</td>", class(*kind))?;
            }
            html += "</tr>\n";
        }
        Ok(html + "</tbody>\n</table></div>\n")
    }

    /// As many decimals as the finest number of a column has.
    fn places(&self, column: usize) -> usize {
        let cells = self
            .table
            .rows
            .iter()
            .filter_map(|row| row[column].as_deref());
        let numbers = cells.filter_map(|cell| Decimal::from_str_exact(cell).ok());
        let scales = numbers.map(|number| number.normalize().scale() as usize);
        scales.max().unwrap_or_default()
    }

    /// The first column names, the others are measured.
    fn bars(&self, axis: &str) -> Result<String> {
        let label = |row: &Vec<Option<String>>| row[0].clone().unwrap_or_default();
        let series = self.table.columns.iter().enumerate().skip(1);
        let series = series.map(|(at, (name, _))| Series {
            name: name.clone(),
            values: self.table.rows.iter().map(|row| number(&row[at])).collect(),
        });
        let style = if self.panel.is_stacked() {
            Style::Columns
        } else {
            Style::Bars
        };
        let labels = self.table.rows.iter().map(label).collect();
        self.figure(style, labels, series.collect(), axis)
    }

    /// The first column is the day. Then a column for each series; or one that names the series and one that is measured.
    fn over_time(&self, axis: &str) -> Result<String> {
        let day = |row: &Vec<Option<String>>| -> Result<Date> {
            let text = row[0].as_deref().unwrap_or_default();
            Ok(text.get(..10).unwrap_or(text).parse()?)
        };
        let days: Vec<Date> = self.table.rows.iter().map(day).collect::<Result<_>>()?;
        let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) else {
            return Err("no days".into());
        };
        let all: Vec<Date> = first
            .series(jiff::Span::new().days(1))
            .take_while(|day| day <= last)
            .collect();
        let mut values: Vec<Series> = Vec::new();
        let named = self.table.columns[1].1 == Kind::Text;
        for (day, row) in days.iter().zip(&self.table.rows) {
            let at = all.iter().position(|one| one == day).unwrap_or_default();
            let cells = if named {
                vec![(row[1].clone().unwrap_or_default(), &row[2])]
            } else {
                let columns = self.table.columns.iter().zip(row).skip(1);
                columns
                    .map(|((name, _), cell)| (name.clone(), cell))
                    .collect()
            };
            for (name, cell) in cells {
                let known = values.iter().position(|series| series.name == name);
                let nth = known.unwrap_or_else(|| {
                    values.push(Series {
                        name,
                        values: vec![None; all.len()],
                    });
                    values.len() - 1
                });
                values[nth].values[at] = number(cell);
            }
        }
        let style = if self.panel.is_stacked() {
            Style::Columns
        } else {
            Style::Lines
        };
        let labels = all.iter().map(|day| day.strftime("%-d %b").to_string());
        self.figure(style, labels.collect(), values, axis)
    }

    fn figure(
        &self,
        style: Style,
        labels: Vec<String>,
        series: Vec<Series>,
        axis: &str,
    ) -> Result<String> {
        let mut legend = String::new();
        if series.len() > 1 {
            for (nth, one) in series.iter().enumerate() {
                let (color, name) = (plot::color(nth), words(&one.name));
                write!(
                    legend,
                    "<span><svg viewBox=\"0 0 10 10\"><rect width=\"10\" height=\"10\" rx=\"2\" fill=\"{color}\"/></svg>{name}</span>"
                )?;
            }
            legend = format!("<figcaption>{legend}</figcaption>\n");
        }
        let measured = self.table.columns.last().map_or("", |column| &column.0);
        let chart = Chart {
            style,
            labels,
            series,
            axis,
            print: &|value| {
                let value = Decimal::from_f64_retain(value).unwrap_or_default();
                self.printed(measured, &value.round_dp(8).to_string(), 0)
            },
        };
        Ok(format!("<figure>\n{legend}{}</figure>\n", chart.svg()?))
    }

    /// A number as people read it: money with its cents, a ratio in percent, others with this many decimals at least.
    fn printed(&self, column: &str, value: &str, places: usize) -> String {
        let Ok(value) = Decimal::from_str_exact(value) else {
            return escaped(value);
        };
        let unit = self.panel.unit(column);
        let text = |value: Decimal, places: usize| {
            let text = format!("{:.places$}", value.abs());
            let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
            grouped(whole) + rest
        };
        let sign = if value.is_sign_negative() && !value.is_zero() {
            MINUS
        } else {
            ""
        };
        let shown = if unit == "percentunit" {
            text((value * Decimal::ONE_HUNDRED).round_dp(1), 1) + "\u{202f}%"
        } else if ["revenue", "cost", "margin"].contains(&column) {
            // Below a cent, cents are not enough.
            let places = if value.abs() < Decimal::new(1, 2) && !value.is_zero() {
                4
            } else {
                2
            };
            let amount = text(value.round_dp(places), places as usize);
            match self.currency {
                "USD" => format!("${amount}"),
                "EUR" => format!("€{amount}"),
                "GBP" => format!("£{amount}"),
                _ => amount,
            }
        } else {
            let value = value.normalize();
            text(value, places.max(value.scale() as usize))
        };
        format!("{sign}{shown}")
    }
}

fn currency(context: &Context) -> &str {
    context.values.get("currency").map_or("", String::as_str)
}

fn number(cell: &Option<String>) -> Option<f64> {
    cell.as_deref()?.parse().ok()
}

/// A column's name as words.
fn words(name: &str) -> String {
    escaped(&name.replace('_', " "))
}

/// 2026-02-01 09:00:00+00 as 2026-02-01 09:00.
fn moment(value: &str) -> String {
    let value = value.get(..16).unwrap_or(value);
    escaped(value.trim_end_matches(" 00:00"))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}
