//! The work of the actor's tasks: they look names up, dial, and ask the actor whether a peer may come in.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Cluster;
use super::state::ClusterMsg;
use crate::membership::{DIAL_TIMEOUT, DialFailure, DialId, Veto};
use crate::settings::{Seed, resolve};
use crate::transport::{Admit, Connection, Local, Refusal, dial};

/// This side of a connection, which asks the actor whether the peer may come in.
pub(super) fn local(
    cluster: &Cluster,
    actor: &ActorRef<ClusterMsg>,
    dial: Option<DialId>,
) -> Arc<Local> {
    let actor = actor.clone();
    let admit: Admit = Arc::new(move |peer| {
        let actor = actor.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            // An actor that has ended drops `reply`, and `answer` fails.
            let _ = actor.send_message(ClusterMsg::Admit(Box::new(peer), dial, reply));
            answer.await.unwrap_or(Err(Refusal::Leaving))
        })
    });
    Arc::new(Local {
        info: cluster.0.info.clone(),
        cookie: cluster.0.settings.cookie.clone(),
        tls: cluster.0.tls.clone(),
        admit,
    })
}

/// Looks up a seed's addresses.
pub(super) async fn look(seed: &Seed) -> Result<Vec<String>, String> {
    let found = resolve(seed).await.map_err(|error| error.to_string())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Connects to an address, which may be a name, within [`DIAL_TIMEOUT`].
pub(super) async fn reach(local: &Local, address: String) -> Result<Connection, DialFailure> {
    let attempt = async {
        let found = resolve(&Seed::Host(address.clone())).await;
        let found = found.map_err(|error| plain(error.to_string()))?;
        let Some(address) = found.first() else {
            return Err(plain(format!("the name in {address} has no address")));
        };
        dial(local, *address).await.map_err(|error| DialFailure {
            veto: error.refusal().and_then(veto),
            text: error.to_string(),
        })
    };
    let late = || plain(format!("{address} was not reached within {DIAL_TIMEOUT:?}"));
    timeout(DIAL_TIMEOUT, attempt)
        .await
        .unwrap_or_else(|_| Err(late()))
}

const fn plain(text: String) -> DialFailure {
    DialFailure { text, veto: None }
}

const fn veto(refusal: &Refusal) -> Option<Veto> {
    match refusal {
        Refusal::SelfDial => Some(Veto::Itself),
        Refusal::Leaving => Some(Veto::Leaving),
        Refusal::NameTaken { .. } => Some(Veto::NameTaken),
        Refusal::Duplicate => Some(Veto::Duplicate),
        Refusal::WrongCookie
        | Refusal::ProtocolVersion { .. }
        | Refusal::WrongCertificate { .. }
        | Refusal::TooMany
        | Refusal::Other { .. } => None,
    }
}
