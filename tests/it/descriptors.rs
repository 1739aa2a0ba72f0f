//! File descriptors used up: by clients, or by a limit that is lowered. No service dies or
//! spins, and all work again without a restart.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use devstack::Fault;
use nix::sys::signal::Signal;
use tests::{
    Client, Depositors, Stack,
    client::new_key,
    eventually,
    process::{limit_descriptors, processor_time, signal},
    stack::initialized_folder,
    wait::eventually_now,
};
use tokio::{io::AsyncReadExt, net::TcpSocket, task::JoinSet};

use crate::reports::statement;

const SERVICES: [&str; 4] =
    ["account-service-0", "transaction-service-0", "report-service-0", "webhook-service-0"];
const SOON: Duration = Duration::from_secs(30);
const DESCRIPTORS: &str = "300";
/// Addresses that a flood comes from, and the connections of each. One address alone may take half
/// of the places. Without a limit, more than can have a descriptor would always wait for one.
const ADDRESSES: [u8; 4] = [2, 3, 4, 5];
const FLOOD: usize = 200;
/// Pause before a connection that was closed is opened again.
const AGAIN: Duration = Duration::from_secs(5);
/// 128 descriptors are reserved.
const ACCEPTED: usize = 172;
/// How long there is no descriptor.
const WITHOUT: Duration = Duration::from_secs(5);

/// The body of a successful response of the admin port. `None` after two seconds without one.
async fn admin(stack: &Stack, service: &str, path: &str) -> Option<String> {
    let file = stack.file();
    let process = file.processes.into_iter().find(|process| process.name == service);
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
    let response = http.get(format!("{}/{path}", process?.admin?)).send().await.ok()?;
    if response.status().is_success() { response.text().await.ok() } else { None }
}

/// Opens connections, one after the other, and says nothing until each is closed.
async fn silent_connections(source: Ipv4Addr, server: SocketAddr, connected: Arc<AtomicUsize>) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        if let Ok(mut connection) = socket.connect(server).await {
            connected.fetch_add(1, Ordering::Relaxed);
            let _closed = connection.read(&mut [0]).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Clients open more connections than the process may have descriptors. It keeps enough for its
/// probes, and to connect again to its servers.
async fn a_flood_of_connections(stack: &Stack, account: &str) {
    // Inherited by the next process. There is no right needed for a lower limit.
    limit_descriptors(stack.supervisor(), DESCRIPTORS);
    let before = stack.pid("account-service-0");
    signal(before, Signal::SIGKILL);
    stack.restarted("account-service-0", before, SOON).await;
    stack.replica_ready("account-service-0").await;
    let file = stack.file();
    let replica = file.processes.iter().find(|process| process.name == "account-service-0");
    let address = replica.unwrap().http.as_deref().unwrap().trim_start_matches("http://");
    let address: SocketAddr = address.parse().unwrap();
    let pid = stack.pid("account-service-0");
    let (mut flood, connected) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for source in ADDRESSES.map(|last| Ipv4Addr::new(127, 0, 0, last)) {
        for _ in 0..FLOOD {
            flood.spawn(silent_connections(source, address, Arc::clone(&connected)));
        }
    }
    eventually_now("the flood is there, and the replica at its limit", SOON, || {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let connected = connected.load(Ordering::Relaxed);
        (connected >= ADDRESSES.len() * FLOOD && open > ACCEPTED).then_some(())
    })
    .await;
    for server in ["postgres", "nats"] {
        stack.fault(&format!("account-service-0/{server}"), Fault::Cut).await;
    }
    eventually("the replica is ready in spite of the flood", SOON, || async {
        let metrics = admin(stack, "account-service-0", "metrics").await?;
        let connected = r#"passbook_condition_up{condition="nats",required="false"} 1"#;
        admin(stack, "account-service-0", "readyz").await?;
        metrics.contains(connected).then_some(())
    })
    .await;
    drop(flood);
    let (client, key) = (Client::teller_at(stack, "account-service-0"), new_key());
    eventually("a deposit is settled after the flood", SOON, || async {
        let asked = client.try_movement("deposits", account, "1", &key, Some(5));
        (asked.await.ok()?.text("status") == "SUCCESS").then_some(())
    })
    .await;
}

/// No process can open anything, and all lose their connections.
async fn no_descriptors(stack: &Stack, load: &Depositors) {
    let pids = SERVICES.map(|name| stack.pid(name));
    let log = |name: &str| fs::read_to_string(stack.dir.join(format!("logs/{name}.log"))).unwrap();
    let before = SERVICES.map(log);
    pids.iter().for_each(|pid| limit_descriptors(*pid, "3:"));
    let begun = Instant::now();
    let used = pids.map(processor_time);
    for server in ["postgres", "nats"] {
        stack.fault(&format!("*/{server}"), Fault::Cut).await;
    }
    for service in SERVICES {
        assert_eq!(admin(stack, service, "readyz").await, None, "{service}");
    }
    tokio::time::sleep(WITHOUT.saturating_sub(begun.elapsed())).await;
    let elapsed = begun.elapsed();
    for ((name, pid), used) in SERVICES.iter().zip(pids).zip(used) {
        let used = processor_time(pid) - used;
        println!("{name} without descriptors: {used:?} of processor time in {elapsed:.1?}");
        assert!(used < elapsed / 4, "{name} spins: {used:?} in {elapsed:?}");
    }
    pids.iter().for_each(|pid| limit_descriptors(*pid, &format!("{DESCRIPTORS}:")));
    let took = load.settles(SOON).await;
    println!("a deposit was settled {took:.1?} after there were descriptors again");
    for (service, before) in SERVICES.iter().zip(before) {
        eventually(&format!("{service} is ready"), SOON, || async {
            admin(stack, service, "readyz").await
        })
        .await;
        let log = log(service).split_off(before.len());
        let said = log.matches("accepting a connection failed").count();
        assert!((1..=10).contains(&said), "{service}: {log}");
        assert!(log.contains("Too many open files"), "{service}: {log}");
    }
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let report = client.report(&statement(&account, &["csv"]), 20).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    assert_eq!(SERVICES.map(|name| stack.pid(name)), pids, "a service was restarted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_without_file_descriptors_neither_spin_nor_die_and_go_on_once_there_are_some() {
    let money = ["--account-replicas", "1", "--transaction-replicas", "1"];
    let others = ["--report-replicas", "1", "--webhook-replicas", "1"];
    let arguments = [&["--port", "0", "--faults"], &money[..], &others].concat();
    let stack = Stack::start_in(&initialized_folder("descriptors").await, &arguments).await;
    let account = Client::teller(&stack).open_account("KRW").await;
    a_flood_of_connections(&stack, &account).await;
    let load = Depositors::start(&stack, 4).await;
    load.settles(SOON).await;
    no_descriptors(&stack, &load).await;
    load.finish(&stack, SOON).await;
}
