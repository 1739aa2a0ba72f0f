//! dev
use model::{check, protocol::Protocol, scenario::*, rules::Rule};
fn main() {
    let base = Faults { crashes: 1, wipes: 1, held_up: 0, slow: 0, windows: 0, redrives: 1 };
    let one = Scenario::of(&[movement(1)]);
    let two = Scenario::of(&[movement(1), movement(-1)]);
    let deposits = Scenario::of(&[movement(1), movement(1)]);
    let mut stray = one.clone(); stray.unreadable = true; stray.contradicting = true;
    for (n, s) in [
        ("one base", one.clone().with(base)),
        ("one no wipe, held up", one.clone().with(Faults{wipes: 0, held_up: 1, ..base})),
        ("one slow", one.clone().with(Faults{wipes: 0, crashes: 0, slow: 1, ..base})),
        ("two crash", two.clone().with(Faults{wipes: 0, ..base})),
        ("deposits, slow", deposits.clone().with(Faults{wipes: 0, crashes: 0, slow:1, ..base})),
        ("stray, crash 1, held_up", {let mut s = stray.clone(); s.max_deliver = 1; s.with(Faults{wipes: 0, redrives: 0, held_up: 1, ..base})}),
    ] {
        println!("=== {n}");
        let e = check::explore(&Protocol::new(s.clone()), 1);
        println!("all rules: {} {:?} {:?} {:?}", e.states, e.took, e.broken, e.reached);
        for r in Rule::ALL {
            let p = Protocol::without(s.clone(), &[r]);
            let e = check::explore(&p, 1);
            let l: Vec<_> = e.broken.iter().map(|i| (i.name(), check::shortest(&p, *i).map(|a| a.len()))).collect();
            println!("{r}: {} {:?} {l:?}", e.states, e.took);
        }
        for (a,b) in [(Rule::LockAccounts, Rule::UniqueRecordId), (Rule::LockAccounts, Rule::UniqueAccountSeq), (Rule::UniqueRecordId, Rule::UniqueAccountSeq)] {
            let p = Protocol::without(s.clone(), &[a, b]);
            let e = check::explore(&p, 1);
            let l: Vec<_> = e.broken.iter().map(|i| (i.name(), check::shortest(&p, *i).map(|a| a.len()))).collect();
            println!("{a} {b}: {} {:?} {l:?}", e.states, e.took);
        }
    }
}
