//! Places of requests: each has one among those that are worked on, or one among those that wait for nothing but flows.
//!
//! Does not move a request from one to the other; its actor does.

use std::collections::HashMap;
use std::sync::Arc;

use amcp_protocol::{ErrorCode, Failure};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request's place, free again when this value is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

impl From<OwnedSemaphorePermit> for Place {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: permit,
            _share: None,
        }
    }
}

/// Numbers by user; requests without a user count as those of one.
#[derive(Debug, Default)]
pub(crate) struct ByUser(HashMap<Option<String>, usize>);

impl ByUser {
    pub(crate) fn of(&self, user: &Option<String>) -> usize {
        self.0.get(user).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, user: &Option<String>) {
        match self.0.get_mut(user) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(user.clone(), 1)),
        }
    }

    pub(crate) fn remove(&mut self, user: &Option<String>) {
        if let Some(count) = self.0.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(user);
            }
        }
    }
}

/// The places of requests that wait for nothing but flows.
#[derive(Debug)]
pub(crate) struct Waiting {
    places: Arc<Semaphore>,
    most: usize,
    taken: Mutex<ByUser>,
}

/// A user's part of the places.
#[derive(Debug)]
struct Share {
    waiting: Arc<Waiting>,
    user: Option<String>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.waiting.taken.lock().remove(&self.user);
    }
}

impl Waiting {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
            taken: Mutex::default(),
        }
    }

    /// A tenth of the places for a user, half for requests without one, which come from many clients.
    fn most_of(&self, user: &Option<String>) -> usize {
        (self.most / if user.is_some() { 10 } else { 2 }).max(1)
    }

    /// # Errors
    /// `overloaded` when the user's share of the places is taken: further requests could only keep their places among those that
    /// are worked on.
    pub(crate) fn check_room(&self, user: &Option<String>) -> Result<(), Failure> {
        let most = self.most_of(user);
        if self.places.available_permits() + most > self.most || self.taken.lock().of(user) < most {
            return Ok(());
        }
        let name = user.as_deref().unwrap_or("clients without a user name");
        let message = format!("{most} requests of {name} wait for a person, and no more may");
        let failure = Failure::new(ErrorCode::Overloaded, message);
        Err(failure.hint("answer what they ask, or cancel some of them"))
    }

    /// A place, if the user's share has one left.
    pub(crate) fn take(self: &Arc<Self>, user: &Option<String>) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        let mut taken = self.taken.lock();
        if taken.of(user) >= self.most_of(user) {
            return None;
        }
        taken.add(user);
        let (waiting, user) = (self.clone(), user.clone());
        Some(Place {
            _permit: permit,
            _share: Some(Share { waiting, user }),
        })
    }
}
