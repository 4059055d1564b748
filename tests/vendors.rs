//! Vendor rates: equal to what vendors' answers were priced at elsewhere and to what the genai-prices
//! package computes; imported whole or not at all; never stale.

mod support;

use std::path::PathBuf;
use std::process::Command;

use postgres::Client;
use postgres::types::Json as Jsonb;
use serde_json::{Value, json};
use support::sql::{Database, attempt, quoted, refusal, rows, value, values};

/// How many usages the package and the extension are compared on.
const GENERATED: usize = 5000;

// ---- real data, which is not part of the project ---------------------------------------------------

/// A file beside the project, or where CREDYT_DATA says; a test that needs it is skipped without it.
fn shared(file: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"));
    let said = std::env::var_os("CREDYT_DATA").map(PathBuf::from);
    let found = said
        .into_iter()
        .chain([beside])
        .map(|folder| folder.join(file));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: there is no {file} in ../shared/data or $CREDYT_DATA");
    }
    found
}

fn read(path: &PathBuf) -> Value {
    let text = std::fs::read_to_string(path).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

fn import(client: &mut Client, file: &Value) {
    let sql = "SELECT credyt.import_vendor_rates($1)";
    client.execute(sql, &[&Jsonb(file)]).expect("imported");
}

/// What a vendor charges, with refusals as text; for many at once.
fn cost_all(client: &mut Client, cases: &[Value]) -> Vec<Outcome> {
    client
        .batch_execute(
            "CREATE OR REPLACE FUNCTION pg_temp.try_cost(one jsonb, OUT cost text, OUT why text) LANGUAGE plpgsql AS $$
             BEGIN
                 SELECT trim_scale(c.cost)::text, c.reason INTO cost, why
                 FROM credyt.vendor_cost(one ->> 'vendor', one ->> 'model', one -> 'usage', one ->> 'api_flavor',
                                         (one ->> 'at')::timestamptz, coalesce(one -> 'context', '{}')) c;
             EXCEPTION WHEN SQLSTATE '22023' THEN
                 why := 'refused: ' || SQLERRM;
             END $$",
        )
        .expect("a function");
    let sql = "SELECT t.cost, t.why FROM jsonb_array_elements($1) WITH ORDINALITY e (one, nth),
               pg_temp.try_cost(e.one) t ORDER BY e.nth";
    let rows = client.query(sql, &[&Jsonb(cases)]).expect("costed");
    assert_eq!(rows.len(), cases.len());
    rows.iter()
        .map(|row| match (row.get(0), row.get(1)) {
            (Some(cost), None) => Outcome::Cost(cost),
            (None, Some(why)) => Outcome::None(why),
            other => panic!("neither a cost nor a reason, or both: {other:?}"),
        })
        .collect()
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Cost(String),
    None(String),
}

/// A number rounded to 12 decimals, by Postgres.
fn rounded(client: &mut Client, texts: &[String]) -> Vec<String> {
    let sql = "SELECT trim_scale(round(t.n::numeric, 12))::text
               FROM unnest($1::text[]) WITH ORDINALITY t (n, nth) ORDER BY t.nth";
    let rows = client.query(sql, &[&texts]).expect("numbers");
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn real_answers_cost_what_they_were_priced_at() {
    let (Some(prices), Some(usages)) = (
        shared("genai_prices.json"),
        shared("usages_with_prices.json"),
    ) else {
        return;
    };
    let database = Database::new("answers");
    let mut client = database.connect();
    import(&mut client, &read(&prices));
    let (mut cases, mut sums) = (Vec::new(), Vec::new());
    for record in read(&usages).as_array().expect("a list") {
        for one in record["extracted"].as_array().expect("a list") {
            for priced in one["extractors"].as_array().expect("a list") {
                let (Some(input), Some(output)) = (
                    priced["input_price"].as_str(),
                    priced["output_price"].as_str(),
                ) else {
                    continue;
                };
                sums.push(format!("{input}+{output}"));
                cases.push(json!({
                    "vendor": priced["provider_id"], "model": null, "usage": record["body"],
                    "api_flavor": priced["api_flavor"], "at": "2026-08-01 12:00:00Z",
                }));
            }
        }
    }
    let sql = format!(
        "SELECT trim_scale(round(split_part(t.n, '+', 1)::numeric + split_part(t.n, '+', 2)::numeric, 12))::text
         FROM jsonb_array_elements_text({}::jsonb) WITH ORDINALITY t (n, nth) ORDER BY t.nth",
        quoted(&json!(sums).to_string())
    );
    let wanted = values(&mut client, &sql);
    let found = cost_all(&mut client, &cases);
    let mut unequal = Vec::new();
    for ((case, wanted), found) in cases.iter().zip(&wanted).zip(&found) {
        if *found != Outcome::Cost(wanted.clone()) {
            unequal.push(format!(
                "{} {} {}: {wanted}, found {found:?}",
                case["vendor"], case["api_flavor"], case["usage"]
            ));
        }
    }
    println!("{} of {} equal", cases.len() - unequal.len(), cases.len());
    for one in &unequal {
        println!("{one}");
    }
    // What is left is newer than the prices: models and vendors that they do not know, and units (the
    // tokens of an image) that they price as others.
    assert!(
        unequal.len() * 100 <= cases.len(),
        "{} differ",
        unequal.len()
    );
}

#[test]
fn the_newest_prices_need_no_api_flavor() {
    let Some(prices) = shared("genai_prices_2026_11.json") else {
        return;
    };
    let database = Database::new("newest");
    let mut client = database.connect();
    import(&mut client, &read(&prices));
    let at = "2026-11-20 12:00:00Z";
    let grok = json!({"prompt_tokens": 41, "completion_tokens": 104,
        "prompt_tokens_details": {"text_tokens": 41, "cached_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 355}});
    let realtime = json!({"total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
        "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64},
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91}});
    let million = json!({"prompt_tokens": 1_000_000, "completion_tokens": 0});
    let cases = [
        json!({"vendor": "xai", "model": "grok-4-0709", "usage": grok, "at": at}),
        json!({"vendor": "openai", "model": "gpt-realtime", "usage": realtime, "at": at}),
        json!({"vendor": "openai", "model": "gpt-5", "usage": {"service_tier": "priority", "usage": million}, "at": at}),
        json!({"vendor": "openai", "model": "gpt-5", "usage": {"service_tier": "default", "usage": million}, "at": at}),
        json!({"vendor": "anthropic", "model": "claude-sonnet-4-5", "at": at,
               "usage": {"usage": {"input_tokens": 100_000, "output_tokens": 0, "service_tier": "batch"}}}),
        json!({"vendor": "anthropic", "model": "claude-sonnet-4-5", "at": at, "context": {"service_tier": "batch"},
               "usage": {"input_tokens": 100_000, "output_tokens": 0}}),
        json!({"vendor": "openai", "model": "gpt-4o", "usage": {}, "at": at}),
        json!({"vendor": "anthropic", "model": "claude-sonnet-4-5", "usage": {"output_tokens": 15}, "at": at}),
    ];
    let wanted = ["0.0069855", "0.0069656", "2.5", "1.25", "0.15", "0.15"];
    let found = cost_all(&mut client, &cases);
    for ((case, wanted), found) in cases.iter().zip(wanted).zip(&found) {
        assert_eq!(*found, Outcome::Cost(wanted.to_owned()), "{case}");
    }
    let reasons = ["usage_missing: ", "usage_partial: "];
    for (found, reason) in found.iter().skip(wanted.len()).zip(reasons) {
        assert!(
            matches!(found, Outcome::None(why) if why.starts_with(reason)),
            "{found:?}"
        );
    }
}

/// Without a word about which API answered, the reader that accounts for most of the counts is right.
#[test]
fn real_answers_need_no_api_flavor() {
    let (Some(prices), Some(usages)) = (
        shared("genai_prices.json"),
        shared("usages_with_prices.json"),
    ) else {
        return;
    };
    let database = Database::new("no_flavor");
    let mut client = database.connect();
    import(&mut client, &read(&prices));
    let (mut cases, mut wanted) = (Vec::new(), Vec::new());
    for record in read(&usages).as_array().expect("a list") {
        let mut by_vendor: std::collections::BTreeMap<String, Vec<String>> = Default::default();
        for one in record["extracted"].as_array().expect("a list") {
            for priced in one["extractors"].as_array().expect("a list") {
                if let (Some(input), Some(output)) = (
                    priced["input_price"].as_str(),
                    priced["output_price"].as_str(),
                ) {
                    let vendor = priced["provider_id"].as_str().expect("a vendor").to_owned();
                    by_vendor
                        .entry(vendor)
                        .or_default()
                        .push(format!("{input}+{output}"));
                }
            }
        }
        for (vendor, prices) in by_vendor {
            cases.push(json!({"vendor": vendor, "model": null, "usage": record["body"], "at": "2026-08-01 12:00:00Z"}));
            wanted.push(prices);
        }
    }
    let sql = "SELECT array_agg(trim_scale(round(split_part(p, '+', 1)::numeric + split_part(p, '+', 2)::numeric, 12))::text ORDER BY o)
               FROM jsonb_array_elements($1) WITH ORDINALITY t (all_prices, nth), jsonb_array_elements_text(t.all_prices) WITH ORDINALITY e (p, o)
               GROUP BY t.nth ORDER BY t.nth";
    let wanted: Vec<Vec<String>> = client
        .query(sql, &[&Jsonb(json!(wanted))])
        .expect("numbers")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let found = cost_all(&mut client, &cases);
    let (mut unequal, mut lower) = (Vec::new(), Vec::new());
    for ((case, wanted), found) in cases.iter().zip(&wanted).zip(&found) {
        match found {
            Outcome::Cost(cost) if wanted.contains(cost) => {}
            Outcome::Cost(cost) if wanted.iter().all(|price| number(cost) < number(price)) => {
                lower.push(format!("{case}: {wanted:?}, found {cost}"));
            }
            found => unequal.push(format!("{case}: {wanted:?}, found {found:?}")),
        }
    }
    let differ = unequal.len() + lower.len();
    println!(
        "{} of {} equal to one of their prices",
        cases.len() - differ,
        cases.len()
    );
    for one in &unequal {
        println!("{one}");
    }
    assert!(lower.is_empty(), "silently lower: {lower:#?}");
    assert!(differ * 100 <= cases.len() * 3, "{differ} differ");
}

fn number(text: &str) -> f64 {
    text.parse().expect("a number")
}

#[test]
fn the_package_computes_the_same() {
    let environment = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/env.sh"))
        .arg("genai")
        .env("COUNTS", "")
        .output()
        .expect("scripts/env.sh can be run");
    assert!(environment.status.success(), "the package is not here");
    let packages = String::from_utf8(environment.stdout).expect("UTF-8");
    let oracle = |arguments: &[&str]| -> String {
        let output = Command::new("python3")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/prices_oracle.py"
            ))
            .args(arguments)
            .env("PYTHONPATH", packages.trim())
            .output()
            .expect("python3 can be run");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    // The prices that the package brings are newer, with units, variants and tiers of their own.
    let brought = PathBuf::from(concat!(env!("CARGO_TARGET_TMPDIR"), "/prices.json"));
    std::fs::write(&brought, oracle(&["export"])).expect("written");
    let files = shared("genai_prices.json").into_iter().chain([brought]);
    for (nth, file) in files.enumerate() {
        let database = Database::new(&format!("package_{nth}"));
        let mut client = database.connect();
        import(&mut client, &read(&file));
        let path = file.to_str().expect("UTF-8");
        let seed = (nth + 1).to_string();
        let lines = oracle(&["cost", path, &GENERATED.to_string(), &seed]);
        let cases: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(cases.len(), GENERATED);
        compare(&mut client, &cases);
    }
}

fn compare(client: &mut Client, cases: &[Value]) {
    let prices: Vec<String> = cases
        .iter()
        .map(|case| case["price"].as_str().unwrap_or("0").to_owned())
        .collect();
    let prices = rounded(client, &prices);
    let found = cost_all(client, cases);
    let (mut equal, mut differ, mut overlaps, mut impossible) = (0, Vec::new(), 0, 0);
    for ((case, price), found) in cases.iter().zip(prices).zip(found) {
        let same = match (&found, case["error"].as_str()) {
            // More cached tokens than there are pass there where the model has no price for them.
            (Outcome::None(why), None) if why.contains(": cache_") => {
                impossible += 1;
                why.starts_with("refused") && why.contains("which includes it")
            }
            // What is not known, or is counted in other units than it is priced in, costs nothing
            // there; here it has no cost.
            (Outcome::None(why), None) => {
                let unpriced = why.starts_with("unit_unpriced: ") && price == "0";
                // A tier without a price has the usual one there.
                let tier = why.starts_with("tier_unknown: ") && case["made_up"] == true;
                !why.starts_with("refused")
                    && (case["unknown"] == true || case["priced"] == false || unpriced || tier)
            }
            (Outcome::Cost(cost), None) => match case["unknown"] == true {
                true => case["is_id"] == true,
                false => *cost == price,
            },
            (Outcome::None(why), Some(_)) => {
                why.starts_with("refused") || why.starts_with("usage_missing: ")
            }
            // It wants to be told by how much audio and cached tokens overlap.
            (Outcome::Cost(_), Some(error)) => {
                overlaps += 1;
                error.contains("reported overlapping usage keys")
                    || error.starts_with("Missing join price")
                    || error.starts_with("Missing ancestor price")
            }
        };
        match same {
            true => equal += 1,
            false => differ.push(format!("{case}: {price}, found {found:?}")),
        }
    }
    println!(
        "{equal} of {} equal, {overlaps} of them only costed here, {impossible} only refused",
        cases.len()
    );
    assert!(
        differ.is_empty(),
        "{} differ: {:#?}",
        differ.len(),
        &differ[..differ.len().min(10)]
    );
    assert!((overlaps + impossible) * 100 < cases.len());
}

/// LiteLLM's newest file: every model that it prices, a number of calls in every way that it can be served.
#[test]
fn litellm_prices_come_to_an_independent_sum() {
    // 100 take minutes where others work beside.
    let calls = std::env::var("CALLS").unwrap_or_else(|_| "10".to_owned());
    let environment = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/env.sh"))
        .arg("litellm")
        .env("COUNTS", "")
        .output()
        .expect("scripts/env.sh can be run");
    assert!(environment.status.success(), "the package is not here");
    let file = String::from_utf8(environment.stdout).expect("UTF-8");
    let file = PathBuf::from(file.trim());
    let database = Database::new("litellm");
    let mut client = database.connect();
    let sql = "SELECT skipped, unrecognised::text FROM credyt.import_vendor_rates($1, 'litellm')";
    let imported = client
        .query_one(sql, &[&Jsonb(read(&file))])
        .expect("imported");
    println!(
        "skipped {}, unrecognised {}",
        imported.get::<_, i32>(0),
        imported.get::<_, String>(1)
    );
    let oracle = Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/litellm_oracle.py"
        ))
        .arg(&file)
        .args([calls.as_str(), "1"])
        .output()
        .expect("python3 can be run");
    let error = String::from_utf8_lossy(&oracle.stderr);
    assert!(oracle.status.success(), "{error}");
    let lines = String::from_utf8(oracle.stdout).expect("UTF-8");
    let lines: Vec<&str> = lines.lines().collect();
    let sql = "SELECT e.one || c.reason, e.one ->> 'price', c.cost::text
               FROM unnest($1::text[]) t (line), jsonb(t.line) e (one),
                    credyt.vendor_cost(e.one ->> 'vendor', e.one ->> 'model', e.one -> 'usage', at => (e.one ->> 'at')::timestamptz,
                                       context => e.one -> 'context') c
               WHERE c.cost IS NULL OR abs(c.cost - (e.one ->> 'price')::numeric) > 0.5e-12";
    let sql = sql.replace("e.one || c.reason", "t.line || coalesce(c.reason, '')");
    let mut differ = Vec::new();
    for batch in lines.chunks(10_000) {
        for row in client.query(&sql, &[&batch]).expect("costed") {
            let found: Option<String> = row.get(2);
            differ.push(format!("{} found {found:?}", row.get::<_, String>(0)));
        }
    }
    println!("{} of {} equal", lines.len() - differ.len(), lines.len());
    for one in differ.iter().step_by(differ.len() / 30 + 1) {
        println!("{one}");
    }
    assert!(differ.is_empty(), "{} differ", differ.len());
}

// ---- made-up data ----------------------------------------------------------------------------------

/// A file with one vendor that reads its usage, at this price of an input token.
fn file(price: &str) -> Value {
    let price: Value = serde_json::from_str(price).expect("JSON");
    json!([{
        "id": "acme", "name": "Acme", "api_pattern": "acme", "provider_match": {"contains": "acme"},
        "extractors": [{"api_flavor": "default", "root": "usage", "model_path": "model", "mappings": [
            {"path": "in", "dest": "input_tokens", "required": true},
            {"path": "cached", "dest": "cache_read_tokens", "required": false}]}],
        "models": [
            {"id": "big", "match": {"starts_with": "big"}, "prices": {"input_mtok": price, "cache_read_mtok": 0.5}},
            {"id": "small", "match": {"equals": "small"}, "prices": {"input_mtok": 1}},
            {"id": "odd", "match": {"equals": "odd"}, "prices": {}}]
    }])
}

const COST: &str = "SELECT cost FROM credyt.vendor_cost('acme', 'big-1', '{\"in\": 1000000}')";

fn import_sql(file: &Value, more: &str) -> String {
    let file = quoted(&file.to_string());
    format!(
        "SELECT added, changed, unchanged, skipped, unrecognised FROM credyt.import_vendor_rates({file}{more})"
    )
}

#[test]
fn an_import_adds_what_changed() {
    let database = Database::new("again");
    let mut client = database.connect();
    let mut run = |sql: &str| value(&mut client, sql);
    assert_eq!(
        run(&import_sql(&file("3"), ", dry_run => true")),
        "2 0 0 1 {}"
    );
    assert_eq!(run("SELECT count(*) FROM credyt.vendor_rates"), "0");
    assert_eq!(run(&import_sql(&file("3"), "")), "2 0 0 1 {}");
    assert_eq!(run(&import_sql(&file("3"), "")), "0 0 2 1 {}");
    // As the same number is written otherwise.
    assert_eq!(run(&import_sql(&file("3.00"), "")), "0 0 2 1 {}");
    assert_eq!(
        run(&import_sql(&file("4"), ", dry_run => true")),
        "0 1 1 1 {}"
    );
    assert_eq!(run(COST), "3.00");
    assert_eq!(run(&import_sql(&file("4"), "")), "0 1 1 1 {}");
    assert_eq!(run(COST), "4.00");
    // Read or recognised otherwise, a price is another one.
    let mut read_otherwise = file("4");
    read_otherwise[0]["extractors"][0]["mappings"][1]["path"] = json!("from_cache");
    let rows = import_sql(&read_otherwise, "");
    assert_eq!(run(&rows), "0 2 0 1 {}");
    assert_eq!(run(&rows), "0 0 2 1 {}");
    read_otherwise[0]["models"][1]["match"] = json!({"starts_with": "small"});
    assert_eq!(run(&import_sql(&read_otherwise, "")), "0 1 1 1 {}");
    assert_eq!(run(&import_sql(&file("4"), "")), "0 2 0 1 {}");
    // Vendors tell late: from a past moment on.
    assert_eq!(
        run(&import_sql(
            &file("5"),
            ", effective_at => '2026-02-01 00:00Z'"
        )),
        "0 1 1 1 {}"
    );
    let at = |at: &str| COST.replace("}')", &format!("}}', at => '{at}')"));
    assert_eq!(run(&at("2026-01-31 23:59:59.999999Z")), "3.00");
    assert_eq!(run(&at("2026-02-01 00:00Z")), "5.00");
    assert_eq!(run(COST), "4.00");
    assert_eq!(run("SELECT count(*) FROM credyt.vendor_rates"), "4");
    // What is set stands before what is imported.
    run("SELECT credyt.set_vendor_rate('acme', 'big', '{\"input_tokens\": \"0.000002\"}')");
    assert_eq!(run(COST), "2.00");
    assert_eq!(run(&import_sql(&file("4"), "")), "0 0 2 1 {}");
    assert_eq!(run(COST), "2.00");
    run("SELECT credyt.set_vendor_rate('acme', 'big', 'null')");
    assert_eq!(run(COST), "4.00");
}

#[test]
fn many_models_are_imported_quickly() {
    let database = Database::new("quickly");
    let mut client = database.connect();
    let models: Vec<Value> = (0..5000)
        .map(|nth| {
            let id = format!("model-{nth}");
            json!({"id": id, "match": {"equals": id}, "prices": {"input_mtok": 1.5, "output_mtok": 2}})
        })
        .collect();
    let file = json!([{"id": "acme", "models": models}]);
    let since = std::time::Instant::now();
    import(&mut client, &file);
    let took = since.elapsed();
    assert!(took.as_secs_f64() < 3.0, "{took:?}");
    assert_eq!(
        value(&mut client, "SELECT count(*) FROM credyt.vendor_rates"),
        "5000"
    );
}

/// Regular expressions: quickly read where they are many, limited in sum, and not all kept.
#[test]
fn many_regular_expressions_are_imported_quickly() {
    let database = Database::new("expressions");
    let mut client = database.connect();
    let file = |pattern: fn(usize) -> String, count: usize| {
        let models: Vec<Value> = (0..count)
            .map(|nth| json!({"id": format!("m{nth}"), "match": {"regex": pattern(nth)}, "prices": {"input_mtok": 1}}))
            .collect();
        json!([{"id": "acme", "models": models}])
    };
    let since = std::time::Instant::now();
    import(
        &mut client,
        &file(|nth| format!("^model-{nth}-\\d{{4}}$"), 3000),
    );
    let took = since.elapsed();
    assert!(took.as_secs_f64() < 30.0, "{took:?}");
    let cost = "SELECT model, cost FROM credyt.vendor_cost('acme', 'model-2999-2026', '{\"input_tokens\": 1000000}')";
    assert_eq!(value(&mut client, cost), "m2999 1.00");
    // As large as they may be, they are too many.
    let large = quoted(&file(|nth| format!("^\\w{{4}}{nth}$"), 3000).to_string());
    let since = std::time::Instant::now();
    let refused = refusal(
        &mut client,
        &format!("SELECT credyt.import_vendor_rates({large})"),
    );
    let took = since.elapsed();
    assert!(
        refused.code == "22023" && took.as_secs_f64() < 10.0,
        "{took:?}"
    );
}

#[test]
fn what_is_wrong_in_a_file_is_named_and_nothing_is_imported() {
    let database = Database::new("wrong");
    let mut client = database.connect();
    let with = |place: &str, value: Value| {
        let mut file = file("3");
        *file.pointer_mut(place).expect("a place") = value;
        file
    };
    let price = "/0/models/1/prices/input_mtok";
    for (file, named) in [
        (json!({}), "rates"),
        (json!(["acme"]), "provider 0"),
        (with("/0/id", json!("")), "provider 0: id"),
        (with("/0/id", json!("x".repeat(300))), "provider 0: id"),
        (
            with("/0/provider_match", json!({"like": "a"})),
            "provider acme: provider_match.like",
        ),
        (
            with("/0/extractors/0/root", json!(4)),
            "provider acme: extractors[0].root",
        ),
        (
            with("/0/extractors/0/mappings/1/required", json!("no")),
            "provider acme: extractors[0].mappings[1].required",
        ),
        (
            with("/0/models/1/id", json!("big")),
            "provider acme: model big: id",
        ),
        (
            with("/0/models/1/match", json!({"regex": "("})),
            "provider acme: model small: match.regex",
        ),
        (
            with("/0/models/1/prices", json!("free")),
            "provider acme: model small: prices",
        ),
        (
            with(price, json!("abc")),
            "provider acme: model small: prices.input_mtok.price",
        ),
        (
            with(price, json!(-1)),
            "provider acme: model small: prices.input_mtok.price",
        ),
        (
            with(price, json!(1e30)),
            "provider acme: model small: prices.input_mtok.price",
        ),
        (
            with(price, json!(true)),
            "provider acme: model small: prices.input_mtok.price",
        ),
        (
            with(price, json!({"base": 1})),
            "provider acme: model small: prices.input_mtok.tiers",
        ),
        (
            with(
                price,
                json!({"base": 1, "tiers": [{"start": -5, "price": 2}]}),
            ),
            "provider acme: model small: prices.input_mtok.tiers[0].above",
        ),
        (
            with(
                "/0/models/1/prices",
                json!([{"constraint": {"weekday": 1}, "prices": {"input_mtok": 1}}]),
            ),
            "provider acme: model small: prices[0].constraint.weekday",
        ),
        (
            with(
                "/0/models/1/prices",
                json!([{"constraint": {"start_date": "soon"}, "prices": {"input_mtok": 1}}]),
            ),
            "provider acme: model small: prices[0].start_date",
        ),
    ] {
        let refusal = refusal(&mut client, &import_sql(&file, ""));
        assert_eq!(refusal.code, "22023", "{refusal:?}");
        let expected = match named {
            "rates" => "invalid rates: rates: ".to_owned(),
            named => format!("invalid rates: {named}: "),
        };
        assert!(
            refusal.message.starts_with(&expected),
            "{named}: {}",
            refusal.message
        );
    }
    for sql in [
        "SELECT credyt.import_vendor_rates(NULL)".to_owned(),
        import_sql(&file("3"), ", format => 'csv'"),
        import_sql(&file("3"), ", format => 'litellm'"),
        import_sql(
            &json!({"m": {"litellm_provider": 4}}),
            ", format => 'litellm'",
        ),
    ] {
        assert_eq!(refusal(&mut client, &sql).code, "22023", "{sql}");
    }
    let left =
        "SELECT (SELECT count(*) FROM credyt.vendor_rates), (SELECT count(*) FROM credyt.vendors)";
    assert_eq!(value(&mut client, left), "0 0");
    // What nobody knows is named, and the rest imported.
    let mut newer = file("3");
    newer[0]["models"][1]["prices"]["input_smells"] = json!(2);
    newer[0]["models"][0]["vibe"] = json!("good");
    assert_eq!(
        value(&mut client, &import_sql(&newer, "")),
        r#"2 0 0 1 {"model.vibe": 1, "prices.input_smells": 1}"#
    );
}

// ---- sessions ---------------------------------------------------------------------------------------

#[test]
fn a_rate_set_elsewhere_is_used_by_the_next_statement() {
    let database = Database::new("rate_elsewhere");
    let (mut here, mut there) = (database.connect(), database.connect());
    assert_eq!(value(&mut here, COST), "-");
    for price in 1..5 {
        rows(&mut there, &import_sql(&file(&price.to_string()), ""));
        assert_eq!(value(&mut here, COST), format!("{price}.00"));
        let own = format!(
            "SELECT credyt.set_vendor_rate('acme', 'big', '{{\"input_tokens\": \"0.00001{price}\"}}')"
        );
        rows(&mut there, &own);
        assert_eq!(value(&mut here, COST), format!("1{price}.00"));
        rows(
            &mut there,
            "SELECT credyt.set_vendor_rate('acme', 'big', 'null')",
        );
    }
    // Another way to read the usage, too.
    let mut renamed = file("4");
    renamed[0]["extractors"][0]["mappings"][0]["path"] = json!("input");
    rows(&mut there, &import_sql(&renamed, ""));
    assert_eq!(value(&mut here, COST), "-");
    assert_eq!(
        value(&mut here, &COST.replace("\"in\"", "\"input\"")),
        "4.00"
    );
}

#[test]
fn a_rate_counts_when_it_is_committed_and_never_when_it_is_rolled_back() {
    let database = Database::new("rate_committed");
    let (mut here, mut there) = (database.connect(), database.connect());
    rows(&mut here, &import_sql(&file("1"), ""));
    assert_eq!(value(&mut here, COST), "1.00");
    rows(&mut there, "BEGIN");
    rows(&mut there, &import_sql(&file("2"), ""));
    assert_eq!(
        (value(&mut here, COST), value(&mut there, COST)),
        ("1.00".into(), "2.00".into())
    );
    rows(&mut there, "ROLLBACK");
    assert_eq!(
        (value(&mut here, COST), value(&mut there, COST)),
        ("1.00".into(), "1.00".into())
    );
    rows(&mut there, "BEGIN");
    rows(&mut there, &import_sql(&file("3"), ""));
    // One import after another.
    let own = "SELECT credyt.set_vendor_rate('acme', 'big', '{\"input_tokens\": 1}')";
    rows(&mut here, "SET lock_timeout = '200ms'");
    assert_eq!(refusal(&mut here, own).code, "55P03");
    rows(&mut there, "COMMIT");
    assert_eq!(value(&mut here, COST), "3.00");
}

#[test]
fn an_older_snapshot_sees_older_rates_and_leaves_nothing_behind() {
    let database = Database::new("rate_snapshot");
    let (mut here, mut there) = (database.connect(), database.connect());
    rows(&mut here, &import_sql(&file("1"), ""));
    rows(&mut here, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(value(&mut here, COST), "1.00");
    rows(&mut there, &import_sql(&file("2"), ""));
    assert_eq!(value(&mut here, COST), "1.00");
    let sql = import_sql(&file("3"), "");
    assert_eq!(refusal(&mut here, &sql).code, "40001");
    rows(&mut here, "ROLLBACK");
    assert_eq!(value(&mut here, COST), "2.00");
    // A statement that began before, and asks after.
    let slow = format!("SELECT ({COST}) FROM pg_sleep(0.5)");
    let own = "SELECT credyt.set_vendor_rate('acme', 'big', '{\"input_tokens\": \"0.000007\"}')";
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| value(&mut here, &slow));
        std::thread::sleep(std::time::Duration::from_millis(200));
        rows(&mut there, own);
        asking.join().expect("asked");
    });
    assert_eq!(value(&mut here, COST), "7.00");
}

#[test]
fn two_imports_at_once_make_no_version_twice() {
    let database = Database::new("rate_twice");
    database.at_once(4, |nth, client| {
        for round in 0..10 {
            rows(client, &import_sql(&file(&format!("{nth}.{round}1")), ""));
        }
    });
    let mut client = database.connect();
    let gaps =
        "SELECT count(*) FROM (SELECT count(*) AS n, max(version) AS last FROM credyt.vendor_rates
                GROUP BY vendor, model) v WHERE v.n <> v.last";
    assert_eq!(value(&mut client, gaps), "0");
}

#[test]
fn a_read_only_transaction_can_ask() {
    let database = Database::new("rate_read_only");
    let mut client = database.connect();
    rows(&mut client, &import_sql(&file("1"), ""));
    rows(&mut client, "BEGIN READ ONLY");
    assert_eq!(value(&mut client, COST), "1.00");
    let sql = import_sql(&file("2"), "");
    assert!(attempt(&mut client, &sql).is_err());
    rows(&mut client, "ROLLBACK");
}
