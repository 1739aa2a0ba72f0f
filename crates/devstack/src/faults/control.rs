//! The supervisor's port for faults. It listens on this machine only, and
//! requires the token from `stack.json`.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use nix::sys::signal::Signal;
use tokio::{net::TcpListener, task::JoinSet};
use tracing::{error, info};

use super::{
    client::{FaultRequest, FaultTarget},
    fault::Fault,
    link::Link,
    pattern::matches,
};
use crate::{ports::Loopback, remove, stack_file::ControlAddress, supervisor::ProcessHandle};

/// The processes and links of the stack.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) processes: Vec<ProcessTarget>,
    pub(crate) links: Vec<Link>,
}

#[derive(Debug)]
pub(crate) struct ProcessTarget {
    pub(crate) handle: ProcessHandle,
    /// The data folder, if it may be wiped.
    pub(crate) data: Option<PathBuf>,
}

/// The running HTTP server.
#[derive(Debug)]
pub(crate) struct ControlServer {
    pub(crate) address: ControlAddress,
    /// Aborted on drop.
    _task: JoinSet<()>,
}

struct Shared {
    targets: Targets,
    token: String,
}

impl ControlServer {
    /// Starts to serve.
    ///
    /// # Errors
    /// If there is no free port.
    pub(crate) async fn start(host: Loopback, targets: Targets) -> Result<Self> {
        let listener = TcpListener::bind((host.ip(), 0)).await?;
        let token = credentials::random_password()?;
        let url = format!("http://{}/faults", listener.local_addr()?);
        let shared = Arc::new(Shared { targets, token: token.clone() });
        let app = Router::new()
            .route("/faults", get(list).post(inject))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), authorize))
            .with_state(shared);
        let mut task = JoinSet::new();
        task.spawn(async {
            if let Err(error) = axum::serve(listener, app).await {
                error!("the port for faults failed: {error}");
            }
        });
        Ok(Self { address: ControlAddress { url, token }, _task: task })
    }
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    if token == Some(shared.token.as_str()) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<Vec<FaultTarget>> {
    let target = |name: &str, kind: &str, state: &str| FaultTarget {
        name: name.to_owned(),
        kind: kind.to_owned(),
        state: state.to_owned(),
    };
    let handles = shared.targets.processes.iter().map(|process| &process.handle);
    let processes = handles.map(|handle| target(&handle.name, "process", handle.describe()));
    let links = shared.targets.links.iter();
    let links = links.map(|link| target(&link.name, "link", &link.describe()));
    Json(processes.chain(links).collect())
}

async fn inject(
    State(shared): State<Arc<Shared>>,
    Json(FaultRequest { on, fault }): Json<FaultRequest>,
) -> Response {
    match shared.targets.apply(&on, fault).await {
        Ok(names) if names.is_empty() => {
            let kind = if fault.is_for_links() { "link" } else { "process" };
            let message = format!("there is no {kind} {on:?}: `passbook dev fault ls` lists them");
            (StatusCode::NOT_FOUND, message).into_response()
        }
        Ok(names) => {
            info!("injected {fault:?} into {}", names.join(", "));
            Json(names).into_response()
        }
        Err(error) => (StatusCode::CONFLICT, format!("{error:#}")).into_response(),
    }
}

impl Targets {
    /// Applies the fault to every matching target. Returns their names.
    async fn apply(&self, pattern: &str, fault: Fault) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if fault.is_for_links() {
            for link in self.links.iter().filter(|link| matches(pattern, &link.name)) {
                link.apply(fault);
                names.push(link.name.clone());
            }
            return Ok(names);
        }
        for process in &self.processes {
            let name = &process.handle.name;
            if matches(pattern, name) {
                process.apply(fault).await.with_context(|| name.clone())?;
                names.push(name.clone());
            }
        }
        Ok(names)
    }
}

impl ProcessTarget {
    async fn apply(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill => self.handle.signal(Signal::SIGKILL),
            Fault::Terminate => self.handle.signal(self.handle.stop_signal),
            Fault::Freeze => self.handle.signal(Signal::SIGSTOP),
            // A process that does not run is not frozen.
            Fault::Thaw => self.handle.signal(Signal::SIGCONT).or(Ok(())),
            Fault::Hold => self.handle.hold().await,
            Fault::Release => {
                self.handle.release();
                Ok(())
            }
            Fault::Wipe => self.wipe().await,
            _ => bail!("this fault is for links, not for processes"),
        }
    }

    async fn wipe(&self) -> Result<()> {
        let Some(data) = &self.data else { bail!("its data can't be wiped: only a broker's can") };
        let held = self.handle.is_held();
        self.handle.hold().await?;
        remove::dir_all(data)?;
        if !held {
            self.handle.release();
        }
        Ok(())
    }
}
