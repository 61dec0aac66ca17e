//! Budgets: how much a user may ask for in a minute, at a time and in a day.
//!
//! Pure but for its lock: the time comes in as an argument. Does not survive a restart.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use amcp_protocol::access::EVERYONE;
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// About 150 bytes each. At the bound new users are refused: forgetting one would give that user a new day.
const MAX_USERS: usize = 100_000;
/// Retry-After of a user whose requests are all under way: most take seconds.
const SOON: Duration = Duration::from_secs(1);

/// What the users of a role may spend. A figure that is missing has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the setting documents them")]
pub struct Budget {
    pub requests_per_minute: Option<NonZeroU64>,
    pub at_a_time: Option<NonZeroU64>,
    pub tasks_per_day: Option<NonZeroU64>,
    pub llm_calls_per_day: Option<NonZeroU64>,
    pub tokens_per_day: Option<NonZeroU64>,
}

/// What an answered request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Spent {
    pub tasks: u64,
    pub llm_calls: u64,
    pub tokens: u64,
}

/// The user has spent a figure of the budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} has used up {bound} {figure}")]
pub struct Exhausted {
    user: String,
    figure: &'static str,
    bound: u64,
    /// When another try makes sense.
    pub again: Duration,
}

#[derive(Debug)]
struct Account {
    /// When the requests of the last minute are paid for.
    paid: Instant,
    open: u64,
    /// The day began with the first request after the one before.
    day: Instant,
    spent: Spent,
}

impl Account {
    fn is_idle(&self, now: Instant) -> bool {
        self.open == 0 && self.paid <= now && now.duration_since(self.day) >= DAY
    }
}

/// The budgets of roles, and what each user has spent.
#[derive(Debug, Default)]
pub struct Budgets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    budgets: BTreeMap<String, Budget>,
    accounts: HashMap<String, Account>,
    swept: Option<Instant>,
}

impl State {
    /// For each figure the most that a role of the user grants.
    fn budget(&self, roles: &[String]) -> Budget {
        let names = roles.iter().map(String::as_str).chain([EVERYONE]);
        let of_roles = names.filter_map(|name| self.budgets.get(name));
        of_roles.fold(Budget::default(), |sum, role| Budget {
            requests_per_minute: sum.requests_per_minute.max(role.requests_per_minute),
            at_a_time: sum.at_a_time.max(role.at_a_time),
            tasks_per_day: sum.tasks_per_day.max(role.tasks_per_day),
            llm_calls_per_day: sum.llm_calls_per_day.max(role.llm_calls_per_day),
            tokens_per_day: sum.tokens_per_day.max(role.tokens_per_day),
        })
    }

    fn make_room(&mut self, now: Instant) -> bool {
        let is_due = |swept: Instant| now.duration_since(swept) >= MINUTE;
        if self.accounts.len() >= MAX_USERS && self.swept.is_none_or(is_due) {
            self.swept = Some(now);
            self.accounts.retain(|_, account| !account.is_idle(now));
        }
        self.accounts.len() < MAX_USERS
    }
}

/// Each request is paid for by its share of a minute, and a minute's worth may be owed.
fn share(bound: NonZeroU64) -> Duration {
    MINUTE / u32::try_from(bound.get()).unwrap_or(u32::MAX)
}

impl Budgets {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each write is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the budgets of roles; what users have spent stays.
    pub fn set(&self, budgets: BTreeMap<String, Budget>) {
        self.state().budgets = budgets;
    }

    /// Takes a request of a user with these roles, and counts it as open until [`Self::spend`] ends it, if it `stays`.
    ///
    /// # Errors
    /// The figure that is spent.
    pub fn admit(
        &self,
        user: &str,
        roles: &[String],
        stays: bool,
        now: Instant,
    ) -> Result<(), Exhausted> {
        let mut state = self.state();
        let budget = state.budget(roles);
        if budget == Budget::default() {
            return Ok(());
        }
        let exhausted = |figure, bound: NonZeroU64, again| Exhausted {
            user: user.to_owned(),
            figure,
            bound: bound.get(),
            again,
        };
        if !state.accounts.contains_key(user) && !state.make_room(now) {
            let most = NonZeroU64::new(MAX_USERS as u64).unwrap_or(NonZeroU64::MIN);
            return Err(exhausted("places for users with a budget", most, MINUTE));
        }
        let account = state.accounts.entry(user.to_owned()).or_insert(Account {
            paid: now,
            open: 0,
            day: now,
            spent: Spent::default(),
        });
        if now.duration_since(account.day) >= DAY {
            (account.day, account.spent) = (now, Spent::default());
        }
        let tomorrow = DAY.saturating_sub(now.duration_since(account.day));
        for (figure, bound, used, again) in [
            ("requests at a time", budget.at_a_time, account.open, SOON),
            (
                "tasks a day",
                budget.tasks_per_day,
                account.spent.tasks,
                tomorrow,
            ),
            (
                "calls of the LLM a day",
                budget.llm_calls_per_day,
                account.spent.llm_calls,
                tomorrow,
            ),
            (
                "tokens a day",
                budget.tokens_per_day,
                account.spent.tokens,
                tomorrow,
            ),
        ] {
            if let Some(bound) = bound.filter(|bound| used >= bound.get()) {
                return Err(exhausted(figure, bound, again));
            }
        }
        if let Some(bound) = budget.requests_per_minute {
            let paid = account.paid.max(now) + share(bound);
            let owed = paid.duration_since(now);
            if owed > MINUTE {
                return Err(exhausted("requests a minute", bound, owed - MINUTE));
            }
            account.paid = paid;
        }
        account.open += u64::from(stays);
        Ok(())
    }

    /// Takes an admission back: the request was refused for another reason.
    pub fn withdraw(&self, user: &str, roles: &[String], stays: bool) {
        let mut state = self.state();
        let share = state.budget(roles).requests_per_minute.map(share);
        if let Some(account) = state.accounts.get_mut(user) {
            account.open = account.open.saturating_sub(u64::from(stays));
            let paid = account.paid.checked_sub(share.unwrap_or_default());
            account.paid = paid.unwrap_or(account.paid);
        }
    }

    /// Notes what a request took; `ends` one that stayed open.
    pub fn spend(&self, user: &str, spent: Spent, ends: bool) {
        // Without an account the user had no budget when the request came.
        if let Some(account) = self.state().accounts.get_mut(user) {
            account.open = account.open.saturating_sub(u64::from(ends));
            let sum = &mut account.spent;
            sum.tasks = sum.tasks.saturating_add(spent.tasks);
            sum.llm_calls = sum.llm_calls.saturating_add(spent.llm_calls);
            sum.tokens = sum.tokens.saturating_add(spent.tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(rules: &[(&str, Budget)]) -> Budgets {
        let made = Budgets::default();
        made.set(
            rules
                .iter()
                .map(|(role, budget)| ((*role).to_owned(), *budget))
                .collect(),
        );
        made
    }

    fn some(figure: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(figure)
    }

    #[test]
    fn a_minute_has_so_many_requests_and_no_burst_on_top() {
        let rate = Budget {
            requests_per_minute: some(3),
            ..Budget::default()
        };
        let (made, start) = (budgets(&[(EVERYONE, rate)]), Instant::now());
        let at = |seconds| made.admit("ana", &[], false, start + Duration::from_secs(seconds));
        for _ in 0..3 {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0).unwrap_err().again, Duration::from_secs(20));
        assert_eq!(at(19).unwrap_err().again, Duration::from_secs(1));
        assert_eq!(at(20), Ok(()));
        assert!(at(39).is_err());
        assert!(made.admit("bob", &[], false, start).is_ok(), "another user");
        for _ in 0..9 {
            assert_eq!(made.admit("bob", &[], true, start), Ok(()));
            made.withdraw("bob", &[], true);
        }
    }

    #[test]
    fn a_day_ends_and_what_is_open_counts_until_it_has_ended() {
        let day = Budget {
            at_a_time: some(2),
            tasks_per_day: some(10),
            tokens_per_day: some(1_000),
            llm_calls_per_day: some(5),
            ..Budget::default()
        };
        let (made, start) = (budgets(&[(EVERYONE, day)]), Instant::now());
        let at = |seconds| made.admit("ana", &[], true, start + Duration::from_secs(seconds));
        assert!(at(0).is_ok() && at(0).is_ok());
        assert!(
            at(1)
                .unwrap_err()
                .to_string()
                .contains("2 requests at a time")
        );
        for (spent, figure) in [
            (
                Spent {
                    tokens: 1_000,
                    ..Spent::default()
                },
                "tokens",
            ),
            (
                Spent {
                    tasks: 10,
                    ..Spent::default()
                },
                "tasks",
            ),
            (
                Spent {
                    llm_calls: 5,
                    ..Spent::default()
                },
                "calls of the LLM",
            ),
        ] {
            let (made, now) = (budgets(&[(EVERYONE, day)]), Instant::now());
            made.admit("ana", &[], true, now).unwrap();
            made.spend("ana", spent, true);
            let later = now + Duration::from_secs(3_600);
            let refused = made.admit("ana", &[], true, later).unwrap_err();
            assert!(refused.to_string().contains(figure), "{refused}");
            assert_eq!(refused.again, Duration::from_secs(23 * 3_600));
            assert!(made.admit("ana", &[], true, now + DAY).is_ok());
        }
        made.spend("ana", Spent::default(), true);
        assert!(at(2).is_ok());
    }

    #[test]
    fn the_most_generous_role_counts_for_each_figure_and_nobody_is_kept_without_a_budget() {
        let few = Budget {
            requests_per_minute: some(1),
            at_a_time: some(1),
            ..Budget::default()
        };
        let more = Budget {
            requests_per_minute: some(2),
            ..Budget::default()
        };
        let made = budgets(&[("clerk", few), ("analyst", more)]);
        let now = Instant::now();
        let ask = |user: &str, roles: &[&str], stays| {
            let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
            made.admit(user, &roles, stays, now).is_ok()
        };
        assert!(ask("ana", &["clerk", "analyst"], false));
        assert!(ask("ana", &["clerk", "analyst"], true));
        assert!(!ask("ana", &["clerk", "analyst"], true));
        for _ in 0..100 {
            assert!(ask("eve", &["chief"], true));
        }
        assert!(!made.state().accounts.contains_key("eve"));
    }

    #[test]
    fn users_beyond_the_bound_are_refused_until_others_are_idle() {
        let rate = Budget {
            requests_per_minute: some(1),
            ..Budget::default()
        };
        let (made, start) = (budgets(&[(EVERYONE, rate)]), Instant::now());
        for user in 0..MAX_USERS {
            made.admit(&user.to_string(), &[], false, start).unwrap();
        }
        assert!(made.admit("one more", &[], false, start).is_err());
        assert!(made.admit("0", &[], false, start + MINUTE).is_ok());
        let tomorrow = start + DAY + MINUTE;
        assert!(made.admit("one more", &[], false, tomorrow).is_ok());
        assert!(made.state().accounts.len() < 3);
    }
}
