//! One connection of the application: every call it makes, each in a transaction of its own, and what it expects of the
//! answers. Whatever is not expected ends the replay.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use crate::common::{Result, Scratch, explain, said};
use crate::plan::{ACTIONS, MAX_OUTPUT, Plan, Refund, Request, SCALE, Tokens, Way};

/// A second after this a hold of one second is over.
const LATER: Duration = Duration::from_millis(1100);

/// The calls whose time is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Debit,
    Transaction,
    Authorize,
    Capture,
    Release,
    Extend,
    Refund,
    TopUp,
    Retry,
}

impl Call {
    pub fn label(self) -> &'static str {
        match self {
            Call::Debit => "debit_credits",
            Call::Transaction => "begin, debit, insert, commit",
            Call::Authorize => "authorize",
            Call::Capture => "capture",
            Call::Release => "release",
            Call::Extend => "extend",
            Call::Refund => "refund",
            Call::TopUp => "grant_credits",
            Call::Retry => "any of them again",
        }
    }
}

const DEBIT: &str = "
    SELECT id, quantity::text, credits::text, revenue::text, cost::text, replayed, reason, allocations
    FROM credyt.debit_credits(customer => $1, action => $2, dimensions => $3, cost => $4::text::numeric,
                              idempotency_key => $5)";
const AUTHORIZE: &str = "
    SELECT id, approved, reason, credits::text, replayed
    FROM credyt.authorize(customer => $1, action => $2, dimensions => $3, cost => $4::text::numeric,
                          ttl_seconds => $5, overrun => $6, idempotency_key => $7)";
const CAPTURE: &str = "
    SELECT id, quantity::text, credits::text, revenue::text, cost::text, replayed, reason, allocations
    FROM credyt.capture(customer => $1, authorization_id => $2, dimensions => $3, cost => $4::text::numeric,
                        credits => $5::text::numeric, keep_open => $6)";
const RELEASE: &str = "
    SELECT id, status, replayed
    FROM credyt.release(customer => $1, authorization_id => $2, reason => 'the vendor failed')";
const EXTEND: &str = "
    SELECT id, status FROM credyt.extend(customer => $1, authorization_id => $2, ttl_seconds => 600)";
const REFUND: &str = "
    SELECT id, quantity::text, credits::text, revenue::text, cost::text, replayed, reason, allocations
    FROM credyt.refund(customer => $1, debit_id => $2, credits => $3::text::numeric,
                       reason => 'the customer was not happy', idempotency_key => $4)";
const GRANT: &str = "
    SELECT id, paid::text, deferred::text, replayed
    FROM credyt.grant_credits(customer => $1, credits => $2::text::numeric, paid => $3::text::numeric,
                              idempotency_key => $4)";
const INSERT_REPLY: &str = "INSERT INTO app.replies (request, customer, debit) VALUES ($1, $2, $3)";

struct Statements {
    debit: Statement,
    authorize: Statement,
    capture: Statement,
    release: Statement,
    extend: Statement,
    refund: Statement,
    grant: Statement,
    insert_reply: Statement,
}

impl Statements {
    fn prepare(client: &mut Client) -> Result<Statements> {
        let mut prepare = |sql: &str| client.prepare(sql).map_err(said(sql));
        Ok(Statements {
            debit: prepare(DEBIT)?,
            authorize: prepare(AUTHORIZE)?,
            capture: prepare(CAPTURE)?,
            release: prepare(RELEASE)?,
            extend: prepare(EXTEND)?,
            refund: prepare(REFUND)?,
            grant: prepare(GRANT)?,
            insert_reply: prepare(INSERT_REPLY)?,
        })
    }
}

/// What was charged for one action, as the answers said it.
#[derive(Clone, Default)]
pub struct Sums {
    pub debits: u64,
    pub quantity: Decimal,
    pub credits: Decimal,
    pub revenue: Decimal,
    pub cost: Decimal,
}

impl Sums {
    pub fn add(&mut self, other: &Sums) {
        self.debits += other.debits;
        self.quantity += other.quantity;
        self.credits += other.credits;
        self.revenue += other.revenue;
        self.cost += other.cost;
    }
}

/// What happened on one connection, or on all.
#[derive(Default)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, u64>,
    pub declines: BTreeMap<String, u64>,
    pub actions: BTreeMap<&'static str, Sums>,
    pub times: BTreeMap<Call, Vec<Duration>>,
    /// Money paid for top-ups, and the part of it that paid debt at once.
    pub paid: Decimal,
    pub settled: Decimal,
}

impl Tally {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    pub fn add(&mut self, other: Tally) {
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (reason, count) in other.declines {
            *self.declines.entry(reason).or_default() += count;
        }
        for (action, sums) in other.actions {
            self.actions.entry(action).or_default().add(&sums);
        }
        for (call, mut times) in other.times {
            self.times.entry(call).or_default().append(&mut times);
        }
        self.paid += other.paid;
        self.settled += other.settled;
    }
}

/// A debit, capture or refund as it was answered.
struct Charge {
    id: Uuid,
    quantity: Decimal,
    credits: Decimal,
    revenue: Decimal,
    cost: Decimal,
    /// The part of the credits that no grant paid.
    owed: Decimal,
    replayed: bool,
    reason: Option<String>,
}

impl Charge {
    fn read(row: &Row) -> Result<Charge> {
        let number = |column| -> Result<Decimal> {
            Ok(match row.try_get::<_, Option<&str>>(column)? {
                Some(text) => Decimal::from_str_exact(text)?,
                None => Decimal::ZERO,
            })
        };
        let charge = Charge {
            id: row.try_get("id")?,
            quantity: number("quantity")?,
            credits: number("credits")?,
            revenue: number("revenue")?,
            cost: number("cost")?,
            owed: allocated(row, "credits", Some("overdraft"))?,
            replayed: row.try_get("replayed")?,
            reason: row.try_get("reason")?,
        };
        let (credits, revenue) = (
            allocated(row, "credits", None)?,
            allocated(row, "revenue", None)?,
        );
        if (credits, revenue) != (charge.credits, charge.revenue) {
            return Err(format!(
                "{}: {} credits and a revenue of {}, but allocations of {credits} and {revenue}",
                charge.id, charge.credits, charge.revenue
            )
            .into());
        }
        Ok(charge)
    }
}

/// The sum of an amount over the allocations of a row, or over those of a kind.
fn allocated(row: &Row, amount: &str, kind: Option<&str>) -> Result<Decimal> {
    let allocations: serde_json::Value = row.try_get("allocations")?;
    let mut sum = Decimal::ZERO;
    for part in allocations.as_array().into_iter().flatten() {
        if kind.is_none_or(|kind| part["kind"] == kind) {
            sum += Decimal::from_str_exact(part[amount].as_str().unwrap_or("0"))?;
        }
    }
    Ok(sum)
}

/// What the server answered: a row, or one of the refusals that an application must expect.
enum Answer {
    Row(Row),
    Refused(String),
}

/// What waits for its moment.
enum Later<'a> {
    Capture {
        request: &'a Request,
        authorization: Uuid,
    },
    Debit {
        request: &'a Request,
        id: Uuid,
        credits: Decimal,
    },
}

pub struct Shop<'a> {
    client: Client,
    sql: Statements,
    plan: &'a Plan,
    waiting: VecDeque<(Instant, Later<'a>)>,
    pub tally: Tally,
}

impl<'a> Shop<'a> {
    pub fn open(scratch: &Scratch, plan: &'a Plan) -> Result<Shop<'a>> {
        let mut client = scratch.connect()?;
        let sql = Statements::prepare(&mut client)?;
        Ok(Shop {
            client,
            sql,
            plan,
            waiting: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// One request of the trace.
    pub fn serve(&mut self, request: &'a Request) -> Result<()> {
        while self
            .waiting
            .front()
            .is_some_and(|(due, _)| *due <= Instant::now())
        {
            self.next_waiting()?;
        }
        self.tally.count("requests");
        let last = match request.way {
            Way::Debit => self.debit(request)?,
            Way::Transaction => self.transaction(request, true)?,
            Way::RolledBack => {
                if self.transaction(request, false)?.is_some() {
                    self.tally.count("rolled back");
                    self.transaction(request, true)?
                } else {
                    None
                }
            }
            _ => self.hold(request)?,
        };
        match last {
            Some(charge) => self.refund(request, &charge),
            None => Ok(()),
        }
    }

    /// What still waits, when there are no more requests.
    pub fn close(&mut self) -> Result<()> {
        while let Some((due, _)) = self.waiting.front() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.next_waiting()?;
        }
        Ok(())
    }

    fn next_waiting(&mut self) -> Result<()> {
        match self.waiting.pop_front() {
            Some((
                _,
                Later::Capture {
                    request,
                    authorization,
                },
            )) => {
                let charge = self.capture_all(request, authorization)?;
                match charge {
                    Some(charge) => self.refund(request, &charge),
                    None => Ok(()),
                }
            }
            Some((
                _,
                Later::Debit {
                    request,
                    id,
                    credits,
                },
            )) => self.debit_again(request, id, credits),
            None => Ok(()),
        }
    }

    fn wait(&mut self, later: Later<'a>) {
        self.waiting.push_back((Instant::now() + LATER, later));
    }

    // Direct debits.

    fn debit(&mut self, request: &'a Request) -> Result<Option<Charge>> {
        let answer = self.ask_debit(Call::Debit, request)?;
        let Some(charge) = self.first_charge(request, answer)? else {
            return Ok(None);
        };
        self.expect_price(request, &charge.credits, request.tokens)?;
        if request.retry {
            let Charge { id, credits, .. } = charge;
            self.debit_again(request, id, credits)?;
            self.wait(Later::Debit {
                request,
                id,
                credits,
            });
        }
        Ok(Some(charge))
    }

    /// The same debit with the same key: the network had lost the answer.
    fn debit_again(&mut self, request: &Request, id: Uuid, credits: Decimal) -> Result<()> {
        match self.ask_debit(Call::Retry, request)? {
            Answer::Row(row) => self.expect_replay(request, id, credits, &Charge::read(&row)?),
            Answer::Refused(slug) => Err(wrong(request, format!("its retry is refused: {slug}"))),
        }
    }

    fn ask_debit(&mut self, call: Call, request: &Request) -> Result<Answer> {
        let (customer, action, key) = self.names(request);
        let cost = request.tokens.cost().to_string();
        let sql = self.sql.debit.clone();
        self.ask(
            call,
            &sql,
            &[
                &customer,
                &action,
                &request.tokens.dimensions(),
                &cost,
                &key,
            ],
        )
    }

    /// A debit and a row of the application's own in one transaction.
    fn transaction(&mut self, request: &'a Request, commit: bool) -> Result<Option<Charge>> {
        let (customer, action, key) = self.names(request);
        let cost = request.tokens.cost().to_string();
        let dimensions = request.tokens.dimensions();
        let began = Instant::now();
        let mut transaction = self.client.transaction().map_err(said("BEGIN"))?;
        let parameters: [&(dyn ToSql + Sync); 5] = [&customer, &action, &dimensions, &cost, &key];
        let answer = answered(transaction.query_one(&self.sql.debit, &parameters))?;
        let charge = match &answer {
            Answer::Row(row) => {
                let charge = Charge::read(row)?;
                let number = i64::try_from(request.number)?;
                transaction
                    .execute(&self.sql.insert_reply, &[&number, &customer, &charge.id])
                    .map_err(said(INSERT_REPLY))?;
                Some(charge)
            }
            Answer::Refused(_) => None,
        };
        if commit && charge.is_some() {
            transaction.commit().map_err(said("COMMIT"))?;
            self.took(Call::Transaction, began);
        } else {
            transaction.rollback().map_err(said("ROLLBACK"))?;
            if charge.is_some() {
                return Ok(charge);
            }
        }
        let charge = self.first_charge(request, answer)?;
        if let Some(charge) = &charge {
            self.tally.count("rows of the application");
            self.expect_price(request, &charge.credits, request.tokens)?;
        }
        Ok(charge)
    }

    // Holds.

    fn hold(&mut self, request: &'a Request) -> Result<Option<Charge>> {
        let worst = match request.way {
            Way::Overrun => request.tokens.with_output(0),
            _ => request
                .tokens
                .with_output(MAX_OUTPUT.max(request.tokens.output)),
        };
        let ttl = if matches!(request.way, Way::Late | Way::Extend) {
            1
        } else {
            900
        };
        let Some(authorization) = self.authorize(request, worst, ttl)? else {
            return Ok(None);
        };
        match request.way {
            Way::Late => {
                self.wait(Later::Capture {
                    request,
                    authorization,
                });
                Ok(None)
            }
            Way::Release { partly } => {
                if partly {
                    let output = request.tokens.output / 2;
                    self.capture(
                        request,
                        authorization,
                        request.tokens.with_output(output),
                        true,
                    )?;
                }
                self.release(request, authorization)?;
                Ok(None)
            }
            Way::Stream { parts } => self.stream(request, authorization, parts),
            Way::Extend => {
                self.extend(request, authorization)?;
                self.capture_all(request, authorization)
            }
            _ => self.capture_all(request, authorization),
        }
    }

    fn authorize(&mut self, request: &Request, worst: Tokens, ttl: i32) -> Result<Option<Uuid>> {
        let (customer, action, key) = self.names(request);
        let (cost, dimensions) = (worst.cost().to_string(), worst.dimensions());
        let sql = self.sql.authorize.clone();
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &customer,
            &action,
            &dimensions,
            &cost,
            &ttl,
            &request.overrun,
            &key,
        ];
        let row = self.ask_row(Call::Authorize, &sql, &parameters)?;
        if !row.try_get::<_, bool>("approved")? {
            self.decline(request, row.try_get("reason")?)?;
            return Ok(None);
        }
        self.tally.count("approved");
        let id: Uuid = row.try_get("id")?;
        let held = Decimal::from_str_exact(row.try_get("credits")?)?;
        self.expect_price(request, &held, worst)?;
        if row.try_get("replayed")? {
            return Err(wrong(request, "its authorization is a replay of nothing"));
        }
        if request.retry {
            let again = self.ask_row(Call::Retry, &sql, &parameters)?;
            self.tally.count("retries");
            if again.try_get::<_, Uuid>("id")? != id || !again.try_get::<_, bool>("replayed")? {
                return Err(wrong(
                    request,
                    "the retry of its authorization is another one",
                ));
            }
        }
        Ok(Some(id))
    }

    /// The answer so far, part by part; then its end.
    fn stream(
        &mut self,
        request: &'a Request,
        authorization: Uuid,
        parts: u32,
    ) -> Result<Option<Charge>> {
        let mut captured = Decimal::ZERO;
        for part in 1..=parts {
            let so_far = request
                .tokens
                .with_output(request.tokens.output * part / parts);
            if let Some(charge) = self.capture(request, authorization, so_far, true)? {
                captured += charge.credits;
            }
            self.tally.count("captures in parts");
        }
        self.expect_price(request, &captured, request.tokens)?;
        // The same totals without keep_open: closes it and charges nothing.
        let last = self.capture(request, authorization, request.tokens, false)?;
        if last
            .as_ref()
            .is_some_and(|charge| !charge.credits.is_zero())
        {
            return Err(wrong(request, "closing its stream was charged"));
        }
        Ok(None)
    }

    /// The whole answer at once; where credits lack, what is held.
    fn capture_all(&mut self, request: &Request, authorization: Uuid) -> Result<Option<Charge>> {
        let charge = self.capture(request, authorization, request.tokens, false)?;
        let price = self.plan.credits(request, request.tokens);
        let Some(charge) = charge else {
            self.tally.count("above the hold, refused");
            self.release(request, authorization)?;
            return Ok(None);
        };
        if request.way == Way::Late {
            self.tally.count("late captures");
            if charge.reason.as_deref() != Some("late") {
                return Err(wrong(
                    request,
                    format!("its capture is late, the reason says {:?}", charge.reason),
                ));
            }
        }
        if !charge.owed.is_zero() {
            self.tally.count("above the hold, owed");
        }
        let may_exceed = matches!(request.way, Way::Overrun | Way::Late);
        if charge.credits < price && request.overrun == "clamp" && may_exceed {
            self.tally.count("above the hold, forgiven");
        } else {
            self.expect_price(request, &charge.credits, request.tokens)?;
        }
        Ok(Some(charge))
    }

    /// None: the excess was refused.
    fn capture(
        &mut self,
        request: &Request,
        authorization: Uuid,
        so_far: Tokens,
        keep_open: bool,
    ) -> Result<Option<Charge>> {
        let customer = self.plan.customers[request.customer].name.as_str();
        let (cost, dimensions) = (so_far.cost().to_string(), so_far.dimensions());
        let sql = self.sql.capture.clone();
        let credits: Option<&str> = None;
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &customer,
            &authorization,
            &dimensions,
            &cost,
            &credits,
            &keep_open,
        ];
        let charge = match self.ask(Call::Capture, &sql, &parameters)? {
            Answer::Row(row) => Charge::read(&row)?,
            Answer::Refused(slug) => {
                let expected =
                    request.overrun == "reject" && matches!(request.way, Way::Overrun | Way::Late);
                return if expected && slug == "insufficient_credits" {
                    Ok(None)
                } else {
                    Err(wrong(request, format!("its capture is refused: {slug}")))
                };
            }
        };
        self.tally.count("captures");
        self.book(request, &charge, false);
        if request.retry {
            let again = Charge::read(&self.ask_row(Call::Retry, &sql, &parameters)?)?;
            self.expect_replay(request, charge.id, charge.credits, &again)?;
        }
        Ok(Some(charge))
    }

    fn release(&mut self, request: &Request, authorization: Uuid) -> Result<()> {
        let customer = self.plan.customers[request.customer].name.as_str();
        let sql = self.sql.release.clone();
        let row = self.ask_row(Call::Release, &sql, &[&customer, &authorization])?;
        self.tally.count("releases");
        if row.try_get::<_, &str>("status")? != "released" {
            return Err(wrong(
                request,
                format!("released, it is {}", row.try_get::<_, &str>("status")?),
            ));
        }
        if request.retry {
            let again = self.ask_row(Call::Retry, &sql, &[&customer, &authorization])?;
            self.tally.count("retries");
            if !again.try_get::<_, bool>("replayed")? {
                return Err(wrong(request, "released twice"));
            }
        }
        Ok(())
    }

    fn extend(&mut self, request: &Request, authorization: Uuid) -> Result<()> {
        let customer = self.plan.customers[request.customer].name.as_str();
        let sql = self.sql.extend.clone();
        let row = self.ask_row(Call::Extend, &sql, &[&customer, &authorization])?;
        self.tally.count("extensions");
        match row.try_get("status")? {
            "open" => Ok(()),
            status => Err(wrong(request, format!("extended, it is {status}"))),
        }
    }

    // Credits that come back, and new ones.

    fn refund(&mut self, request: &Request, charge: &Charge) -> Result<()> {
        let credits = match request.refund {
            Refund::No => return Ok(()),
            Refund::Half => {
                let half = charge.credits / Decimal::TWO;
                Some(half.round_dp_with_strategy(SCALE, RoundingStrategy::ToZero))
            }
            Refund::All => None,
        };
        if charge.credits.is_zero() || credits.is_some_and(|credits| credits.is_zero()) {
            return Ok(());
        }
        let (customer, _, key) = self.names(request);
        let text = credits.map(|credits| credits.to_string());
        let sql = self.sql.refund.clone();
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&customer, &charge.id, &text, &format!("{key} refund")];
        let back = Charge::read(&self.ask_row(Call::Refund, &sql, &parameters)?)?;
        if back.credits != credits.unwrap_or(charge.credits) || back.replayed {
            return Err(wrong(
                request,
                format!("its refund gave back {}", back.credits),
            ));
        }
        self.tally.count("refunds");
        self.book(request, &back, true);
        if request.retry {
            let again = Charge::read(&self.ask_row(Call::Retry, &sql, &parameters)?)?;
            self.expect_replay(request, back.id, back.credits, &again)?;
        }
        Ok(())
    }

    fn top_up(&mut self, request: &Request, credits: Decimal) -> Result<()> {
        let (customer, _, key) = self.names(request);
        let paid = (credits / Decimal::ONE_HUNDRED).normalize();
        let sql = self.sql.grant.clone();
        let payment = format!("{key} payment");
        let row = self.ask_row(
            Call::TopUp,
            &sql,
            &[&customer, &credits.to_string(), &paid.to_string(), &payment],
        )?;
        let deferred = Decimal::from_str_exact(row.try_get("deferred")?)?;
        self.tally.count("top-ups");
        self.tally.paid += paid;
        self.tally.settled += paid - deferred;
        Ok(())
    }

    // What is expected of an answer.

    /// A new debit, counted; or the refusal, counted.
    fn first_charge(&mut self, request: &Request, answer: Answer) -> Result<Option<Charge>> {
        match answer {
            Answer::Row(row) => {
                let charge = Charge::read(&row)?;
                if charge.replayed {
                    return Err(wrong(request, "its debit is a replay of nothing"));
                }
                self.tally.count("approved");
                self.book(request, &charge, false);
                Ok(Some(charge))
            }
            Answer::Refused(slug) => {
                self.decline(request, slug)?;
                Ok(None)
            }
        }
    }

    fn decline(&mut self, request: &Request, reason: String) -> Result<()> {
        let customer = &self.plan.customers[request.customer];
        let expected = match reason.as_str() {
            "insufficient_credits" => !customer.grants.is_empty(),
            "wallet_not_found" => customer.grants.is_empty(),
            _ => false,
        };
        if !expected {
            return Err(wrong(
                request,
                format!("{} was declined: {reason}", customer.name),
            ));
        }
        let buys = customer.pack.filter(|_| request.number.is_multiple_of(4));
        *self.tally.declines.entry(reason).or_default() += 1;
        buys.map_or(Ok(()), |pack| self.top_up(request, pack))
    }

    fn expect_price(&self, request: &Request, credits: &Decimal, tokens: Tokens) -> Result<()> {
        let price = self.plan.credits(request, tokens);
        if *credits == price {
            return Ok(());
        }
        Err(wrong(
            request,
            format!("{credits} credits instead of {price}"),
        ))
    }

    fn expect_replay(
        &mut self,
        request: &Request,
        id: Uuid,
        credits: Decimal,
        again: &Charge,
    ) -> Result<()> {
        self.tally.count("retries");
        if again.replayed && again.id == id && again.credits == credits {
            return Ok(());
        }
        Err(wrong(
            request,
            format!(
                "first {id} of {credits} credits; its retry {} of {}, replayed {}",
                again.id, again.credits, again.replayed
            ),
        ))
    }

    /// Counts a debit, or a refund: one gives back credits and revenue, and neither quantity nor cost.
    fn book(&mut self, request: &Request, charge: &Charge, refunded: bool) {
        let sums = if refunded {
            Sums {
                credits: -charge.credits,
                revenue: -charge.revenue,
                ..Sums::default()
            }
        } else {
            Sums {
                debits: 1,
                quantity: charge.quantity,
                credits: charge.credits,
                revenue: charge.revenue,
                cost: charge.cost,
            }
        };
        if !charge.replayed {
            self.tally
                .actions
                .entry(ACTIONS[request.action].name)
                .or_default()
                .add(&sums);
        }
    }

    // The connection.

    /// Customer, action and idempotency key.
    fn names(&self, request: &Request) -> (&'a str, &'static str, String) {
        let customer = self.plan.customers[request.customer].name.as_str();
        (
            customer,
            ACTIONS[request.action].name,
            format!("request {}", request.number),
        )
    }

    fn ask(
        &mut self,
        call: Call,
        sql: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Answer> {
        let began = Instant::now();
        let answer = answered(self.client.query_one(sql, parameters));
        self.took(call, began);
        answer
    }

    fn ask_row(
        &mut self,
        call: Call,
        sql: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row> {
        match self.ask(call, sql, parameters)? {
            Answer::Row(row) => Ok(row),
            Answer::Refused(slug) => Err(format!("{}: {slug}", call.label()).into()),
        }
    }

    fn took(&mut self, call: Call, began: Instant) {
        self.tally
            .times
            .entry(call)
            .or_default()
            .push(began.elapsed());
    }
}

/// A row; or a refusal, when it is one that is no error of anybody, with the slug that DETAIL gives it.
fn answered(result: std::result::Result<Row, postgres::Error>) -> Result<Answer> {
    let error = match result {
        Ok(row) => return Ok(Answer::Row(row)),
        Err(error) => error,
    };
    let slug = match error.code().map(SqlState::code) {
        Some("WC001") => "insufficient_credits",
        Some("WC002") => "wallet_not_found",
        _ => return Err(explain(&error).into()),
    };
    let detail = error
        .as_db_error()
        .and_then(|said| said.detail())
        .unwrap_or_default();
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    if detail["error"] != slug || !detail["customer"].is_string() {
        return Err(format!(
            "DETAIL does not say {slug} and the customer:\n{}",
            explain(&error)
        )
        .into());
    }
    Ok(Answer::Refused(slug.into()))
}

fn wrong(
    request: &Request,
    what: impl std::fmt::Display,
) -> Box<dyn std::error::Error + Send + Sync> {
    format!(
        "request {} of customer {}: {what}",
        request.number, request.customer
    )
    .into()
}
