//! Addresses: a network with IPv6 only, and names whose addresses change under running services.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use devstack::Fault;
use tests::{
    Client, Stack,
    client::new_key,
    eventually, invariants,
    process::{passbook, run, run_with},
    scale::{self, size},
    stack::folder,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener as TokioListener, TcpStream},
    task::JoinSet,
};

use crate::reports::statement;

const SERVICES: [&str; 4] =
    ["account-service", "transaction-service", "report-service", "webhook-service"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_in_a_network_with_ipv6_only() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let replicas = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments =
        [&["--port", "0", "--ipv6", "--faults", "--report-replicas", "1"], &replicas[..]];
    let stack = Stack::start_in(&folder("ipv6"), &arguments.concat()).await;
    let file = serde_json::to_string(&stack.file()).unwrap();
    assert!(file.contains("[::1]") && !file.contains("127.0.0.1"), "{file}");
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "5").await.text("status"), "SUCCESS");
    let report = client.report(&statement(&account, &["csv"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    // A refused link listens on the same address again.
    stack.fault("*/nats", Fault::Refuse).await;
    stack.fault("*/nats", Fault::Pass).await;
    assert_eq!(client.deposit(&account, "5").await.text("status"), "SUCCESS");

    let dir = stack.dir.to_str().unwrap();
    for command in [
        &["doctor"][..],
        &["load", "--seconds", "1", "--accounts", "5", "--clients", "2"],
        &["dlq", "ls"],
        &["dev", "status"],
        &["dev", "fault", "ls"],
    ] {
        // A consumer may not have noticed yet that its link passes again.
        eventually(&format!("{command:?} succeeds"), Duration::from_secs(30), || async {
            let output = run(&[command, &["--dir", dir]].concat()).await;
            output.status.success().then_some(())
        })
        .await;
    }
    // An operator's own URL, with brackets.
    let url = stack.file().databases.account.replace("&host=::1", "");
    assert!(url.contains("@[::1]:"), "{url}");
    let output = run_with(&["migrate"], &[("PASSBOOK_ACCOUNT_DATABASE_URL", &url)]).await;
    assert!(output.status.success(), "{output:?}");
    invariants::assert_verified(&stack).await;
}

/// The name of the hosts of PostgreSQL and NATS.
const NAME: &str = "servers.passbook.test";

/// A replacement of `/etc/hosts` for some processes.
struct Hosts(PathBuf);

impl Hosts {
    /// Sets the address of the name.
    fn set(&self, address: &str) {
        fs::write(&self.0, format!("127.0.0.1 localhost\n{address} {NAME}\n")).unwrap();
    }

    /// A shell script that replaces the file, then runs its arguments.
    fn script(&self) -> String {
        format!("mount --bind {} /etc/hosts && exec \"$@\"", self.0.display())
    }

    /// Whether this user may replace the file, and resolvers read it.
    fn are_read(&self) -> bool {
        self.set("127.0.0.2");
        let mut trial = Command::new("unshare");
        trial.args(["--mount", "sh", "-c", &self.script(), "sh", "getent", "ahosts", NAME]);
        let output = trial.output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("127.0.0.2"))
    }
}

/// A replica with the settings of one of the stack's. It reaches its servers by their name.
struct NamedReplica {
    child: Child,
    http: String,
    admin: String,
    /// The port of each link to a server, and the port of that server.
    ports: Vec<(u16, u16)>,
}

impl NamedReplica {
    fn start(stack: &Stack, service: &str, hosts: &Hosts) -> Self {
        let address =
            |_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let [http, admin] = [0, 1].map(address);
        let environment = fs::read(format!("/proc/{}/environ", stack.pid(&format!("{service}-0"))));
        let environment = String::from_utf8(environment.unwrap()).unwrap();
        let log = fs::File::create(stack.dir.join(format!("{service}-named.log"))).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &hosts.script(), "sh"]);
        command.arg(passbook().with_file_name(service)).env_clear();
        let (file, mut ports) = (stack.file(), Vec::new());
        for (name, value) in environment.split('\0').filter_map(|text| text.split_once('=')) {
            let is_nats = value.starts_with("nats://");
            if is_nats || value.starts_with("postgres://") {
                let server = if is_nats { &file.nats } else { &file.databases.account };
                ports.push((port(value), port(server)));
                command.env(name, value.replace("127.0.0.1:", &format!("{NAME}:")));
            } else {
                command.env(name, value);
            }
        }
        assert!(!ports.is_empty(), "{service}: {ports:?}");
        ports.sort_unstable();
        ports.dedup();
        command.env("PASSBOOK_LISTEN", &http).env("PASSBOOK_ADMIN_LISTEN", &admin);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { child: command.spawn().unwrap(), http, admin, ports }
    }

    async fn is_ready(&self) -> bool {
        let ready = reqwest::get(format!("http://{}/readyz", self.admin)).await;
        ready.is_ok_and(|ready| ready.status().is_success())
    }
}

impl Drop for NamedReplica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port in a URL.
fn port(url: &str) -> u16 {
    let (_, rest) = url.split_once("127.0.0.1:").unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Listens at another address, on the ports of the links, and forwards to the servers. Ends with all
/// its connections when it is dropped.
async fn other_address(address: &str, ports: &[(u16, u16)]) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (port, server) in ports.iter().copied() {
        let listener = TokioListener::bind((address, port)).await.unwrap();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut connection) = TcpStream::connect(("127.0.0.1", server)).await {
                        let _ = copy_bidirectional(&mut client, &mut connection).await;
                    }
                });
            }
        });
    }
    tasks
}

async fn serve_again(account: &str, replicas: &[NamedReplica], clients: [&Client; 2]) {
    // The limit is 30 s. At small size, other tests run concurrently.
    let limit = Duration::from_secs(size(30, 45));
    let begun = Instant::now();
    let rest = || limit.saturating_sub(begun.elapsed());
    let [teller, reporter] = clients;
    eventually("a deposit settles", limit, || async {
        let deposit = teller.try_movement("deposits", account, "1", &new_key(), Some(5)).await;
        deposit.is_ok_and(|response| response.status == 200).then_some(())
    })
    .await;
    eventually("a report is made", rest(), || async {
        let response = reporter.report(&statement(account, &["csv"]), 5).await;
        (response.body["state"] == "SUCCEEDED").then_some(())
    })
    .await;
    for replica in replicas {
        eventually("the replica is ready", rest(), || async {
            replica.is_ready().await.then_some(())
        })
        .await;
    }
    println!("all of it served after {:.1?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_follow_the_name_of_a_server_to_its_new_address_within_30_seconds() {
    let arguments = ["--port", "0", "--faults", "--report-replicas", "1"];
    let replicas = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments = [&arguments[..], &replicas, &["--webhook-replicas", "1"]].concat();
    let stack = Stack::start_in(&folder("renamed"), &arguments).await;
    let hosts = Hosts(stack.dir.join("hosts"));
    if !hosts.are_read() {
        println!("skipped: only root can replace /etc/hosts for a process");
        return;
    }
    hosts.set("127.0.0.2");
    let replicas = SERVICES.map(|service| NamedReplica::start(&stack, service, &hosts));
    let ports: Vec<_> = replicas.iter().flat_map(|replica| replica.ports.clone()).collect();
    let first = other_address("127.0.0.2", &ports).await;
    stack.fault("*-service-0", Fault::Hold).await;
    let tokens = stack.file().tokens;
    let client =
        |replica: &NamedReplica| Client::new(&format!("http://{}", replica.http), &tokens.teller);
    let (teller, reporter) = (client(&replicas[0]), client(&replicas[2]));
    for replica in &replicas {
        eventually("the replica is ready", Duration::from_secs(30), || async {
            replica.is_ready().await.then_some(())
        })
        .await;
    }
    let account = teller.open_account("KRW").await;
    serve_again(&account, &replicas, [&teller, &reporter]).await;

    // The old address refuses.
    drop(first);
    hosts.set("127.0.0.1");
    serve_again(&account, &replicas, [&teller, &reporter]).await;

    if !scale::full() {
        invariants::assert_verified(&stack).await;
        return;
    }
    // The old address is silent: a connection to it is given up after 15 to 20 s.
    stack.fault("*", Fault::Silence).await;
    let _second = other_address("127.0.0.3", &ports).await;
    hosts.set("127.0.0.3");
    serve_again(&account, &replicas, [&teller, &reporter]).await;
    stack.fault("*", Fault::Pass).await;
    invariants::assert_verified(&stack).await;
}
