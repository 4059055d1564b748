//! One connection of the application: every call it makes, each in a transaction of its own, and what it expects of the
//! answers. Whatever is not expected ends the replay.

use std::collections::{BTreeMap, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use postgres::types::ToSql;
use postgres::{Client, Row, Statement};
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use crate::book::{Book, Refund as Returned, Sale, TopUp, total};
use crate::calls::{Answer, Call, Charge, INSERT_REPLY, Statements, answered};
use crate::common::{Result, Scratch, decimal, said};
use crate::plan::{BY_HAND, Bill, MAX_OUTPUT, Plan, Refund, Request, SCALE, Tokens, Way};

#[path = "bills.rs"]
mod bills;

/// A second after this a hold of one second is over.
const LATER: Duration = Duration::from_millis(1100);

/// What happened on one connection, or on all.
#[derive(Default)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, u64>,
    pub declines: BTreeMap<String, u64>,
    pub book: Book,
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
        self.book.add(other.book);
        for (call, mut times) in other.times {
            self.times.entry(call).or_default().append(&mut times);
        }
        self.paid += other.paid;
        self.settled += other.settled;
    }
}

/// The arguments of a call for a request: what it is priced by, and what it costs us.
struct CallArguments {
    dimensions: serde_json::Value,
    usage: Option<serde_json::Value>,
    cost: Option<String>,
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
    Bill {
        request: &'a Request,
        debit: Uuid,
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
        self.overhead(request)?;
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
            Some(charge) => self.afterwards(request, &charge),
            None => Ok(()),
        }
    }

    /// What happens to a debit later: it is given back, and the vendor's bill arrives.
    fn afterwards(&mut self, request: &'a Request, charge: &Charge) -> Result<()> {
        if self.is_billed_later(request) {
            if request.number.is_multiple_of(2) {
                self.bill(request, charge.id)?;
            } else {
                let debit = charge.id;
                self.wait(Later::Bill { request, debit });
            }
        }
        self.refund(request, charge)
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
                    Some(charge) => self.afterwards(request, &charge),
                    None => Ok(()),
                }
            }
            Some((_, Later::Bill { request, debit })) => self.bill(request, debit),
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
        if self.by_hand(request).is_some() {
            self.expect_no_price(request)?;
        }
        let answer = self.ask_debit(Call::Debit, request, self.by_hand(request))?;
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
        match self.ask_debit(Call::Retry, request, self.by_hand(request))? {
            Answer::Row(row) => self.expect_replay(request, id, credits, &Charge::read(&row)?),
            Answer::Refused(slug) => Err(wrong(request, format!("its retry is refused: {slug}"))),
        }
    }

    fn ask_debit(
        &mut self,
        call: Call,
        request: &Request,
        credits: Option<&str>,
    ) -> Result<Answer> {
        let (customer, action, key) = self.names(request);
        let arguments = self.arguments(request, request.tokens, true);
        let sql = self.sql.debit.clone();
        self.ask(
            call,
            &sql,
            &[
                &customer,
                &action,
                &arguments.dimensions,
                &arguments.usage,
                &arguments.cost,
                &credits,
                &key,
            ],
        )
    }

    /// What is charged where the price would start from a cost that is not known.
    fn by_hand(&self, request: &Request) -> Option<&'static str> {
        let is_unknown = matches!(request.bill, Bill::Missing | Bill::Unknown);
        (is_unknown && request.action().is_cost_plus()).then_some(BY_HAND)
    }

    /// Without saying what to charge such a debit is refused.
    fn expect_no_price(&mut self, request: &Request) -> Result<()> {
        match self.ask_debit(Call::Debit, request, None)? {
            Answer::Refused(slug) if slug == "price_not_found" => {
                self.tally.count("priced by hand");
                Ok(())
            }
            Answer::Refused(slug) if slug == "wallet_not_found" => Ok(()),
            Answer::Refused(slug) => Err(wrong(request, format!("it has no price, but {slug}"))),
            Answer::Row(_) => Err(wrong(request, "it was charged by a cost that nobody knows")),
        }
    }

    /// A debit and a row of the application's own in one transaction.
    fn transaction(&mut self, request: &'a Request, commit: bool) -> Result<Option<Charge>> {
        let (customer, action, key) = self.names(request);
        let arguments = self.arguments(request, request.tokens, true);
        let credits: Option<&str> = None;
        let began = Instant::now();
        let mut transaction = self.client.transaction().map_err(said("BEGIN"))?;
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &customer,
            &action,
            &arguments.dimensions,
            &arguments.usage,
            &arguments.cost,
            &credits,
            &key,
        ];
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
        if self.is_billed_early(request) {
            self.bill_hold(request, authorization)?;
        }
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
                        None,
                        true,
                    )?;
                }
                self.release(request, authorization)?;
                self.spend_on_nothing(request);
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
        let arguments = self.arguments(request, worst, false);
        let sql = self.sql.authorize.clone();
        let parameters: [&(dyn ToSql + Sync); 8] = [
            &customer,
            &action,
            &arguments.dimensions,
            &arguments.usage,
            &arguments.cost,
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
        let mut before = None;
        for part in 1..=parts {
            let so_far = request
                .tokens
                .with_output(request.tokens.output * part / parts);
            let charge = self.capture(request, authorization, so_far, before, true)?;
            // What adds nothing to credits or cost is no row of its own.
            if let Some(charge) = charge.filter(|charge| !charge.replayed) {
                captured += charge.credits;
                before = Some(so_far);
            }
            self.tally.count("captures in parts");
        }
        self.expect_price(request, &captured, request.tokens)?;
        // The same totals without keep_open: closes it and charges nothing.
        let last = self.capture(request, authorization, request.tokens, before, false)?;
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
        let charge = self.capture(request, authorization, request.tokens, None, false)?;
        let price = self.plan.credits(request, request.tokens);
        let Some(charge) = charge else {
            self.tally.count("above the hold, refused");
            self.release(request, authorization)?;
            self.spend_on_nothing(request);
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
        if charge.parts.iter().any(|part| part.owed) {
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

    /// Everything so far, of which the part before is captured already. None: the excess was refused.
    fn capture(
        &mut self,
        request: &Request,
        authorization: Uuid,
        so_far: Tokens,
        before: Option<Tokens>,
        keep_open: bool,
    ) -> Result<Option<Charge>> {
        let customer = self.plan.customers[request.customer].name.as_str();
        let arguments = self.arguments(request, so_far, true);
        let sql = self.sql.capture.clone();
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &customer,
            &authorization,
            &arguments.dimensions,
            &arguments.usage,
            &arguments.cost,
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
        self.sell(request, &charge, so_far, before)?;
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
        self.tally.book.refunds.push(Returned {
            debit: charge.id,
            at: back.at,
            parts: back.parts.clone(),
        });
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
        self.tally.book.top_ups.push(TopUp {
            customer: request.customer,
            at: row.try_get("at")?,
            credits,
            worth: decimal("0.01"),
        });
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
                self.sell(request, &charge, request.tokens, None)?;
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

    /// Puts a debit down, as it should be.
    fn sell(
        &mut self,
        request: &Request,
        charge: &Charge,
        so_far: Tokens,
        before: Option<Tokens>,
    ) -> Result<()> {
        if charge.replayed {
            return Ok(());
        }
        // Captures of one authorization are of one request.
        let quantity = Decimal::from(u8::from(before.is_none()));
        let costs = self.costs(request, so_far, before);
        let cost = total(&costs);
        if (charge.quantity, charge.cost) != (quantity, cost) {
            return Err(wrong(
                request,
                format!(
                    "{} of it for a cost of {:?} instead of {quantity} for {cost:?}",
                    charge.quantity, charge.cost
                ),
            ));
        }
        let sale = Sale {
            customer: request.customer,
            action: request.action().name,
            at: charge.at,
            quantity,
            parts: charge.parts.clone(),
            costs,
        };
        self.tally.book.sales.insert(charge.id, sale);
        Ok(())
    }

    // The connection.

    /// Customer, action and idempotency key.
    fn names(&self, request: &Request) -> (&'a str, &'static str, String) {
        let customer = self.plan.customers[request.customer].name.as_str();
        (
            customer,
            request.action().name,
            format!("request {}", request.number),
        )
    }

    /// The arguments for these tokens of a request.
    fn arguments(&self, request: &Request, tokens: Tokens, asked: bool) -> CallArguments {
        CallArguments {
            dimensions: tokens.dimensions(),
            usage: request.usage(tokens, asked),
            cost: self.plan.given(request, tokens),
        }
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
