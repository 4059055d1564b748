//! What the database says, beside what the program knows by itself.

use std::collections::BTreeMap;

use postgres::{Client, Row};
use rust_decimal::Decimal;

use crate::book::{Book, By, Key, Sums};
use crate::common::{Result, said, thousands};
use crate::shop::Tally;

/// The digits to which a ratio is the same: the database divides to 16, this program to 28.
const RATIO_DIGITS: u32 = 15;

/// Prints the tables of margin, and checks everything. Is all as it should be?
pub fn check(client: &mut Client, tally: &Tally, paid_at_start: Decimal) -> Result<bool> {
    let book = &tally.book;
    let by_model = Report::ask(client, book, "by model", &[By::Vendor, By::Model])?;
    let by_action = Report::ask(client, book, "by action", &[By::Action])?;
    by_model.print();
    by_action.print();

    println!("\nChecked");
    let mut sound = true;
    let all = [By::Customer, By::Action, By::Vendor, By::Model];
    for report in [
        by_model,
        by_action,
        Report::ask(client, book, "by customer, action, model", &all)?,
        Report::ask(client, book, "in total", &[])?,
    ] {
        sound &= report.check();
    }
    let rolled_up = maintain_all(client)?;
    let what = format!(
        "the same, with the last {} rows rolled up",
        thousands(rolled_up)
    );
    let mut same = true;
    for (name, by) in [
        ("by model", &all[2..]),
        ("by action", &all[1..2]),
        ("by customer, action, model", &all[..]),
        ("in total", &all[..0]),
    ] {
        let report = Report::ask(client, book, name, by)?;
        same &= report.differences().is_empty() || report.check();
    }
    verdict(&what, if same { "equal" } else { "DIFFERENT" });
    sound &= same;

    let uncosted = number(client, "SELECT count(*)::text FROM credyt.uncosted_usage")?;
    sound &= equal(
        "usage without a cost",
        Decimal::from(book.uncosted()),
        uncosted,
    );
    let settled = number(
        client,
        "SELECT sum(revenue)::text FROM credyt.ledger WHERE kind = 'settlement'",
    )?;
    sound &= equal(
        "debt that top-ups paid, debt by debt",
        book.settled(),
        settled,
    );
    sound &= equal(
        "debt that top-ups paid, as they said",
        tally.settled,
        settled,
    );
    let earned = number(
        client,
        "SELECT sum(revenue)::text FROM credyt.margin_by_action",
    )?;
    let deferred = number(
        client,
        "SELECT sum(revenue)::text FROM credyt.deferred_revenue",
    )?;
    let breakage = number(client, "SELECT sum(revenue)::text FROM credyt.breakage")?;
    sound &= equal(
        "money paid, and earned + deferred + breakage",
        paid_at_start + tally.paid,
        earned + deferred + breakage,
    );
    let replies = number(
        client,
        "SELECT count(*)::text FROM app.replies JOIN credyt.ledger l ON (l.customer, l.id) = (replies.customer, debit)",
    )?;
    sound &= equal(
        "rows of the application, and their debits",
        Decimal::from(tally.counted("rows of the application")),
        replies,
    );
    let open = "SELECT count(*)::text FROM credyt.open_authorizations";
    sound &= equal(
        "authorizations still open",
        Decimal::ZERO,
        number(client, open)?,
    );
    Ok(sound & verify(client)?)
}

/// Calls `credyt.maintain()` until nothing is left for it.
fn maintain_all(client: &mut Client) -> Result<i64> {
    let sql = "SELECT rolled_up FROM credyt.maintain()";
    let mut all = 0;
    loop {
        let rows: i64 = client.query_one(sql, &[]).map_err(said(sql))?.try_get(0)?;
        all += rows;
        if rows == 0 {
            return Ok(all);
        }
    }
}

fn verify(client: &mut Client) -> Result<bool> {
    let began = std::time::Instant::now();
    let broken = client
        .query(
            "SELECT invariant::text, customer, asset, detail::text FROM credyt.verify()",
            &[],
        )
        .map_err(said("credyt.verify()"))?;
    let took = began.elapsed().as_secs_f64();
    verdict(
        &format!("SELECT * FROM credyt.verify(), {took:.1} s"),
        &match broken.len() {
            0 => "no rows".into(),
            rows => format!("{rows} ROWS"),
        },
    );
    for row in broken.iter().take(20) {
        let column = |at: usize| row.get::<_, Option<&str>>(at).unwrap_or_default();
        println!(
            "    invariant {}: {} {} {}",
            column(0),
            column(1),
            column(2),
            column(3)
        );
    }
    Ok(broken.is_empty())
}

/// A report of the database, and the same from the program's own book.
struct Report {
    name: &'static str,
    said: BTreeMap<Key, Cells>,
    own: BTreeMap<Key, Cells>,
}

/// The cells of a row, by name: what is counted, summed or divided.
type Cells = [(&'static str, Option<Decimal>); 8];

impl Report {
    fn ask(client: &mut Client, book: &Book, name: &'static str, by: &[By]) -> Result<Report> {
        let columns: Vec<&str> = by.iter().map(By::column).collect();
        let sql = format!(
            "SELECT ARRAY[{}]::text[], debits::text, quantity::text, credits::text, revenue::text, cost::text, margin::text,
                    margin_ratio::text, cost_coverage::text
             FROM credyt.margin($1)",
            columns.join(", ")
        );
        let rows = client.query(&sql, &[&columns]).map_err(said(&sql))?;
        let said = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, said_cells(row)?)));
        Ok(Report {
            name,
            said: said.collect::<Result<_>>()?,
            own: book
                .sums(by)
                .into_iter()
                .map(|(key, sums)| (key, own_cells(&sums)))
                .collect(),
        })
    }

    /// What is not the same, row by row and cell by cell.
    fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for (key, own) in &self.own {
            let Some(said) = self.said.get(key) else {
                differences.push(format!("{}: a row here, none there", label(key)));
                continue;
            };
            for ((what, own), (_, said)) in own.iter().zip(said) {
                if !same(what, *own, *said) {
                    let text =
                        |cell: &Option<Decimal>| cell.map_or("NULL".into(), |n| n.to_string());
                    let (own, said) = (text(own), text(said));
                    differences.push(format!("{}, {what}: {own} here, {said} there", label(key)));
                }
            }
        }
        let unknown = self.said.keys().filter(|key| !self.own.contains_key(*key));
        differences.extend(unknown.map(|key| format!("{}: no row here, one there", label(key))));
        differences
    }

    fn check(&self) -> bool {
        let differences = self.differences();
        let rows = thousands(self.own.len());
        let rows = if rows == "1" {
            "1 row".into()
        } else {
            format!("{rows} rows")
        };
        verdict(
            &format!("margin {}, every cell of {rows}", self.name),
            &match differences.len() {
                0 => "equal".into(),
                different => format!("{different} DIFFERENT"),
            },
        );
        for difference in differences.iter().take(20) {
            println!("    {difference}");
        }
        differences.is_empty()
    }

    fn print(&self) {
        println!("\nMargin {} (credyt.margin)", self.name);
        println!(
            "  {:<34}{:>9}{:>14}{:>12}{:>12}{:>12}{:>10}{:>11}",
            "", "debits", "credits", "revenue $", "cost $", "margin $", "ratio", "cost known"
        );
        let percent = |cell: Option<Decimal>| {
            cell.map_or("-".into(), |ratio| {
                format!("{:.1} %", (ratio * Decimal::ONE_HUNDRED).round_dp(1))
            })
        };
        for (key, cells) in &self.said {
            let [debits, _, credits, revenue, cost, margin, ratio, coverage] =
                cells.map(|cell| cell.1);
            let debits = debits.unwrap_or_default();
            let money = |cell: Option<Decimal>| cell.map_or("-".into(), |sum| fixed(sum, 4));
            println!(
                "  {:<34}{:>9}{:>14}{:>12}{:>12}{:>12}{:>10}{:>11}",
                label(key),
                thousands(debits.mantissa()),
                money(credits),
                money(revenue),
                money(cost),
                money(margin),
                percent(ratio),
                percent(coverage)
            );
        }
    }
}

impl By {
    fn column(&self) -> &'static str {
        match self {
            By::Customer => "customer",
            By::Action => "action",
            By::Vendor => "vendor",
            By::Model => "model",
        }
    }
}

/// Sums are equal to the last digit.
fn same(what: &str, own: Option<Decimal>, said: Option<Decimal>) -> bool {
    match (what, own, said) {
        ("margin_ratio" | "cost_coverage", Some(own), Some(said)) => {
            (own - said).abs() <= own.abs() * Decimal::new(1, RATIO_DIGITS)
        }
        _ => own == said,
    }
}

fn said_cells(row: &Row) -> Result<Cells> {
    let cell = |at: usize| -> Result<Option<Decimal>> {
        let text: Option<&str> = row.try_get(at)?;
        // A ratio may have more digits than fit here.
        let number = text.map(|text| match at {
            7 | 8 => text.parse(),
            _ => Decimal::from_str_exact(text),
        });
        Ok(number.transpose()?.map(|number| number.normalize()))
    };
    Ok([
        ("debits", cell(1)?),
        ("quantity", cell(2)?),
        ("credits", cell(3)?),
        ("revenue", cell(4)?),
        ("cost", cell(5)?),
        ("margin", cell(6)?),
        ("margin_ratio", cell(7)?),
        ("cost_coverage", cell(8)?),
    ])
}

fn own_cells(sums: &Sums) -> Cells {
    let cells = [
        ("debits", Some(Decimal::from(sums.debits))),
        ("quantity", Some(sums.quantity)),
        ("credits", Some(sums.credits)),
        ("revenue", Some(sums.revenue)),
        ("cost", sums.cost),
        ("margin", Some(sums.margin())),
        ("margin_ratio", sums.margin_ratio()),
        ("cost_coverage", sums.cost_coverage()),
    ];
    cells.map(|(what, cell)| (what, cell.map(|number| number.normalize())))
}

fn label(key: &Key) -> String {
    if key.iter().all(Option::is_none) {
        return if key.len() == 1 {
            "no debit"
        } else {
            "no model named"
        }
        .into();
    }
    let names = key.iter().map(|name| name.as_deref().unwrap_or("-"));
    names.collect::<Vec<_>>().join("  ")
}

fn number(client: &mut Client, sql: &str) -> Result<Decimal> {
    let row = client.query_one(sql, &[]).map_err(said(sql))?;
    Ok(row
        .try_get::<_, Option<&str>>(0)?
        .map_or(Ok(Decimal::ZERO), Decimal::from_str_exact)?)
}

fn equal(what: &str, own: Decimal, said: Decimal) -> bool {
    let (own, said) = (own.normalize(), said.normalize());
    let text = match own == said {
        true => "equal".into(),
        false => format!("DIFFERENT: {own} here, {said} there"),
    };
    verdict(what, &text);
    own == said
}

pub fn verdict(what: &str, verdict: &str) {
    println!("  {what:<64}{verdict}");
}

pub fn fixed(number: Decimal, places: u32) -> String {
    format!("{:.*}", places as usize, number.round_dp(places))
}
