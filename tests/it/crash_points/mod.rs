//! Crashes of a process between any two effects. Each test crashes one service
//! at one point: it checks the state left behind, and that all records settle
//! exactly once.
//!
//! The points are named in the services. The module `failpoint` of the crate
//! `runtime` describes how a point is armed. All scenarios share one stack and run
//! concurrently: each redelivery takes half a minute, and so all scenarios wait
//! for it at the same time.

mod bundles;
mod dead_letters;
mod fixture;
mod runner;
mod scenarios;

use std::sync::LazyLock;

use fixture::{ACCOUNT, Crash, Fixture, TRANSACTION};
use futures::FutureExt;
use runner::Runner;
use scenarios::{
    AfterCrash::{Depends, SentCommand, UnackedCommand, UnackedResult, UnsentCommand},
    ArmedFor,
    Scenario::{
        self, Accepting, BundleAtMaxDeliveries, CommandAtMaxDeliveries, Deposits, Halves,
        InvalidCommand, InvalidParts, InvalidResult, MessagesOfResults, Overdrawn, OverdrawnBundle,
        Refused, RepeatedResult, ResultAtMaxDeliveries, UnknownAccount, Unsent, WaitingClients,
        Withdrawal,
    },
};
use tests::{broker, eventually, invariants};

/// In any replica of the account-service.
const fn account(point: &'static str) -> Crash {
    Crash { service: ACCOUNT, point, with: "" }
}

/// In any replica of the transaction-service.
const fn ledger(point: &'static str) -> Crash {
    Crash { service: TRANSACTION, point, with: "" }
}

impl Crash {
    /// With this text in hand.
    const fn with(self, with: &'static str) -> Self {
        Self { with, ..self }
    }
}

const COMMANDS: &str = "\"transaction.deposit\"";
const DEPOSITS: &str = "\"deposit-consumer\"";
const WITHDRAWALS: &str = "\"withdrawal-consumer\"";
const RESULTS: &str = "\"account-result-consumer\"";
const DEAD_DEPOSIT: &str = "dead-letter.TRANSACTION.deposit-consumer";
const DEAD_WITHDRAWAL: &str = "dead-letter.TRANSACTION.withdrawal-consumer";
const DEAD_RESULT: &str = "dead-letter.TRANSACTION_RESULT.account-result-consumer";

static RUNNER: LazyLock<Runner> = LazyLock::new(|| {
    let names = SCENARIOS.iter().map(|(name, ..)| *name);
    Runner::start(module_path!(), names, |name| {
        let mut scenarios = SCENARIOS.iter();
        let (name, crash, scenario) = scenarios.find(|(found, ..)| *found == name).unwrap();
        scenario.run(name, *crash).boxed()
    })
});

/// Starts the scenarios, except those filtered out on the command line.
pub(super) fn start() {
    LazyLock::force(&RUNNER);
}

macro_rules! crashes {
    ($($name:ident: $crash:expr => $scenario:expr;)*) => {
        /// Scenarios that wait for a redelivery come first.
        const SCENARIOS: &[(&str, Crash, Scenario)] =
            &[$((stringify!($name), $crash, $scenario)),*];
        $(#[test] fn $name() { RUNNER.report(stringify!($name)); })*
    };
}

crashes! {
    // Invalid messages: no service would send them again.
    an_invalid_command_survives_a_crash_before_its_dead_letter_is_sent:
        ledger("publish.begun").with(DEAD_DEPOSIT) => InvalidCommand(0);
    an_invalid_command_gives_one_dead_letter_through_a_crash_before_its_puback:
        ledger("publish.sent").with(DEAD_DEPOSIT) => InvalidCommand(1);
    an_invalid_command_gives_one_dead_letter_through_a_crash_after_its_puback:
        ledger("publish.acknowledged").with(DEAD_DEPOSIT) => InvalidCommand(1);
    an_invalid_command_gives_one_dead_letter_through_a_crash_before_its_term:
        ledger("worker.acked").with(DEPOSITS) => InvalidCommand(1);
    an_invalid_result_survives_a_crash_before_its_dead_letter_is_sent:
        account("publish.begun").with(DEAD_RESULT) => InvalidResult(0);
    an_invalid_result_gives_one_dead_letter_through_a_crash_before_its_puback:
        account("publish.sent").with(DEAD_RESULT) => InvalidResult(1);
    an_invalid_result_gives_one_dead_letter_through_a_crash_after_its_puback:
        account("publish.acknowledged").with(DEAD_RESULT) => InvalidResult(1);
    an_invalid_result_gives_one_dead_letter_through_a_crash_before_its_term:
        account("worker.acked").with(RESULTS) => InvalidResult(1);

    // Messages with valid and invalid commands.
    the_invalid_commands_of_a_message_survive_a_crash_before_their_dead_letters_are_sent:
        ledger("publish.begun").with(DEAD_DEPOSIT) => InvalidParts(0, 0);
    a_message_settles_through_a_crash_with_half_of_its_dead_letters_sent:
        ledger("publish.half").with(DEAD_DEPOSIT) => InvalidParts(1, 4);
    a_message_settles_through_a_crash_before_the_pubacks_of_its_dead_letters:
        ledger("publish.sent").with(DEAD_DEPOSIT) => InvalidParts(5, 5);
    a_message_settles_through_a_crash_between_its_dead_letters_and_its_ack:
        ledger("publish.acknowledged").with(DEAD_DEPOSIT) => InvalidParts(5, 5);

    // Messages at their maximum of deliveries: their advisory is redelivered.
    a_command_at_max_deliveries_survives_a_crash_before_its_dead_letter_is_sent:
        ledger("publish.begun").with(DEAD_WITHDRAWAL) => CommandAtMaxDeliveries(0);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_puback:
        ledger("publish.sent").with(DEAD_WITHDRAWAL) => CommandAtMaxDeliveries(1);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_deletion:
        ledger("publish.acknowledged").with(DEAD_WITHDRAWAL) => CommandAtMaxDeliveries(1);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        ledger("used-up.deleted") => CommandAtMaxDeliveries(1);
    a_message_at_max_deliveries_gives_a_dead_letter_a_command_through_a_crash_with_half_of_them_sent:
        ledger("publish.half").with(DEAD_WITHDRAWAL) => BundleAtMaxDeliveries(2);
    a_message_at_max_deliveries_gives_a_dead_letter_a_command_through_a_crash_before_its_deletion:
        ledger("publish.acknowledged").with(DEAD_WITHDRAWAL) => BundleAtMaxDeliveries(4);
    a_result_at_max_deliveries_survives_a_crash_before_its_dead_letter_is_sent:
        account("publish.begun").with(DEAD_RESULT) => ResultAtMaxDeliveries(0);
    a_result_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_puback:
        account("publish.sent").with(DEAD_RESULT) => ResultAtMaxDeliveries(1);
    a_result_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        account("publish.acknowledged").with(DEAD_RESULT) => ResultAtMaxDeliveries(1);

    // The transaction-service: commands, the ledger, and publishing results.
    a_deposit_settles_through_a_crash_after_its_command_was_fetched:
        ledger("worker.fetched").with(DEPOSITS) => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_their_commands_were_fetched:
        ledger("worker.fetched").with(DEPOSITS) => Deposits(50, Depends);
    a_withdrawal_settles_through_a_crash_after_its_command_was_fetched:
        ledger("worker.fetched").with(WITHDRAWALS) => Withdrawal;
    a_refusal_settles_through_a_crash_after_its_account_was_added_to_the_ledger:
        ledger("ledger.accounts-added") => UnknownAccount;
    withdrawals_settle_through_a_crash_between_the_balance_and_their_entries:
        ledger("ledger.balances-written") => Overdrawn;
    withdrawals_settle_through_a_crash_before_the_ledgers_commit:
        ledger("ledger.entries-inserted") => Overdrawn;
    withdrawals_settle_through_a_crash_after_part_of_their_batch_was_committed:
        ledger("ledger.part-committed") => Overdrawn;
    a_message_settles_through_a_crash_after_part_of_its_commands_was_committed:
        ledger("ledger.part-committed") => OverdrawnBundle;
    a_deposit_settles_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Deposits(50, Depends);
    a_withdrawal_settles_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Withdrawal;
    a_refusal_stays_one_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Refused;
    a_batch_decided_in_halves_settles_through_a_crash_between_two_of_them:
        ledger("worker.part-decided").with(DEPOSITS) => Halves;
    a_deposit_settles_through_a_crash_between_its_decision_and_its_result:
        ledger("worker.decided").with(DEPOSITS) => Deposits(1, UnackedCommand);
    a_deposit_settles_through_a_crash_before_its_result_is_sent:
        ledger("publish.begun").with("transaction.result.deposit") => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_with_half_of_their_results_sent:
        ledger("publish.half").with("transaction.result.deposit") => Deposits(50, Depends);
    fifty_deposits_settle_through_a_crash_between_two_messages_with_their_results:
        ledger("publish.half").with("transaction.result.deposit") => MessagesOfResults;
    a_deposit_settles_through_a_crash_before_its_results_puback:
        ledger("publish.sent").with("transaction.result.deposit") => Deposits(1, UnackedCommand);
    a_deposit_settles_through_a_crash_between_its_results_puback_and_the_commands_ack:
        ledger("publish.acknowledged").with("transaction.result.deposit") => Deposits(1, UnackedCommand);
    a_refusal_stays_one_through_a_crash_before_its_results_puback:
        ledger("publish.sent").with("transaction.result.withdrawal") => Refused;
    fifty_deposits_settle_through_a_crash_with_half_of_their_commands_acked:
        ledger("worker.half-acked").with(DEPOSITS) => Deposits(50, Depends);
    a_deposit_settles_through_a_crash_right_after_its_commands_ack:
        ledger("worker.acked").with(DEPOSITS) => Deposits(1, Depends);

    // The account-service: settling results.
    a_deposit_settles_through_a_crash_after_its_result_was_fetched:
        account("worker.fetched").with(RESULTS) => Deposits(1, UnackedResult);
    a_repeated_result_is_acked_through_a_crash_before_it_is_compared:
        account("settle.unseen") => RepeatedResult;
    a_repeated_result_is_acked_through_a_crash_before_the_comparison_commits:
        account("settle.judged") => RepeatedResult;
    a_deposit_settles_once_through_a_crash_between_the_settling_commit_and_the_notification:
        account("settle.committed") => Deposits(1, UnackedResult);
    fifty_deposits_settle_once_through_a_crash_between_the_settling_commit_and_the_notification:
        account("settle.committed") => Deposits(50, Depends);
    a_client_at_another_replica_gets_its_response_through_a_crash_before_the_notification:
        account("settled.told-here") => WaitingClients;
    a_deposit_settles_once_through_a_crash_between_the_notification_and_its_results_ack:
        account("worker.decided").with(RESULTS) => Deposits(1, UnackedResult);
    fifty_deposits_settle_once_through_a_crash_with_half_of_their_results_acked:
        account("worker.half-acked").with(RESULTS) => Deposits(50, Depends);
    a_deposit_settles_once_through_a_crash_right_after_its_results_ack:
        account("worker.acked").with(RESULTS) => Deposits(1, Depends);

    // The account-service: accepting, dispatching and redriving records.
    a_client_finds_its_record_again_after_a_crash_between_its_commit_and_the_dispatch:
        account("accept.committed") => Accepting;
    a_client_finds_its_record_again_after_a_crash_between_the_dispatch_and_the_answer:
        account("accept.dispatched") => Accepting;
    a_deposit_settles_through_a_crash_before_its_command_is_published:
        account("dispatch.received") => Deposits(1, UnsentCommand);
    fifty_deposits_settle_through_a_crash_with_half_of_their_commands_sent:
        account("publish.half").with(COMMANDS) => Deposits(50, Depends);
    a_deposit_settles_through_a_crash_before_its_commands_puback:
        account("publish.sent").with(COMMANDS) => Deposits(1, SentCommand);
    a_deposit_settles_through_a_crash_after_its_commands_puback:
        account("publish.acknowledged").with(COMMANDS) => Deposits(1, SentCommand);
    a_record_settles_through_a_crash_after_it_was_claimed_for_its_redrive:
        account("redrive.claimed") => Unsent(1, ArmedFor::Account);
    a_record_settles_through_a_crash_before_its_redrive_is_sent:
        account("publish.begun").with(COMMANDS) => Unsent(1, ArmedFor::Redrive);
    fifty_records_settle_through_a_crash_with_half_of_their_redrives_sent:
        account("publish.half").with(COMMANDS) => Unsent(50, ArmedFor::AccountPartSent);
    a_record_settles_through_a_crash_before_its_redrives_puback:
        account("publish.sent").with(COMMANDS) => Unsent(1, ArmedFor::SentRedrive);
    a_record_settles_through_a_crash_after_its_redrives_puback:
        account("publish.acknowledged").with(COMMANDS) => Unsent(1, ArmedFor::SentRedrive);
}

#[test]
fn after_all_crashes_nothing_is_unacked_and_the_books_balance() {
    RUNNER.after_all(async {
        let fixture = Fixture::shared().await;
        let account = fixture.open_account().await;
        let records = fixture.deposits(&account, 1).await;
        fixture.settled_once(&account, &records, 10).await;
        for (stream, consumer) in [
            ("TRANSACTION", "deposit-consumer"),
            ("TRANSACTION", "withdrawal-consumer"),
            ("TRANSACTION_RESULT", "account-result-consumer"),
            ("USED_UP", "commands-used-up-consumer"),
            ("USED_UP", "results-used-up-consumer"),
        ] {
            let within = fixture::SETTLED_WITHIN;
            broker::all_acked(&fixture.jetstream, stream, consumer, within).await;
        }
        for queue in ["TRANSACTION", "USED_UP"] {
            // The redrive may have sent commands again meanwhile.
            let what = format!("{queue} is empty");
            eventually(&what, fixture::SETTLED_WITHIN, || async {
                let state = broker::stream(&fixture.jetstream, queue).await.state;
                (state.messages == 0).then_some(())
            })
            .await;
        }
        invariants::assert_verified(&fixture.stack).await;
    });
}
