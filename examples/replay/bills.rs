//! Vendors' bills that arrive apart from the debit: what the vendor reports, what it invoices, and what it charges where
//! nothing was sold.

use postgres::types::ToSql;
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use super::{Shop, wrong};
use crate::book::{Cost, Overhead};
use crate::calls::Call;
use crate::common::{Result, decimal};
use crate::plan::{Bill, Request, Tokens, Way};

/// A job that runs every night for all customers, and is no request of anyone.
const NIGHTLY: (&str, &str, &str) = ("openai", "text-embedding-3-small", "0.0137");

/// What is recorded.
struct Arrived<'a> {
    vendor: &'a str,
    model: &'a str,
    /// The vendor's own id, and how well it knows.
    request: &'a str,
    source: &'a str,
    api_flavor: &'a str,
    /// From what the cost is computed; None: it is said.
    usage: Option<Json>,
    cost: Decimal,
    debit: Option<Uuid>,
    authorization: Option<Uuid>,
}

impl<'a> Shop<'a> {
    /// Does its cost become known, or better known, after the debit?
    pub(super) fn is_billed_later(&self, request: &Request) -> bool {
        match request.bill {
            Bill::Reported | Bill::Invoiced => true,
            Bill::Later => !self.is_billed_early(request),
            _ => false,
        }
    }

    /// Does it become known while credits are held?
    pub(super) fn is_billed_early(&self, request: &Request) -> bool {
        let is_direct = matches!(request.way, Way::Debit | Way::Transaction | Way::RolledBack);
        request.bill == Bill::Later && !is_direct
    }

    /// What is known of the cost of a debit when it is booked, model by model.
    pub(super) fn costs(
        &self,
        request: &Request,
        so_far: Tokens,
        before: Option<Tokens>,
    ) -> Vec<Cost> {
        if self.is_billed_early(request) {
            return vec![self.cost(request, self.plan.bill(request, request.tokens))];
        }
        let mut costs = self.plan.costs(request, so_far);
        if let Some(before) = before {
            for (cost, before) in costs.iter_mut().zip(self.plan.costs(request, before)) {
                let less = |all: Option<Decimal>, part: Option<Decimal>| Some(all? - part?);
                cost.cost = less(cost.cost, before.cost);
                cost.once_rated = less(cost.once_rated, before.once_rated);
            }
        }
        costs
    }

    fn cost(&self, request: &Request, cost: Decimal) -> Cost {
        Cost {
            vendor: Some(request.model().vendor),
            model: Some(request.model().id),
            cost: Some(cost),
            once_rated: None,
        }
    }

    /// The bill of a debit arrives: whatever the order, what is invoiced counts.
    pub(super) fn bill(&mut self, request: &Request, debit: Uuid) -> Result<()> {
        let estimated = self.plan.bill(request, request.tokens);
        let reported = (estimated * decimal("1.02")).round_dp(12);
        let invoiced = (estimated * decimal("1.05")).round_dp(12);
        let counts = match (request.bill, request.number % 4) {
            (Bill::Later, _) => {
                self.record(request, Some(debit), None, "reported", None)?;
                estimated
            }
            (Bill::Reported, _) => {
                self.record(request, Some(debit), None, "reported", Some(reported))?;
                reported
            }
            (_, 0 | 1) => {
                self.record(request, Some(debit), None, "reported", Some(reported))?;
                self.record(request, Some(debit), None, "invoiced", Some(invoiced))?;
                invoiced
            }
            _ => {
                self.record(request, Some(debit), None, "invoiced", Some(invoiced))?;
                self.record(request, Some(debit), None, "reported", Some(reported))?;
                invoiced
            }
        };
        let cost = self.cost(request, counts);
        if let Some(sale) = self.tally.book.sales.get_mut(&debit) {
            sale.costs = vec![cost];
        }
        Ok(())
    }

    /// The usage of a request arrives before its credits are captured.
    pub(super) fn bill_hold(&mut self, request: &Request, authorization: Uuid) -> Result<()> {
        self.record(request, None, Some(authorization), "reported", None)
    }

    /// Nothing was captured of a hold: what its vendor charges is a cost without a debit.
    pub(super) fn spend_on_nothing(&mut self, request: &Request) {
        if self.is_billed_early(request) {
            let cost = self.cost(request, self.plan.bill(request, request.tokens));
            self.tally.book.overheads.push(Overhead {
                customer: request.customer,
                action: Some(request.action().name),
                cost,
            });
        }
    }

    /// Now and then a cost that is of no request.
    pub(super) fn overhead(&mut self, request: &Request) -> Result<()> {
        let has_wallet = !self.plan.customers[request.customer].grants.is_empty();
        if request.number % 400 != 7 || !has_wallet {
            return Ok(());
        }
        let (vendor, model, cost) = NIGHTLY;
        let arrived = Arrived {
            vendor,
            model,
            request: &format!("batch_{}", request.number),
            source: "invoiced",
            api_flavor: "default",
            usage: None,
            cost: decimal(cost),
            debit: None,
            authorization: None,
        };
        self.arrive(request, &arrived)?;
        self.tally.book.overheads.push(Overhead {
            customer: request.customer,
            action: None,
            cost: Cost {
                vendor: Some(vendor),
                model: Some(model),
                cost: Some(arrived.cost),
                once_rated: None,
            },
        });
        Ok(())
    }

    /// A cost of a request, as money or, None, to be computed from its usage. Of some the debit is found by the vendor's id
    /// of the request.
    fn record(
        &mut self,
        request: &Request,
        debit: Option<Uuid>,
        authorization: Option<Uuid>,
        source: &str,
        cost: Option<Decimal>,
    ) -> Result<()> {
        let model = request.model();
        let usage = match cost {
            Some(_) => None,
            None => Some(model.answer(request.used(request.tokens))),
        };
        let is_found = cost.is_some() && request.number.is_multiple_of(5);
        let arrived = Arrived {
            vendor: model.vendor,
            model: model.id,
            request: &request.vendor_request(),
            source,
            api_flavor: model.api_flavor(),
            usage,
            cost: cost.unwrap_or_else(|| self.plan.bill(request, request.tokens)),
            debit: debit.filter(|_| !is_found),
            authorization,
        };
        if self.arrive(request, &arrived)? == debit {
            return Ok(());
        }
        Err(wrong(request, "its cost went to another debit"))
    }

    /// Records a cost; some arrive twice. Answers with the debit that it counts with.
    fn arrive(&mut self, request: &Request, arrived: &Arrived) -> Result<Option<Uuid>> {
        let customer = self.plan.customers[request.customer].name.as_str();
        // A cost that is computed takes the model's name from the vendor's answer.
        let model = arrived.usage.is_none().then_some(arrived.model);
        let cost = arrived.usage.is_none().then(|| arrived.cost.to_string());
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &customer,
            &arrived.vendor,
            &model,
            &arrived.usage,
            &cost,
            &arrived.debit,
            &arrived.authorization,
            &arrived.request,
            &arrived.api_flavor,
            &arrived.source,
        ];
        let sql = self.sql.record.clone();
        let first = self.ask_row(Call::Record, &sql, &parameters)?;
        self.tally.count("costs recorded");
        let cost: Option<&str> = first.try_get("cost")?;
        let cost = cost.map(Decimal::from_str_exact).transpose()?;
        let model: Option<&str> = first.try_get("model")?;
        if (cost, model) != (Some(arrived.cost), Some(arrived.model)) {
            return Err(wrong(
                request,
                format!(
                    "recorded as {cost:?} of {model:?}, not as {} of {}",
                    arrived.cost, arrived.model
                ),
            ));
        }
        if first.try_get("replayed")? {
            return Err(wrong(request, "its cost is a replay of nothing"));
        }
        if request.number.is_multiple_of(3) {
            let again = self.ask_row(Call::Retry, &sql, &parameters)?;
            self.tally.count("costs that came twice");
            let same = again.try_get::<_, Uuid>("id")? == first.try_get::<_, Uuid>("id")?;
            if !same || !again.try_get::<_, bool>("replayed")? {
                return Err(wrong(request, "its cost was counted twice"));
            }
        }
        Ok(first.try_get("debit_id")?)
    }
}
