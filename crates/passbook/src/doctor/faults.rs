//! Faults that were ordered of a development stack, and not ended: what they
//! break looks broken, and is.

use devstack::{FaultClient, StackFile};

use super::check::{Area, Check};

/// What is wrong on purpose.
pub(super) async fn look(stack: Option<&StackFile>) -> Vec<Check> {
    let mut area = Area::new("faults");
    let Some(client) = stack.and_then(|file| FaultClient::of(file).ok()) else {
        return area.done();
    };
    let advice = "see whether the stack still runs: `passbook dev status`";
    let Some(targets) = area.attempt("ordered", advice, client.targets()).await else {
        return area.done();
    };
    for target in targets {
        let ends = match target.state.as_str() {
            "runs" | "starts" | "passes" => continue,
            "held" => "release",
            "frozen" => "thaw",
            _ => "pass",
        };
        let advice =
            format!("this was ordered: `passbook dev fault {ends} {}` ends it", target.name);
        area.finding(&target.name, target.state, &advice);
    }
    area.done()
}
