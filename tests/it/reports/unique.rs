//! One open report on request: `"unique": true`.

use serde_json::json;
use tests::client::new_key;

use super::{
    renderer::{AT_ONCE, Answer},
    setup::Setup,
    statement,
};

#[tokio::test]
async fn the_same_open_report_answers_a_second_request_and_its_repetitions() {
    let setup = Setup::start("report-unique", 1, 0, &[]).await;
    setup.renderer.answer(|_| Answer::Nothing);
    let held = setup.ask().await;
    setup.called("the first report", |call| call.report == held).await;
    let mut request = statement(&setup.client.open_account("USD").await, &["csv"]);
    request["unique"] = json!(true);
    let ask = async |key: &str| {
        setup.client.post("/v1/reports", &[("idempotency-key", key)], &request).await
    };
    let keys = [new_key(), new_key(), new_key()];
    let first = ask(&keys[0]).await;
    let second = ask(&keys[1]).await;
    assert_eq!((first.status, second.status), (202, 202), "{second:?}");
    let id = first.text("reportId").to_owned();
    assert_eq!(second.text("reportId"), id, "{second:?}");
    let mut other = request.clone();
    other["unique"] = json!(false);
    let other = setup.client.report(&other, 0).await;
    assert_ne!(other.text("reportId"), id, "it did not ask for one");

    setup.renderer.answer(|_| AT_ONCE);
    let path = format!("/v1/reports/{held}/cancel");
    setup.client.post(&path, &[], &json!({})).await;
    assert_eq!(setup.ended(&id).await.text("state"), "SUCCEEDED");
    for key in &keys[..2] {
        let again = ask(key).await;
        assert_eq!(again.text("reportId"), id, "{again:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    let new = ask(&keys[2]).await;
    assert_ne!(new.text("reportId"), id, "the other one has ended");
}
