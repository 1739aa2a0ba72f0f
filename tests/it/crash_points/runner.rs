//! Runs the scenarios concurrently, ahead of the tests that report their
//! outcomes. The test program runs only a few tests at a time, and a scenario
//! mostly waits.

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

/// A started scenario; an error is the message of its panic.
type Running = Shared<BoxFuture<'static, Result<(), String>>>;

/// Scenarios by the names of their tests.
pub(super) struct Runner {
    runtime: Runtime,
    module: &'static str,
    start: fn(&str) -> BoxFuture<'static, ()>,
    started: Mutex<HashMap<&'static str, Running>>,
}

impl Runner {
    /// Starts the scenarios of a module's tests, in this order, except those filtered out on the
    /// command line.
    pub(super) fn start(
        module: &'static str,
        names: impl Iterator<Item = &'static str>,
        start: fn(&str) -> BoxFuture<'static, ()>,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let runner = Self { runtime, module, start, started: Mutex::default() };
        for name in names.filter(|name| runner.is_selected(name)) {
            drop(runner.running(name));
        }
        runner
    }

    /// Waits for the end of a scenario; panics if the scenario has. Starts it if necessary.
    pub(super) fn report(&self, name: &'static str) {
        if let Err(message) = self.runtime.block_on(self.running(name)) {
            panic!("{message}");
        }
    }

    /// Runs `last` after the end of all started scenarios, even if some of them have failed.
    pub(super) fn after_all(&self, last: impl Future<Output = ()>) {
        let all: Vec<_> = self.started.lock().unwrap().values().cloned().collect();
        self.runtime.block_on(async {
            join_all(all).await;
            last.await;
        });
    }

    fn running(&self, name: &'static str) -> Running {
        let mut started = self.started.lock().unwrap();
        let running = started.entry(name).or_insert_with(|| {
            let task = self.runtime.spawn((self.start)(name));
            let result = async { task.await.map_err(|error| message(error.into_panic())) };
            result.boxed().shared()
        });
        running.clone()
    }

    /// Whether the command line selects this test. A number is the value of `--test-threads`. A wrong
    /// guess only costs time.
    fn is_selected(&self, name: &str) -> bool {
        static FILTERS: LazyLock<Vec<String>> = LazyLock::new(|| {
            let is_value = |argument: &str| argument.parse::<u32>().is_ok();
            let arguments = env::args().skip(1).filter(|argument| !argument.starts_with('-'));
            arguments.filter(|argument| !is_value(argument)).collect()
        });
        let path = format!("{}::{name}", self.module);
        FILTERS.is_empty() || FILTERS.iter().any(|filter| path.contains(filter))
    }
}

fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
