//! A process dies between two effects, at every place where one can. Each test
//! is one place in one service: what is left there, who goes on, and that all
//! of it settles once.
//!
//! The points are named in the services; `runtime/src/crash.rs` tells how one
//! is armed. All scenarios share one stack and run beside each other, so that
//! the half minute after which a message is delivered again passes once.

mod ahead;
mod rig;
mod scenarios;

use std::{sync::LazyLock, time::Duration};

use ahead::Ahead;
use futures::FutureExt;
use rig::{ACCOUNT, Crash, Rig, TRANSACTION};
use scenarios::{
    About,
    Left::{Depends, SentCommand, UnackedCommand, UnackedResult, UnsentCommand},
    Scenario,
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
    let names = SCENARIOS.iter().map(|(name, _)| *name);
    Ahead::of(module_path!(), names, |name| {
        let (name, scenario) = SCENARIOS.iter().find(|it| it.0 == name).unwrap();
        scenario.run(name).boxed()
    })
});

macro_rules! crashes {
    ($($name:ident: $scenario:expr;)*) => {
        /// Those first that wait for a message to be delivered again.
        const SCENARIOS: &[(&str, Scenario)] = &[$((stringify!($name), $scenario)),*];
        $(#[test] fn $name() { AHEAD.tell(stringify!($name)); })*
    };
}

crashes! {
    // Dead letters: nobody would send those messages again.
    a_command_that_is_none_survives_a_crash_before_its_dead_letter_is_sent:
        Scenario::PoisonCommand(ledger("publish.begun").with(COMMAND_LETTERS), 0);
    a_command_that_is_none_gives_one_dead_letter_through_a_crash_before_its_puback:
        Scenario::PoisonCommand(ledger("publish.sent").with(COMMAND_LETTERS), 1);
    a_command_that_is_none_gives_one_dead_letter_through_a_crash_after_its_puback:
        Scenario::PoisonCommand(ledger("publish.acknowledged").with(COMMAND_LETTERS), 1);
    a_command_that_is_none_gives_one_dead_letter_through_a_crash_before_its_term:
        Scenario::PoisonCommand(ledger("worker.acked").with(DEPOSITS), 1);
    a_result_that_is_none_survives_a_crash_before_its_dead_letter_is_sent:
        Scenario::PoisonResult(account("publish.begun").with(RESULT_LETTERS), 0);
    a_result_that_is_none_gives_one_dead_letter_through_a_crash_before_its_puback:
        Scenario::PoisonResult(account("publish.sent").with(RESULT_LETTERS), 1);
    a_result_that_is_none_gives_one_dead_letter_through_a_crash_after_its_puback:
        Scenario::PoisonResult(account("publish.acknowledged").with(RESULT_LETTERS), 1);
    a_result_that_is_none_gives_one_dead_letter_through_a_crash_before_its_term:
        Scenario::PoisonResult(account("worker.acked").with(RESULTS), 1);

    // Messages whose deliveries are used up: their advisory is delivered again.
    a_used_up_command_survives_a_crash_before_its_dead_letter_is_sent:
        Scenario::UsedUpCommand(ledger("publish.begun").with(GIVEN_UP), 0);
    a_used_up_command_gives_one_dead_letter_through_a_crash_before_its_puback:
        Scenario::UsedUpCommand(ledger("publish.sent").with(GIVEN_UP), 1);
    a_used_up_command_gives_one_dead_letter_through_a_crash_before_its_deletion:
        Scenario::UsedUpCommand(ledger("publish.acknowledged").with(GIVEN_UP), 1);
    a_used_up_command_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        Scenario::UsedUpCommand(ledger("used-up.deleted"), 1);
    a_used_up_result_survives_a_crash_before_its_dead_letter_is_sent:
        Scenario::UsedUpResult(account("publish.begun").with(GIVEN_UP), 0);
    a_used_up_result_gives_one_dead_letter_through_a_crash_before_its_puback:
        Scenario::UsedUpResult(account("publish.sent").with(GIVEN_UP), 1);
    a_used_up_result_gives_one_dead_letter_through_a_crash_before_its_advisory_is_acked:
        Scenario::UsedUpResult(account("publish.acknowledged").with(GIVEN_UP), 1);

    // The transaction-service: commands, the ledger, and the results' publishing.
    a_deposit_settles_through_a_crash_after_its_command_was_fetched:
        Scenario::Deposits(1, ledger("worker.fetched").with(DEPOSITS), UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_their_commands_were_fetched:
        Scenario::Deposits(50, ledger("worker.fetched").with(DEPOSITS), Depends);
    a_withdrawal_settles_through_a_crash_after_its_command_was_fetched:
        Scenario::Withdrawal(ledger("worker.fetched").with(WITHDRAWALS));
    a_deposit_settles_through_a_crash_after_its_account_was_added_to_the_ledger:
        Scenario::Deposits(1, ledger("ledger.accounts-added"), UnackedCommand);
    a_deposit_settles_through_a_crash_between_its_entry_and_its_balance:
        Scenario::Deposits(1, ledger("ledger.entries-inserted"), UnackedCommand);
    fifty_deposits_settle_through_a_crash_between_their_entries_and_the_balance:
        Scenario::Deposits(50, ledger("ledger.entries-inserted"), Depends);
    a_deposit_settles_through_a_crash_before_the_ledgers_commit:
        Scenario::Deposits(1, ledger("ledger.balances-written"), UnackedCommand);
    a_deposit_settles_through_a_crash_after_the_ledgers_commit:
        Scenario::Deposits(1, ledger("ledger.committed"), UnackedCommand);
    fifty_deposits_settle_through_a_crash_after_the_ledgers_commit:
        Scenario::Deposits(50, ledger("ledger.committed"), Depends);
    a_withdrawal_settles_through_a_crash_after_the_ledgers_commit:
        Scenario::Withdrawal(ledger("ledger.committed"));
    a_refusal_stays_one_through_a_crash_after_the_ledgers_commit:
        Scenario::Refused(ledger("ledger.committed"));
    a_batch_taken_one_by_one_settles_through_a_crash_between_two_of_them:
        Scenario::OneByOne(ledger("worker.one-by-one").with(DEPOSITS));
    a_deposit_settles_through_a_crash_between_its_decision_and_its_result:
        Scenario::Deposits(1, ledger("worker.decided").with(DEPOSITS), UnackedCommand);
    a_deposit_settles_through_a_crash_before_its_result_is_sent:
        Scenario::Deposits(1, ledger("publish.begun").with("transaction.result.deposit"), UnackedCommand);
    fifty_deposits_settle_through_a_crash_with_half_of_their_results_sent:
        Scenario::Deposits(50, ledger("publish.half").with("transaction.result.deposit"), Depends);
    a_deposit_settles_through_a_crash_before_its_results_puback:
        Scenario::Deposits(1, ledger("publish.sent").with("transaction.result.deposit"), UnackedCommand);
    a_deposit_settles_through_a_crash_between_its_results_puback_and_the_commands_ack:
        Scenario::Deposits(1, ledger("publish.acknowledged").with("transaction.result.deposit"), UnackedCommand);
    a_refusal_stays_one_through_a_crash_before_its_results_puback:
        Scenario::Refused(ledger("publish.sent").with("transaction.result.withdrawal"));
    fifty_deposits_settle_through_a_crash_with_half_of_their_commands_acked:
        Scenario::Deposits(50, ledger("worker.half-acked").with(DEPOSITS), Depends);
    a_deposit_settles_through_a_crash_right_after_its_commands_ack:
        Scenario::Deposits(1, ledger("worker.acked").with(DEPOSITS), Depends);

    // The account-service: results and settling.
    a_deposit_settles_through_a_crash_after_its_result_was_fetched:
        Scenario::Deposits(1, account("worker.fetched").with(RESULTS), UnackedResult);
    a_deposit_settles_through_a_crash_between_its_record_and_the_balance_shown:
        Scenario::Deposits(1, account("settle.records-written"), UnackedResult);
    fifty_deposits_settle_through_a_crash_between_their_records_and_the_balance_shown:
        Scenario::Deposits(50, account("settle.records-written"), Depends);
    a_deposit_settles_through_a_crash_before_the_settling_commit:
        Scenario::Deposits(1, account("settle.balances-projected"), UnackedResult);
    a_deposit_settles_once_through_a_crash_between_the_settling_commit_and_the_telling:
        Scenario::Deposits(1, account("settle.committed"), UnackedResult);
    fifty_deposits_settle_once_through_a_crash_between_the_settling_commit_and_the_telling:
        Scenario::Deposits(50, account("settle.committed"), Depends);
    a_client_at_another_replica_gets_its_answer_through_a_crash_before_that_is_told:
        Scenario::Waiting(account("settled.told-here"));
    a_deposit_settles_once_through_a_crash_between_the_telling_and_its_results_ack:
        Scenario::Deposits(1, account("worker.decided").with(RESULTS), UnackedResult);
    fifty_deposits_settle_once_through_a_crash_with_half_of_their_results_acked:
        Scenario::Deposits(50, account("worker.half-acked").with(RESULTS), Depends);
    a_deposit_settles_once_through_a_crash_right_after_its_results_ack:
        Scenario::Deposits(1, account("worker.acked").with(RESULTS), Depends);

    // The account-service: accepting, dispatching, redriving.
    a_client_finds_its_record_again_after_a_crash_between_its_commit_and_the_dispatch:
        Scenario::Accepting(account("accept.committed"));
    a_client_finds_its_record_again_after_a_crash_between_the_dispatch_and_the_answer:
        Scenario::Accepting(account("accept.dispatched"));
    a_deposit_settles_through_a_crash_before_its_command_is_published:
        Scenario::Deposits(1, account("dispatch.received"), UnsentCommand);
    fifty_deposits_settle_through_a_crash_with_half_of_their_commands_sent:
        Scenario::Deposits(50, account("publish.half").with(COMMANDS), Depends);
    a_deposit_settles_through_a_crash_before_its_commands_puback:
        Scenario::Deposits(1, account("publish.sent").with(COMMANDS), SentCommand);
    a_deposit_settles_through_a_crash_after_its_commands_puback:
        Scenario::Deposits(1, account("publish.acknowledged").with(COMMANDS), SentCommand);
    a_record_settles_through_a_crash_after_it_was_claimed_for_its_redrive:
        Scenario::Unsent(1, account("redrive.claimed"), About::Account);
    a_record_settles_through_a_crash_before_its_redrive_is_sent:
        Scenario::Unsent(1, account("publish.begun").with(COMMANDS), About::Redrive);
    fifty_records_settle_through_a_crash_with_half_of_their_redrives_sent:
        Scenario::Unsent(50, account("publish.half").with(COMMANDS), About::SentRedrive);
    a_record_settles_through_a_crash_before_its_redrives_puback:
        Scenario::Unsent(1, account("publish.sent").with(COMMANDS), About::SentRedrive);
    a_record_settles_through_a_crash_after_its_redrives_puback:
        Scenario::Unsent(1, account("publish.acknowledged").with(COMMANDS), About::SentRedrive);
}

#[test]
fn when_all_of_these_have_crashed_nothing_is_left_in_hand_and_the_books_balance() {
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
            eventually("nothing is left unacked", Duration::from_secs(60), || async {
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
