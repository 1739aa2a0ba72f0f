//! What each service needs of the broker.

/// What a service needs. `*` is any token, `>` any further ones.
pub(super) struct Needs {
    pub(super) user: &'static str,
    pub(super) publish: &'static [&'static str],
    pub(super) subscribe: &'static [&'static str],
    /// A stream and consumer of the service, with its filter.
    pub(super) consumer: (&'static str, &'static str, &'static str),
    /// Its consumer of `USED_UP`, which has hardly a message.
    pub(super) advisories: &'static str,
}

const ACCOUNT_SERVICE: Needs = Needs {
    user: "account-service",
    publish: &[
        "account.settled",
        "transaction.deposit",
        "transaction.withdrawal",
        "dead-letter.TRANSACTION_RESULT.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.TRANSACTION",
        "$JS.API.STREAM.CREATE.TRANSACTION_RESULT",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.TRANSACTION",
        "$JS.API.STREAM.INFO.TRANSACTION_RESULT",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.TRANSACTION_RESULT",
        "$JS.API.CONSUMER.CREATE.TRANSACTION_RESULT.account-result-consumer.transaction.result.>",
        "$JS.API.CONSUMER.CREATE.USED_UP.results-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.*",
        "$JS.API.CONSUMER.INFO.TRANSACTION_RESULT.account-result-consumer",
        "$JS.API.CONSUMER.INFO.USED_UP.results-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION_RESULT.account-result-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.results-used-up-consumer",
        "$JS.ACK.TRANSACTION_RESULT.account-result-consumer.>",
        "$JS.ACK.USED_UP.results-used-up-consumer.>",
    ],
    subscribe: &["account.settled"],
    consumer: ("TRANSACTION_RESULT", "account-result-consumer", "transaction.result.>"),
    advisories: "results-used-up-consumer",
};

const TRANSACTION_SERVICE: Needs = Needs {
    user: "transaction-service",
    publish: &[
        "transaction.result.deposit",
        "transaction.result.withdrawal",
        "dead-letter.TRANSACTION.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.TRANSACTION",
        "$JS.API.STREAM.CREATE.TRANSACTION_RESULT",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.TRANSACTION",
        "$JS.API.STREAM.INFO.TRANSACTION_RESULT",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.TRANSACTION",
        // A command that is not delivered any more, once it is a dead letter.
        "$JS.API.STREAM.MSG.DELETE.TRANSACTION",
        "$JS.API.CONSUMER.CREATE.TRANSACTION.deposit-consumer.transaction.deposit",
        "$JS.API.CONSUMER.CREATE.TRANSACTION.withdrawal-consumer.transaction.withdrawal",
        "$JS.API.CONSUMER.CREATE.USED_UP.commands-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.*",
        "$JS.API.CONSUMER.INFO.TRANSACTION.deposit-consumer",
        "$JS.API.CONSUMER.INFO.TRANSACTION.withdrawal-consumer",
        "$JS.API.CONSUMER.INFO.USED_UP.commands-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION.deposit-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION.withdrawal-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.commands-used-up-consumer",
        "$JS.ACK.TRANSACTION.deposit-consumer.>",
        "$JS.ACK.TRANSACTION.withdrawal-consumer.>",
        "$JS.ACK.USED_UP.commands-used-up-consumer.>",
    ],
    subscribe: &[],
    consumer: ("TRANSACTION", "deposit-consumer", "transaction.deposit"),
    advisories: "commands-used-up-consumer",
};

const REPORT_SERVICE: Needs = Needs {
    user: "report-service",
    publish: &[
        "message.process",
        "dead-letter.job.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.job",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.job",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.job",
        "$JS.API.STREAM.MSG.DELETE.job",
        "$JS.API.CONSUMER.CREATE.job.job_cons.message.process",
        "$JS.API.CONSUMER.CREATE.USED_UP.jobs-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.*",
        "$JS.API.CONSUMER.INFO.job.job_cons",
        "$JS.API.CONSUMER.INFO.USED_UP.jobs-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.job.job_cons",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.jobs-used-up-consumer",
        "$JS.ACK.job.job_cons.>",
        "$JS.ACK.USED_UP.jobs-used-up-consumer.>",
    ],
    subscribe: &[],
    consumer: ("job", "job_cons", "message.process"),
    advisories: "jobs-used-up-consumer",
};

pub(super) const SERVICES: [Needs; 3] = [ACCOUNT_SERVICE, TRANSACTION_SERVICE, REPORT_SERVICE];
