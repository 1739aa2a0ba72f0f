//! What a deployment does before the services start, with the least privilege
//! that does: `passbook provision`, `migrate`, `streams`, `wait`, `secrets`; and
//! what the auditor may look at, and may not do.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, stream};
use contract::permissions;
use devstack::Secrets;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tests::{
    Client, Stack, broker,
    stack::{folder, run, run_with},
};

/// Servers without services.
async fn servers(name: &str) -> Stack {
    let none = ["--port", "0", "--account-replicas", "0", "--transaction-replicas", "0"];
    Stack::start_in(&folder(name), &none).await
}

/// A database's URL as another role sees it.
fn as_role(url: &str, role: &str, password: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgres://{role}:{password}@{place}")
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

async fn fine(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let output = run_with(arguments, settings).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// What goes wrong with a statement.
async fn refused(url: &str, statement: &'static str) -> String {
    let mut connection = match PgConnection::connect(url).await {
        Ok(connection) => connection,
        Err(error) => return error.to_string(),
    };
    let outcome = sqlx::raw_sql(statement).execute(&mut connection).await;
    outcome.err().map_or_else(|| format!("{statement} was allowed"), |error| error.to_string())
}

const PASSWORDS: [(&str, &str); 7] = [
    ("PASSBOOK_ACCOUNT_OWNER_PASSWORD", "first"),
    ("PASSBOOK_ACCOUNT_SERVICE_PASSWORD", "it's \"second\" \\"),
    ("PASSBOOK_TRANSACTION_OWNER_PASSWORD", "third"),
    ("PASSBOOK_TRANSACTION_SERVICE_PASSWORD", "fourth"),
    ("PASSBOOK_REPORT_OWNER_PASSWORD", "fifth"),
    ("PASSBOOK_REPORT_SERVICE_PASSWORD", "sixth"),
    ("PASSBOOK_AUDITOR_PASSWORD", "seventh"),
];

#[tokio::test]
async fn a_bare_server_is_provisioned_with_least_privilege_roles() {
    let stack = servers("provision").await;
    let urls = stack.file().databases;
    let server = urls.account.replace("/account?", "/postgres?");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    for database in ["account", "transaction", "report"] {
        let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {database}"));
        sqlx::raw_sql(drop).execute(&mut admin).await.unwrap();
    }
    let settings = [&[("PASSBOOK_POSTGRES_URL", server.as_str())], &PASSWORDS[..]].concat();
    let log = "ALTER SYSTEM SET log_statement = 'all'";
    sqlx::raw_sql(log).execute(&mut admin).await.unwrap();
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
    // A setting that was left empty is no password.
    let unset = [&settings[..], &[("PASSBOOK_AUDITOR_PASSWORD", "")]].concat();
    let refused_one = run_with(&["provision"], &unset).await;
    assert!(text(&refused_one).contains("value is required"), "{}", text(&refused_one));
    // Two at the same time, and again.
    let both = [fine(&["provision"], &settings), fine(&["provision"], &settings)];
    futures::future::join_all(both).await;
    fine(&["provision"], &settings).await;

    // As their owners, not as superuser.
    let account = as_role(&urls.account, "account_owner", "first");
    let transaction = as_role(&urls.transaction, "transaction_owner", "third");
    let report = as_role(&urls.report, "report_owner", "fifth");
    let owners = [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", account.as_str()),
        ("PASSBOOK_TRANSACTION_DATABASE_URL", transaction.as_str()),
        ("PASSBOOK_REPORT_DATABASE_URL", report.as_str()),
    ];
    let unmigrated = run_with(&["wait"], &owners[..1]).await;
    assert!(text(&unmigrated).contains("not migrated yet"), "{}", text(&unmigrated));
    // Somebody else makes the roles, and is slow.
    let rename = "ALTER ROLE auditor RENAME TO later";
    sqlx::raw_sql(rename).execute(&mut admin).await.unwrap();
    let early = [&owners[..1], &[("PASSBOOK_WAIT", "5s")]].concat();
    let early = run_with(&["migrate"], &early).await;
    assert!(text(&early).contains("no role auditor yet"), "{}", text(&early));
    let rename = "ALTER ROLE later RENAME TO auditor";
    sqlx::raw_sql(rename).execute(&mut admin).await.unwrap();
    fine(&["migrate"], &owners).await;
    assert!(fine(&["migrate"], &owners).await.contains("nothing to apply"));
    let mut owner = PgConnection::connect(&account).await.unwrap();
    // As a newer release leaves it that is rolled back.
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (20990101000001, 'expand something', true, '\\x00', 0)";
    sqlx::raw_sql(newer).execute(&mut owner).await.unwrap();
    let again = fine(&["migrate"], &owners).await;
    assert!(
        again.contains("a newer one was here") && again.contains("nothing to apply"),
        "{again}"
    );

    // What a migration adds is the service's at once: nobody has to come and grant it.
    let added = "CREATE TABLE added (id bigint GENERATED ALWAYS AS IDENTITY, text text)";
    sqlx::raw_sql(added).execute(&mut owner).await.unwrap();

    let service = as_role(&urls.account, "account_service", "it%27s%20%22second%22%20%5C");
    let others = as_role(&urls.account, "transaction_service", "fourth");
    let ledger = as_role(&urls.transaction, "transaction_service", "fourth");
    let auditor = as_role(&urls.account, "auditor", "seventh");
    let [as_service, as_auditor] = [&service, &auditor].map(|it| it.as_str());
    fine(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", as_service)]).await;
    fine(&["wait"], &[("PASSBOOK_TRANSACTION_DATABASE_URL", ledger.as_str())]).await;
    fine(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", as_auditor)]).await;
    let mut services = PgConnection::connect(as_service).await.unwrap();
    let write = "INSERT INTO added (text) VALUES ('one'); UPDATE added SET text = 'two'";
    sqlx::raw_sql(write).execute(&mut services).await.unwrap();
    let mut reader = PgConnection::connect(as_auditor).await.unwrap();
    let read: String =
        sqlx::query_scalar("SELECT text FROM added").fetch_one(&mut reader).await.unwrap();
    assert_eq!(read, "two");
    for (url, statement) in [
        (as_service, "DELETE FROM added"),
        (as_auditor, "UPDATE added SET text = 'three'"),
        (as_service, "DELETE FROM transaction_records"),
        (as_service, "TRUNCATE accounts"),
        (as_service, "ALTER TABLE accounts ADD COLUMN more text"),
        (as_service, "CREATE TABLE more (id int)"),
        (as_service, "UPDATE _sqlx_migrations SET success = false"),
        (others.as_str(), "SELECT 1"),
        (ledger.as_str(), "UPDATE transactions SET amount = 1"),
        (ledger.as_str(), "DELETE FROM transactions"),
        (as_auditor, "UPDATE accounts SET balance = 1"),
        (as_auditor, "INSERT INTO accounts SELECT * FROM accounts"),
        (as_auditor, "CREATE TABLE more (id int)"),
    ] {
        let error = refused(url, statement).await;
        let told = ["permission denied", "must be owner"].iter().any(|it| error.contains(it));
        assert!(told, "{statement}: {error}");
    }

    let log = std::fs::read_to_string(stack.dir.join("logs/postgres.log")).unwrap();
    assert!(log.contains("ROLE auditor") && !log.contains("seventh"), "{log}");

    // Rotation: a new password for one role, and the old one is worth nothing.
    let settings = settings.iter().map(|&(name, value)| match name {
        "PASSBOOK_AUDITOR_PASSWORD" => (name, "eighth"),
        _ => (name, value),
    });
    fine(&["provision"], &settings.collect::<Vec<_>>()).await;
    assert!(refused(as_auditor, "SELECT 1").await.contains("authentication failed"));
    let rotated = as_role(&urls.account, "auditor", "eighth");
    fine(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", rotated.as_str())]).await;
}

#[tokio::test]
async fn a_role_with_createrole_and_createdb_can_provision_a_server() {
    let stack = servers("provision-as-a-role").await;
    let urls = stack.file().databases;
    let server = urls.account.replace("/account?", "/postgres?");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    for database in ["account", "transaction", "report"] {
        for statement in [
            format!("DROP DATABASE {database}"),
            format!("DROP ROLE IF EXISTS {database}_service, {database}_owner"),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
        }
    }
    let builder = "DROP ROLE auditor; CREATE ROLE builder LOGIN CREATEROLE CREATEDB PASSWORD 'one'";
    sqlx::raw_sql(builder).execute(&mut admin).await.unwrap();
    let builder = as_role(&server, "builder", "one");
    let settings = [&[("PASSBOOK_POSTGRES_URL", builder.as_str())], &PASSWORDS[..]].concat();
    fine(&["provision"], &settings).await;
    fine(&["provision"], &settings).await;
    let owner = as_role(&urls.account, "account_owner", "first");
    fine(&["migrate"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", owner.as_str())]).await;
    let service = as_role(&urls.account, "account_service", "it%27s%20%22second%22%20%5C");
    fine(&["wait"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", service.as_str())]).await;
}

#[tokio::test]
async fn wait_returns_once_the_streams_exist() {
    let stack = servers("wait-for-streams").await;
    let nats = stack.file().nats;
    let url = [("PASSBOOK_NATS_URL", nats.as_str())];
    for patience in ["0s", "5s"] {
        let missing = run_with(&["wait"], &[url[0], ("PASSBOOK_WAIT", patience)]).await;
        assert!(text(&missing).contains("passbook streams"), "{}", text(&missing));
        assert_eq!(missing.status.code(), Some(2));
    }

    let waiting = [url[0], ("PASSBOOK_WAIT", "60s")];
    let (waited, made) = tokio::join!(fine(&["wait"], &waiting), fine(&["streams"], &url));
    assert!(waited.contains("the streams are there"), "{waited}");
    assert!(made.contains("5 streams and 6 consumers"), "{made}");
    fine(&["streams"], &url).await;

    // What only a deletion could mend is not waited for.
    let jetstream = broker::connect(&stack).await;
    jetstream.delete_stream("TRANSACTION").await.unwrap();
    let other = stream::Config {
        name: "TRANSACTION".to_owned(),
        subjects: vec!["transaction.deposit".to_owned(), "transaction.withdrawal".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(other).await.unwrap();
    let drifted = run_with(&["streams"], &waiting).await;
    let told = text(&drifted);
    assert!(told.contains("retention") && !told.contains("waiting for"), "{told}");
    assert_eq!(drifted.status.code(), Some(2));
}

#[tokio::test]
async fn wait_times_out_on_a_silent_server() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap();
    for (variable, url) in [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", format!("postgres://one:two@{place}/account")),
        ("PASSBOOK_NATS_URL", format!("nats://one:two@{place}")),
    ] {
        let begun = Instant::now();
        let output = run_with(&["wait", "--wait", "1s"], &[(variable, url.as_str())]).await;
        assert!(text(&output).contains("no answer within 1s"), "{}", text(&output));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    // What can't become right is not waited for at all.
    let begun = Instant::now();
    for (variable, url) in [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", "mysql://one"),
        ("PASSBOOK_NATS_URL", "nats://one:two@no place"),
    ] {
        let output = run_with(&["wait", "--wait", "1h"], &[(variable, url)]).await;
        assert!(text(&output).contains("must"), "{}", text(&output));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A connection as the auditor.
async fn auditor(stack: &Stack, secrets: &Secrets) -> jetstream::Context {
    let (_, place) =
        stack.file().nats.split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let options = async_nats::ConnectOptions::with_user_and_password(
        permissions::AUDITOR.to_owned(),
        secrets.nats.auditor.clone(),
    );
    let prefix = permissions::inbox(permissions::AUDITOR);
    let client = options.custom_inbox_prefix(prefix).connect(place).await.unwrap();
    // What is not allowed is not answered.
    jetstream::ContextBuilder::new().timeout(Duration::from_secs(1)).build(client)
}

#[tokio::test]
async fn an_auditor_sees_everything_and_changes_nothing() {
    let stack = Stack::start("auditor").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    client.deposit(&account, "10000").await;
    let secrets = Secrets::read(&stack.dir).unwrap();
    let file = stack.file();
    let password = &secrets.postgres.auditor;
    let (_, place) = file.nats.split_once('@').unwrap();
    let urls = [
        as_role(&file.databases.account, "auditor", password),
        as_role(&file.databases.transaction, "auditor", password),
        format!("nats://{}:{}@{place}", permissions::AUDITOR, secrets.nats.auditor),
    ];
    let settings = [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", urls[0].as_str()),
        ("PASSBOOK_TRANSACTION_DATABASE_URL", urls[1].as_str()),
        ("PASSBOOK_NATS_URL", urls[2].as_str()),
    ];
    let verified = run_with(&["verify", "-o", "json"], &settings).await;
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified["streams"]["checked"], true, "{verified:#}");
    fine(&["doctor"], &settings).await;
    fine(&["dlq", "ls"], &settings).await;

    let operator = broker::connect(&stack).await;
    let before = broker::stream(&operator, "TRANSACTION_RESULT").await.state.messages;
    let auditor = auditor(&stack, &secrets).await;
    let results = auditor.get_stream("TRANSACTION_RESULT").await.unwrap();
    auditor.client().publish("transaction.result.deposit", "{}".into()).await.unwrap();
    assert!(results.purge().await.is_err());
    assert!(results.delete_message(1).await.is_err());
    assert!(auditor.delete_stream("DEAD_LETTER").await.is_err());
    assert!(results.delete_consumer("account-result-consumer").await.is_err());
    let mine = jetstream::consumer::pull::Config {
        durable_name: Some("account-result-consumer".to_owned()),
        ..Default::default()
    };
    assert!(results.create_consumer(mine).await.is_err());
    // Who may make a consumer may let it deliver into a stream that he may not publish to.
    let push = jetstream::consumer::push::Config {
        name: Some("mine".to_owned()),
        deliver_subject: "transaction.deposit".to_owned(),
        ..Default::default()
    };
    assert!(results.create_consumer(push).await.is_err());
    // Nor does an answer get where a question can't.
    let client = auditor.client();
    for (question, body) in [
        ("STREAM.INFO.TRANSACTION", ""),
        ("STREAM.MSG.GET.TRANSACTION_RESULT", r#"{"seq":1}"#),
        ("DIRECT.GET.TRANSACTION_RESULT", r#"{"seq":1}"#),
        ("DIRECT.GET.TRANSACTION_RESULT", r#"{"seq":1,"batch":2,"next_by_subj":">"}"#),
    ] {
        let question = format!("$JS.API.{question}");
        let answer_to = "transaction.result.deposit";
        client.publish_with_reply(question, answer_to, body.into()).await.unwrap();
    }
    // Refused, and not because nobody listens any more.
    assert!(results.get_raw_message(1).await.is_ok());
    assert_eq!(broker::stream(&operator, "TRANSACTION").await.state.messages, 0);
    assert_eq!(broker::stream(&operator, "TRANSACTION_RESULT").await.state.messages, before);
}

#[tokio::test]
async fn printed_secrets_are_complete_and_new_each_time() {
    let print = async || {
        let output = run(&["secrets", "print", "--namespace", "elsewhere", "--dev"]).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let (first, second) = (print().await, print().await);
    let items = first["items"].as_array().unwrap();
    assert_eq!((&first["kind"], items.len()), (&"List".into(), 14));
    for (one, other) in items.iter().zip(second["items"].as_array().unwrap()) {
        assert_eq!(one["metadata"]["namespace"], "elsewhere");
        assert_eq!(one["metadata"], other["metadata"]);
        assert_ne!(one["stringData"], other["stringData"]);
    }
    let outside = run(&["secrets", "create"]).await;
    assert!(text(&outside).contains("does not run in a cluster"), "{}", text(&outside));
}
