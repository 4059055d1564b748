//! What the examples need: a database of their own, errors one can read, and numbers laid out calmly.
#![allow(dead_code)] // each example uses a part of this

use std::env;
use std::error::Error;
use std::time::Duration;

use postgres::{Client, Config, NoTls};
use rust_decimal::Decimal;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A new database with the extension in it, dropped in the end.
pub struct Scratch {
    server: Config,
    config: Config,
    name: String,
}

impl Scratch {
    /// Makes it on the server that PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name.
    pub fn create(purpose: &str) -> Result<Scratch> {
        Scratch::create_on(server(), purpose)
    }

    pub fn create_on(server: Config, purpose: &str) -> Result<Scratch> {
        let name = format!("credyt_{purpose}_{}", std::process::id());
        let mut client = server
            .connect(NoTls)
            .map_err(|error| format!("no Postgres to connect to: {}", explain(&error)))?;
        client
            .batch_execute(&format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
            ))
            .map_err(said("CREATE DATABASE"))?;
        let mut config = server.clone();
        config
            .dbname(&name)
            .application_name(&format!("credyt_pg {purpose}"));
        let scratch = Scratch {
            server,
            config,
            name,
        };
        scratch
            .connect()?
            .batch_execute("CREATE EXTENSION credyt_pg")
            .map_err(said("CREATE EXTENSION credyt_pg"))?;
        Ok(scratch)
    }

    pub fn connect(&self) -> Result<Client> {
        self.config.connect(NoTls).map_err(said("connecting"))
    }

    /// With settings of the session, as `-c name=value`.
    pub fn connect_with(&self, settings: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.options(settings);
        config.connect(NoTls).map_err(said("connecting"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let dropped = self.server.connect(NoTls).and_then(|mut client| {
            client.batch_execute(&format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                self.name
            ))
        });
        if let Err(error) = dropped {
            eprintln!(
                "The database {} is still there: {}",
                self.name,
                explain(&error)
            );
        }
    }
}

/// A connection to the database of the usual variables.
pub fn connect() -> Result<Client> {
    server()
        .connect(NoTls)
        .map_err(|error| format!("no Postgres to connect to: {}", explain(&error)).into())
}

/// The server of the usual variables, with the defaults of psql.
fn server() -> Config {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let user = set("PGUSER")
        .or_else(|| set("USER"))
        .unwrap_or_else(|| "postgres".into());
    let mut config = Config::new();
    config
        .host(&set("PGHOST").unwrap_or_else(|| "/var/run/postgresql".into()))
        .port(
            set("PGPORT")
                .and_then(|port| port.parse().ok())
                .unwrap_or(5432),
        )
        .dbname(&set("PGDATABASE").unwrap_or_else(|| user.clone()))
        .user(&user);
    if let Some(password) = set("PGPASSWORD") {
        config.password(password);
    }
    config
}

/// SQLSTATE, message, detail and hint of what the server answered.
pub fn explain(error: &postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        return match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
    };
    let mut text = format!("{}: {}", said.code().code(), said.message());
    for (label, part) in [
        ("DETAIL", said.detail()),
        ("HINT", said.hint()),
        ("WHERE", said.where_()),
    ] {
        if let Some(part) = part {
            text += &format!("\n  {label}: {part}");
        }
    }
    text
}

/// Turns what the server answered into an error that says during what.
pub fn said(during: &str) -> impl FnOnce(postgres::Error) -> Box<dyn Error + Send + Sync> {
    move |error| format!("{during}: {}", explain(&error)).into()
}

/// The value of the option `--name value`, removed from the arguments.
pub fn option<T: std::str::FromStr>(arguments: &mut Vec<String>, name: &str) -> Result<Option<T>> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(None);
    };
    if at + 1 == arguments.len() {
        return Err(format!("{name} needs a value").into());
    }
    let value = arguments.remove(at + 1);
    arguments.remove(at);
    match value.parse() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(format!("{name} {value}: no such value").into()),
    }
}

/// Whether `--name` was given; it is removed from the arguments.
pub fn flag(arguments: &mut Vec<String>, name: &str) -> bool {
    let before = arguments.len();
    arguments.retain(|argument| argument != name);
    arguments.len() < before
}

/// A number of this source.
pub fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).expect("a number")
}

/// 1234567 as 1,234,567.
pub fn thousands(number: impl TryInto<i128>) -> String {
    let number = number.try_into().unwrap_or(i128::MAX);
    let sign = if number < 0 { "-" } else { "" };
    sign.to_owned() + &grouped(&number.unsigned_abs().to_string())
}

/// 1234567 as 1,234,567.
pub fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The p-th percentile of sorted values.
pub fn percentile<T: Copy + Default>(sorted: &[T], p: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((sorted.len() * p / 100).min(last))
        .copied()
        .unwrap_or_default()
}

/// Milliseconds, with as many decimals as one wants to read.
pub fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}
