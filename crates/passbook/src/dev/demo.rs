//! `passbook dev demo`: moves some money through a running stack and checks
//! every figure.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;
use devstack::{ProxyPort, StackFile};
use reqwest::{Client, RequestBuilder};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::up::{After, StackArguments, with_stack};
use crate::output::{self, Format, Output};

/// Start everything, move some money, check every figure, stop everything.
///
/// Exits with 1 when a figure is wrong.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    stack: StackArguments,
    /// Port of the API on 127.0.0.1; 0 is any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    format: Format,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let options = self.stack.options(ProxyPort::Exact(self.port))?;
        with_stack(options, async |file| {
            let outcome = match self.format.output {
                Output::Table => move_money(file, &mut io::stdout()).await?,
                Output::Json => {
                    let outcome = move_money(file, &mut io::stderr()).await?;
                    output::json(&outcome)?;
                    outcome
                }
            };
            Ok(After::Stop(outcome.code()))
        })
        .await
    }
}

/// What was done, and whether every figure was right.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    right: bool,
    steps: Vec<Done>,
}

impl Outcome {
    pub(super) fn code(&self) -> ExitCode {
        if self.right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// A step that was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    step: &'static str,
    right: bool,
    status: u16,
    replayed: bool,
    /// What the answer had to hold.
    expected: BTreeMap<&'static str, Value>,
    answer: Value,
    milliseconds: u128,
}

/// Opens an account, deposits and withdraws, and prints each step to `out`.
///
/// # Errors
/// When the API can't be reached.
pub(super) async fn move_money(file: &StackFile, out: &mut dyn Write) -> Result<Outcome> {
    let mut teller = Teller {
        http: Client::builder().no_proxy().build()?,
        url: format!("{}/v1/accounts", file.api),
        token: file.tokens.teller.clone(),
        steps: Vec::new(),
        out,
    };
    let open = teller.http.post(&teller.url).json(&json!({ "currency": "KRW" }));
    let open = Step::new("open an account in KRW", open).shows("balance", "0");
    let account = teller.take(open).await?;
    if let Some(id) = account.get("accountId").and_then(Value::as_str) {
        teller.url = format!("{}/{id}", teller.url);
        teller.deposit_and_withdraw().await?;
    }
    let right = teller.steps.iter().all(|step| step.right);
    let done = if right { "✓ every figure is right" } else { "✗ some figures are wrong" };
    writeln!(teller.out, "{done}")?;
    Ok(Outcome { right, steps: teller.steps })
}

struct Teller<'a> {
    http: Client,
    url: String,
    token: String,
    steps: Vec<Done>,
    out: &'a mut dyn Write,
}

/// A request, and what its answer must hold.
struct Step {
    asked: &'static str,
    request: RequestBuilder,
    expected: Vec<(&'static str, Value)>,
    replayed: bool,
}

impl Step {
    fn new(asked: &'static str, request: RequestBuilder) -> Self {
        Self { asked, request, expected: Vec::new(), replayed: false }
    }

    fn shows(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.expected.push((field, value.into()));
        self
    }
}

impl Teller<'_> {
    async fn deposit_and_withdraw(&mut self) -> Result<()> {
        let key = Uuid::now_v7().to_string();
        let deposit = Step::new("deposit 10000", self.movement("deposits", "10000", &key))
            .shows("status", "SUCCESS")
            .shows("balanceAfter", "10000");
        let record = self.take(deposit).await?;

        let again = Step::new("the same again, same key", self.movement("deposits", "10000", &key))
            .shows("recordId", record.get("recordId").cloned().unwrap_or_default())
            .shows("balanceAfter", "10000");
        self.take(Step { replayed: true, ..again }).await?;

        let withdraw = self.movement("withdrawals", "2500", &Uuid::now_v7().to_string());
        let withdraw = Step::new("withdraw 2500", withdraw)
            .shows("status", "SUCCESS")
            .shows("balanceAfter", "7500");
        self.take(withdraw).await?;

        let too_much = self.movement("withdrawals", "1000000", &Uuid::now_v7().to_string());
        let too_much = Step::new("withdraw 1000000", too_much)
            .shows("status", "FAILED")
            .shows("reason", "INSUFFICIENT_FUNDS");
        self.take(too_much).await?;

        let account = Step::new("look at the account", self.http.get(&self.url))
            .shows("balance", "7500")
            .shows("accountSeq", 2);
        self.take(account).await?;
        Ok(())
    }

    fn movement(&self, what: &str, amount: &str, key: &str) -> RequestBuilder {
        let request = self.http.post(format!("{}/{what}", self.url));
        let request = request.header("Idempotency-Key", key).header("Prefer", "wait=10");
        request.json(&json!({ "amount": amount }))
    }

    /// Sends a request and prints what came back.
    async fn take(&mut self, step: Step) -> Result<Value> {
        let clock = Instant::now();
        let answer = step.request.bearer_auth(&self.token).send().await.context(step.asked)?;
        let status = answer.status();
        let replayed = answer.headers().contains_key("Idempotent-Replayed");
        let text = answer.text().await.context(step.asked)?;
        let milliseconds = clock.elapsed().as_millis();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();

        let right = status.is_success()
            && replayed == step.replayed
            && step.expected.iter().all(|(field, value)| body.get(field) == Some(value));
        let shown = step.expected.iter().map(|(field, value)| {
            let came = body.get(field).unwrap_or(&Value::Null);
            let came = came.as_str().map_or_else(|| came.to_string(), str::to_owned);
            let expected = if body.get(field) == Some(value) {
                String::new()
            } else {
                format!(" (not {value})")
            };
            format!("{field} {came}{expected}")
        });
        let mut shown: Vec<_> = shown.collect();
        if replayed {
            shown.push("replayed".to_owned());
        }
        let mark = if right { "✓" } else { "✗" };
        let (asked, shown) = (step.asked, shown.join(", "));
        writeln!(self.out, "{mark} {asked:<26} {} {shown}  ({milliseconds} ms)", status.as_u16())?;
        if !status.is_success() {
            writeln!(self.out, "  {text}")?;
        }
        self.steps.push(Done {
            step: step.asked,
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
