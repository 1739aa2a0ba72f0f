//! Starts a stack, uses it and stops it.

use std::process::ExitCode;

use anyhow::Result;
use devstack::{Options, Stack, StackFile};
use tokio_util::sync::CancellationToken;

use super::signals::Signals;

/// What to do with a stack after its use.
pub(super) enum Next {
    /// Keep it running until a signal arrives.
    Stay,
    /// Stop it and exit with this code.
    Stop(ExitCode),
}

/// Starts a stack, uses it, and stops it in any case. A second signal kills all processes at once.
///
/// # Errors
/// When the stack can't be started, and those of `use_stack`.
pub(super) async fn with_stack(
    options: Options,
    use_stack: impl AsyncFnOnce(&StackFile) -> Result<Next>,
) -> Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let mut stack = Stack::new(options).await?;
    let result = tokio::select! {
        result = run(&mut stack, use_stack) => result,
        () = signals.stop() => Ok(ExitCode::SUCCESS),
    };
    let kill_all = CancellationToken::new();
    let stopping = stack.stop(&kill_all);
    tokio::pin!(stopping);
    tokio::select! {
        () = &mut stopping => {}
        () = signals.kill() => {
            kill_all.cancel();
            stopping.await;
        }
    }
    result
}

async fn run(
    stack: &mut Stack,
    use_stack: impl AsyncFnOnce(&StackFile) -> Result<Next>,
) -> Result<ExitCode> {
    let file = stack.start().await?.clone();
    let finished = async {
        match use_stack(&file).await? {
            Next::Stop(code) => Ok(code),
            Next::Stay => std::future::pending().await,
        }
    };
    tokio::select! {
        code = finished => code,
        () = stack.maintain_stack_file() => Ok(ExitCode::SUCCESS),
    }
}
