//! How many streams of events this replica serves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::{Scope, UserId};
use runtime::http::{
    bearer::Caller,
    problem::{Problem, UNAVAILABLE},
};

use super::super::problems::TOO_MANY_STREAMS;

/// Maximum streams of a customer.
const MAX_OF_CUSTOMER: usize = 10;

/// The places for streams.
#[derive(Debug, Clone)]
pub struct StreamSlots {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_customers: HashMap<UserId, usize>,
}

/// The place of one stream.
#[derive(Debug)]
pub(super) struct Slot {
    slots: StreamSlots,
    customer: Option<UserId>,
}

impl StreamSlots {
    /// Places for this many streams.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for a stream of this caller.
    ///
    /// # Errors
    /// `unavailable` or `too-many-streams`
    pub(super) fn take(&self, caller: &Caller) -> Result<Slot, Problem> {
        let mut taken = self.lock();
        if taken.all >= self.most {
            let detail = "This replica serves too many streams of events.";
            return Err(UNAVAILABLE.because(detail).retry_after(2));
        }
        let is_customer = !caller.scopes.contains(Scope::AccountsAny);
        let customer = is_customer.then(|| caller.user_id.clone());
        if let Some(customer) = &customer {
            let streams = taken.of_customers.entry(customer.clone()).or_default();
            if *streams >= MAX_OF_CUSTOMER {
                let detail = format!("A customer may have {MAX_OF_CUSTOMER} streams of events.");
                return Err(TOO_MANY_STREAMS.because(detail).retry_after(10));
            }
            *streams += 1;
        }
        taken.all += 1;
        gauge(taken.all);
        drop(taken);
        Ok(Slot { slots: self.clone(), customer })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all = taken.all.saturating_sub(1);
        gauge(taken.all);
        let Some(customer) = &self.customer else { return };
        if let Some(streams) = taken.of_customers.get_mut(customer) {
            *streams = streams.saturating_sub(1);
            if *streams == 0 {
                taken.of_customers.remove(customer);
            }
        }
    }
}

fn gauge(streams: usize) {
    let streams = u32::try_from(streams).unwrap_or(u32::MAX);
    metrics::gauge!("passbook_event_streams").set(streams);
}

#[cfg(test)]
mod tests {
    use contract::Scopes;

    use super::*;

    fn caller(name: &str, scopes: Scopes) -> Caller {
        Caller { user_id: name.to_owned().try_into().unwrap(), scopes, api_key: None }
    }

    #[test]
    fn a_replica_and_a_customer_have_a_number_of_streams() {
        let (ann, teller) = (caller("ann", Scopes::default()), caller("teller", Scopes::all()));
        let slots = StreamSlots::new(MAX_OF_CUSTOMER + 5);
        let mut of_ann: Vec<_> = (0..MAX_OF_CUSTOMER).map(|_| slots.take(&ann).unwrap()).collect();
        assert!(slots.take(&ann).unwrap_err().is(TOO_MANY_STREAMS));
        let mut others: Vec<_> = (0..5).map(|_| slots.take(&teller).unwrap()).collect();
        for other in [&ann, &teller, &caller("ben", Scopes::default())] {
            assert!(slots.take(other).unwrap_err().is(UNAVAILABLE));
        }
        // A stream that ends leaves its place. A customer with as many as allowed can't take it.
        others.pop();
        assert!(slots.take(&ann).unwrap_err().is(TOO_MANY_STREAMS));
        others.push(slots.take(&teller).unwrap());
        of_ann.pop();
        of_ann.push(slots.take(&ann).unwrap());
    }
}
