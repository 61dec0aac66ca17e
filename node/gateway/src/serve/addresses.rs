//! Counts the connections of each address, so that one client cannot take all places.
//!
//! Does not close connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two words in the log about addresses with too many connections.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The connections of each address.
pub(super) struct Addresses {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
    said: Mutex<Option<Instant>>,
}

/// A connection's place among those of its address.
pub(super) struct OfAddress(Arc<Addresses>, IpAddr);

impl Addresses {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// None when the address has as many connections as it may.
    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<OfAddress> {
        let network = match ip.to_canonical() {
            // A client has as many addresses of its network as it likes.
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => v4,
        };
        {
            let mut open = lock(&self.open);
            let count = open.entry(network).or_default();
            if *count < self.most {
                *count += 1;
                return Some(OfAddress(Arc::clone(self), network));
            }
        }
        let mut said = lock(&self.said);
        if said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            *said = Some(Instant::now());
            tracing::warn!(%ip, most = self.most, "an address has as many connections as it may; the gateway refuses further ones");
        }
        None
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut open = lock(&self.0.open);
        if let Entry::Occupied(mut count) = open.entry(self.1) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
