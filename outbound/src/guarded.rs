//! The client for addresses that a user or a configuration names: it reaches the public internet and what is allowed besides.
//!
//! Does not judge what an answer says. It never uses a proxy, which would resolve names itself.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::LOCATION;
use reqwest::{Client, Method, Request, Response, StatusCode, Url, redirect};

/// Pages move once or twice; more hops are a loop or a game.
const MAX_REDIRECTS: usize = 3;

/// Addresses that are special by IANA's registries, and those that clouds give to their own services.
static SPECIAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    const NETS: &[&str] = &[
        // This network, private, carrier's, loopback, link-local (with the metadata of clouds), protocol assignments.
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        // Documentation, 6to4 relays, benchmarks, multicast, reserved and broadcast.
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        // Azure's own services, under a public address.
        "168.63.129.16/32",
        // All of IPv6 but 2000::/3, which is the internet: loopback, mapped, private, link-local, multicast, local NAT64.
        "::/3",
        "4000::/2",
        "8000::/1",
        // Protocol assignments with Teredo, documentation, 6to4.
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "2002::/16",
    ];
    let parsed = NETS.iter().map(|net| net.parse());
    parsed
        .collect::<Result<_, _>>()
        .expect("the table holds networks")
});

/// The address that a packet to this one reaches: the IPv4 address inside a mapped or translated (NAT64) one.
fn reached(ip: IpAddr) -> IpAddr {
    const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
    let canonical = ip.to_canonical();
    let IpAddr::V6(v6) = canonical else {
        return canonical;
    };
    if !v6.segments().starts_with(&NAT64) {
        return canonical;
    }
    let [.., a, b, c, d] = v6.octets();
    IpAddr::from([a, b, c, d])
}

/// Why a client goes no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Only http and https are spoken.
    #[error("'{0}:' is neither http nor https")]
    Scheme(String),
    /// The address is none of the public internet, and not allowed.
    #[error("{host} is at {ip}, an address that is not public and not allowed")]
    Address {
        /// The host, as the URL names it.
        host: String,
        /// The address.
        ip: IpAddr,
    },
    /// A redirect leads from https to http.
    #[error("a redirect gives up encryption")]
    Downgrade,
    /// A redirect too many.
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
}

/// The error of a fetch.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The client went no further.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The body is larger than the limit.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// The server cannot be reached, or takes too long.
    #[error("{0}")]
    Failed(String),
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // A URL may hold a secret.
        let error = error.without_url();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref::<Refused>() {
                return Self::Refused(refused.clone());
            }
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::Failed(text)
    }
}

/// Judges addresses.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
}

impl Guard {
    /// A guard that lets through these networks besides the public internet.
    #[must_use]
    pub fn allowing(networks: impl Into<Arc<[IpNet]>>) -> Self {
        Self {
            allowed: networks.into(),
        }
    }

    /// # Errors
    /// [`Refused::Address`] with the host.
    pub fn check(&self, host: &str, ip: IpAddr) -> Result<(), Refused> {
        let is_in = |nets: &[IpNet], ip: IpAddr| nets.iter().any(|net| net.contains(&ip));
        let reached = reached(ip);
        if is_in(&self.allowed, reached) || !is_in(&SPECIAL, reached) {
            return Ok(());
        }
        let host = host.to_owned();
        Err(Refused::Address { host, ip })
    }

    /// Judges a URL as far as it can be judged without resolving its host.
    ///
    /// # Errors
    /// The scheme, or an address in place of a host.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']');
        ip.parse().map_or(Ok(()), |ip| self.check(host, ip))
    }

    fn check_redirect(&self, before: &[Url], next: &Url) -> Result<(), Refused> {
        if before.len() > MAX_REDIRECTS {
            return Err(Refused::Redirects);
        }
        let is_https = |url: &Url| url.scheme() == "https";
        if before.last().is_some_and(is_https) && !is_https(next) {
            return Err(Refused::Downgrade);
        }
        self.check_url(next)
    }
}

/// Resolves names to the addresses that the guard lets through; the client connects to these, and resolves no second time.
struct Guarded<R> {
    guard: Guard,
    names: Arc<R>,
}

impl<R: Resolve + 'static> Resolve for Guarded<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let (guard, addresses) = (self.guard.clone(), self.names.resolve(name));
        Box::pin(async move {
            let mut refused = None;
            let mut good = Vec::new();
            for address in addresses.await? {
                match guard.check(&host, address.ip()) {
                    Ok(()) => good.push(address),
                    Err(refusal) => refused = Some(refusal),
                }
            }
            match refused.filter(|_| good.is_empty()) {
                Some(refusal) => Err(refusal.into()),
                None => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

/// The names that the system resolves.
struct System;

impl Resolve for System {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The bounds of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of resolving, connecting, redirects and reading together.
    pub time: Duration,
    /// Of the body.
    pub bytes: usize,
}

/// A status and a whole body.
#[derive(Debug)]
pub struct Fetched {
    /// Of the last answer: redirects are followed.
    pub status: StatusCode,
    /// Within the limit.
    pub body: Vec<u8>,
}

/// A client that goes only where its guard lets it.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    client: Client,
    guard: Guard,
    limits: Limits,
}

impl GuardedClient {
    /// A client for any server.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(guard: Guard, limits: Limits) -> Result<Self, FetchError> {
        Self::with_names(guard, limits, System)
    }

    fn with_names(
        guard: Guard,
        limits: Limits,
        names: impl Resolve + 'static,
    ) -> Result<Self, FetchError> {
        let judge = guard.clone();
        let redirects = redirect::Policy::custom(move |attempt| {
            match judge.check_redirect(attempt.previous(), attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(refusal) => attempt.error(refusal),
            }
        });
        let names = Guarded {
            guard: guard.clone(),
            names: Arc::new(names),
        };
        let client = super::builder()
            .no_proxy()
            .redirect(redirects)
            .dns_resolver(Arc::new(names))
            .timeout(limits.time)
            .build()?;
        Ok(Self {
            client,
            guard,
            limits,
        })
    }

    /// Gets a URL; see [`Self::fetch`].
    ///
    /// # Errors
    /// Those of [`Self::fetch`].
    pub async fn get(&self, url: Url) -> Result<Fetched, FetchError> {
        self.fetch(Request::new(Method::GET, url)).await
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The guard refuses an address on the way; the server fails; the answer is too large. An answer with any status is none.
    pub async fn fetch(&self, request: Request) -> Result<Fetched, FetchError> {
        // The client resolves names, not addresses.
        self.guard.check_url(request.url())?;
        let response = self.client.execute(request).await?;
        let status = response.status();
        // Some addresses are not even asked for by the policy, such as file:///etc/passwd.
        if let Some(to) = response
            .headers()
            .get(LOCATION)
            .filter(|_| status.is_redirection())
        {
            let to = String::from_utf8_lossy(to.as_bytes());
            let scheme = to.split_once(':').map_or("", |(scheme, _)| scheme);
            return Err(Refused::Scheme(scheme.chars().take(20).collect()).into());
        }
        let body = read(response, self.limits.bytes).await?;
        Ok(Fetched { status, body })
    }
}

async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
#[path = "guarded_tests.rs"]
mod tests;
