//! Explores the model of the money protocol.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use model::{
    exploration::{Case, Explorable, Exploration, World},
    job,
    money::{
        cases, counterexample,
        databases::AccountId,
        parts::MAX_PARTS,
        protocol::Protocol,
        rules::Rule,
        scenario::{ClientRequest, Faults, Poison, Scenario},
    },
    redrive,
};

/// Explore every state of the money protocol, or of the job protocol, within bounds.
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
    /// Let the broker refuse messages with several parts from some moment on (1)
    #[arg(long, default_value_t = 0)]
    limits: u8,
    /// Number of commits that find an account held by another transaction
    #[arg(long, default_value_t = 0)]
    held_rows: u8,
    /// Number of results that their stream discards
    #[arg(long, default_value_t = 0)]
    discards: u8,
    /// Replicas of the account-service
    #[arg(long, default_value_t = 2)]
    account_services: u8,
    /// Replicas of the transaction-service
    #[arg(long, default_value_t = 2)]
    transaction_services: u8,
    /// Maximum deliveries of a message
    #[arg(long, default_value_t = 3)]
    max_deliver: u8,
    /// Maximum parts of a message: commands or results
    #[arg(long, default_value_t = 1, value_parser = max_parts)]
    max_parts: u32,
    /// Make the first command poison: it `kills` its worker, or `fails`, at each delivery
    #[arg(long, value_parser = poison)]
    poison: Option<Poison>,
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
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
    #[command(subcommand)]
    model: Option<Jobs>,
}

#[derive(Debug, Subcommand)]
enum Jobs {
    /// Explore a world of the job protocol
    Jobs(JobOptions),
}

#[derive(Debug, Args)]
struct JobOptions {
    /// Number of reports
    #[arg(long, default_value_t = 1)]
    reports: u8,
    /// Number of crashes of a replica
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Number of stops of a replica by SIGTERM
    #[arg(long, default_value_t = 0)]
    stops: u8,
    /// Number of workers that are frozen until their lease is over
    #[arg(long, default_value_t = 0)]
    freezes: u8,
    /// Number of failed attempts
    #[arg(long, default_value_t = 0)]
    failures: u8,
    /// Number of cancellations
    #[arg(long, default_value_t = 0)]
    cancels: u8,
    /// Number of data losses of the broker
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Number of jumps of the broker's clock into the past
    #[arg(long, default_value_t = 0)]
    clock_jumps: u8,
    /// Number of lost or late publications
    #[arg(long, default_value_t = 0)]
    held_up: u8,
    /// Number of ack waits ending while a worker has the message
    #[arg(long, default_value_t = 0)]
    slow: u8,
    /// Number of messages of the redrive without need
    #[arg(long, default_value_t = 1)]
    redrives: u8,
    /// Number of alerts that the receiver does not take
    #[arg(long, default_value_t = 0)]
    refusals: u8,
    /// Number of dead letters that the broker refuses
    #[arg(long, default_value_t = 0)]
    refused_letters: u8,
    /// Replicas of the report-service
    #[arg(long, default_value_t = 2)]
    replicas: u8,
    /// Maximum deliveries of a message
    #[arg(long, default_value_t = 3)]
    max_deliver: u8,
    /// Failures until a report is FAILED
    #[arg(long, default_value_t = 2)]
    max_failures: u8,
    /// Add a message that names no report
    #[arg(long)]
    stray: bool,
    /// Let the ack of a lost message remove another message
    #[arg(long)]
    stale_acks: bool,
    /// A rule to switch off; may be given several times
    #[arg(long, value_name = "RULE")]
    off: Vec<job::rules::Rule>,
}

impl JobOptions {
    fn protocol(&self) -> job::protocol::Protocol {
        let faults = job::scenario::Faults {
            crashes: self.crashes,
            stops: self.stops,
            freezes: self.freezes,
            failures: self.failures,
            cancels: self.cancels,
            wipes: self.wipes,
            clock_jumps: self.clock_jumps,
            delayed_publications: self.held_up,
            slow_workers: self.slow,
            redrives: self.redrives,
            refusals: self.refusals,
            refused_letters: self.refused_letters,
        };
        let scenario = job::scenario::Scenario {
            reports: self.reports,
            faults,
            replicas: self.replicas,
            max_deliver: self.max_deliver,
            max_failures: self.max_failures,
            stray: self.stray,
            stale_acks: self.stale_acks,
        };
        job::protocol::Protocol::without(scenario, &self.off)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let threads = options.threads;
    let as_expected = if options.rules {
        let money = [cases::single_rules(), cases::rule_pairs(), cases::known_limits()].concat();
        let jobs =
            [job::cases::single_rules(), job::cases::rule_pairs(), job::cases::known_limits()]
                .concat();
        explore_cases("money", &money, threads)
            & explore_cases("jobs", &jobs, threads)
            & explore_cases("redrive", &redrive::single_rules(), threads)
    } else if options.worlds {
        explore_worlds(cases::worlds(), threads)
            & explore_worlds(job::cases::worlds(), threads)
            & explore_worlds(redrive::worlds(), threads)
    } else if let Some(Jobs::Jobs(world)) = &options.model {
        explore_world(&world.protocol(), threads, job::counterexample::describe)
    } else {
        let protocol = Protocol::without(options.scenario(), &options.off);
        explore_world(&protocol, threads, counterexample::describe)
    };
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explore_worlds<P: Explorable>(worlds: Vec<World<P>>, threads: usize) -> bool {
    worlds.into_iter().fold(true, |all, (name, protocol, _)| {
        let exploration = protocol.explore(threads);
        println!("{name}: {}", size(&exploration));
        all & exploration.broken.is_empty()
    })
}

/// Explores the cases of a model, and prints their broken invariants with the steps of
/// a shortest path. True if they are the expected ones.
fn explore_cases<P: Explorable, R: ToString>(
    model: &str,
    cases: &[Case<P, R>],
    threads: usize,
) -> bool {
    println!("{model}:");
    cases.iter().fold(true, |all, case| explore_case(case, threads) & all)
}

/// Explores a world and prints all findings. True if no invariant breaks.
fn explore_world<P: Explorable>(
    protocol: &P,
    threads: usize,
    describe: impl Fn(&P, &[P::Action]) -> Vec<String>,
) -> bool {
    let exploration = protocol.explore(threads);
    println!("{}", size(&exploration));
    for situation in &exploration.reached {
        println!("reached: {situation}");
    }
    for invariant in &exploration.broken {
        println!("\nbroken: {invariant}");
        let path = protocol.shortest_path(*invariant).unwrap_or_default();
        for (number, line) in (1..).zip(describe(protocol, &path)) {
            if number <= path.len() {
                println!("{number:3}. {line}");
            } else {
                println!("     {line}");
            }
        }
    }
    exploration.broken.is_empty()
}

fn explore_case<P: Explorable, R: ToString>(case: &Case<P, R>, threads: usize) -> bool {
    let (exploration, broken) = case.explore(threads);
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

fn size<P: Explorable>(exploration: &Exploration<P>) -> String {
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
                lowered_limits: self.limits,
                held_rows: self.held_rows,
                discards: self.discards,
            },
            account_services: self.account_services,
            transaction_services: self.transaction_services,
            max_deliver: self.max_deliver,
            max_parts: self.max_parts,
            poison: self.poison,
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

fn max_parts(text: &str) -> Result<u32, String> {
    let parts: usize = text.parse().map_err(|error| format!("{error}"))?;
    if !(1..=MAX_PARTS).contains(&parts) {
        return Err(format!("expected 1 to {MAX_PARTS}"));
    }
    u32::try_from(parts).map_err(|error| error.to_string())
}

fn poison(text: &str) -> Result<Poison, String> {
    match text {
        "kills" => Ok(Poison::Kills),
        "fails" => Ok(Poison::Fails),
        _ => Err("expected kills or fails".to_owned()),
    }
}
