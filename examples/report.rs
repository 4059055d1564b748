//! `make report`: the dashboard of this project as one page, drawn from the database that PGHOST, PGDATABASE ... name.
//!
//!     cargo run --example report -- page.html [--asset credits] [--from 2026-01-01T00:00:00Z] [--to ...]

mod common;
#[path = "report/dashboard.rs"]
mod dashboard;
#[path = "report/page.rs"]
mod page;
#[path = "common/plot.rs"]
mod plot;

use std::process::ExitCode;

use common::{Result, option, said};
use dashboard::{Context, Dashboard};

fn main() -> ExitCode {
    match report(std::env::args().skip(1).collect()) {
        Ok(path) => {
            println!("{path}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn report(mut arguments: Vec<String>) -> Result<String> {
    let asset: Option<String> = option(&mut arguments, "--asset")?;
    let from: Option<String> = option(&mut arguments, "--from")?;
    let to: Option<String> = option(&mut arguments, "--to")?;
    let [path] = arguments.as_slice() else {
        return Err("usage: report page.html [--asset name] [--from moment] [--to moment]".into());
    };
    let mut client = common::connect()?;
    let dashboard = Dashboard::parse(include_str!("../dashboards/credits_and_margin.json"))?;
    // Without a range: everything so far. Grafana's format of a moment.
    let range = "SELECT to_char(coalesce($1::text::timestamptz, min(created_at), now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
                        to_char(coalesce($2::text::timestamptz, max(created_at) + interval '1 second', now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
                 FROM credyt.ledger";
    let range = client
        .query_one(range, &[&from, &to])
        .map_err(said("the time range"))?;
    let mut context = Context {
        from: range.get(0),
        to: range.get(1),
        ..Context::default()
    };
    context
        .values
        .extend(asset.map(|asset| ("asset".into(), asset)));
    context.choose(&mut client, &dashboard)?;
    std::fs::write(path, page::draw(&mut client, &dashboard, &context)?)
        .map_err(|error| format!("{path}: {error}"))?;
    Ok(path.clone())
}
