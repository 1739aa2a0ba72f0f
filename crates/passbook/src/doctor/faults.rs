//! Faults injected into the development stack and not yet ended. Everything they break is a finding
//! too.

use devstack::{FaultClient, StackFile};

use super::check::{Area, Check};

/// Reports each injected fault.
pub(super) async fn check(stack: Option<&StackFile>) -> Vec<Check> {
    let mut area = Area::new("faults");
    let Some(client) = stack.and_then(|file| FaultClient::of(file).ok()) else {
        return area.into_checks();
    };
    let advice = "check whether the stack still runs: `passbook dev status`";
    let Some(targets) = area.attempt("ordered", advice, client.targets()).await else {
        return area.into_checks();
    };
    for target in targets {
        let ends = match target.state.as_str() {
            "runs" | "starts" | "passes" => continue,
            "held" => "release",
            "frozen" => "thaw",
            _ => "pass",
        };
        let advice = format!(
            "this fault was injected: end it with `passbook dev fault {ends} {}`",
            target.name
        );
        area.finding(&target.name, target.state, &advice);
    }
    area.into_checks()
}
