//! The accounts with the largest volume in each currency: exact, in bounded memory.
//!
//! Accounts are divided into buckets by a hash of their ids. The first pass over the rows
//! adds up the accounts of all buckets, and an upper bound of the volume of each bucket.
//! If there are more accounts than fit, the half of the buckets with the smaller volumes is
//! given up for this pass. After a pass, a bucket has to be read if it was given up and its
//! bound is not below the volume of the last listed account: no account in it is larger than
//! the bucket. So up to [`MAX_ACCOUNTS`] accounts need no further pass; a million accounts of
//! equal volume need four more, and fewer the more the volumes differ.

use std::collections::{BTreeMap, HashMap};

use contract::{AccountId, Kind};
use report_document::LargestAccount;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    packed,
    units::Units,
    volumes::{Currencies, pairs},
};

/// Listed accounts of a currency.
const LISTED: usize = 10;
/// Accounts that are added up at a time: 21 MiB, the capacity of a hash table of 2^18.
const MAX_ACCOUNTS: usize = 229_376;
const BUCKETS: usize = 1 << 14;

/// The sums of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountSum {
    pub(super) currency: u16,
    pub(super) count: u64,
    pub(super) credits: Units,
    pub(super) debits: Units,
}

impl AccountSum {
    fn volume(&self) -> Units {
        self.credits + self.debits
    }
}

/// The state of the search.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Largest {
    max_accounts: usize,
    /// The accounts of this pass.
    #[serde(with = "packed::accounts")]
    sums: HashMap<Uuid, AccountSum>,
    /// What this pass, or an earlier one, does with each bucket.
    #[serde(with = "packed::buckets")]
    buckets: Vec<Bucket>,
    /// The number of active buckets.
    active: usize,
    /// Upper bounds of the volumes of all buckets, in whole units, by currency. Complete
    /// after the first pass.
    #[serde(with = "packed::bounds")]
    bounds: BTreeMap<u16, Vec<u64>>,
    is_first_pass: bool,
    /// The largest accounts of the finished passes.
    #[serde(with = "pairs")]
    listed: BTreeMap<u16, Vec<(AccountId, AccountSum)>>,
}

/// The state of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket {
    /// Its accounts are added up in this pass.
    Active,
    /// It was given up, and may be read in a later pass.
    Deferred,
    /// It is done, or none of its accounts is among the largest.
    Done,
}

impl Default for Largest {
    fn default() -> Self {
        Self::with_limit(MAX_ACCOUNTS)
    }
}

impl Largest {
    fn with_limit(max_accounts: usize) -> Self {
        Self {
            max_accounts,
            sums: HashMap::new(),
            buckets: vec![Bucket::Active; BUCKETS],
            active: BUCKETS,
            bounds: BTreeMap::new(),
            is_first_pass: true,
            listed: BTreeMap::new(),
        }
    }

    /// Adds an applied movement.
    pub(super) fn add(&mut self, account: Uuid, currency: u16, kind: Kind, amount: Units) {
        let bucket = bucket(account);
        if self.is_first_pass {
            let bounds = self.bounds.entry(currency).or_insert_with(|| vec![0; BUCKETS]);
            if let Some(bound) = bounds.get_mut(bucket) {
                *bound = bound.saturating_add(amount.rounded_up());
            }
        }
        if self.buckets.get(bucket) != Some(&Bucket::Active) {
            return;
        }
        let sum = self.sums.entry(account).or_insert_with(|| AccountSum {
            currency,
            count: 0,
            credits: Units::default(),
            debits: Units::default(),
        });
        sum.count += 1;
        match kind {
            Kind::Deposit => sum.credits += amount,
            Kind::Withdrawal => sum.debits += amount,
        }
        if self.sums.len() >= self.max_accounts && self.active > 1 {
            self.give_up_half();
        }
    }

    /// Keeps the half of the active buckets with the larger bounds. A single bucket is
    /// kept whatever its size.
    fn give_up_half(&mut self) {
        let bounds = self.relative_bounds();
        let states = self.buckets.iter().zip(&bounds).enumerate();
        let active = states.filter(|(_, (state, _))| **state == Bucket::Active);
        let mut active: Vec<(u64, usize)> = active.map(|(at, (_, bound))| (*bound, at)).collect();
        active.sort_unstable();
        for (_, at) in active.iter().take(active.len() / 2) {
            if let Some(state) = self.buckets.get_mut(*at) {
                *state = Bucket::Deferred;
            }
        }
        self.active = active.len().div_ceil(2);
        let buckets = &self.buckets;
        self.sums.retain(|account, _| buckets.get(bucket(*account)) == Some(&Bucket::Active));
    }

    /// The bound of each bucket compared with the largest of its currency, in millionths:
    /// the highest of all currencies.
    fn relative_bounds(&self) -> Vec<u64> {
        let mut relative = vec![0; BUCKETS];
        for bounds in self.bounds.values() {
            let largest = u128::from(bounds.iter().max().copied().unwrap_or(0).max(1));
            for (highest, bound) in relative.iter_mut().zip(bounds) {
                let millionths = u128::from(*bound) * 1_000_000 / largest;
                *highest = u64::try_from(millionths).unwrap_or(0).max(*highest);
            }
        }
        relative
    }

    /// Ends a pass over all rows. `true` if another pass is needed.
    pub(super) fn end_pass(&mut self) -> bool {
        for (account, sum) in self.sums.drain() {
            let listed = self.listed.entry(sum.currency).or_default();
            listed.push((AccountId::from_uuid(account), sum));
            if listed.len() > LISTED * 20 {
                shorten(listed);
            }
        }
        self.listed.values_mut().for_each(shorten);
        self.is_first_pass = false;
        let mut next: Vec<Bucket> = Vec::with_capacity(BUCKETS);
        for (at, state) in self.buckets.iter().enumerate() {
            let again = *state == Bucket::Deferred && self.may_have_listed(at);
            next.push(if again { Bucket::Active } else { Bucket::Done });
        }
        self.buckets = next;
        self.active = self.buckets.iter().filter(|state| **state == Bucket::Active).count();
        let again = self.active > 0;
        if !again {
            self.sums = HashMap::new();
            self.bounds.clear();
        }
        again
    }

    /// Whether an account of the bucket can be larger than the last listed one.
    fn may_have_listed(&self, bucket: usize) -> bool {
        self.bounds.iter().any(|(currency, bounds)| {
            let bound = bounds.get(bucket).copied().unwrap_or(0);
            let listed = self.listed.get(currency).map_or(&[][..], Vec::as_slice);
            let last = listed.get(LISTED - 1).map_or(0, |(_, sum)| sum.volume().rounded_up());
            bound > 0 && bound >= last
        })
    }

    /// The largest accounts, by currency.
    pub(super) fn figures(&self, currencies: &Currencies) -> Vec<LargestAccount> {
        let mut accounts: Vec<LargestAccount> = Vec::new();
        for (account_id, sum) in self.listed.values().flatten() {
            let code = currencies.code(sum.currency);
            accounts.push(LargestAccount {
                currency: code.to_owned(),
                account_id: *account_id,
                count: sum.count,
                credits: sum.credits.amount(code),
                debits: sum.debits.amount(code),
            });
        }
        // Stable: the order within a currency stays.
        accounts.sort_by(|a, b| a.currency.cmp(&b.currency));
        accounts
    }
}

/// Keeps the largest, largest first; equal ones in the order of their ids.
fn shorten(listed: &mut Vec<(AccountId, AccountSum)>) {
    listed.sort_by(|(a_id, a), (b_id, b)| b.volume().cmp(&a.volume()).then(a_id.cmp(b_id)));
    listed.truncate(LISTED);
}

/// The bucket of an account: the same in every process.
fn bucket(account: Uuid) -> usize {
    let (high, low) = account.as_u64_pair();
    // The multiplier of splitmix64 spreads ids that differ in a few bits only.
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    usize::try_from((mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 50).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Movement = (u16, u128, bool);

    fn account(number: u16) -> Uuid {
        Uuid::from_u128(u128::from(number) << 3)
    }

    /// The account's currency.
    fn currency(number: u16) -> u16 {
        number % 3
    }

    fn add_all(largest: &mut Largest, movements: &[Movement]) {
        for &(number, units, is_withdrawal) in movements {
            let kind = if is_withdrawal { Kind::Withdrawal } else { Kind::Deposit };
            let amount = Units::from_raw(units);
            largest.add(account(number), currency(number), kind, amount);
        }
    }

    fn search(movements: &[Movement], max_accounts: usize) -> (Largest, u32) {
        let mut largest = Largest::with_limit(max_accounts);
        let mut passes = 0;
        loop {
            passes += 1;
            add_all(&mut largest, movements);
            if !largest.end_pass() {
                return (largest, passes);
            }
            assert!(passes < 10_000, "the search ends");
        }
    }

    /// All accounts in memory.
    fn expected(movements: &[Movement]) -> BTreeMap<u16, Vec<(AccountId, AccountSum)>> {
        let mut sums: HashMap<u16, AccountSum> = HashMap::new();
        for &(number, units, is_withdrawal) in movements {
            let (credits, debits) = (Units::default(), Units::default());
            let empty = AccountSum { currency: currency(number), count: 0, credits, debits };
            let sum = sums.entry(number).or_insert(empty);
            sum.count += 1;
            let side = if is_withdrawal { &mut sum.debits } else { &mut sum.credits };
            *side += Units::from_raw(units);
        }
        let mut listed: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for (number, sum) in sums {
            listed
                .entry(sum.currency)
                .or_default()
                .push((AccountId::from_uuid(account(number)), sum));
        }
        listed.values_mut().for_each(shorten);
        listed
    }

    fn movements() -> impl Strategy<Value = Vec<Movement>> {
        // Few and many accounts, equal and different amounts.
        let amount = prop_oneof![Just(10_000_u128), 1..30_000_u128, 1..u128::from(u64::MAX)];
        proptest::collection::vec((0..400_u16, amount, any::<bool>()), 0..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_largest_accounts_are_exact_whatever_the_limit(
            movements in movements(),
            max_accounts in 5_usize..80,
        ) {
            let (largest, _) = search(&movements, max_accounts);
            prop_assert_eq!(largest.listed, expected(&movements));
        }

        #[test]
        fn a_search_goes_on_from_its_json_form(
            movements in movements(),
            max_accounts in 20_usize..80,
            at in 0_usize..600,
        ) {
            let (before, after) = movements.split_at(at.min(movements.len()));
            let mut largest = Largest::with_limit(max_accounts);
            loop {
                add_all(&mut largest, before);
                let json = serde_json::to_string(&largest).unwrap();
                largest = serde_json::from_str(&json).unwrap();
                add_all(&mut largest, after);
                if !largest.end_pass() {
                    break;
                }
            }
            prop_assert_eq!(largest.listed, expected(&movements));
        }
    }

    #[test]
    fn one_pass_is_enough_for_accounts_that_fit() {
        let movements: Vec<Movement> = (0..70).map(|number| (number, 5, false)).collect();
        assert_eq!(search(&movements, 100).1, 1);
    }

    #[test]
    fn a_few_large_accounts_among_many_need_one_more_pass() {
        let movements: Vec<Movement> = (0..5_000)
            .map(|number| (number, if number % 100 < 3 { 90_000_000_000 } else { 10_000 }, true))
            .collect();
        let (largest, passes) = search(&movements, 1_000);
        assert_eq!(largest.listed, expected(&movements));
        assert!(passes <= 2, "{passes}");
    }

    #[test]
    fn memory_and_json_are_bounded() {
        let mut largest = Largest::default();
        for number in 0..1_000_000_u128 {
            let account =
                Uuid::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            largest.add(account, 0, Kind::Deposit, Units::from_raw(12_340_000));
            assert!(largest.sums.len() < MAX_ACCOUNTS);
        }
        let json = serde_json::to_vec(&largest).unwrap();
        assert!(json.len() < 10 << 20, "{} bytes", json.len());
    }
}
