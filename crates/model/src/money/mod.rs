//! The money protocol of `docs/architecture.md`.
//!
//! Two databases survive everything, and each commit is one step. Everything
//! else can fail. A replica crashes between any two steps and loses its memory.
//! Messages carry one or several commands or results, the *parts* of a *bundle*, and
//! a crash can come between two of them. A command can be *poison*: at each delivery,
//! it crashes its worker or fails.
//! Publications are lost, or arrive late and twice. Messages are redelivered to
//! any replica while the first worker is still processing them. The broker loses
//! acknowledged messages, with or without their message ids. It discards results to make
//! room, and refuses messages for their size. Other transactions hold accounts.
//!
//! # Invariants
//!
//! [`invariants::Invariant`] lists the conditions. They are checked in every
//! state. *Settled* is a statement about infinite time; [`drain`] explains its
//! check in a single state. [`situations`] guards against a model in which
//! nothing happens.
//!
//! The tests explore small worlds ([`cases::worlds`], 3.5 million states in
//! total). `cargo run -p model -- --help` lists the options for other worlds,
//! up to minutes and gigabytes. A deposit and a withdrawal with two crashes and
//! two redrives have 13 million states; two lost advisories with two crashes, a
//! wipe and a slow worker have as many. Two bundled deposits have 1.4 million
//! states with three redrives, if the first crashes its worker, and 1.2 million
//! with a crash and two redrives, if it fails. Nothing breaks in these worlds.
//!
//! # The reason for each rule
//!
//! Without a rule, exactly these invariants break in the smallest world that
//! shows it. The numbers are the steps of a shortest path. The tests check the
//! same table in [`cases`], and `cargo run -p model -- --rules` prints it.
//!
//! | rule | breaks |
//! | --- | --- |
//! | `record-before-command` | agreed (3), neighbours-spared (8) |
//! | `outcome-before-result` | agreed (6) |
//! | `commit-before-ack` | no-redrive-needed (6), nothing-dropped (3) |
//! | `await-pub-ack` | no-redrive-needed (5), nothing-dropped (4) |
//! | `remember-decided` | once (7) |
//! | `pinned-refusals` | pinned (11), agreed (8) |
//! | `republish-on-duplicate` | settled (5), no-redrive-needed (5) |
//! | `redrive` | settled (2) |
//! | `redrive-message-id` | settled (3) |
//! | `result-message-id` | settled (6) |
//! | `only-pending` | pinned (10), agreed (10), projected (10), nothing-dropped (8) |
//! | `only-newer-seq` | projected (14) |
//! | `dead-letter` | nothing-dropped (1) |
//! | `dead-letter-before-term` | nothing-dropped (4) |
//! | `work-off-used-up` | no-redrive-needed (7), nothing-dropped (10) |
//! | `sweep` | settled (5), no-redrive-needed (5), nothing-dropped (4) |
//! | `unique-record-id` | once (9), pinned (14) |
//! | `digest-message-id` | no-redrive-needed (7) |
//! | `ack-all-parts` | no-redrive-needed (9) |
//! | `await-every-pub-ack` | no-redrive-needed (9) |
//! | `dead-letter-one-part` | neighbours-spared (6) |
//! | `hand-back-whole` | no-redrive-needed (2) |
//! | `dead-letter-each-part` | no-redrive-needed (5) |
//! | `redrive-alone` | settled (2) |
//! | `take-apart` | neighbours-spared (9) |
//! | `keep-locked` | neighbours-spared (5) |
//!
//! Some rules are covered by another one, wholly or in part:
//!
//! - `lock-accounts` and `unique-account-seq`: one of them is enough. Without
//!   both, two deposits start from the same balance (conserved, 10 steps).
//!   Neither replaces `unique-record-id`: the fast path looks for the record
//!   before it waits for the lock.
//! - `sweep` finds the messages of `work-off-used-up`, the rule about
//!   max-deliveries advisories. A command needs one of the two rules. Without
//!   both, no-redrive-needed breaks in 4 steps, and nothing-dropped in 3. The
//!   sweep covers work queues only. `TRANSACTION_RESULT` keeps settled results,
//!   so a sweep can't recognise the others there. For a result with a lost
//!   advisory, the redrive takes over.
//! - `commit-before-ack` and `await-pub-ack` are not needed for *settled*: the
//!   redrive repairs their absence. They are needed for *no-redrive-needed*:
//!   while the broker loses nothing, no client waits for the redrive. Dead
//!   letters need both rules, because nothing publishes a dead letter again.
//! - `redrive-message-id` and `result-message-id`: duplicate windows end, so
//!   records would settle without these rules after the end of the window. In a
//!   drain, the windows never end.
//! - `only-pending` breaks nothing while all results of a record agree, which
//!   the other rules ensure. A stray result makes the difference.
//! - `digest-message-id`: a message returns with one part decided, and a worker
//!   publishes both results together. Under the id of the first result, the stream
//!   takes this for a duplicate. Without any id, nothing would break, but a
//!   publication without a PubAck would be stored twice.
//! - `redrive-alone` is needed only for poison that crashes its worker. Poison that
//!   fails is dead-lettered at its last delivery, and its neighbours are processed.
//! - `keep-locked` keeps the locked part in hand, and its message in progress. Its
//!   neighbours are decided and published, which `ack-all-parts` allows.
//! - `republish-on-duplicate` answers for the decided parts of a message that is
//!   handed back as a whole.
//!
//! # Known limits
//!
//! Two cases break *nothing-dropped* with every rule in force
//! ([`cases::known_limits`]):
//!
//! - An ack names its message by sequence number. Suppose a stream is lost and
//!   created again while a worker holds a message of the old stream. The ack
//!   then removes the new message with the same number (observed with
//!   nats-server 2.15.1, for acks and terms). A removed command or result is
//!   redriven. An unprocessable message now exists only in the memory of its
//!   worker, and a crash of that worker loses it without a dead letter.
//! - If the advisory about a result at `max_deliver` is lost, the result is not
//!   dead-lettered. Its record is redriven. A stray result has no record; it
//!   stays until the stream's age limit removes it.
//!
//! # Counterparts in the code
//!
//! | model | system |
//! | --- | --- |
//! | `Record`: `NotRequested` → `Pending` → `Settled` | `transaction_records`; `account-service/src/record.rs` |
//! | `projected` | `balance`, `account_seq` in the account-service's `accounts` |
//! | `Ledger`, `Transaction` | `transactions` and `accounts` of the transaction-service |
//! | `Accept` | `account-service/src/store/insert.rs` |
//! | `Part`, `Message` | `contract/src/bundle.rs` |
//! | `grouping`, `Digest` | `runtime/src/nats/publish.rs`; `redrive-alone` in `account-service/src/redrive.rs` |
//! | `outgoing`, `Send` | the channel of `account-service/src/dispatch.rs`; the claimed records of `redrive.rs` |
//! | `Claim` | `account-service/src/store/pending.rs` |
//! | `Deliver`, `Delivery` | a fetch in `runtime/src/worker/pull_loop.rs`; a message of its batch |
//! | `Read` and the `Commit` after it | `transaction-service/src/store/fast_path.rs`: its `NOT EXISTS`, and the rest of the statement |
//! | `Commit` of a command | `transaction-service/src/store/slow_path.rs`; `decide` in `ledger` |
//! | `Commit` of a result | `account-service/src/store/settle.rs`; `effect_of` in `ledger` |
//! | `duplicate` | a command of a decided record, a result of a settled one |
//! | the parts of a `Commit`, in any order | `runtime/src/worker/batch.rs`: a batch, or a half of it |
//! | `Publish`, `DelayPublish`, `Acknowledge`; `hand-back-whole` | `runtime/src/worker/settlement.rs` |
//! | `MessageId` | `dispatch.rs` and `redrive.rs` of the account-service; `transaction-service/src/worker.rs` |
//! | `StoredId` | the id of a dead letter, `contract/src/dead_letter.rs` |
//! | `LowerLimit`, `take-apart` | `smaller` in `runtime/src/nats/publish.rs` |
//! | `FindLocked`, `keep-locked` | `runtime/src/worker/locked.rs` and `kept.rs` |
//! | `Discard` | the size limit of `TRANSACTION_RESULT`, `contract/src/topology.rs` |
//! | `ReceiveAdvisory`, `Acknowledgement::Delete` | `runtime/src/worker/max_deliveries.rs` |
//! | `Sweep` | `runtime/src/worker/sweep.rs` |
//! | `backlog` | `BACKLOG` in `account-service/src/redrive.rs` |
//!
//! # Simplifications
//!
//! - **Batches.** A commit of many parts equals their commits one after the other
//!   without a step in between, which is a property test of `ledger`. A crash of a
//!   replica with many messages equals crashes of several replicas with one message
//!   each. With enough replicas, the interleavings here include both.
//! - **Bundles.** A message has up to three parts instead of a hundred, and the
//!   publisher chooses any grouping. A worker holds one message, so a result message
//!   never carries the results of two command messages. Such results share a PubAck,
//!   and each command message still waits for the PubAcks of its own results.
//! - **Poison.** A worker that crashes on poison loses one message here. In the system
//!   it loses its whole fetch, and each message of the fetch uses up a delivery.
//!   Growing delays with jitter separate their redrives from that of the poison.
//! - **Time.** Ack waits, duplicate windows and redrive delays end at any
//!   moment. Two things are assumed. Every PENDING record is redriven again,
//!   which the walks of `redrive.rs` ensure. The sweep runs at a moment when its
//!   messages are visible: the ack floor of a consumer does not pass an
//!   abandoned message until an ack leaves no message in progress (observed with
//!   nats-server 2.15.1).
//! - **Outages.** An unavailable database only delays a step. A `Nak`, a lost
//!   ack and a commit with a lost answer lead to a redelivery. They equal a crash
//!   at that point, but lose less.
//! - **Full streams.** A stream that rejects commands or dead letters delays their
//!   publications. A worker keeps a message without its dead letter in hand, and goes on
//!   with others (`runtime/src/worker/unstored.rs`). Enough replicas stand for that.
//! - **Discarded results.** Any result may be the oldest one.
//! - **Lost dead letters.** Nothing could restore a dead letter, so the broker
//!   does not lose them here.
//! - **Other refusals, currencies, idempotency keys, waiting clients.** These
//!   are decided before the record exists, or in the same step.
//! - **State identity.** `stateright` identifies a state by a 64-bit hash. A
//!   collision would hide a state. With a million states, its probability is
//!   below 10⁻⁷.

pub mod action;
pub mod cases;
pub mod counterexample;
pub mod databases;
pub mod drain;
pub mod invariants;
pub mod parts;
pub mod protocol;
pub mod replica;
pub mod rules;
pub mod scenario;
pub mod situations;
pub mod state;
pub mod streams;

mod account_service;
mod broker;
mod faults;
mod grouping;
mod state_machine;
mod steps;
mod transaction_service;
mod transitions;
mod worker;
