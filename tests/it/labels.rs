//! `reference`, `description` and `metadata` of movements and accounts.

use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key};

use crate::reports::statement;

fn labels(body: &Value) -> [&Value; 3] {
    [&body["reference"], &body["description"], &body["metadata"]]
}

fn ids<'a>(page: &'a Response, field: &str) -> Vec<&'a str> {
    let items = page.body["items"].as_array().unwrap_or_else(|| panic!("{page:?}"));
    items.iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn labels_of_a_movement_are_returned_and_part_of_the_request() {
    let stack = Stack::shared().await;
    let client = Client::merchant(stack, &new_key());
    let account = client.open_account("KRW").await;
    let path = format!("/v1/accounts/{account}/deposits");
    let deposit = async |key: &str, body: &Value| {
        client.post(&path, &[("idempotency-key", key), ("prefer", "wait=20")], body).await
    };
    let body = json!({
        "amount": "7",
        "reference": "invoice 4711",
        "description": "two\nlines \u{1f4b6}",
        "metadata": { "order": "1", "a": "\u{ac00}\"\\", "": "x" },
    });
    let refused = deposit(&new_key(), &body).await;
    assert_eq!((refused.status, refused.text("field")), (422, "metadata"), "{refused:?}");
    let mut body = body;
    body["metadata"].as_object_mut().unwrap().remove("");
    let key = new_key();
    let new = deposit(&key, &body).await;
    assert_eq!((new.status, new.text("status")), (200, "SUCCESS"), "{new:?}");
    assert_eq!(labels(&new.body), labels(&body));
    let record = client.record(new.text("recordId")).await;
    assert_eq!(record.body, new.body);
    let list = client.get(&format!("/v1/accounts/{account}/records")).await;
    assert_eq!(list.body["items"], json!([new.body]));

    // The order of the keys means nothing.
    let text = r#"{"metadata":{"a":"\uac00\"\\","order":"1"},"description":"two\nlines 💶",
        "reference":"invoice 4711","amount":"7.0"}"#;
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let again = client.send(reqwest::Method::POST, &path, &headers, Some(text.into())).await;
    let again = again.unwrap();
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    assert_eq!(again.body, new.body);
    for (field, other) in [
        ("reference", json!("invoice 4712")),
        ("description", Value::Null),
        ("metadata", json!({ "order": "1" })),
    ] {
        let mut body = body.clone();
        body[field] = other;
        let other = deposit(&key, &body).await;
        assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{other:?}");
    }

    // Without labels: as before there were any.
    let key = new_key();
    let plain = deposit(&key, &json!({ "amount": "1" })).await;
    assert_eq!(labels(&plain.body), [&Value::Null, &Value::Null, &json!({})]);
    let empty = json!({ "amount": "1", "reference": null, "metadata": {} });
    assert_eq!(deposit(&key, &empty).await.body, plain.body);
    let is_old_hash: bool = sqlx::query_scalar(
        "SELECT request_hash = sha256('DEPOSIT 1 KRW') AND metadata IS NULL
         FROM transaction_records WHERE id = $1::uuid",
    )
    .bind(plain.text("recordId"))
    .fetch_one(&stack.accounts().await)
    .await
    .unwrap();
    assert!(is_old_hash);
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_labels() {
    let stack = Stack::shared().await;
    let client = Client::merchant(stack, &new_key());
    let account = client.open_account("KRW").await;
    let item = |labels: Value| {
        let mut item = json!({
            "accountId": account, "type": "DEPOSIT", "amount": "1", "idempotencyKey": new_key(),
        });
        item.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
        item
    };
    // More than the all-or-nothing insert needs, and then some whose keys are taken.
    let mut items: Vec<_> = (0..10).map(|_| item(json!({}))).collect();
    items.push(item(json!({ "reference": "a", "metadata": { "k": "v" } })));
    items.push(item(json!({ "description": "b" })));
    items.push(item(json!({ "reference": "" })));
    items.push(item(json!({ "metadata": { "k": 1 } })));
    let send = async |items: &[Value]| {
        client.post("/v1/batches", &[], &json!({ "items": items })).await.body["items"].clone()
    };
    let first = send(&items).await;
    assert_eq!(labels(&first[9]["record"]), [&Value::Null, &Value::Null, &json!({})]);
    assert_eq!(labels(&first[10]["record"]), [&json!("a"), &Value::Null, &json!({ "k": "v" })]);
    assert_eq!(labels(&first[11]["record"]), [&Value::Null, &json!("b"), &json!({})]);
    for (at, pointer) in [(12, "#/items/12/reference"), (13, "#/items/13/metadata/k")] {
        let problem = &first[at]["problem"];
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    items[11]["description"] = json!("c");
    items.push(item(json!({ "metadata": { "k": "w" } })));
    let second = send(&items).await;
    assert_eq!(second[10]["replayed"], true, "{second}");
    assert_eq!(labels(&second[10]["record"]), labels(&first[10]["record"]));
    assert_eq!(second[11]["problem"]["type"], "/problems/idempotency-key-reused", "{second}");
    assert_eq!(second[14]["record"]["metadata"], json!({ "k": "w" }), "{second}");
}

#[tokio::test]
async fn labels_of_an_account_are_returned_and_part_of_the_request() {
    let stack = Stack::shared().await;
    let client = Client::merchant(stack, &new_key());
    let open = async |key: &str, body: &Value| {
        client.post("/v1/accounts", &[("idempotency-key", key)], body).await
    };
    let body = json!({ "currency": "KRW", "reference": "savings", "metadata": { "k": "v" } });
    let key = new_key();
    let new = open(&key, &body).await;
    assert_eq!(labels(&new.body), labels(&body), "{new:?}");
    let account = new.text("accountId");
    assert_eq!(client.account(account).await.body, new.body);
    assert_eq!(client.get("/v1/accounts").await.body["items"], json!([new.as_listed()]));
    let again = open(&key, &body).await;
    assert_eq!((again.status, &again.body), (201, &new.body));
    for field in ["reference", "metadata"] {
        let mut body = body.clone();
        body[field] = Value::Null;
        let other = open(&key, &body).await;
        assert_eq!((other.status, other.problem()), (422, "idempotency-key-reused"), "{other:?}");
    }
    let without_key = client.post("/v1/accounts", &[], &body).await;
    assert_eq!(labels(&without_key.body), labels(&body), "{without_key:?}");
    let key = new_key();
    let plain = open(&key, &json!({ "currency": "KRW" })).await;
    let labels = (&plain.body["reference"], &plain.body["metadata"]);
    assert_eq!(labels, (&Value::Null, &json!({})), "{plain:?}");
    let described = json!({ "currency": "KRW", "description": "x" });
    let described = client.post("/v1/accounts", &[], &described).await;
    assert_eq!((described.status, described.text("field")), (422, "description"), "{described:?}");
}

#[tokio::test]
async fn invalid_labels_are_refused_and_store_nothing() {
    let stack = Stack::shared().await;
    let client = Client::merchant(stack, &new_key());
    let account = client.open_account("KRW").await;
    let path = format!("/v1/accounts/{account}/deposits");
    let metadata = |entries: usize, value: usize| {
        let entries = (0..entries).map(|at| (at.to_string(), Value::String("v".repeat(value))));
        Value::Object(entries.collect()).to_string()
    };
    let long = |length: usize| format!("\"{}\"", "x".repeat(length));
    for (label, status, problem, field) in [
        (r#""reference":"""#.to_owned(), 422, "invalid-field", "reference"),
        (r#""reference":1"#.to_owned(), 422, "invalid-field", "reference"),
        (r#""reference":"a\u0000b""#.to_owned(), 422, "invalid-field", "reference"),
        (r#""reference":"a\nb""#.to_owned(), 422, "invalid-field", "reference"),
        (r#""reference":"\ud800""#.to_owned(), 400, "malformed-json", ""),
        (r#""reference":"a","reference":"a""#.to_owned(), 400, "duplicate-field", "reference"),
        (format!(r#""reference":{}"#, long(256)), 422, "invalid-field", "reference"),
        (r#""description":"""#.to_owned(), 422, "invalid-field", "description"),
        (r#""description":"\u0000""#.to_owned(), 422, "invalid-field", "description"),
        (r#""description":"\u001b[31m""#.to_owned(), 422, "invalid-field", "description"),
        (format!(r#""description":{}"#, long(1001)), 422, "invalid-field", "description"),
        (r#""metadata":"x""#.to_owned(), 422, "invalid-field", "metadata"),
        (r#""metadata":[]"#.to_owned(), 422, "invalid-field", "metadata"),
        (r#""metadata":{"k":null}"#.to_owned(), 422, "invalid-field", "metadata.k"),
        (r#""metadata":{"k":{}}"#.to_owned(), 422, "invalid-field", "metadata.k"),
        (r#""metadata":{"k":"\u0000"}"#.to_owned(), 422, "invalid-field", "metadata.k"),
        (r#""metadata":{"k":"\udfff"}"#.to_owned(), 400, "malformed-json", ""),
        (r#""metadata":{"k":"1","k":"1"}"#.to_owned(), 400, "duplicate-field", "k"),
        (r#""metadata":{"k\u0000":"1"}"#.to_owned(), 422, "invalid-field", "metadata"),
        (format!(r#""metadata":{{{}:"1"}}"#, long(41)), 422, "invalid-field", "metadata"),
        (format!(r#""metadata":{}"#, metadata(1, 501)), 422, "invalid-field", "metadata.0"),
        (format!(r#""metadata":{}"#, metadata(51, 1)), 422, "invalid-field", "metadata"),
        (format!(r#""metadata":{}"#, metadata(9, 500)), 422, "invalid-field", "metadata"),
    ] {
        let body = format!(r#"{{"amount":"1",{label}}}"#);
        let key = new_key();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let answer = client.send(reqwest::Method::POST, &path, &headers, Some(body.into())).await;
        let answer = answer.unwrap();
        let found = (answer.status, answer.problem(), answer.text("field"));
        assert_eq!(found, (status, problem, field), "{label}: {answer:?}");
    }
    let records = client.get(&format!("/v1/accounts/{account}/records")).await;
    assert_eq!(records.body["items"], json!([]));
}

#[tokio::test]
async fn a_reference_finds_its_accounts_and_records() {
    let stack = Stack::shared().await;
    let teller = Client::teller(stack);
    let (ann, ben) = (Client::merchant(stack, &new_key()), Client::merchant(stack, &new_key()));
    let reference = format!("r \u{e9} {}", new_key());
    let open = async |client: &Client, reference: &Value| {
        let body = json!({ "currency": "KRW", "reference": reference });
        client.post("/v1/accounts", &[], &body).await.text("accountId").to_owned()
    };
    let mut of_ann = Vec::new();
    for _ in 0..3 {
        of_ann.insert(0, open(&ann, &json!(reference)).await);
        open(&ann, &Value::Null).await;
    }
    let of_ben = open(&ben, &json!(reference)).await;
    let query = reference.replace(' ', "%20").replace('\u{e9}', "%C3%A9");
    let query = format!("reference={query}");
    let found = ann.get(&format!("/v1/accounts?{query}")).await;
    assert_eq!(ids(&found, "accountId"), of_ann);
    let found = teller.get(&format!("/v1/accounts?{query}")).await;
    let all: Vec<_> = std::iter::once(&of_ben).chain(&of_ann).collect();
    assert_eq!(ids(&found, "accountId"), all);
    let first = ann.get(&format!("/v1/accounts?{query}&limit=2")).await;
    assert_eq!(ids(&first, "accountId"), of_ann[..2]);
    let cursor = first.text("nextCursor");
    let rest = ann.get(&format!("/v1/accounts?{query}&cursor={cursor}")).await;
    assert_eq!(
        (ids(&rest, "accountId"), &rest.body["nextCursor"]),
        (vec![&*of_ann[2]], &Value::Null)
    );
    for other in ["", "&reference=r"] {
        let answer = ann.get(&format!("/v1/accounts?cursor={cursor}{other}")).await;
        assert_eq!(answer.problem(), "invalid-cursor", "{answer:?}");
    }

    let account = &of_ann[0];
    let path = format!("/v1/accounts/{account}/records");
    let mut records = Vec::new();
    for (kind, reference) in [
        ("deposits", json!(reference)),
        ("deposits", json!("other")),
        ("deposits", Value::Null),
        ("withdrawals", json!(reference)),
    ] {
        let key = new_key();
        let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=20")];
        let body = json!({ "amount": "1", "reference": reference });
        let answer = ann.post(&format!("/v1/accounts/{account}/{kind}"), &headers, &body).await;
        assert_eq!(answer.text("status"), "SUCCESS", "{answer:?}");
        records.insert(0, (answer.text("recordId").to_owned(), key));
    }
    let of_reference = [&*records[0].0, &*records[3].0];
    let find = async |more: &str| ann.get(&format!("{path}?{query}{more}")).await;
    assert_eq!(ids(&find("").await, "recordId"), of_reference);
    assert_eq!(ids(&find("&type=DEPOSIT").await, "recordId"), of_reference[1..]);
    assert_eq!(ids(&find("&status=FAILED").await, "recordId"), [""; 0]);
    let by_key = find(&format!("&idempotencyKey={}", records[3].1)).await;
    assert_eq!(ids(&by_key, "recordId"), of_reference[1..]);
    let by_key = find(&format!("&idempotencyKey={}", records[2].1)).await;
    assert_eq!(ids(&by_key, "recordId"), [""; 0]);
    let first = find("&limit=1").await;
    let cursor = first.text("nextCursor").to_owned();
    let second = find(&format!("&limit=1&cursor={cursor}")).await;
    assert_eq!(ids(&second, "recordId"), of_reference[1..]);
    let answer = ann.get(&format!("{path}?cursor={cursor}")).await;
    assert_eq!(answer.problem(), "invalid-cursor", "{answer:?}");

    let long = "x".repeat(256);
    for list in ["/v1/accounts", &path] {
        for bad in ["", "%00", "a%0Ab", &long] {
            let answer = ann.get(&format!("{list}?reference={bad}")).await;
            let found = (answer.status, answer.problem(), answer.text("field"));
            assert_eq!(found, (422, "invalid-field", "reference"), "{list} {bad}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_statement_has_the_labels_of_its_movements() {
    let client = Client::merchant(Stack::shared().await, &new_key());
    let account = client.open_account("KRW").await;
    let path = format!("/v1/accounts/{account}/deposits");
    let mut records = Vec::new();
    for body in [
        json!({
            "amount": "1", "reference": "=1+1", "description": "two\nlines",
            "metadata": { "internal": "secret" },
        }),
        json!({ "amount": "2" }),
        json!({ "amount": "3", "reference": "invoice 4711" }),
    ] {
        let key = new_key();
        let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=20")];
        records.push(client.post(&path, &headers, &body).await);
    }
    let formats = ["json", "csv", "camt053"];
    let report = client.report(&statement(&account, &formats), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let mut files = Vec::new();
    for format in formats {
        let path = format!("/v1/reports/{}/artifacts/{format}", report.text("reportId"));
        files.push(String::from_utf8(client.get(&path).await.bytes).unwrap());
    }
    let [document, csv, camt] = &files[..] else { panic!() };
    let document: Value = serde_json::from_str(document).unwrap();
    let entries = document["entries"].as_array().unwrap();
    assert_eq!(entries.len(), records.len());
    for (entry, record) in entries.iter().zip(&records) {
        for field in ["recordId", "transactionId", "reference", "description"] {
            assert_eq!(entry[field], record.body[field], "{field}");
        }
    }
    assert!(csv.contains(",'=1+1,two lines\r\n") && csv.contains(",invoice 4711,\r\n"), "{csv}");
    assert!(camt.contains("<EndToEndId>=1+1</EndToEndId>"), "{camt}");
    assert!(camt.contains("<RmtInf><Ustrd>two lines</Ustrd></RmtInf>"), "{camt}");
    assert!(files.iter().all(|file| !file.contains("secret")));
}
