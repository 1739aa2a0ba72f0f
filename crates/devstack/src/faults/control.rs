//! The port on which the supervisor takes orders: on this machine only, and
//! only from who can read `stack.json`.

use std::{fs, io, net::Ipv4Addr, path::PathBuf, sync::Arc};

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
    Fault,
    client::{Order, Target},
    fits,
    link::Link,
};
use crate::{stackfile, supervised::Handle};

/// What faults can be ordered on.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) processes: Vec<ProcessTarget>,
    pub(crate) links: Vec<Link>,
}

/// A process, and its data if that can be wiped.
#[derive(Debug)]
pub(crate) struct ProcessTarget {
    pub(crate) handle: Handle,
    pub(crate) data: Option<PathBuf>,
}

/// The port while it is open.
#[derive(Debug)]
pub(crate) struct Control {
    /// Where it is, and what it asks for.
    pub(crate) address: stackfile::Control,
    /// Aborted when dropped.
    _task: JoinSet<()>,
}

struct Shared {
    targets: Targets,
    token: String,
}

impl Control {
    /// Takes orders from now on.
    ///
    /// # Errors
    /// When there is no free port.
    pub(crate) async fn open(targets: Targets) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token = credentials::random_password()?;
        let url = format!("http://{}/faults", listener.local_addr()?);
        let shared = Arc::new(Shared { targets, token: token.clone() });
        let app = Router::new()
            .route("/faults", get(list).post(order))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), authorize))
            .with_state(shared);
        let mut task = JoinSet::new();
        task.spawn(async {
            if let Err(error) = axum::serve(listener, app).await {
                error!("faults can't be ordered any more: {error}");
            }
        });
        Ok(Self { address: stackfile::Control { url, token }, _task: task })
    }
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    if given.and_then(|it| it.strip_prefix("Bearer ")) == Some(shared.token.as_str()) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn list(State(shared): State<Arc<Shared>>) -> Json<Vec<Target>> {
    let target = |name: &str, kind: &str, state: &str| Target {
        name: name.to_owned(),
        kind: kind.to_owned(),
        state: state.to_owned(),
    };
    let targets = &shared.targets;
    let processes =
        targets.processes.iter().map(|it| target(&it.handle.name, "process", it.handle.describe()));
    let links = targets.links.iter().map(|it| target(&it.name, "link", &it.traffic().describe()));
    Json(processes.chain(links).collect())
}

async fn order(
    State(shared): State<Arc<Shared>>,
    Json(Order { on, fault }): Json<Order>,
) -> Response {
    match shared.targets.apply(&on, fault).await {
        Ok(names) if names.is_empty() => {
            let kind = if fault.is_of_links() { "link" } else { "process" };
            let why = format!("there is no {kind} {on:?}: `passbook dev fault ls` lists them");
            (StatusCode::NOT_FOUND, why).into_response()
        }
        Ok(names) => {
            info!("{fault:?}: {}", names.join(", "));
            Json(names).into_response()
        }
        Err(error) => (StatusCode::CONFLICT, format!("{error:#}")).into_response(),
    }
}

impl Targets {
    async fn apply(&self, on: &str, fault: Fault) -> Result<Vec<String>> {
        if fault.is_of_links() {
            let links = self.links.iter().filter(|it| fits(on, &it.name));
            return Ok(links
                .map(|link| {
                    link.apply(fault);
                    link.name.clone()
                })
                .collect());
        }
        let mut names = Vec::new();
        for process in self.processes.iter().filter(|it| fits(on, &it.handle.name)) {
            process.apply(fault).await.with_context(|| process.handle.name.clone())?;
            names.push(process.handle.name.clone());
        }
        Ok(names)
    }
}

impl ProcessTarget {
    async fn apply(&self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill => self.handle.signal(Signal::SIGKILL),
            Fault::Terminate => self.handle.signal(Signal::SIGTERM),
            Fault::Freeze => self.handle.signal(Signal::SIGSTOP),
            // What does not run is not frozen.
            Fault::Thaw => self.handle.signal(Signal::SIGCONT).or(Ok(())),
            Fault::Hold => self.handle.hold().await,
            Fault::Release => {
                self.handle.release();
                Ok(())
            }
            Fault::Wipe => self.wipe().await,
            _ => bail!("this is a fault of links"),
        }
    }

    async fn wipe(&self) -> Result<()> {
        let Some(data) = &self.data else {
            bail!("its data is not for wiping: only a broker's is")
        };
        let held = self.handle.is_held();
        self.handle.hold().await?;
        match fs::remove_dir_all(data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| data.display().to_string());
            }
            _ => {}
        }
        if !held {
            self.handle.release();
        }
        Ok(())
    }
}
