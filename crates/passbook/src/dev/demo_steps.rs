//! Moves some money through the API, makes a statement, and checks every response.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use client::{Client, IdempotencyKey, Request};
use devstack::StackFile;
use serde::Serialize;
use serde_json::{Value, json};

use super::demo_statement;

/// The steps, and whether every figure was right.
#[derive(Debug, Serialize)]
pub(super) struct DemoReport {
    right: bool,
    steps: Vec<StepReport>,
}

impl DemoReport {
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A request and its response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepReport {
    step: &'static str,
    right: bool,
    status: u16,
    replayed: bool,
    /// Fields expected in the response.
    expected: BTreeMap<&'static str, Value>,
    answer: Value,
    milliseconds: u128,
}

/// Opens an account in the stack in `dir`, deposits and withdraws, and makes a statement. Prints
/// each step to `out`.
///
/// # Errors
/// When the API can't be reached.
pub(super) async fn run(file: &StackFile, dir: &Path, out: &mut dyn Write) -> Result<DemoReport> {
    let mut teller = Teller {
        client: Client::new(&file.api, &file.tokens.teller)?,
        account: "/v1/accounts".to_owned(),
        steps: Vec::new(),
        out,
    };
    let open = Request::post(&teller.account, &json!({ "currency": "KRW" }))?;
    let open = Step::new("open an account in KRW", open).expect("balance", "0");
    let account = teller.perform(open).await?;
    if let Some(id) = account.get("accountId").and_then(Value::as_str) {
        teller.account = format!("{}/{id}", teller.account);
        teller.deposit_and_withdraw().await?;
        // A stack can be started without a report-service.
        if file.processes.iter().any(|process| process.name.starts_with("report-service")) {
            demo_statement::run(&mut teller, file, dir, &account).await?;
        }
    }
    let right = teller.steps.iter().all(|step| step.right);
    let summary = if right { "✓ every figure is right" } else { "✗ some figures are wrong" };
    writeln!(teller.out, "{summary}")?;
    Ok(DemoReport { right, steps: teller.steps })
}

pub(super) struct Teller<'a> {
    client: Client,
    /// The path of the account.
    account: String,
    steps: Vec<StepReport>,
    pub(super) out: &'a mut dyn Write,
}

/// A request with its expected response.
pub(super) struct Step {
    name: &'static str,
    request: Request,
    /// Fields and their values. A dot leads into an object.
    expected: Vec<(&'static str, Value)>,
    replayed: bool,
}

impl Step {
    pub(super) fn new(name: &'static str, request: Request) -> Self {
        Self { name, request, expected: Vec::new(), replayed: false }
    }

    pub(super) fn expect(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.expected.push((field, value.into()));
        self
    }
}

/// The field at this path: `opening.balance` is a field of an object in a field.
fn field<'a>(body: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(body, |value, name| value.get(name))
}

impl Teller<'_> {
    async fn deposit_and_withdraw(&mut self) -> Result<()> {
        let key = IdempotencyKey::random();
        let deposit = Step::new("deposit 10000", self.movement("deposits", "10000", &key)?)
            .expect("status", "SUCCESS")
            .expect("balanceAfter", "10000");
        let record = self.perform(deposit).await?;

        let again =
            Step::new("the same again, same key", self.movement("deposits", "10000", &key)?)
                .expect("recordId", record.get("recordId").cloned().unwrap_or_default())
                .expect("balanceAfter", "10000");
        self.perform(Step { replayed: true, ..again }).await?;

        let withdraw = self.movement("withdrawals", "2500", &IdempotencyKey::random())?;
        let withdraw = Step::new("withdraw 2500", withdraw)
            .expect("status", "SUCCESS")
            .expect("balanceAfter", "7500");
        self.perform(withdraw).await?;

        let too_much = self.movement("withdrawals", "1000000", &IdempotencyKey::random())?;
        let too_much = Step::new("withdraw 1000000", too_much)
            .expect("status", "FAILED")
            .expect("reason", "INSUFFICIENT_FUNDS");
        self.perform(too_much).await?;

        let account = Step::new("look at the account", Request::get(&self.account))
            .expect("balance", "7500")
            .expect("accountSeq", 2);
        self.perform(account).await?;
        Ok(())
    }

    fn movement(&self, resource: &str, amount: &str, key: &IdempotencyKey) -> Result<Request> {
        let request =
            Request::post(format!("{}/{resource}", self.account), &json!({ "amount": amount }));
        Ok(request?.key(key).wait(Some(Duration::from_secs(10))))
    }

    /// Sends a request, and checks and prints its response.
    pub(super) async fn perform(&mut self, step: Step) -> Result<Value> {
        let clock = Instant::now();
        let answer = self.client.send(&step.request).await.context(step.name)?;
        let (status, replayed) = (answer.status, answer.is_replayed());
        let text = String::from_utf8_lossy(&answer.body);
        let milliseconds = clock.elapsed().as_millis();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();

        let right = status.is_success()
            && replayed == step.replayed
            && step.expected.iter().all(|(path, value)| field(&body, path) == Some(value));
        let shown = step.expected.iter().map(|(path, value)| {
            let actual = field(&body, path).unwrap_or(&Value::Null);
            let shown = actual.as_str().map_or_else(|| actual.to_string(), str::to_owned);
            let correction =
                if actual == value { String::new() } else { format!(" (expected {value})") };
            format!("{path} {shown}{correction}")
        });
        let mut shown: Vec<_> = shown.collect();
        if replayed {
            shown.push("replayed".to_owned());
        }
        let mark = if right { "✓" } else { "✗" };
        let (name, shown) = (step.name, shown.join(", "));
        writeln!(self.out, "{mark} {name:<26} {} {shown}  ({milliseconds} ms)", status.as_u16())?;
        if !status.is_success() {
            writeln!(self.out, "  {text}")?;
        }
        self.steps.push(StepReport {
            step: step.name,
            right,
            status: status.as_u16(),
            replayed,
            expected: step.expected.into_iter().collect(),
            answer: body.clone(),
            milliseconds,
        });
        Ok(body)
    }
}
