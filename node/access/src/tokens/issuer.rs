//! An issuer's keys as a node has them: fetched, kept, fetched again.
//!
//! Does not judge tokens; [`super::IssuerKeys`] does.

use std::sync::Arc;
use std::time::Duration;

use amcp_outbound::{Guard, GuardedClient, Limits};
use amcp_protocol::Principal;
use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{IssuerKeys, JwksSource, RulesError, TokenFault, TokenRules};

/// An issuer withdraws a key by removing it.
pub(super) const REFRESH: Duration = Duration::from_secs(600);
/// An issuer signs with a new key before this node has it. Strangers can name unknown keys as often as they like.
pub(super) const AGAIN: Duration = Duration::from_secs(30);
/// A token waits for it, once in [`AGAIN`].
const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    bytes: 256 * 1_024,
};

/// The tokens that a node takes.
#[derive(Debug)]
pub struct Tokens {
    pub(super) issuer: Arc<Issuer>,
    refresh: AbortHandle,
}

#[derive(Debug)]
pub(super) struct Issuer {
    rules: TokenRules,
    client: GuardedClient,
    pub(super) keys: ArcSwap<IssuerKeys>,
    /// When a token of an unknown key last made the node fetch the keys. Held while they are fetched: the others wait and get the same ones.
    asked: Arc<Mutex<Option<Instant>>>,
}

impl Tokens {
    /// Begins to fetch the issuer's keys, and fetches them every ten minutes; those at hand stay while the issuer is away. The guard says
    /// which addresses besides public ones the issuer may have. Needs a tokio runtime.
    ///
    /// # Errors
    /// Rules that cannot be followed.
    pub fn start(rules: TokenRules, guard: Guard) -> Result<Self, RulesError> {
        rules.check()?;
        let client = GuardedClient::new(guard, LIMITS).map_err(|_| RulesError::Client)?;
        let issuer = Arc::new(Issuer {
            rules,
            client,
            keys: ArcSwap::default(),
            asked: Arc::default(),
        });
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let refreshed = Arc::clone(&issuer);
        let refresh = tokio::spawn(async move {
            loop {
                ticks.tick().await;
                refreshed.refresh().await;
            }
        });
        Ok(Self {
            issuer,
            refresh: refresh.abort_handle(),
        })
    }

    /// The claim `iss` of its tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer.rules.issuer
    }

    /// Finds the user whom a token proves. Fetches the issuer's keys first where the token names an unknown one, and no other token
    /// did so in the last 30 s.
    ///
    /// # Errors
    /// The [`TokenFault`].
    pub async fn check(&self, token: &str) -> Result<Principal, TokenFault> {
        let issuer = &self.issuer;
        let judge = || issuer.keys.load().check(token, &issuer.rules);
        match judge() {
            Err(TokenFault::UnknownKey) => {
                issuer.ask().await;
                judge()
            }
            judged => judged,
        }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.refresh.abort();
    }
}

impl Issuer {
    async fn ask(self: &Arc<Self>) {
        let mut asked = Arc::clone(&self.asked).lock_owned().await;
        let now = Instant::now();
        if asked.is_some_and(|before| now.duration_since(before) < AGAIN) {
            return;
        }
        *asked = Some(now);
        let issuer = Arc::clone(self);
        // A client that goes away drops this future, and must not end the fetch for the others.
        let fetch = tokio::spawn(async move {
            issuer.refresh().await;
            drop(asked);
        });
        // Without the fetch the keys stay as they are.
        let _ = fetch.await;
    }

    pub(super) async fn refresh(&self) {
        let read = match &self.rules.jwks {
            JwksSource::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| error.to_string()),
            JwksSource::Url(url) => self.fetch(url.clone()).await,
        };
        let parsed = read.and_then(|text| IssuerKeys::parse(&text, &self.rules));
        match parsed {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => {
                let issuer = &self.rules.issuer;
                tracing::warn!("the keys of the issuer {issuer} stay as they were: {error}");
            }
        }
    }

    async fn fetch(&self, url: amcp_outbound::Url) -> Result<Vec<u8>, String> {
        let fetched = self.client.get(url).await;
        let fetched = fetched.map_err(|error| error.to_string())?;
        match fetched.status.as_u16() {
            200 => Ok(fetched.body),
            status => Err(format!("the issuer answered with status {status}")),
        }
    }
}
