//! The [`HttpActor`]: the gateway's listener as a supervised part of the node.
//!
//! Does not serve by itself; the gateway does, in a task of its own whose end ends the actor.

use std::io;
use std::net::{SocketAddr, TcpListener};

use amcp_gateway::{Limits, Router, serve};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::parts;
use super::supervisor::PartSpec;

/// The listener and all that serving on it needs.
#[derive(Debug)]
pub(crate) struct Http {
    /// Bound once and kept over restarts, so that no other process can take the port in between.
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// Bounds on the clients.
    pub(crate) limits: Limits,
    /// Cancelled by the node: accept no new connection, and end when the open ones have ended.
    pub(crate) close: CancellationToken,
    /// Cancelled by the actor when the last connection has ended.
    pub(crate) closed: CancellationToken,
}

/// What the node keeps of a listener that serves.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) close: CancellationToken,
    pub(super) closed: CancellationToken,
}

/// The part that serves a router on a listener.
///
/// # Errors
/// The listener has no address.
pub(super) fn part(
    name: &'static str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
) -> io::Result<(PartSpec, Listener)> {
    let (close, closed) = (CancellationToken::new(), CancellationToken::new());
    let of_node = Listener {
        address: listener.local_addr()?,
        close: close.clone(),
        closed: closed.clone(),
    };
    let http = Http {
        listener,
        router,
        limits,
        close,
        closed,
    };
    Ok((parts::http_part(name, http.into()), of_node))
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
    type Arguments = std::sync::Arc<Http>;

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
            let serving = tokio::spawn(serve(listener, router, limits, http.close.clone()));
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
