//! Vendors, their models' rates, and what some usage costs by them. What a backend asks for again and
//! again is kept compiled, cache epoch by cache epoch.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use super::cache_epoch;
use super::exchange;
use super::statement::{Columns, Statement, Store, TEXT, TEXTS, TIME};
use super::table::{insert, insert_all, sql, table};
use crate::errors::{self, Error, Result};
use crate::ledger::Moment;
use crate::ledger::exchange::{Conversion, convert};
use crate::ledger::number::plain;
use crate::ledger::vendor::extract::Extractor;
use crate::ledger::vendor::rates::COST_DECIMALS;
use crate::ledger::vendor::reading::{self, Readers, VendorResponse};
use crate::ledger::vendor::rules::Rule;
use crate::ledger::vendor::terms::Terms;
use crate::ledger::vendor::{
    self, Completeness, ComputedCost, Definition, Import, Rates, Reason, Uncosted,
};
use crate::sql_types::value;

/// More vendors, or models of a vendor, than this are not kept.
const MAX_KEPT: usize = 1000;

/// A model's name in a vendor's answer may be as long as an argument.
const MAX_NAME_BYTES: usize = 255;

/// Rates that were set count before those of files, and files count in this order.
const OWN: &str = "own";
const SOURCES: [&str; 3] = [OWN, "genai-prices", "litellm"];

/// The flavor that stands for the one that fits.
const DEFAULT_FLAVOR: &str = "default";

/// What is to be costed.
#[derive(Clone, Debug)]
pub struct UsageToCost {
    pub vendor: String,
    /// `None`: as the body says.
    pub model: Option<String>,
    /// `None`: the one that fits best.
    pub api_flavor: Option<String>,
    /// The vendor's answer, its usage object, or the list of a stream's events.
    pub body: Json,
    /// What else a rate may depend on.
    pub context: Json,
}

/// What some usage costs, as far as it is known. `cost` (the function) fails only where the database
/// does: whatever the answer or the rates lack is told here, so that costing never stops charging.
///
/// - `cost` is there: the counts are whole and priced, or the vendor reported the cost.
/// - No cost, and `counted` is `Whole`: a price by meters may use `usage`; cost_plus is WC003.
/// - `Partial` and `Nothing`: no price may use `usage` (what is known of it is there to be shown).
/// - `Invalid`: the same; `vendor_cost`, `quote` and a price that needs the counts refuse them with
///   22023 ([`UsageCost::check`]), everything else stores them uncosted.
#[derive(Debug)]
pub struct UsageCost {
    /// The vendor and the model by the names that their rates have, or as they were given.
    pub vendor: String,
    pub model: Option<String>,
    /// Money with at most 12 decimals, or why there is none.
    pub cost: std::result::Result<Decimal, Uncosted>,
    pub currency: Option<String>,
    /// `None`: the cost is as computed.
    pub conversion: Option<Conversion>,
    pub components: Json,
    /// Disjoint amounts, by unit; those that are known.
    pub usage: BTreeMap<String, Decimal>,
    pub counted: Completeness,
    pub rate_version: Option<i32>,
}

impl UsageCost {
    /// Whether a price may use the counts.
    pub fn is_readable(&self) -> bool {
        self.counted == Completeness::Whole
    }

    /// Why a price may not use the counts: 22023, with vendor, model and what is wrong.
    pub fn unreadable(&self) -> Error {
        let why = match &self.cost {
            Err(why) => why.says.as_str(),
            Ok(_) => "it tells a cost, but no counts",
        };
        errors::usage_invalid(&self.vendor, self.model.as_deref(), why)
    }

    fn set(&mut self, why: Uncosted, counted: Completeness) {
        self.cost = Err(why);
        self.counted = counted;
    }

    fn compute(&mut self, computed: std::result::Result<ComputedCost, String>) {
        match computed {
            Ok(computed) => {
                self.cost = computed.cost;
                self.components = computed.components;
                self.usage = computed.usage;
            }
            Err(why) => self.set(
                Uncosted::new(Reason::UsageInvalid, why),
                Completeness::Invalid,
            ),
        }
    }

    /// What the vendor reports is the cost where no rate says it.
    fn or_reported(&mut self, reported: Option<Decimal>) {
        if let (Err(why), Some(cost)) = (&self.cost, reported)
            && self.counted != Completeness::Invalid
            && why.reason != Reason::FlavorUnknown
        {
            let cost = cost.round_dp(COST_DECIMALS);
            self.cost = Ok(cost);
            self.currency = Some("USD".to_owned());
            self.components = json!([{"unit": "reported", "cost": plain(cost)}]);
            self.rate_version = None;
        }
    }

    /// Refuses counts that are no numbers or contradict each other.
    ///
    /// # Errors
    /// 22023, with vendor, model and what is wrong.
    pub fn check(&self) -> Result<()> {
        match self.counted {
            Completeness::Invalid => Err(self.unreadable()),
            _ => Ok(()),
        }
    }

    /// The cost in a currency, by the exchange rate of a moment; without one it is not known.
    pub fn in_currency(mut self, store: &Store, currency: &str, at: Moment) -> Result<UsageCost> {
        let (Ok(cost), Some(own)) = (&self.cost, &self.currency) else {
            return Ok(self);
        };
        if own == currency {
            return Ok(self);
        }
        self.cost = match exchange::rate(store, own, currency, at)? {
            Some(rate) => {
                let converted = convert(*cost, rate, COST_DECIMALS);
                let currency = own.clone();
                self.conversion = converted.map(|_| Conversion { currency, rate });
                converted.ok_or_else(|| {
                    Uncosted::new(Reason::CostTooLarge, "it is too large to convert")
                })
            }
            None => Err(Uncosted::new(
                Reason::CurrencyForeign,
                format_args!("the rate is in {own}, the asset in {currency}"),
            )),
        };
        self.currency = Some(currency.to_owned());
        Ok(self)
    }
}

/// A vendor as it was named.
struct Vendor {
    /// The name that its definition or its rates have; as given where there is neither.
    id: String,
    /// The names that its rates may have.
    names: Vec<String>,
    definition: Option<Rc<Definition>>,
    is_known: bool,
    models: RefCell<HashMap<String, Rc<Model>>>,
}

/// A model as it was named: the rates that may count for it, first the ones that count before others.
struct Model {
    /// The vendor's name for it, where a rule holds for the name it was given.
    id: Option<String>,
    lines: Vec<Line>,
}

/// The rates of one model from one source, the latest first.
struct Line {
    model: String,
    /// Whether its rate is that of another vendor, whose models this one offers.
    is_borrowed: bool,
    versions: Vec<Version>,
}

struct Version {
    version: i32,
    /// `None`: from the beginning.
    effective_at: Option<Moment>,
    currency: String,
    /// `None`: withdrawn.
    rates: Option<Rates>,
}

#[derive(Default)]
struct VendorCache {
    cache_epoch: u64,
    /// By the name that was given.
    vendors: HashMap<String, Rc<Vendor>>,
    /// By id.
    definitions: HashMap<String, Option<Rc<Definition>>>,
}

thread_local! {
    static KNOWN: RefCell<VendorCache> = RefCell::default();
}

table! {
    /// A version of a model's rates.
    pub struct RateRow {
        vendor: String as text,
        model: String as text,
        version: i32 as int,
        source: String as text,
        currency: String as text,
        /// JSON null: withdrawn.
        rates: Json as jsonb,
        /// `None`: from the beginning.
        effective_at: Option<Moment> as timestamptz,
        created_at: Moment as timestamptz,
    }
}

table! {
    /// A version of a vendor's definition.
    struct DefinitionRow {
        vendor: String as text,
        version: i32 as int,
        source: String as text,
        definition: Json as jsonb,
        created_at: Moment as timestamptz,
    }
}

static DEFINITION: Statement = Statement {
    sql: "SELECT v.definition FROM credyt.vendors v WHERE v.vendor = $1 ORDER BY v.version DESC LIMIT 1",
    args: &[TEXT],
};

/// The vendors that go by other names, too, in the order of their file.
static MATCHES: Statement = Statement {
    sql: "SELECT v.vendor, v.definition -> 'match'
          FROM (SELECT DISTINCT ON (v.vendor) v.vendor, v.definition
                FROM credyt.vendors v ORDER BY v.vendor, v.version DESC) v
          WHERE v.definition ? 'match'
          ORDER BY (v.definition ->> 'position')::int, v.vendor",
    args: &[],
};

static DEFINITIONS: Statement = Statement {
    sql: sql!(
        "SELECT DISTINCT ON (v.vendor) ",
        DefinitionRow::COLUMNS,
        " FROM credyt.vendors v ORDER BY v.vendor, v.version DESC"
    ),
    args: &[],
};

static HAS_RATES: Statement = Statement {
    sql: "SELECT r.vendor FROM credyt.vendor_rates r WHERE r.vendor = ANY ($1)
          ORDER BY array_position($1, r.vendor) LIMIT 1",
    args: &[TEXTS],
};

static RATES: Statement = Statement {
    sql: sql!(
        "SELECT ",
        RateRow::COLUMNS,
        " FROM credyt.vendor_rates r WHERE r.vendor = ANY ($1) AND r.model = ANY ($2)
          ORDER BY r.effective_at DESC NULLS LAST, r.version DESC"
    ),
    args: &[TEXTS, TEXTS],
};

table! {
    /// A model's last version, and what a source says of it at a moment.
    struct LastRates {
        vendor: String as text,
        model: String as text,
        version: i32 as int,
        is_of_source: bool as boolean,
        rates: Option<Json> as jsonb,
    }
}

static IN_FORCE: Statement = Statement {
    sql: sql!(
        "SELECT ",
        LastRates::COLUMNS,
        " FROM (SELECT v.vendor, v.model, max(v.version) AS version, bool_or(v.source = $1) AS is_of_source
                FROM credyt.vendor_rates v GROUP BY v.vendor, v.model) v
          LEFT JOIN (SELECT DISTINCT ON (r.vendor, r.model) r.vendor, r.model, r.rates
                     FROM credyt.vendor_rates r
                     WHERE r.source = $1 AND (r.effective_at IS NULL OR r.effective_at <= $2)
                     ORDER BY r.vendor, r.model, r.effective_at DESC NULLS LAST, r.version DESC) r
            USING (vendor, model)"
    ),
    args: &[TEXT, TIME],
};

/// Rates are added by one transaction after another.
static LOCK: Statement = Statement {
    sql: "LOCK TABLE credyt.vendor_rates IN SHARE ROW EXCLUSIVE MODE",
    args: &[],
};

static LAST_VERSION: Statement = Statement {
    sql: "SELECT coalesce(max(r.version), 0) FROM credyt.vendor_rates r WHERE r.vendor = $1 AND r.model = $2",
    args: &[TEXT, TEXT],
};

static ADD_RATE: Statement = insert!("vendor_rates", RateRow, " ON CONFLICT DO NOTHING");

static ADD_RATES: Statement = insert_all!("vendor_rates", RateRow, " ON CONFLICT DO NOTHING");

static ADD_DEFINITIONS: Statement =
    insert_all!("vendors", DefinitionRow, " ON CONFLICT DO NOTHING");

// ---- costing ------------------------------------------------------------------------------------

/// What some usage costs at a moment.
///
/// # Errors
/// Only those of the database.
pub fn cost(store: &Store, asked: &UsageToCost, at: Moment) -> Result<UsageCost> {
    let answer = VendorResponse::of(&asked.body);
    let vendor = vendor(store, &asked.vendor)?;
    let readers = match &vendor.definition {
        Some(definition) => choose(&definition.extractors, asked),
        None => Ok(Readers {
            all: &[],
            is_named: false,
        }),
    };
    let all = readers.as_ref().map_or(&[][..], |readers| readers.all);
    let named = all.iter().find_map(|one| one.model(answer.body()));
    // What is longer is no name.
    let name = asked.model.as_deref().or(named).or(answer.model());
    let name = name.filter(|name| name.len() <= MAX_NAME_BYTES);
    let model = match name {
        Some(name) => Some(model(store, &vendor, name)?),
        None => None,
    };
    let in_force = model.as_ref().and_then(|model| model.at(at));
    let rates = in_force.as_ref().map(|found| found.2);
    let (vendor_id, of) = (
        vendor.id.clone(),
        model.as_ref().and_then(|model| model.id.as_deref()),
    );
    let mut costed = UsageCost {
        vendor: vendor_id,
        model: of.or(name).map(str::to_owned),
        cost: Err(Uncosted::new(
            Reason::ModelMissing,
            "neither the call nor the usage names a model",
        )),
        currency: None,
        conversion: None,
        components: json!([]),
        usage: BTreeMap::new(),
        counted: Completeness::Whole,
        rate_version: None,
    };
    let read = match readers {
        Ok(readers) => reading::read(readers, &answer, rates, at),
        Err(why) => Err((why, Completeness::Nothing)),
    };
    match read {
        Err((why, counted)) => costed.set(why, counted),
        Ok(found) => match reading::unknown_part(&answer, &found, rates, at) {
            Some(part) => {
                let counts = if answer.is_cut() {
                    reading::without_output(found.counts)
                } else {
                    found.counts
                };
                costed.usage = counts.disjoint(0).unwrap_or_default().named();
                costed.set(
                    Uncosted::new(Reason::UsagePartial, part),
                    Completeness::Partial,
                );
            }
            None => match in_force {
                Some((line, version, rates)) => {
                    // A vendor's own terms are not those of the vendor whose models it offers.
                    let said = if line.is_borrowed {
                        &Json::Null
                    } else {
                        &asked.context
                    };
                    costed.compute(rates.cost(&found.counts, at, &Terms::of(&answer, said)));
                    costed.model = Some(line.model.clone());
                    costed.currency = Some(version.currency.clone());
                    costed.rate_version = Some(version.version);
                }
                None => {
                    if !vendor.is_known {
                        let says = format_args!("vendor {} is not known", asked.vendor);
                        costed.cost = Err(Uncosted::new(Reason::VendorUnknown, says));
                    } else if let Some(name) = name {
                        let says =
                            format_args!("no rate is known for model {name} of {}", vendor.id);
                        costed.cost = Err(Uncosted::new(Reason::ModelUnknown, says));
                    }
                    match found.counts.disjoint(0) {
                        Ok(disjoint) => costed.usage = disjoint.named(),
                        Err(why) => costed.set(
                            Uncosted::new(Reason::UsageInvalid, why),
                            Completeness::Invalid,
                        ),
                    }
                }
            },
        },
    }
    costed.or_reported(answer.reported_cost());
    Ok(costed)
}

/// The name that a model's rates have, at a moment; as given where it has none.
pub fn canonical_model(store: &Store, vendor_name: &str, name: &str, at: Moment) -> Result<String> {
    let model = model(store, &*vendor(store, vendor_name)?, name)?;
    let rated = model.at(at).map(|(line, _, _)| line.model.clone());
    Ok(rated
        .or_else(|| model.id.clone())
        .unwrap_or_else(|| name.to_owned()))
}

/// The name that a vendor's rates have; as given where it has none.
pub fn canonical(store: &Store, name: &str) -> Result<String> {
    Ok(vendor(store, name)?.id.clone())
}

/// The extractors that may read an answer: that of the flavor, or all where none is named. `default`
/// names the file's own reader of that name where there is one, and none otherwise.
fn choose<'a>(
    extractors: &'a [Extractor],
    asked: &UsageToCost,
) -> std::result::Result<Readers<'a>, Uncosted> {
    let any = Readers {
        all: extractors,
        is_named: false,
    };
    let Some(flavor) = asked.api_flavor.as_deref() else {
        return Ok(any);
    };
    match extractors.iter().position(|one| one.flavor == flavor) {
        Some(nth) => Ok(Readers {
            all: extractors.get(nth..=nth).unwrap_or_default(),
            is_named: true,
        }),
        None if flavor == DEFAULT_FLAVOR || extractors.is_empty() => Ok(any),
        None => {
            let known: Vec<&str> = extractors.iter().map(|one| one.flavor.as_str()).collect();
            let known = known.join(", ");
            Err(Uncosted::new(
                Reason::FlavorUnknown,
                format_args!("{} has no {flavor:?}, but {known}", asked.vendor),
            ))
        }
    }
}

impl Model {
    /// What counts at a moment.
    fn at(&self, at: Moment) -> Option<(&Line, &Version, &Rates)> {
        self.lines.iter().find_map(|line| {
            let mut versions = line.versions.iter();
            let version = versions.find(|one| one.effective_at.is_none_or(|from| from <= at))?;
            Some((line, version, version.rates.as_ref()?))
        })
    }
}

// ---- looking up -----------------------------------------------------------------------------------

/// What is remembered in this cache epoch, after forgetting what is older.
fn remembered<R>(look: impl FnOnce(&mut VendorCache) -> R) -> R {
    let cache_epoch = cache_epoch::current();
    KNOWN.with_borrow_mut(|known| {
        if known.cache_epoch != cache_epoch {
            *known = VendorCache {
                cache_epoch,
                ..VendorCache::default()
            };
        }
        look(known)
    })
}

/// Remembers what was read since `cache_epoch`, unless something was announced meanwhile.
fn remember(store: &Store, cache_epoch: u64, keep: impl FnOnce(&mut VendorCache)) {
    if may_remember(store, cache_epoch) {
        remembered(keep);
    }
}

fn may_remember(store: &Store, cache_epoch: u64) -> bool {
    cache_epoch::sees_commits() && store.sees_latest() && cache_epoch == cache_epoch::current()
}

/// A bounded map: when it is full it is emptied.
fn keep<T>(map: &mut HashMap<String, T>, key: &str, value: T) {
    if map.len() >= MAX_KEPT {
        map.clear();
    }
    map.insert(key.to_owned(), value);
}

fn vendor(store: &Store, name: &str) -> Result<Rc<Vendor>> {
    if cache_epoch::sees_commits()
        && let Some(vendor) = remembered(|known| known.vendors.get(name).cloned())
    {
        return Ok(vendor);
    }
    let cache_epoch = cache_epoch::current();
    let vendor = Rc::new(read_vendor(store, name)?);
    remember(store, cache_epoch, |known| {
        keep(&mut known.vendors, name, vendor.clone());
    });
    Ok(vendor)
}

fn read_vendor(store: &Store, name: &str) -> Result<Vendor> {
    let lower = name.trim().to_lowercase();
    let mut names = vec![name.to_owned()];
    if lower != name {
        names.push(lower.clone());
    }
    let mut defined = None;
    for id in &names {
        if let Some(definition) = definition(store, id)? {
            defined = Some((id.clone(), definition));
            break;
        }
    }
    if defined.is_none() {
        for row in MATCHES.run(store, &[])?.iter() {
            let (id, rule): (String, Json) = row.read()?;
            let rule = Rule::read(&rule, "match");
            let rule = rule.map_err(|why| errors::corrupted("a vendor", why))?;
            if rule.holds(&lower, &lower) {
                defined = definition(store, &id)?.map(|definition| (id, definition));
                break;
            }
        }
    }
    if let Some((id, _)) = &defined
        && !names.contains(id)
    {
        names.push(id.clone());
    }
    let priced = HAS_RATES.run(store, &[value::texts(Some(&names))])?;
    let priced: Option<String> = priced.read_first()?;
    let is_known = defined.is_some() || priced.is_some();
    let (id, definition) = match defined {
        Some((id, definition)) => (Some(id), Some(definition)),
        None => (priced, None),
    };
    Ok(Vendor {
        id: id.unwrap_or_else(|| name.to_owned()),
        names,
        definition,
        is_known,
        models: RefCell::default(),
    })
}

/// How a vendor's answers are read, if anything says so.
fn definition(store: &Store, id: &str) -> Result<Option<Rc<Definition>>> {
    if cache_epoch::sees_commits()
        && let Some(definition) = remembered(|known| known.definitions.get(id).cloned())
    {
        return Ok(definition);
    }
    let cache_epoch = cache_epoch::current();
    let rows = DEFINITION.run(store, &[value::text(id)])?;
    let definition = match rows.read_first()? {
        None => None,
        Some(definition) => {
            let definition = Definition::read(&definition);
            Some(Rc::new(
                definition.map_err(|why| errors::corrupted("a vendor", why))?,
            ))
        }
    };
    remember(store, cache_epoch, |known| {
        keep(&mut known.definitions, id, definition.clone());
    });
    Ok(definition)
}

fn model(store: &Store, vendor: &Vendor, name: &str) -> Result<Rc<Model>> {
    if cache_epoch::sees_commits()
        && let Some(model) = vendor.models.borrow().get(name).cloned()
    {
        return Ok(model);
    }
    let cache_epoch = cache_epoch::current();
    let model = Rc::new(read_model(store, vendor, name)?);
    // A vendor is forgotten with its cache epoch: what is kept in it afterwards is never used.
    if may_remember(store, cache_epoch) {
        keep(&mut vendor.models.borrow_mut(), name, model.clone());
    }
    Ok(model)
}

fn read_model(store: &Store, vendor: &Vendor, name: &str) -> Result<Model> {
    let mut fallback = Vec::new();
    let mut meant = None;
    if let Some(own) = &vendor.definition {
        for id in &own.fallback {
            if let Some(definition) = definition(store, id)? {
                fallback.push((id.as_str(), definition));
            }
        }
        let fallback: Vec<_> = fallback.iter().map(|(id, one)| (*id, &**one)).collect();
        meant = vendor::find((&vendor.id, own), &fallback, name);
    }
    let lower = name.to_lowercase();
    let vendors: Vec<String> = vendor
        .names
        .iter()
        .cloned()
        .chain(meant.map(|(vendor, _)| vendor.to_owned()))
        .collect();
    // A reseller's list of models may have its own name before them.
    let prefixed = vendor.names.iter().map(|vendor| format!("{vendor}/{name}"));
    let models: Vec<String> = [name.to_owned(), lower.clone()]
        .into_iter()
        .chain(prefixed)
        .chain(meant.map(|(_, model)| model.to_owned()))
        .collect();
    let rows = RATES.run(
        store,
        &[value::texts(Some(&vendors)), value::texts(Some(&models))],
    )?;
    // Lines by their rank: whose rates, then how the name was recognised, then its place above.
    let mut lines: BTreeMap<(usize, usize, usize), Line> = BTreeMap::new();
    for row in rows.iter() {
        let RateRow {
            vendor: of,
            model: id,
            source,
            version,
            effective_at,
            currency,
            rates,
            created_at: _,
        } = row.read()?;
        let is_meant = meant == Some((&of, &id));
        let is_named = vendor.names.contains(&of);
        let exact = is_named && (id == name || id == lower);
        if !is_meant && !is_named {
            continue;
        }
        // A rate that was set for a name counts before what a rule makes of the name; in files, whose
        // rules these are, the rule counts.
        let recognised = match (source == OWN, exact, is_meant) {
            (true, true, _) | (false, _, true) => 0,
            (true, _, true) | (false, true, _) => 1,
            // A borrowed model's name, or a listing of another vendor by chance.
            _ if models.contains(&id) && is_named => 2,
            _ => continue,
        };
        let rank = SOURCES.iter().position(|one| *one == source);
        let place = models.iter().position(|one| *one == id);
        let key = (
            rank.unwrap_or(SOURCES.len()),
            recognised,
            place.unwrap_or(models.len()),
        );
        let line = lines.entry(key).or_insert_with(|| Line {
            model: id,
            is_borrowed: !is_named,
            versions: Vec::new(),
        });
        let rates = match rates {
            Json::Null => None,
            rates => {
                let rates = Rates::read(&rates);
                Some(rates.map_err(|why| errors::corrupted("a vendor rate", why))?)
            }
        };
        line.versions.push(Version {
            version,
            effective_at,
            currency,
            rates,
        });
    }
    Ok(Model {
        id: meant.map(|(_, model)| model.to_owned()),
        lines: lines.into_values().collect(),
    })
}

// ---- adding ---------------------------------------------------------------------------------------

/// What an import did, or would do: how many models.
#[derive(Default)]
pub struct ImportCounts {
    pub added: i32,
    pub changed: i32,
    pub unchanged: i32,
}

/// Adds what is new in a file: vendors' definitions, which count at once, and models' rates.
pub fn import(
    store: &Store,
    source: &str,
    import: &Import,
    effective_at: Option<Moment>,
    now: Moment,
    dry_run: bool,
) -> Result<ImportCounts> {
    if !dry_run {
        LOCK.run(store, &[])?;
    }
    let from = effective_at.unwrap_or(now);
    let rows = IN_FORCE.run(store, &[value::text(source), value::moment(from)])?;
    let mut known: HashMap<(String, String), LastRates> = HashMap::new();
    for row in rows.iter() {
        let last: LastRates = row.read()?;
        known.insert((last.vendor.clone(), last.model.clone()), last);
    }
    let definitions = known_definitions(store)?;
    let mut rules = HashMap::new();
    for one in &import.vendors {
        let known = definitions.get(&one.vendor);
        rules.insert(
            one.vendor.as_str(),
            known.map(|known| reading_changed(&known.definition, &one.definition)),
        );
    }
    let mut imported = ImportCounts::default();
    let mut new = Columns::new(RateRow::ELEMENTS);
    for one in &import.models {
        let last = known.get(&(one.vendor.clone(), one.model.clone()));
        let stands = |last: &&LastRates| last.rates.as_ref() == Some(&one.rates);
        if last.is_some_and(|last| stands(&last)) {
            // The same price of counts that are read otherwise is another price.
            let changed = rules.get(one.vendor.as_str()).and_then(Option::as_ref);
            match changed.is_some_and(|changed| changed.has(&one.model)) {
                true => imported.changed += 1,
                false => imported.unchanged += 1,
            }
            continue;
        }
        match last.is_some_and(|last| last.is_of_source) {
            true => imported.changed += 1,
            false => imported.added += 1,
        }
        if dry_run {
            continue;
        }
        let row = RateRow {
            vendor: one.vendor.clone(),
            model: one.model.clone(),
            version: last.map_or(1, |last| last.version.saturating_add(1)),
            source: source.to_owned(),
            currency: "USD".to_owned(),
            rates: one.rates.clone(),
            effective_at: last.map(|_| from),
            created_at: now,
        };
        new.push(row.elements()?);
    }
    if dry_run {
        return Ok(imported);
    }
    add_all(store, &ADD_RATES, &new)?;
    add_definitions(store, source, import, &definitions, now)?;
    Ok(imported)
}

fn add_all(store: &Store, statement: &Statement, new: &Columns) -> Result<()> {
    if new.is_empty() || statement.run(store, &new.args())?.count() == new.count() {
        return Ok(());
    }
    Err(errors::rates_changed())
}

/// The models of a vendor that are read or recognised otherwise than before.
enum ChangedModels {
    All,
    Models(HashSet<String>),
}

impl ChangedModels {
    fn has(&self, model: &str) -> bool {
        match self {
            ChangedModels::All => true,
            ChangedModels::Models(models) => models.contains(model),
        }
    }
}

fn reading_changed(known: &Json, new: &Json) -> ChangedModels {
    if ["match", "fallback", "extractors"]
        .iter()
        .any(|key| known.get(key) != new.get(key))
    {
        return ChangedModels::All;
    }
    let matches = |definition: &Json| -> HashMap<String, Json> {
        let models = definition.get("models").and_then(Json::as_array);
        let models = models.into_iter().flatten().filter_map(|model| {
            let id = model.get("id")?.as_str()?.to_owned();
            Some((id, model.get("match").cloned().unwrap_or_default()))
        });
        models.collect()
    };
    let known = matches(known);
    let changed = matches(new)
        .into_iter()
        .filter(|(id, rule)| known.get(id) != Some(rule));
    ChangedModels::Models(changed.map(|(id, _)| id).collect())
}

/// Every vendor's last definition.
fn known_definitions(store: &Store) -> Result<HashMap<String, DefinitionRow>> {
    let rows = DEFINITIONS.run(store, &[])?;
    let known = rows.iter().map(|row| {
        let row: DefinitionRow = row.read()?;
        Ok((row.vendor.clone(), row))
    });
    known.collect()
}

fn add_definitions(
    store: &Store,
    source: &str,
    import: &Import,
    known: &HashMap<String, DefinitionRow>,
    now: Moment,
) -> Result<()> {
    let mut new = Columns::new(DefinitionRow::ELEMENTS);
    for one in &import.vendors {
        let known = known.get(&one.vendor);
        if known.is_some_and(|known| known.definition == one.definition) {
            continue;
        }
        let row = DefinitionRow {
            vendor: one.vendor.clone(),
            version: known.map_or(1, |known| known.version.saturating_add(1)),
            source: source.to_owned(),
            definition: one.definition.clone(),
            created_at: now,
        };
        new.push(row.elements()?);
    }
    add_all(store, &ADD_DEFINITIONS, &new)
}

/// Sets an own rate. The first rate of a model holds from the beginning.
pub fn set(
    store: &Store,
    vendor: &str,
    model: &str,
    rates: Json,
    currency: String,
    effective_at: Option<Moment>,
    now: Moment,
) -> Result<RateRow> {
    LOCK.run(store, &[])?;
    // Looked up again: while the lock was waited for, others may have set rates.
    let known = read_model(store, &read_vendor(store, vendor)?, model)?;
    let from = match known.lines.is_empty() {
        true => None,
        false => Some(effective_at.unwrap_or(now)),
    };
    let rows = LAST_VERSION.run(store, &[value::text(vendor), value::text(model)])?;
    let new = RateRow {
        vendor: vendor.to_owned(),
        model: model.to_owned(),
        version: rows.read_one::<i32>()?.saturating_add(1),
        source: OWN.to_owned(),
        currency,
        rates,
        effective_at: from,
        created_at: now,
    };
    match ADD_RATE.run(store, &new.values()?)?.count() {
        0 => Err(errors::rates_changed()),
        _ => Ok(new),
    }
}

/// Whether this model has a rate that JSON null could withdraw.
pub fn has_own(store: &Store, vendor: &str, model: &str) -> Result<bool> {
    let names = |name: &str| value::texts(Some(&[name.to_owned()]));
    let rows = RATES.run(store, &[names(vendor), names(model)])?;
    let rates: Vec<RateRow> = rows.read_all()?;
    Ok(rates.iter().any(|rate| rate.source == OWN))
}
