//! Scenarios that run beside each other, ahead of the tests that tell their
//! outcomes: the test program runs few tests at a time, and these mostly wait.

use std::{
    collections::HashMap,
    env,
    sync::{LazyLock, Mutex},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, join_all},
};
use tokio::runtime::Runtime;

type Outcome = Shared<BoxFuture<'static, Result<(), String>>>;

/// Scenarios by the names of their tests.
pub(super) struct Ahead {
    runtime: Runtime,
    module: &'static str,
    start: fn(&str) -> BoxFuture<'static, ()>,
    started: Mutex<HashMap<&'static str, Outcome>>,
}

impl Ahead {
    /// Starts the scenarios of a module's tests, in this order: those that
    /// were asked for.
    pub(super) fn of(
        module: &'static str,
        names: impl Iterator<Item = &'static str>,
        start: fn(&str) -> BoxFuture<'static, ()>,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let ahead = Self { runtime, module, start, started: Mutex::default() };
        for name in names.filter(|name| ahead.is_asked_for(name)) {
            drop(ahead.outcome(name));
        }
        ahead
    }

    /// Waits for the outcome of a scenario. One that is not running is started.
    pub(super) fn tell(&self, name: &'static str) {
        if let Err(reason) = self.runtime.block_on(self.outcome(name)) {
            panic!("{reason}");
        }
    }

    /// Waits for all that were started, whatever their outcomes, and then for
    /// this.
    pub(super) fn after_all(&self, last: impl Future<Output = ()>) {
        let all: Vec<_> = self.started.lock().unwrap().values().cloned().collect();
        self.runtime.block_on(async {
            join_all(all).await;
            last.await;
        });
    }

    fn outcome(&self, name: &'static str) -> Outcome {
        let mut started = self.started.lock().unwrap();
        let outcome = started.entry(name).or_insert_with(|| {
            let running = self.runtime.spawn((self.start)(name));
            let outcome = async { running.await.map_err(|error| reason(error.into_panic())) };
            outcome.boxed().shared()
        });
        outcome.clone()
    }

    /// Whether the test program was told to run this test. A wrong guess
    /// costs time, and nothing else.
    fn is_asked_for(&self, name: &str) -> bool {
        static FILTERS: LazyLock<Vec<String>> =
            LazyLock::new(|| env::args().skip(1).filter(|it| !it.starts_with('-')).collect());
        let path = format!("{}::{name}", self.module);
        FILTERS.is_empty() || FILTERS.iter().any(|filter| path.contains(filter))
    }
}

fn reason(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
