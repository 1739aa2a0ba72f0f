//! Receivers that ask to be left alone.

use std::time::Duration;

use super::{Endpoint, SOON, customer, open_accounts, receiver::Receiver, shared};

const PAUSE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_gets_no_retries_of_earlier_events_meanwhile() {
    let ann = customer(shared().await);
    let receiver = Receiver::start().await;
    Endpoint::create(&ann, &receiver).await;
    receiver.answer(500);
    // They are tried again after five seconds.
    let mut opened = open_accounts(&ann, 2).await;
    receiver.received(2, SOON).await;
    receiver.retry_after(PAUSE);
    opened.extend(open_accounts(&ann, 1).await);
    let asked = receiver.received(3, SOON).await.remove(2);
    assert_eq!(asked.answer, 429);
    receiver.answer(204);
    let next = receiver.received(4, SOON).await.remove(3);
    let pause = next.at.duration_since(asked.at).unwrap();
    assert!(pause >= PAUSE, "{pause:?}");
    receiver.received_all(&opened, Duration::from_secs(90)).await;
}
