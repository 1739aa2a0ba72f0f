//! How many streams of events this replica serves.

use std::sync::Arc;

use runtime::http::{
    bearer::Caller,
    problem::{Problem, UNAVAILABLE},
    streams::{CallerPlace, CallerPlaces},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::problems::TOO_MANY_STREAMS;

/// Maximum streams of a customer.
const MAX_OF_CUSTOMER: usize = 10;

/// The places for streams.
#[derive(Debug, Clone)]
pub struct StreamSlots {
    free: Arc<Semaphore>,
    of_callers: CallerPlaces,
}

/// The place of one stream.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _of_caller: CallerPlace,
}

impl StreamSlots {
    /// Places for this many streams.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let free = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { free, of_callers: CallerPlaces::new(MAX_OF_CUSTOMER, most) }
    }

    /// A place for a stream of this caller.
    ///
    /// # Errors
    /// `unavailable` or `too-many-streams`
    pub(super) fn take(&self, caller: &Caller) -> Result<Slot, Problem> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let detail = "This replica serves too many streams of events.";
            UNAVAILABLE.because(detail).retry_after(2)
        })?;
        let of_caller = self.of_callers.take(caller).map_err(|most| {
            let detail = format!("A replica serves {most} streams of events of this caller.");
            TOO_MANY_STREAMS.because(detail).retry_after(10)
        })?;
        gauge().increment(1.0);
        Ok(Slot { _permit: permit, _of_caller: of_caller })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        gauge().decrement(1.0);
    }
}

fn gauge() -> metrics::Gauge {
    metrics::gauge!("passbook_event_streams")
}

#[cfg(test)]
mod tests {
    use contract::Scopes;

    use super::*;

    fn caller(name: &str, scopes: Scopes) -> Caller {
        Caller { user_id: name.to_owned().try_into().unwrap(), scopes, api_key: None }
    }

    #[test]
    fn a_replica_and_each_caller_have_a_number_of_streams() {
        let (ann, ben) = (caller("ann", Scopes::default()), caller("ben", Scopes::default()));
        let teller = caller("teller", Scopes::all());
        let slots = StreamSlots::new(60);
        let mut of_ann: Vec<_> = (0..MAX_OF_CUSTOMER).map(|_| slots.take(&ann).unwrap()).collect();
        let _of_teller: Vec<_> = (0..15).map(|_| slots.take(&teller).unwrap()).collect();
        for full in [&ann, &teller] {
            assert!(slots.take(full).unwrap_err().is(TOO_MANY_STREAMS));
        }
        let others = (0..35).map(|number| caller(&format!("machine-{number}"), Scopes::all()));
        let mut others: Vec<_> = others.map(|other| slots.take(&other).unwrap()).collect();
        for other in [&ann, &teller, &ben] {
            assert!(slots.take(other).unwrap_err().is(UNAVAILABLE));
        }
        // A stream that ends leaves its place. A caller with as many as allowed can't take it.
        others.pop();
        assert!(slots.take(&ann).unwrap_err().is(TOO_MANY_STREAMS));
        others.push(slots.take(&ben).unwrap());
        of_ann.pop();
        of_ann.push(slots.take(&ann).unwrap());
    }
}
