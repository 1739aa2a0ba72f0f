//! The rate of requests with an API key, compared with tokens.

use std::time::Duration;

use anyhow::Result;
use client::Request;
use load::{Pace, WaitFor};
use serde_json::json;

use super::deposits::{ACCOUNTS, deposits, warm_up};
use crate::{
    api,
    bench::Bench,
    section::{Bound, Goal, Section},
    stack::{Settings, Stack},
};

const ABOUT: &str = "Single deposits to 10,000 accounts in a closed loop of 256 clients: all \
requests with one token (JWT, Ed25519), or all with one API key.";

const TOKEN: &str = "a token, settled a second";
const KEY: &str = "an API key, settled a second";

pub(super) async fn run(bench: &Bench) -> Result<Section> {
    let mut stack = Stack::start(bench, Settings::default()).await?;
    let mut section = Section::new("api-keys", "API keys", ABOUT, bench.quick);
    section.measured_on(&stack.machine);
    let accounts = load::open_accounts(&stack.target, ACCOUNTS, false).await?;
    warm_up(bench, &stack, &accounts).await?;
    let scopes = ["accounts:any", "accounts:read", "deposits:write"];
    let (admin, body) = (&stack.file.tokens.admin, json!({ "name": "bench", "scopes": scopes }));
    let created = api::request(&stack, admin, &Request::post("/v1/api-keys", &body)?).await?;
    let credentials = [(TOKEN, stack.target.token.clone()), (KEY, api::text(&created, "/secret")?)];
    let duration = Duration::from_secs(bench.size(6, 3));
    let plan = deposits(Pace::Closed { clients: 256 }, duration, WaitFor::Accepted);
    for _ in 0..bench.repetitions() {
        for (name, credential) in &credentials {
            stack.target.token.clone_from(credential);
            section.note(*name, stack.load(&accounts, plan).await?.settled_per_second);
        }
    }
    stack.finish().await?;
    Ok(section)
}

pub(super) fn present(section: &mut Section) {
    let row = |name: &str| {
        let ratio = format!("{:.2} ×", section.ratio(name, TOKEN));
        let shown = name.trim_end_matches(", settled a second");
        vec![shown.to_owned(), section.cell(name), ratio]
    };
    let rows = [TOKEN, KEY].map(row).to_vec();
    section.table(&["", "settled a second", "relative to a token"], rows);
    let ratio = section.ratio(KEY, TOKEN);
    let name = "deposits with an API key, relative to a token";
    section.goals.push(Goal::new(name, Bound::AtLeast(0.95), "×", ratio));
}
