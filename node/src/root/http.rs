//! The [`HttpActor`]: the gateway's listener as a supervised part of the node.
//!
//! Does not serve by itself; the gateway does, in a task of its own whose end ends the actor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use amcp_access::KeyFile;
use amcp_cluster::Role;
use amcp_gateway::{
    GatewayState, Https, HttpsFiles, Limits, Names, Router, health_router, router, serve,
};
use amcp_protocol::{ErrorCode, Failure};
use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Purpose;
use super::parts::http_part;
use super::supervisor::PartSpec;
use crate::config::Config;
use crate::output::Trouble;

/// Connections that wait to be accepted; the system may allow fewer. With the usual 128 a burst of clients stalls for a second.
const BACKLOG: u32 = 4_096;
/// The most connections for health checks at a time: operators' tools only.
const HEALTH_CONNECTIONS: usize = 64;

/// The listener and all that serving on it needs.
#[derive(Debug)]
pub(crate) struct Http {
    /// Bound once and kept over restarts, so that no other process can take the port in between.
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Bounds on the clients.
    pub(crate) limits: Limits,
    /// Its certificate; plain HTTP without one.
    pub(crate) https: Option<Arc<Https>>,
    /// Cancelled by the node: accept no new connection, and end when the open ones have ended.
    pub(crate) close: CancellationToken,
    /// Cancelled by the actor when the last connection has ended.
    pub(crate) closed: CancellationToken,
}

/// What the node keeps of a listener that serves.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) https: Option<Arc<Https>>,
    pub(super) close: CancellationToken,
    pub(super) closed: CancellationToken,
}

/// The listeners for clients and for health checks, and the certificate of the first.
pub(super) type Listening = (Option<TcpListener>, Option<TcpListener>, Option<Arc<Https>>);

/// The listeners of a node that serves: for clients if it is a gateway, and for health checks.
///
/// # Errors
/// An address or a certificate cannot be used.
pub(super) fn listen(config: &Config, purpose: Purpose) -> Result<Listening, Trouble> {
    if purpose != Purpose::Serve {
        return Ok((None, None, None));
    }
    let https = check(config)?;
    let http = config.parts.has(Role::Gateway).then_some(*config.http);
    Ok((
        http.map(bind).transpose()?,
        config.admin.map(|address| bind(*address)).transpose()?,
        https,
    ))
}

/// Reads the certificate for HTTPS, and judges whether the gateway may listen where it shall.
///
/// # Errors
/// A certificate cannot be used, or the gateway would be open.
pub(crate) fn check(config: &Config) -> Result<Option<Arc<Https>>, Trouble> {
    let https = https(config)?;
    check_open(config)?;
    Ok(https)
}

/// # Errors
/// Other machines could reach the gateway, and anybody could read their traffic, or nobody could use it.
fn check_open(config: &Config) -> Result<(), Trouble> {
    let address = *config.http;
    if address.ip().is_loopback() || !config.parts.has(Role::Gateway) {
        return Ok(());
    }
    if config.tls_cert.is_none() && !config.behind_proxy {
        return Err(Trouble::usage(format!(
            "other machines reach http {address}, and without HTTPS anybody between them and the node reads their keys and answers"
        ))
        .hint("add --tls-cert FILE --tls-key FILE; or --behind-proxy if a proxy before the node speaks HTTPS; or listen on --http 127.0.0.1:8080"));
    }
    let now = Timestamp::now();
    let keys = KeyFile::in_data(&config.data).read()?;
    if !config.issuers.is_empty() || keys.keys().iter().any(|key| !key.has_ended(now)) {
        return Ok(());
    }
    Err(Trouble::usage(format!(
        "other machines reach http {address}, and no API key is valid and no issuer is configured"
    ))
    .hint(format!(
        "make the first one: amcp keys create NAME --data {}",
        config.data.display()
    )))
}

/// # Errors
/// A file is missing among the settings, or unusable.
fn https(config: &Config) -> Result<Option<Arc<Https>>, Trouble> {
    let files = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => HttpsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: config.tls_client_ca.clone(),
        },
        (None, None) if config.tls_client_ca.is_none() => return Ok(None),
        (cert, _) => {
            let missing = if cert.is_none() {
                "tls_cert"
            } else {
                "tls_key"
            };
            return Err(Trouble::usage(format!("{missing} is missing"))
                .hint("HTTPS needs tls_cert and tls_key, and tls_client_ca only if clients have certificates too"));
        }
    };
    Https::open(files).map(Some).map_err(unusable)
}

/// The trouble with a file for HTTPS.
pub(super) fn unusable(fault: String) -> Trouble {
    Trouble::usage(format!("HTTPS is not possible: {fault}"))
        .hint("tls_cert and tls_key name PEM files of one certificate; `amcp cluster certs` makes some for a private network")
}

fn bind(address: SocketAddr) -> Result<TcpListener, Trouble> {
    let bound = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    bound().map_err(|error| bind_failure(address, &error).into())
}

/// The failure of a listener that cannot bind, with a hint by the kind of error.
pub(crate) fn bind_failure(address: SocketAddr, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind as Kind;
    let message = format!("the node cannot listen on {address}: {error}");
    let hint = if error.kind() == Kind::AddrInUse {
        "another program listens there, perhaps another node: choose another port with --http, or port 0 for any"
    } else if error.kind() == Kind::PermissionDenied {
        "ports below 1024 need privileges: choose a higher one with --http"
    } else {
        "choose an address of this machine with --http, such as 127.0.0.1:8080"
    };
    Failure::new(ErrorCode::Internal, message).hint(hint)
}

/// The names that the settings give the node; clients reach it at `http`, if that is known.
pub(super) fn names(config: &Config, http: Option<&str>) -> Names {
    let public_url = config.public_url.as_ref().map(|url| url.as_str());
    let hosts = config.http_hosts.iter().map(String::as_str);
    Names::new(public_url, http, hosts)
}

/// Adds the parts that serve on the listeners: the one for clients and the one for health checks.
///
/// # Errors
/// A listener has no address.
pub(super) fn parts(
    config: &Config,
    (http, health, https): Listening,
    state: GatewayState,
    specs: &mut Vec<PartSpec>,
) -> io::Result<(Option<Listener>, Option<Listener>)> {
    let limits = |connections: usize, per_address: usize| Limits {
        connections,
        per_address,
        ..Limits::default()
    };
    let for_health = limits(HEALTH_CONNECTIONS, HEALTH_CONNECTIONS);
    let for_all = limits(
        config.connections.get() as usize,
        config.connections_per_address.get() as usize,
    );
    let mut add = |name, listener: Option<TcpListener>, served| {
        let (spec, listener) = listener
            .map(|listener| part(name, listener, served))
            .transpose()?
            .unzip();
        specs.extend(spec);
        Ok::<_, io::Error>(listener)
    };
    let for_health = (health_router(state.clone()), for_health, None);
    let health = add("health", health, for_health)?;
    Ok((add("http", http, (router(state), for_all, https))?, health))
}

/// The part that serves a router on a listener.
///
/// # Errors
/// The listener has no address.
fn part(
    name: &'static str,
    listener: TcpListener,
    (router, limits, https): (Router, Limits, Option<Arc<Https>>),
) -> io::Result<(PartSpec, Listener)> {
    let (close, closed) = (CancellationToken::new(), CancellationToken::new());
    let of_node = Listener {
        address: listener.local_addr()?,
        https: https.clone(),
        close: close.clone(),
        closed: closed.clone(),
    };
    let http = Http {
        listener,
        router,
        limits,
        https,
        close,
        closed,
    };
    Ok((http_part(name, http.into()), of_node))
}

#[derive(Debug)]
pub(crate) enum HttpMsg {
    /// From the serving task.
    Ended(io::Result<()>),
}

impl ractor::Message for HttpMsg {}

/// Holds the serving task.
#[derive(Debug)]
pub(crate) struct HttpActor;

impl Actor for HttpActor {
    type Msg = HttpMsg;
    type State = AbortOnDropHandle<()>;
    type Arguments = Arc<Http>;

    async fn pre_start(
        &self,
        myself: ActorRef<HttpMsg>,
        http: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let listener = http.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let task = tokio::spawn(async move {
            let (router, limits) = (http.router.clone(), http.limits.clone());
            let (https, close) = (http.https.clone(), http.close.clone());
            let serving = tokio::spawn(serve(listener, router, limits, https, close));
            // A panic must reach the actor like any other end.
            let served = AbortOnDropHandle::new(serving)
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)));
            if served.is_ok() {
                http.closed.cancel();
            }
            // Fails only when the actor has ended before its task.
            let _ = myself.send_message(HttpMsg::Ended(served));
        });
        Ok(AbortOnDropHandle::new(task))
    }

    async fn handle(
        &self,
        myself: ActorRef<HttpMsg>,
        message: HttpMsg,
        _task: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let HttpMsg::Ended(served) = message;
        served?;
        myself.stop(None);
        Ok(())
    }
}
