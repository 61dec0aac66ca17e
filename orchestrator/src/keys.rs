//! Idempotency keys: maps each key to its request for a day, and for as long as its request is open.
//!
//! Does not keep requests; a key outlives its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure, RequestId};
use tokio::time::Instant;

use crate::places::ByUser;

/// How long the node remembers a key: a daily job can repeat a request that failed the day before.
pub(crate) const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most keys at a time, about 200 bytes each. At a bound we refuse new keys: forgetting an old one would let its request run
/// again.
const MOST: usize = 100_000;
/// Most keys of one user: a key every nine seconds.
const OF_A_USER: usize = 10_000;
/// Most keys of requests without a user, which come from many clients.
const OF_NOBODY: usize = 50_000;

/// A user and a key of that user.
type Owned = (Option<String>, String);

#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<Arc<Owned>, RequestId>,
    /// The oldest first. A withdrawn key stays here until it expires.
    order: VecDeque<(Instant, Arc<Owned>, RequestId)>,
    of: ByUser,
}

impl Keys {
    /// The request that the user sent with the key, unless the key has expired: after [`LIFE`], but not while `is_open` says so of
    /// its request.
    pub(crate) fn find(
        &mut self,
        user: &Option<String>,
        key: &str,
        now: Instant,
        is_open: impl Fn(RequestId) -> bool,
    ) -> Option<RequestId> {
        self.expire(now, is_open);
        self.known.get(&(user.clone(), key.to_owned())).copied()
    }

    /// # Errors
    /// `overloaded` when there is no room for another key.
    pub(crate) fn check_room(&self, user: &Option<String>) -> Result<(), Failure> {
        let most = if user.is_some() { OF_A_USER } else { OF_NOBODY };
        let (count, most, whose) = if self.of.of(user) >= most {
            (
                most,
                most,
                user.as_deref().unwrap_or("requests without a user"),
            )
        } else {
            (self.known.len(), MOST, "all users together")
        };
        if count < most {
            return Ok(());
        }
        let message = format!(
            "the node remembers {most} idempotency keys of {whose} and has no room for more"
        );
        let hint = "ask without a key, or later: each key expires after 24 hours";
        Err(Failure::new(ErrorCode::Overloaded, message).hint(hint))
    }

    pub(crate) fn add(&mut self, user: &Option<String>, key: &str, id: RequestId, now: Instant) {
        let owned = Arc::new((user.clone(), key.to_owned()));
        self.known.insert(owned.clone(), id);
        self.order.push_back((now, owned, id));
        self.of.add(user);
    }

    /// Forgets a key whose request did not begin.
    pub(crate) fn withdraw(&mut self, user: &Option<String>, key: &str, id: RequestId) {
        // Nearly always the latest key; any other stays in `order` until it expires.
        if self.order.back().is_some_and(|(.., latest)| *latest == id) {
            self.order.pop_back();
        }
        self.forget(&(user.clone(), key.to_owned()), id);
    }

    fn expire(&mut self, now: Instant, is_open: impl Fn(RequestId) -> bool) {
        let is_over = |(since, ..): &(Instant, _, _)| now.duration_since(*since) >= LIFE;
        while self.order.front().is_some_and(is_over)
            && let Some((_, owned, id)) = self.order.pop_front()
        {
            if is_open(id) {
                self.order.push_back((now, owned, id));
            } else {
                self.forget(&owned, id);
            }
        }
    }

    fn forget(&mut self, owned: &Owned, id: RequestId) {
        // A withdrawn key may belong to a later request by now.
        if self.known.get(owned) != Some(&id) {
            return;
        }
        self.known.remove(owned);
        self.of.remove(&owned.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> RequestId {
        RequestId::from_uuid(uuid::Uuid::from_u128(n as u128))
    }

    fn ended(_: RequestId) -> bool {
        false
    }

    fn fill(keys: &mut Keys, user: &Option<String>, now: Instant) -> usize {
        let mut count = 0;
        while keys.check_room(user).is_ok() {
            keys.add(user, &count.to_string(), id(count), now);
            count += 1;
        }
        count
    }

    #[test]
    fn at_its_bound_a_user_keeps_the_old_keys_and_gets_no_new_one() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        let user = |name: &str| Some(name.to_owned());
        assert_eq!(fill(&mut keys, &user("ann"), now), OF_A_USER);
        let refused = keys.check_room(&user("ann")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert!(refused.message.contains("ann") && refused.hint.is_some());
        assert_eq!(keys.find(&user("ann"), "0", now, ended), Some(id(0)));
        // A user's bound leaves room for other users, up to the bound of all.
        assert_eq!(fill(&mut keys, &None, now), OF_NOBODY);
        for n in 0..4 {
            assert_eq!(fill(&mut keys, &user(&n.to_string()), now), OF_A_USER);
        }
        assert!(keys.check_room(&user("bob")).is_err());

        let later = now + LIFE;
        assert_eq!(keys.find(&user("ann"), "0", later, ended), None);
        assert!(keys.known.is_empty() && keys.of.of(&None) == 0 && keys.order.is_empty());
    }

    #[test]
    fn a_key_outlives_its_day_while_its_request_is_open() {
        let (mut keys, week) = (Keys::default(), Instant::now() + 7 * LIFE);
        keys.add(&None, "k", id(1), week - 7 * LIFE);
        assert_eq!(
            keys.find(&None, "k", week, |open| open == id(1)),
            Some(id(1))
        );
        // And a day longer.
        assert_eq!(keys.find(&None, "k", week + LIFE / 2, ended), Some(id(1)));
        assert_eq!(keys.find(&None, "k", week + LIFE, ended), None);
    }

    #[test]
    fn a_key_that_was_withdrawn_is_free_and_lives_its_own_life() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        keys.add(&None, "k", id(1), now);
        keys.withdraw(&None, "k", id(1));
        assert_eq!(keys.find(&None, "k", now, ended), None);
        keys.add(&None, "k", id(2), now + LIFE / 2);
        assert_eq!(keys.find(&None, "k", now + LIFE, ended), Some(id(2)));
        assert_eq!(keys.find(&None, "k", now + LIFE * 3 / 2, ended), None);
    }
}
