//! Each operation of `docs/openapi.json` needs the scopes that it names, and no others.

use contract::{Scope, Scopes};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tests::{Client, Response, Stack, client::new_key};

use crate::{reports::statement, webhooks};

/// A value that a schema allows, with the required fields only.
fn sample(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(document, document.pointer(&reference[1..]).unwrap());
    }
    let known = ["examples", "enum"].into_iter().find_map(|values| schema[values].get(0));
    match (known, schema["type"].as_str()) {
        (Some(value), _) => value.clone(),
        (None, Some("object")) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let field = |name: &str| sample(document, &schema["properties"][name]);
            let required = required.map(|name| name.as_str().unwrap());
            Value::Object(required.map(|name| (name.to_owned(), field(name))).collect())
        }
        (None, Some("array")) => json!([sample(document, &schema["items"])]),
        (None, _) if schema["format"] == "uuid" => json!(new_key()),
        (None, _) => json!("x"),
    }
}

/// One operation of the document.
struct Operation {
    method: Method,
    path: String,
    body: Option<Value>,
    /// The scopes for tokens, and for API keys; `None` if it takes none of them.
    token: Option<Vec<Scope>>,
    api_key: Option<Vec<Scope>>,
}

impl Operation {
    fn parse(
        document: &Value,
        path: &str,
        method: &str,
        operation: &Value,
        ids: &Map<String, Value>,
    ) -> Self {
        let mut path = path.to_owned();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let id = ids.get(name).or_else(|| parameter.get("example")).cloned();
            let id = id.unwrap_or_else(|| sample(document, &parameter["schema"]));
            path = path.replace(&format!("{{{name}}}"), id.as_str().unwrap());
        }
        let scopes = |scheme: &str| {
            let schemes = operation["security"].as_array().unwrap();
            let names = schemes.iter().find_map(|one| one.get(scheme)?.as_array())?;
            let named = |name: &Value| Scope::ALL.into_iter().find(|scope| *name == scope.as_str());
            Some(names.iter().map(|name| named(name).expect("a scope")).collect())
        };
        let body = operation.pointer("/requestBody/content/application~1json/schema");
        Self {
            method: method.to_uppercase().parse().unwrap(),
            path,
            body: body.map(|schema| sample(document, schema)),
            token: scopes("token"),
            api_key: scopes("apiKey"),
        }
    }

    async fn send(&self, client: &Client, headers: &[(&str, &str)]) -> Response {
        let key = new_key();
        let own = [("idempotency-key", &*key), ("content-type", "application/json")];
        let headers = [&own[..if self.body.is_some() { 2 } else { 1 }], headers].concat();
        let body = self.body.as_ref().map(|body| body.to_string().into());
        client.send(self.method.clone(), &self.path, &headers, body).await.unwrap()
    }

    /// Checks that a caller with all scopes but one is refused, and one with only these is not.
    async fn check(
        &self,
        required: &[Scope],
        all: &[Scope],
        mut with: impl AsyncFnMut(Scopes) -> Client,
    ) {
        for missing in required {
            let others = all.iter().copied().filter(|scope| scope != missing).collect();
            let refused = self.send(&with(others).await, &[]).await;
            let problem = (refused.status, refused.problem());
            assert_eq!(problem, (403, "forbidden"), "{self} without {missing}: {refused:?}");
            let challenge = refused.header("www-authenticate").unwrap();
            assert!(challenge.contains(&format!("scope=\"{missing}\"")), "{self}: {challenge}");
        }
        let allowed = self.send(&with(required.iter().copied().collect()).await, &[]).await;
        assert!(![401, 403].contains(&allowed.status), "{self} with {required:?}: {allowed:?}");
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Checks the operations at these paths. `ids` are things of the user `name`.
async fn check_operations(
    stack: &Stack,
    name: &str,
    ids: &Map<String, Value>,
    is_here: impl Fn(&str) -> bool,
) {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(path, _)| is_here(path));
    let mut operations: Vec<_> = paths
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |entry| (path, entry)))
        .map(|(path, (method, value))| Operation::parse(&document, path, method, value, ids))
        .collect();
    assert!(operations.len() > 7);
    // The others need what these delete.
    operations.sort_by_key(|operation| operation.method == Method::DELETE);
    // Few: other tests list the keys.
    let mut keys: Vec<(Scopes, Client)> = Vec::new();
    let key_with = async |keys: &mut Vec<(Scopes, Client)>, scopes: Scopes| {
        if let Some((_, client)) = keys.iter().find(|(of_key, _)| *of_key == scopes) {
            return client.clone();
        }
        let named = Scope::OF_API_KEYS.into_iter().filter(|scope| scopes.contains(*scope));
        let mut named: Vec<_> = named.map(Scope::as_str).collect();
        if named.is_empty() {
            named.push(Scope::AuditRead.as_str());
        }
        let body = json!({ "name": "scopes", "scopes": named, "userId": name });
        let created = Client::admin(stack).post("/v1/api-keys", &[], &body).await;
        let client = Client::new(&stack.file().api, created.text("secret"));
        keys.push((scopes, client.clone()));
        client
    };
    for operation in &operations {
        let anyone = Client::user(stack, name, Scopes::default());
        let without = operation.send(&anyone, &[("authorization", "")]).await;
        let is_public = operation.token.is_none();
        assert_eq!(without.status == 401, !is_public, "{operation}: {without:?}");
        if let Some(required) = &operation.token {
            let with = async |scopes| Client::user(stack, name, scopes);
            operation.check(required, &Scope::ALL, with).await;
        }
        if let Some(required) = &operation.api_key {
            let with = async |scopes| key_with(&mut keys, scopes).await;
            operation.check(required, &Scope::OF_API_KEYS, with).await;
        } else if !is_public {
            let every = key_with(&mut keys, Scope::OF_API_KEYS.into_iter().collect()).await;
            let refused = operation.send(&every, &[]).await;
            assert!([401, 403].contains(&refused.status), "{operation} by a key: {refused:?}");
        }
    }
}

#[tokio::test]
async fn each_operation_needs_the_scopes_of_the_document_and_no_others() {
    let stack = Stack::shared().await;
    let name = new_key();
    let owner = Client::user(stack, &name, Scopes::all());
    let account = owner.open_account("KRW").await;
    let record = owner.deposit(&account, "30000").await;
    let report = owner.report(&statement(&account, &["pdf"]), 20).await;
    let ids = [
        ("account", &*account),
        ("record", record.text("recordId")),
        ("report", report.text("reportId")),
    ];
    let ids = ids.map(|(name, id)| (name.to_owned(), json!(id))).into_iter().collect();
    let is_here = |path: &str| !path.starts_with("/v1/webhook-endpoints");
    check_operations(stack, &name, &ids, is_here).await;
}

#[tokio::test]
async fn each_operation_of_webhooks_needs_the_scopes_of_the_document_and_no_others() {
    let stack = webhooks::shared().await;
    let name = new_key();
    let owner = Client::user(stack, &name, Scopes::all());
    let body = json!({ "url": "https://example.com/" });
    let endpoint = owner.post("/v1/webhook-endpoints", &[], &body).await;
    let ids = [("endpoint".to_owned(), json!(endpoint.text("webhookEndpointId")))];
    let ids = ids.into_iter().collect();
    let is_here = |path: &str| path.starts_with("/v1/webhook-endpoints");
    check_operations(stack, &name, &ids, is_here).await;
}
