//! Explores the model of the money protocol.

use std::process::ExitCode;

use clap::Parser;
use model::{
    cases::{self, Case},
    counterexample,
    databases::AccountId,
    exploration::{Exploration, explore, shortest_path},
    protocol::Protocol,
    rules::Rule,
    scenario::{ClientRequest, Faults, Scenario},
};

/// Explore every state of the money protocol within bounds.
///
/// Prints a shortest path to each broken invariant, and exits with 1 if an invariant is broken.
/// Without --rules and --worlds, the other options describe the world to explore.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Explore a world without each rule, and compare its broken invariants with the expected ones
    #[arg(long)]
    rules: bool,
    /// Explore the worlds of the tests, with every rule
    #[arg(long)]
    worlds: bool,
    /// Amounts of the clients' requests, negative for withdrawals; `1:5` deposits 5 to account 1
    #[arg(long, value_delimiter = ',', default_value = "1,-1", allow_hyphen_values = true, value_parser = request)]
    movements: Vec<ClientRequest>,
    /// Number of crashes of a replica
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Number of data losses of the broker
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Number of lost or late publications
    #[arg(long, default_value_t = 0)]
    held_up: u8,
    /// Number of ack waits ending while a worker is still processing the message
    #[arg(long, default_value_t = 0)]
    slow: u8,
    /// Number of ended duplicate windows
    #[arg(long, default_value_t = 0)]
    windows: u8,
    /// Number of lost max-deliveries advisories
    #[arg(long, default_value_t = 0)]
    advisories: u8,
    /// Number of redrives without need
    #[arg(long, default_value_t = 1)]
    redrives: u8,
    /// Replicas of the account-service
    #[arg(long, default_value_t = 2)]
    account_services: u8,
    /// Replicas of the transaction-service
    #[arg(long, default_value_t = 2)]
    transaction_services: u8,
    /// Maximum deliveries of a message
    #[arg(long, default_value_t = 3)]
    max_deliver: u8,
    /// Add a stray, unreadable command
    #[arg(long)]
    unreadable: bool,
    /// Add a stray result with the opposite outcome of a settled record
    #[arg(long)]
    contradicting: bool,
    /// Let the ack of a lost message remove another message
    #[arg(long)]
    stale_acks: bool,
    /// The redrive pauses while TRANSACTION holds more than this number of messages
    #[arg(long)]
    backlog: Option<usize>,
    /// A rule to switch off; may be given several times
    #[arg(long, value_name = "RULE")]
    off: Vec<Rule>,
    /// Threads of the checker
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let as_expected = if options.rules {
        let cases = [cases::single_rules(), cases::rule_pairs(), cases::known_limits()].concat();
        cases.iter().fold(true, |all, case| explore_case(case, options.threads) & all)
    } else if options.worlds {
        cases::worlds().into_iter().fold(true, |all, (name, scenario, _)| {
            let exploration = explore(&Protocol::new(scenario), options.threads);
            println!("{name}: {}", size(&exploration));
            all & exploration.broken.is_empty()
        })
    } else {
        explore_world(&options)
    };
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Explores the world of the options and prints all findings. True if no
/// invariant breaks.
fn explore_world(options: &Options) -> bool {
    let protocol = Protocol::without(options.scenario(), &options.off);
    let exploration = explore(&protocol, options.threads);
    println!("{}", size(&exploration));
    for situation in &exploration.reached {
        println!("reached: {situation}");
    }
    for invariant in &exploration.broken {
        println!("\nbroken: {invariant}");
        let path = shortest_path(&protocol, *invariant).unwrap_or_default();
        for (number, line) in (1..).zip(counterexample::describe(&protocol, &path)) {
            if number <= path.len() {
                println!("{number:3}. {line}");
            } else {
                println!("     {line}");
            }
        }
    }
    exploration.broken.is_empty()
}

/// Explores a case, and prints its broken invariants with the steps of a
/// shortest path. True if they are the expected ones.
fn explore_case(case: &Case, threads: usize) -> bool {
    let protocol = Protocol::without(case.scenario.clone(), &case.off);
    let exploration = explore(&protocol, threads);
    let steps = |invariant| shortest_path(&protocol, invariant).map_or(0, |path| path.len());
    let broken: Vec<_> =
        exploration.broken.iter().map(|invariant| (*invariant, steps(*invariant))).collect();
    let off: Vec<_> = case.off.iter().map(ToString::to_string).collect();
    let lines: Vec<_> =
        broken.iter().map(|(invariant, steps)| format!("{invariant} ({steps})")).collect();
    println!(
        "{}: {}; {}",
        if off.is_empty() {
            "with every rule".to_owned()
        } else {
            format!("without {}", off.join(", "))
        },
        if lines.is_empty() { "nothing breaks".to_owned() } else { lines.join(", ") },
        size(&exploration),
    );
    broken == case.broken
}

fn size(exploration: &Exploration) -> String {
    let Exploration { states, steps, depth, took, .. } = exploration;
    format!("{states} states, {steps} steps, depth {depth}, {:.1} s", took.as_secs_f64())
}

impl Options {
    fn scenario(&self) -> Scenario {
        Scenario {
            requests: self.movements.clone(),
            faults: Faults {
                crashes: self.crashes,
                wipes: self.wipes,
                delayed_publications: self.held_up,
                slow_workers: self.slow,
                expired_windows: self.windows,
                lost_advisories: self.advisories,
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

fn request(text: &str) -> Result<ClientRequest, String> {
    let (account, amount) = text.split_once(':').unwrap_or(("0", text));
    let invalid = |error| format!("{text}: {error}");
    Ok(ClientRequest {
        account: AccountId(account.parse().map_err(invalid)?),
        amount: amount.parse().map_err(invalid)?,
    })
}
