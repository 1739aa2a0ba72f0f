//! Explores the model of the money protocol.

use std::process::ExitCode;

use clap::Parser;
use model::{
    cases::{self, Case},
    check::{Explored, explore, shortest},
    protocol::Protocol,
    rules::{Rule, Rules},
    scenario::{Faults, Movement, Scenario},
    state::AccountId,
    story,
};

/// Explores every state of the money protocol within bounds, and tells a shortest way to break
/// what breaks. The end is a failure if something does.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Explore one world for each rule in which it is off, and say what breaks
    #[arg(long)]
    rules: bool,
    /// Explore the worlds of the tests, with every rule
    #[arg(long)]
    worlds: bool,
    /// What clients ask for: amounts, less than zero for withdrawals; `1:5` is 5 on account 1
    #[arg(long, value_delimiter = ',', default_value = "1,-1", allow_hyphen_values = true, value_parser = movement)]
    movements: Vec<Movement>,
    /// Replicas that crash
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Times that the broker loses something
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Publications that are lost or arrive late
    #[arg(long, default_value_t = 0)]
    held_up: u8,
    /// Ack waits that end while a worker still works
    #[arg(long, default_value_t = 0)]
    slow: u8,
    /// Duplicate windows that end
    #[arg(long, default_value_t = 0)]
    windows: u8,
    /// Advisories that get lost
    #[arg(long, default_value_t = 0)]
    advisories: u8,
    /// Turns of the redrive that nothing asks for
    #[arg(long, default_value_t = 1)]
    redrives: u8,
    /// Replicas of the account-service
    #[arg(long, default_value_t = 2)]
    account_services: u8,
    /// Replicas of the transaction-service
    #[arg(long, default_value_t = 2)]
    transaction_services: u8,
    /// Deliveries of a message
    #[arg(long, default_value_t = 3)]
    max_deliver: u8,
    /// A command that can't be read comes from a wrong hand
    #[arg(long)]
    unreadable: bool,
    /// A result that contradicts a settled record does
    #[arg(long)]
    contradicting: bool,
    /// Acks for a message that was lost may hit another one
    #[arg(long)]
    stale_acks: bool,
    /// Messages in TRANSACTION above which the redrive waits
    #[arg(long)]
    backlog: Option<usize>,
    /// A rule that is not kept; may be given several times
    #[arg(long, value_name = "RULE")]
    off: Vec<Rule>,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let as_told = if options.rules {
        let all = [cases::alone(), cases::together(), cases::limits()].concat();
        all.iter().map(|case| without(case, options.threads)).fold(true, |all, one| all & one)
    } else if options.worlds {
        cases::worlds().into_iter().fold(true, |all, (name, scenario, _)| {
            let explored = explore(&Protocol::new(scenario), options.threads);
            println!("{name}: {}", numbers(&explored));
            all & explored.broken.is_empty()
        })
    } else {
        one(&options)
    };
    if as_told { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Explores one world and tells all about it.
fn one(options: &Options) -> bool {
    let protocol = Protocol { scenario: options.scenario(), rules: Rules::without(&options.off) };
    let explored = explore(&protocol, options.threads);
    println!("{}", numbers(&explored));
    for situation in &explored.reached {
        println!("came up: {situation}");
    }
    for invariant in &explored.broken {
        println!("\nbroken: {invariant}");
        let path = shortest(&protocol, *invariant).unwrap_or_default();
        for (at, line) in (1..).zip(story::tell(&protocol, &path)) {
            if at <= path.len() { println!("{at:3}. {line}") } else { println!("     {line}") }
        }
    }
    explored.broken.is_empty()
}

/// Explores a world without some rules; whether it breaks what it should.
fn without(case: &Case, threads: usize) -> bool {
    let protocol = Protocol::without(case.scenario.clone(), &case.off);
    let explored = explore(&protocol, threads);
    let steps = |invariant| shortest(&protocol, invariant).map_or(0, |path| path.len());
    let found: Vec<_> = explored.broken.iter().map(|it| (*it, steps(*it))).collect();
    let rules: Vec<_> = case.off.iter().map(ToString::to_string).collect();
    let broken: Vec<_> = found.iter().map(|(it, steps)| format!("{it} in {steps} steps")).collect();
    println!(
        "without {}: {}; {}",
        if rules.is_empty() { "any".to_owned() } else { rules.join(", ") },
        if broken.is_empty() { "nothing breaks".to_owned() } else { broken.join(", ") },
        numbers(&explored),
    );
    found == case.broken
}

fn numbers(explored: &Explored) -> String {
    let Explored { states, steps, depth, took, .. } = explored;
    format!("{states} states, {steps} steps, depth {depth}, {:.1} s", took.as_secs_f64())
}

impl Options {
    fn scenario(&self) -> Scenario {
        Scenario {
            movements: self.movements.clone(),
            faults: Faults {
                crashes: self.crashes,
                wipes: self.wipes,
                held_up: self.held_up,
                slow: self.slow,
                windows: self.windows,
                advisories: self.advisories,
                redrives: self.redrives,
            },
            account_services: self.account_services,
            transaction_services: self.transaction_services,
            max_deliver: self.max_deliver,
            unreadable: self.unreadable,
            contradicting: self.contradicting,
            stale_acks: self.stale_acks,
            backlog: self.backlog,
        }
    }
}

fn movement(text: &str) -> Result<Movement, String> {
    let (account, amount) = text.split_once(':').unwrap_or(("0", text));
    let number = |error| format!("{text}: {error}");
    Ok(Movement {
        account: AccountId(account.parse().map_err(number)?),
        amount: amount.parse().map_err(number)?,
    })
}
