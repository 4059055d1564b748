//! Credits from sqlx.

use std::{collections::HashMap, env, fmt, fs, time::Duration};

use serde_json::{Value, json};
use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::types::{Decimal, Uuid};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool, Row};

#[derive(Debug)]
enum Error {
    /// What credyt says is lacking: the DETAIL of WC001, or why a hold was not approved.
    PaymentRequired(Value),
    Database(sqlx::Error),
    Vendor,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::PaymentRequired(detail) => write!(f, "payment required: {detail}"),
            Error::Database(error) => write!(f, "{error}"),
            Error::Vendor => write!(f, "the vendor failed"),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        if let sqlx::Error::Database(e) = &error
            && e.code().as_deref() == Some("WC001")
            && let Some(detail) = e.downcast_ref::<PgDatabaseError>().detail()
            && let Ok(detail) = serde_json::from_str(detail)
        {
            return Error::PaymentRequired(detail);
        }
        Error::Database(error)
    }
}

/// Calls `credyt.<function>` with one jsonb argument, and returns its row.
async fn credyt(db: impl PgExecutor<'_>, function: &str, request: Value) -> Result<PgRow, sqlx::Error> {
    let query = format!("SELECT * FROM credyt.{function}($1::jsonb)");
    sqlx::query(AssertSqlSafe(query)).bind(request).fetch_one(db).await
}

/// The job and its debit, in the caller's transaction.
async fn create_job(
    db: &mut PgConnection,
    customer: i64,
    prompt: &str,
    quantity: i32,
    cost: Option<f64>,
) -> Result<i64, Error> {
    let job: i64 = sqlx::query_scalar("INSERT INTO jobs (customer_id, prompt) VALUES ($1, $2) RETURNING id")
        .bind(customer)
        .bind(prompt)
        .fetch_one(&mut *db)
        .await?;
    let key = format!("job-{job}");
    let request =
        json!({"customer": customer, "action": "image", "quantity": quantity, "cost": cost, "idempotency_key": key});
    credyt(db, "debit_credits", request).await?;
    Ok(job)
}

/// Holds what the answer may cost, asks the vendor outside of any transaction, charges what it did cost.
async fn chat(
    db: &PgPool,
    customer: Uuid,
    key: &str,
    ask_vendor: impl AsyncFnOnce() -> Result<Value, Error>,
) -> Result<PgRow, Error> {
    let dimensions = json!({"input_tokens": 3000, "output_tokens": 2000});
    let request = json!({"customer": customer, "action": "chat", "idempotency_key": key, "dimensions": dimensions});
    let hold = credyt(db, "authorize", request).await?;
    if !hold.get::<bool, _>("approved") {
        return Err(Error::PaymentRequired(json!({"error": hold.get::<&str, _>("reason")})));
    }
    let id: Uuid = hold.get("id");
    match ask_vendor().await {
        Ok(mut answer) => {
            answer.as_object_mut().and_then(|a| a.remove("choices")); // the text stays out of the ledger
            let usage = json!({"vendor": "openai", "body": answer});
            Ok(credyt(db, "capture", json!({"customer": customer, "authorization_id": id, "usage": usage})).await?)
        }
        Err(error) => {
            credyt(db, "release", json!({"customer": customer, "authorization_id": id, "reason": "vendor failed"}))
                .await?;
            Err(error)
        }
    }
}

/// A worker's round. It may die anywhere: what it did not acknowledge comes again when the lease is over.
async fn top_up(
    db: &PgPool,
    lease_seconds: i32,
    mut charge_card: impl FnMut(&str, Uuid) -> Result<String, Error>,
) -> Result<(), Error> {
    let events = sqlx::query("SELECT * FROM credyt.take_events(10, $1)").bind(lease_seconds).fetch_all(db).await?;
    for event in events {
        let id: Uuid = event.get("id");
        if event.get::<&str, _>("type") == "topup.requested" {
            let customer: &str = event.get("customer");
            let payment = charge_card(customer, id)?; // the event's id is the provider's idempotency key
            let credits = &event.get::<Value, _>("payload")["credits"];
            let request = json!({"customer": customer, "credits": credits, "paid": 20, "idempotency_key": payment});
            credyt(db, "grant_credits", request).await?;
        }
        sqlx::query("SELECT credyt.ack_events($1)").bind(vec![id]).execute(db).await?;
    }
    Ok(())
}

// What follows tries them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (user, team) = (17_i64, Uuid::parse_str("6f1c7b52-8f0e-4b3a-9d53-2f5f0f1f7a11").unwrap());
    let db = PgPool::connect(&env::var("DATABASE_URL").unwrap()).await?;
    let number = |text: &str| text.parse::<Decimal>().unwrap();
    let available = async || -> Result<Decimal, Error> {
        Ok(credyt(&db, "balance", json!({"customer": user})).await?.get("available"))
    };

    let mut transaction = db.begin().await?;
    let job = create_job(&mut transaction, user, "a lighthouse", 1, Some(3.0 * 0.1)).await?; // 0.30000000000000004
    transaction.commit().await?;
    assert_eq!(available().await?, number("16"));
    println!("a job and its debit are committed together");

    let mut transaction = db.begin().await?;
    create_job(&mut transaction, user, "a whale", 1, None).await?;
    transaction.rollback().await?;
    assert_eq!(available().await?, number("16"));
    println!("a job and its debit are rolled back together");

    let request =
        json!({"customer": user, "action": "image", "idempotency_key": format!("job-{job}"), "cost": 3.0 * 0.1});
    let again = credyt(&db, "debit_credits", request).await?;
    assert!(again.get::<bool, _>("replayed") && again.get::<Decimal, _>("available") == number("16"));
    println!("the same key again is a replay");

    let mut transaction = db.begin().await?;
    let refused = create_job(&mut transaction, user, "ten towers", 10, None).await;
    transaction.rollback().await?;
    assert!(
        matches!(refused, Err(Error::PaymentRequired(detail)) if detail["needed"] == "40" && detail["available"] == "16")
    );
    assert_eq!(sqlx::query_scalar::<_, i64>("SELECT count(*) FROM jobs").fetch_one(&db).await?, 1);
    println!("WC001 says what is needed and what is there");

    let answer = fs::read_to_string(env::var("ANSWER").unwrap()).unwrap();
    let charged = chat(&db, team, "chat-1", async || serde_json::from_str(&answer).map_err(|_| Error::Vendor)).await?;
    let [credits, cost, left] = ["credits", "cost", "available"].map(|column| charged.get::<Decimal, _>(column));
    assert_eq!([credits, cost, left], [number("0.74"), number("0.0033475"), number("9.26")]);
    println!("an answer is charged by its own counts");

    let mut payments = HashMap::new();
    let mut transaction = db.begin().await?;
    create_job(&mut transaction, user, "two gulls", 2, None).await?;
    transaction.commit().await?;
    let died = top_up(&db, 1, |_, key| {
        payments.insert(key, "pay_1".to_owned());
        Err(Error::Vendor) // and so the worker dies
    });
    assert!(died.await.is_err());
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..2 {
        top_up(&db, 60, |_, key| Ok(payments.get(&key).map_or("pay_2".to_owned(), Clone::clone))).await?;
    }
    assert_eq!(available().await?, number("108"));
    println!("a worker that died charges and grants once");

    let margins = sqlx::query_as::<_, (String, Decimal)>(
        "SELECT customer, margin FROM credyt.margin_by_customer ORDER BY customer",
    );
    let expected = [(user.to_string(), number("2.1")), (team.to_string(), number("0.1446525"))];
    assert_eq!(margins.fetch_all(&db).await?, expected);
    println!("the margin of each customer");
    Ok(())
}
