//! A process dies between two effects, at every place where one can. Each test
//! is one place in one service: what is left there, who goes on, and that all
//! of it settles once.
//!
//! The points are named in the services; `runtime/src/crash.rs` tells how one
//! is armed. All scenarios share one stack and run beside each other, so that
//! the half minute after which a message is delivered again passes once.

mod ahead;
mod letters;
mod rig;
mod scenarios;

use std::sync::LazyLock;

use ahead::Ahead;
use futures::FutureExt;
use rig::{ACCOUNT, Crash, Rig, TRANSACTION};
use scenarios::{
    About,
    Left::{Depends, SentCommand, UnackedCommand, UnackedResult, UnsentCommand},
    Scenario::{
        self, Accepting, Deposits, Empty, OneByOne, Overdrawn, PoisonCommand, PoisonResult,
        Refused, Repeated, Unsent, UsedUpCommand, UsedUpResult, Waiting, Withdrawal,
    },
};
use tests::{broker, checks, eventually};

/// In any account-service.
const fn account(point: &'static str) -> Crash {
    Crash { service: ACCOUNT, point, with: "" }
}

/// In any transaction-service.
const fn ledger(point: &'static str) -> Crash {
    Crash { service: TRANSACTION, point, with: "" }
}

impl Crash {
    /// With this in hand, too.
    const fn with(self, with: &'static str) -> Self {
        Self { with, ..self }
    }
}

const COMMANDS: &str = "\"transaction.deposit\"";
const DEPOSITS: &str = "\"deposit-consumer\"";
const WITHDRAWALS: &str = "\"withdrawal-consumer\"";
const RESULTS: &str = "\"account-result-consumer\"";
const COMMAND_LETTERS: &str = "dead-letter.TRANSACTION.deposit-consumer";
const RESULT_LETTERS: &str = "dead-letter.TRANSACTION_RESULT.account-result-consumer";
const GIVEN_UP: &str = "never settled";

static AHEAD: LazyLock<Ahead> = LazyLock::new(|| {
    let names = SCENARIOS.iter().map(|(name, ..)| *name);
    Ahead::of(module_path!(), names, |name| {
        let (name, crash, scenario) = SCENARIOS.iter().find(|it| it.0 == name).unwrap();
        scenario.run(name, *crash).boxed()
    })
});

macro_rules! crashes {
    ($($name:ident: $crash:expr => $scenario:expr;)*) => {
        /// Those first that wait for a message to be delivered again.
        const SCENARIOS: &[(&str, Crash, Scenario)] =
            &[$((stringify!($name), $crash, $scenario)),*];
        $(#[test] fn $name() { AHEAD.tell(stringify!($name)); })*
    };
}

crashes! {
    // Dead letters: nobody would send those messages again.
    an_invalid_command_survives_a_crash_before_its_dead_letter_is_sent:
        ledger("publish.begun").with(COMMAND_LETTERS) => PoisonCommand(0);
    an_invalid_command_gives_one_dead_letter_through_a_crash_before_its_puback:
        ledger("publish.sent").with(COMMAND_LETTERS) => PoisonCommand(1);
    an_invalid_command_gives_one_dead_letter_through_a_crash_after_its_puback:
        ledger("publish.acknowledged").with(COMMAND_LETTERS) => PoisonCommand(1);
    an_invalid_command_gives_one_dead_letter_through_a_crash_before_its_term:
        ledger("worker.acked").with(DEPOSITS) => PoisonCommand(1);
    an_invalid_result_survives_a_crash_before_its_dead_letter_is_sent:
        account("publish.begun").with(RESULT_LETTERS) => PoisonResult(0);
    an_invalid_result_gives_one_dead_letter_through_a_crash_before_its_puback:
        account("publish.sent").with(RESULT_LETTERS) => PoisonResult(1);
    an_invalid_result_gives_one_dead_letter_through_a_crash_after_its_puback:
        account("publish.acknowledged").with(RESULT_LETTERS) => PoisonResult(1);
    an_invalid_result_gives_one_dead_letter_through_a_crash_before_its_term:
        account("worker.acked").with(RESULTS) => PoisonResult(1);

    // Messages whose deliveries are used up: their advisory is delivered again.
    a_command_at_max_deliveries_survives_a_crash_before_its_dead_letter_is_sent:
        ledger("publish.begun").with(GIVEN_UP) => UsedUpCommand(0);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_puback:
        ledger("publish.sent").with(GIVEN_UP) => UsedUpCommand(1);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_deletion:
        ledger("publish.acknowledged").with(GIVEN_UP) => UsedUpCommand(1);
    a_command_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        ledger("used-up.deleted") => UsedUpCommand(1);
    a_result_at_max_deliveries_survives_a_crash_before_its_dead_letter_is_sent:
        account("publish.begun").with(GIVEN_UP) => UsedUpResult(0);
    a_result_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_puback:
        account("publish.sent").with(GIVEN_UP) => UsedUpResult(1);
    a_result_at_max_deliveries_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        account("publish.acknowledged").with(GIVEN_UP) => UsedUpResult(1);

    // The transaction-service: commands, the ledger, and the results' publishing.
    a_deposit_settles_through_a_crash_after_its_command_was_fetched:
        ledger("worker.fetched").with(DEPOSITS) => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_their_commands_were_fetched:
        ledger("worker.fetched").with(DEPOSITS) => Deposits(50, Depends);
    a_withdrawal_settles_through_a_crash_after_its_command_was_fetched:
        ledger("worker.fetched").with(WITHDRAWALS) => Withdrawal;
    a_refusal_settles_through_a_crash_after_its_account_was_added_to_the_ledger:
        ledger("ledger.accounts-added") => Empty;
    withdrawals_settle_through_a_crash_between_the_balance_and_their_entries:
        ledger("ledger.balances-written") => Overdrawn;
    withdrawals_settle_through_a_crash_before_the_ledgers_commit:
        ledger("ledger.entries-inserted") => Overdrawn;
    withdrawals_settle_through_a_crash_after_part_of_their_batch_was_committed:
        ledger("ledger.part-committed") => Overdrawn;
    a_deposit_settles_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Deposits(50, Depends);
    a_withdrawal_settles_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Withdrawal;
    a_refusal_stays_one_through_a_crash_after_the_ledgers_commit:
        ledger("ledger.committed") => Refused;
    a_batch_processed_one_by_one_settles_through_a_crash_between_two_commands:
        ledger("worker.one-by-one").with(DEPOSITS) => OneByOne;
    a_deposit_settles_through_a_crash_between_its_decision_and_its_result:
        ledger("worker.decided").with(DEPOSITS) => Deposits(1, UnackedCommand);
    a_deposit_settles_through_a_crash_before_its_result_is_sent:
        ledger("publish.begun").with("transaction.result.deposit") => Deposits(1, UnackedCommand);
    fifty_deposits_settle_through_a_crash_with_half_of_their_results_sent:
        ledger("publish.half").with("transaction.result.deposit") => Deposits(50, Depends);
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

    // The account-service: results and settling.
    a_deposit_settles_through_a_crash_after_its_result_was_fetched:
        account("worker.fetched").with(RESULTS) => Deposits(1, UnackedResult);
    a_repeated_result_is_acked_through_a_crash_before_it_is_compared:
        account("settle.unseen") => Repeated;
    a_repeated_result_is_acked_through_a_crash_before_the_comparison_commits:
        account("settle.judged") => Repeated;
    a_deposit_settles_once_through_a_crash_between_the_settling_commit_and_the_notification:
        account("settle.committed") => Deposits(1, UnackedResult);
    fifty_deposits_settle_once_through_a_crash_between_the_settling_commit_and_the_notification:
        account("settle.committed") => Deposits(50, Depends);
    a_client_at_another_replica_gets_its_response_through_a_crash_before_the_notification:
        account("settled.told-here") => Waiting;
    a_deposit_settles_once_through_a_crash_between_the_notification_and_its_results_ack:
        account("worker.decided").with(RESULTS) => Deposits(1, UnackedResult);
    fifty_deposits_settle_once_through_a_crash_with_half_of_their_results_acked:
        account("worker.half-acked").with(RESULTS) => Deposits(50, Depends);
    a_deposit_settles_once_through_a_crash_right_after_its_results_ack:
        account("worker.acked").with(RESULTS) => Deposits(1, Depends);

    // The account-service: accepting, dispatching, redriving.
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
        account("redrive.claimed") => Unsent(1, About::Account);
    a_record_settles_through_a_crash_before_its_redrive_is_sent:
        account("publish.begun").with(COMMANDS) => Unsent(1, About::Redrive);
    fifty_records_settle_through_a_crash_with_half_of_their_redrives_sent:
        account("publish.half").with(COMMANDS) => Unsent(50, About::SentRedrive);
    a_record_settles_through_a_crash_before_its_redrives_puback:
        account("publish.sent").with(COMMANDS) => Unsent(1, About::SentRedrive);
    a_record_settles_through_a_crash_after_its_redrives_puback:
        account("publish.acknowledged").with(COMMANDS) => Unsent(1, About::SentRedrive);
}

#[test]
fn after_all_crashes_nothing_is_unacked_and_the_books_balance() {
    AHEAD.after_all(async {
        let rig = Rig::get().await;
        let account = rig.open_account().await;
        let records = rig.deposits(&account, 1).await;
        rig.settled_once(&account, &records, 10).await;
        for (stream, consumer) in [
            ("TRANSACTION", "deposit-consumer"),
            ("TRANSACTION", "withdrawal-consumer"),
            ("TRANSACTION_RESULT", "account-result-consumer"),
            ("USED_UP", "commands-used-up-consumer"),
            ("USED_UP", "results-used-up-consumer"),
        ] {
            eventually("nothing is left unacked", rig::SETTLED_WITHIN, || async {
                (broker::unacked(&rig.jetstream, stream, consumer).await == (0, 0)).then_some(())
            })
            .await;
        }
        for queue in ["TRANSACTION", "USED_UP"] {
            assert_eq!(broker::stream(&rig.jetstream, queue).await.state.messages, 0, "{queue}");
        }
        checks::assert_verified(&rig.stack).await;
    });
}
