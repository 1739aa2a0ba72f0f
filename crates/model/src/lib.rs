//! The money protocol of `ARCHITECTURE.md` as a model, every interleaving of
//! which is explored within bounds. No I/O and nothing of the services is in
//! it: it says what they must do, and shows what each rule is there for.
//!
//! Two databases survive everything, and each commit is one step. Everything
//! else fails: any replica crashes between any two steps and loses its memory,
//! publications are lost or arrive late and twice, messages are delivered
//! again to anybody while the first worker still works, and the broker forgets
//! what it has acknowledged, with or without the message ids.
//!
//! # What stays true
//!
//! [`properties::Invariant`], checked in every state. *Settled* is a question
//! about endless time; [`drain`] says how it is asked of a single state.
//! [`reached`] guards against a model in which nothing happens.
//!
//! The tests explore small worlds ([`cases::worlds`]: 2 million states in all).
//! `cargo run -p model -- --help` tells how to ask for others, up to minutes
//! and gigabytes: 13 million states for a deposit and a withdrawal with two
//! crashes and two turns of the redrive, as many for two lost advisories with
//! two crashes, a loss, and a slow worker, and nothing breaks in them.
//!
//! # What each rule is for
//!
//! Without the rule, exactly these invariants break in the smallest world that
//! shows it; in brackets, the steps of a shortest way there. The tests hold the
//! table in [`cases`] to it, `cargo run -p model -- --rules` prints it.
//!
//! | rule | breaks | rule | breaks |
//! | --- | --- | --- | --- |
//! | `record-before-command` | agreed (3) | `redrive-message-id` | settled (3) |
//! | `outcome-before-result` | agreed (6) | `result-message-id` | settled (6) |
//! | `commit-before-ack` | told (6), kept (3) | `only-pending` | pinned, agreed, projected (10), kept (8) |
//! | `await-pub-ack` | told (5), kept (4) | `only-newer-seq` | projected (14) |
//! | `remember-decided` | once (7) | `dead-letter` | kept (1) |
//! | `pinned-refusals` | pinned (11), agreed (8) | `dead-letter-before-term` | kept (4) |
//! | `republish-on-duplicate` | settled, told (5) | `work-off-used-up` | told (7), kept (10) |
//! | `redrive` | settled (2) | `sweep` | settled, told (5), kept (4) |
//! | `unique-record-id` | once (9), pinned (14) | | |
//!
//! Rules that another one covers, and what that tells:
//!
//! - `lock-accounts` and `unique-account-seq`: either may go. Without both, two
//!   deposits start from one balance (conserved, 10 steps). Neither stands in
//!   for `unique-record-id`: the statement for what is new and possible has
//!   looked for the record before it waited for the lock.
//! - `sweep` finds what `work-off-used-up` would hear of: a command needs one of
//!   the two (without both: told, 4 steps; kept, 3). But it is for work queues
//!   only. `TRANSACTION_RESULT` keeps what is settled, so nobody can tell there
//!   what is not; behind the advisories about results stands the redrive.
//! - `commit-before-ack` and `await-pub-ack` are not needed for *settled*: the
//!   redrive covers what they prevent. Hence *told*: as long as the broker loses
//!   nothing, nobody has to wait for the redrive. Dead letters need both rules,
//!   since nothing sends those again.
//! - `redrive-message-id` and `result-message-id`: duplicate windows end, so
//!   without them records would settle once theirs has. In a drain they do not
//!   end.
//! - `only-pending` breaks nothing as long as all results of a record agree,
//!   which the other rules see to. A result from a wrong hand makes it matter.
//!
//! # What is not promised
//!
//! Two things break although every rule is kept ([`cases::limits`]):
//!
//! - An ack names a message by its sequence number. If a stream is lost and
//!   made again, the ack of a worker that still holds a message of the old one
//!   lets go of the message that has its number now (seen with nats-server
//!   2.15.1, for acks and terms). A command or result that goes this way is
//!   redriven; a message that can't be processed is only in its worker's memory
//!   then, and gone without a dead letter if that crashes.
//! - If the advisory about a used-up result is lost, the result is no dead
//!   letter. Its record is redriven; a result from a wrong hand has none to be
//!   redriven, and its age removes it.
//!
//! # Where it is in the code
//!
//! | here | there |
//! | --- | --- |
//! | `Record`, `Unasked` → `Pending` → `Settled` | `transaction_records`; `account-service/src/record.rs` |
//! | `projected` | `balance`, `account_seq` of the account-service's `accounts` |
//! | `Ledger`, `Transaction` | `transactions` and `accounts` of the transaction-service |
//! | `Accept` | `account-service/src/store/records.rs` `accept` |
//! | `outgoing`, `Send` | the channel of `account-service/src/dispatch.rs`; what `redrive.rs` has claimed |
//! | `Claim` | `account-service/src/store/pending.rs` `claim_for_redrive` |
//! | `Take`, `Hand`, `LetGo` | a fetch of `runtime/src/worker/mod.rs`; the message in its batch; ack or `Term` in `settle.rs` `carry_out` |
//! | `Read`, and `Commit` after it | `transaction-service/src/store/usual.rs`: `NOT EXISTS`, and what comes after it |
//! | `Commit` of a command: `decide` | `transaction-service/src/store/mod.rs` `apply_carefully`, `ledger.rs` `decide` |
//! | `again` | `Answer::Outcome` of a record that was decided before |
//! | `Commit` of a result: `settle` | `account-service/src/store/settling.rs` `settle`, `record.rs` `effect_of` |
//! | `Publish`, `HoldUpPublish` | `runtime/src/worker/settle.rs` `publish`: until every PubAck is here |
//! | `MessageId` | `dispatch::message`, `redrive.rs` `send`, `transaction-service/src/worker.rs` `outgoing` |
//! | `Place` | `runtime/src/worker/delivery.rs` `place` |
//! | `TakeUsedUp`, `End::Delete` | `runtime/src/worker/used_up.rs` `work_off`, `bury` |
//! | `Sweep` | `runtime/src/worker/sweep.rs` |
//! | `backlog` | `BACKLOG` of `account-service/src/redrive.rs` |
//!
//! # What was left out, and why
//!
//! - **Batches.** A commit of many messages is their commits one after the
//!   other with nothing in between (`ledger.rs` has that as a property), and a
//!   replica that dies with many in hand is several that die with one. Both are
//!   among the interleavings here, with as many replicas.
//! - **Time.** Ack waits, duplicate windows and the redrive's turns end at any
//!   moment. That a PENDING record's next turn comes at all, which is the work
//!   of the walks in `redrive.rs`, is taken for granted; and so is that the sweep
//!   comes at a moment that shows what it looks for: a consumer's ack floor does
//!   not pass a message that was given up before there is an ack after which
//!   nothing is in hand (seen with nats-server 2.15.1).
//! - **Outages.** A database that is away only makes a step late. A `Nak`, a lost
//!   ack, and a commit whose answer is lost are a message that comes again: a
//!   crash at that point, with less lost.
//! - **Dead letters that the broker loses**: nothing else knows of them.
//! - **Other reasons of refusal, other currencies, idempotency keys, waiting
//!   clients**: they are decided before the record, or by the same step.
//! - **Identity of states** is a hash of 64 bits, as `stateright` has it: two
//!   that collide would hide one. At a million states, less than one chance in 10⁷.

pub mod action;
pub mod broker;
pub mod cases;
pub mod check;
pub mod drain;
pub mod properties;
pub mod protocol;
pub mod reached;
pub mod rules;
pub mod scenario;
pub mod state;
pub mod story;

mod account_service;
mod faults;
mod transaction_service;
mod worker;
