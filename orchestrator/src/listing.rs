//! Lists of requests: which ones, the newest first, in bounded pages. Pure.
//!
//! Judges no right to see a request; the gateway does.

use amcp_protocol::RequestId;
use serde::{Deserialize, Serialize};

use crate::account::Account;

/// Which requests a list names. Crosses nodes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The states ([`Account::state`]) that count; all if there is none.
    pub states: Vec<String>,
    /// The users whose requests count.
    pub whose: Whose,
    /// Accepted then or later, in milliseconds since 1970 UTC.
    pub since_unix_ms: Option<i64>,
    /// Where the page before ended: the time of acceptance and the id of its last request.
    pub after: Option<(i64, RequestId)>,
    /// Most requests in the page.
    pub limit: usize,
}

/// The users whose requests a list names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Everybody's.
    All,
    /// One user's; none for clients without a credential.
    Of(Option<String>),
}

impl Wanted {
    /// Whether a request that was accepted then by that user may be in the page.
    pub(crate) fn admits(&self, place: (i64, RequestId), user: Option<&str>) -> bool {
        let theirs = match &self.whose {
            Whose::All => true,
            Whose::Of(owner) => owner.as_deref() == user,
        };
        let since = self.since_unix_ms.is_none_or(|since| place.0 >= since);
        theirs && since && self.after.is_none_or(|after| place < after)
    }

    pub(crate) fn has_state(&self, account: &Account) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| state == account.state)
    }
}
