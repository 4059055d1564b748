//! A dashboard's JSON as Grafana reads it: its panels, and their SQL with variables and macros filled in.

use std::collections::BTreeMap;
use std::error::Error;

use postgres::types::Type;
use postgres::{Client, SimpleQueryMessage};
use serde_json::Value as Json;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub struct Dashboard {
    pub title: String,
    pub description: String,
    pub variables: Vec<Variable>,
    pub panels: Vec<Panel>,
}

/// A variable whose values a query answers.
pub struct Variable {
    pub name: String,
    pub query: String,
}

pub struct Panel {
    pub id: i64,
    /// stat, barchart, timeseries, table; a row is a heading without a query.
    pub kind: String,
    pub title: String,
    pub description: String,
    /// Where it lies: left edge, top edge and width, in the 24 columns of the grid.
    pub at: (i64, i64, i64),
    pub sql: Option<String>,
    pub json: Json,
}

/// What Grafana knows when it sends a query: the time range, in RFC 3339 in UTC, and each variable's value.
#[derive(Clone, Default)]
pub struct Context {
    pub from: String,
    pub to: String,
    pub values: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    Number,
    Time,
}

/// What a query answered: every value as Postgres prints it.
pub struct Table {
    pub columns: Vec<(String, Kind)>,
    pub rows: Vec<Vec<Option<String>>>,
}

impl Dashboard {
    pub fn parse(json: &str) -> Result<Dashboard> {
        let json: Json = serde_json::from_str(json)?;
        let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
        let variables = list(&json["templating"]["list"]);
        Ok(Dashboard {
            title: text(&json, "title"),
            description: text(&json, "description"),
            variables: variables
                .iter()
                .filter(|variable| variable["type"] == "query")
                .map(|variable| Variable {
                    name: text(variable, "name"),
                    query: text(variable, "query"),
                })
                .collect(),
            panels: list(&json["panels"]).into_iter().map(Panel::read).collect(),
        })
    }
}

impl Panel {
    fn read(json: Json) -> Panel {
        let place = |name: &str| json["gridPos"][name].as_i64().unwrap_or_default();
        Panel {
            id: json["id"].as_i64().unwrap_or_default(),
            kind: text(&json, "type"),
            title: text(&json, "title"),
            description: text(&json, "description"),
            at: (place("x"), place("y"), place("w")),
            sql: json["targets"][0]["rawSql"].as_str().map(str::to_owned),
            json,
        }
    }

    /// The unit of a field: its own where an override names it, else the panel's.
    pub fn unit(&self, field: &str) -> &str {
        let config = &self.json["fieldConfig"];
        let overrides = config["overrides"].as_array().into_iter().flatten();
        let own = overrides
            .filter(|one| matches(&one["matcher"], field))
            .flat_map(|one| one["properties"].as_array().into_iter().flatten())
            .find(|property| property["id"] == "unit")
            .and_then(|property| property["value"].as_str());
        own.or(config["defaults"]["unit"].as_str())
            .unwrap_or_default()
    }

    pub fn is_stacked(&self) -> bool {
        let lines = &self.json["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"];
        lines == "normal" || self.json["options"]["stacking"] == "normal"
    }

    pub fn axis_label(&self) -> &str {
        self.json["fieldConfig"]["defaults"]["custom"]["axisLabel"]
            .as_str()
            .unwrap_or_default()
    }
}

fn text(json: &Json, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}

/// Does an override mean this field? By name, or by a pattern of the only form used here: ^(one|another)$.
fn matches(matcher: &Json, field: &str) -> bool {
    let options = matcher["options"].as_str().unwrap_or_default();
    if matcher["id"] == "byName" {
        return options == field;
    }
    let names = options.trim_start_matches("^(").trim_end_matches(")$");
    names.split('|').any(|name| name == field)
}

impl Context {
    /// A query as Grafana sends it: first the variables, then the macros of its PostgreSQL data source.
    pub fn expand(&self, sql: &str) -> Result<String> {
        self.macros(&self.variables(sql)?)
    }

    /// `$name`, `${name}`, which stand within quotes, and `${name:sqlstring}`, which brings its own.
    pub fn variables(&self, text: &str) -> Result<String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            expanded += before;
            let braced = after.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (name, format, after) = match braced {
                Some((inside, after)) => {
                    let (name, format) = inside.split_once(':').unwrap_or((inside, ""));
                    (name, format, after)
                }
                None => {
                    let (name, after) = after.split_at(word(after));
                    (name, "", after)
                }
            };
            rest = after;
            if name.starts_with("__") {
                expanded += &format!("${name}");
                continue;
            }
            let value = self.values.get(name).ok_or(format!("no variable {name}"))?;
            let escaped = value.replace('\'', "''");
            expanded += &match format {
                "" => escaped,
                "sqlstring" => format!("'{escaped}'"),
                _ => return Err(format!("{name}: format {format} is not known here").into()),
            };
        }
        Ok(expanded + rest)
    }

    /// Gives each variable that has no value yet the first that its query answers.
    pub fn choose(&mut self, client: &mut Client, dashboard: &Dashboard) -> Result<()> {
        for variable in &dashboard.variables {
            if !self.values.contains_key(&variable.name) {
                let first = self.ask(client, &variable.query)?.rows.into_iter().next();
                let value = first.and_then(|row| row.into_iter().next().flatten());
                let value = value.ok_or(format!("no value for {}", variable.name))?;
                self.values.insert(variable.name.clone(), value);
            }
        }
        Ok(())
    }

    fn macros(&self, sql: &str) -> Result<String> {
        let mut expanded = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once("$__") {
            let (name, after) = after.split_at(word(after));
            let call = after.strip_prefix('(').and_then(|it| it.split_once(')'));
            let (argument, after) = call.ok_or(format!("$__{name} is not called"))?;
            expanded += before;
            let (from, to) = (&self.from, &self.to);
            expanded += &match name {
                "timeFrom" => format!("'{from}'"),
                "timeTo" => format!("'{to}'"),
                "timeFilter" => format!("{argument} BETWEEN '{from}' AND '{to}'"),
                _ => return Err(format!("$__{name} is not known here").into()),
            };
            rest = after;
        }
        Ok(expanded + rest)
    }

    /// What a query of the dashboard answers.
    pub fn ask(&self, client: &mut Client, sql: &str) -> Result<Table> {
        let sql = self.expand(sql)?;
        let failed = |error: postgres::Error| match error.as_db_error() {
            Some(said) => format!("{}: {}\n{sql}", said.code().code(), said.message()),
            None => format!("{error}\n{sql}"),
        };
        let prepared = client.prepare(&sql).map_err(failed)?;
        let column =
            |column: &postgres::Column| (column.name().to_owned(), Kind::of(column.type_()));
        let columns: Vec<_> = prepared.columns().iter().map(column).collect();
        let mut rows = Vec::new();
        for message in client.simple_query(&sql).map_err(failed)? {
            if let SimpleQueryMessage::Row(row) = message {
                let cells = (0..columns.len()).map(|at| row.get(at).map(str::to_owned));
                rows.push(cells.collect());
            }
        }
        Ok(Table { columns, rows })
    }
}

/// How many bytes at the start are of a name.
fn word(text: &str) -> usize {
    text.find(|letter: char| letter != '_' && !letter.is_ascii_alphanumeric())
        .unwrap_or(text.len())
}

impl Kind {
    fn of(of: &Type) -> Kind {
        match *of {
            Type::NUMERIC | Type::INT8 | Type::INT4 => Kind::Number,
            Type::TIMESTAMPTZ | Type::TIMESTAMP | Type::DATE => Kind::Time,
            _ => Kind::Text,
        }
    }
}
