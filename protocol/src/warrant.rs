//! The warrant: what the node that accepted a request signs, so that a third node need not believe those that pass work on.
//!
//! Neither signs nor verifies, the links between nodes do, and knows no clock: times come in.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::capability::DELEGATES;
use crate::id::{AgentId, CapabilityName, NodeName, RequestId, TaskId};
use crate::task::{Lineage, TaskRequest};

/// SHA-256 of params as compact JSON.
pub type ParamsDigest = [u8; 32];

/// The digest of params. Text that was read and written again has the same one.
#[must_use]
pub fn digest(params: &Value) -> ParamsDigest {
    Sha256::digest(params.to_string()).into()
}

/// The id of the request that a task delegates: the same for each repetition, so that it stays one request, and one that no
/// other task and no other params lead to.
#[must_use]
pub fn part_id(request: RequestId, task: &TaskId, params: &ParamsDigest) -> RequestId {
    let mut hash = Sha256::new();
    // Only the task's id has no fixed length, so no two triples hash the same bytes.
    hash.update(request.uuid());
    hash.update(task.as_str());
    hash.update(params);
    let mut id = [0; 16];
    let hash = hash.finalize();
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    RequestId::from_uuid(Builder::from_custom_bytes(id).into_uuid())
}

/// The signed words of the node that accepted a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warrant {
    /// The node that signs.
    pub issuer: NodeName,
    /// The accepted request.
    pub request: RequestId,
    /// The request's user, if known.
    pub user: Option<String>,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The request's tasks.
    pub tasks: Vec<WarrantedTask>,
    /// When the issuer signed, in milliseconds since 1970 by its clock.
    pub issued_unix_ms: u64,
    /// How long it is valid from then on, in milliseconds.
    pub lifetime_ms: u64,
}

/// A task of a plan in a [`Warrant`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarrantedTask {
    /// The task.
    pub id: TaskId,
    /// The capability that does it.
    pub capability: CapabilityName,
    /// Of a task that delegates a query; none where other tasks' results fill a part of it.
    pub params: Option<ParamsDigest>,
}

/// One step from a task to the work that it causes: a call, or a part of a query that another orchestrator takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The task that calls or delegates.
    pub task: TaskId,
    /// The agent that calls; none for a delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<AgentId>,
    /// The delegating task's params; none for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<ParamsDigest>,
}

/// The reason for which a warrant does not cover a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// The task is for another user.
    #[error("it is for another user")]
    User,
    /// The task claims a role that the user does not have.
    #[error("it does not give the user all the roles")]
    Role,
    /// The task is of another request, or of one that other params would have begun.
    #[error("it is for another request")]
    Request,
    /// The task, or the task that causes it, is not in the warrant with its capability.
    #[error("it names no such task")]
    Task,
    /// The warrant names the task that delegates with other params.
    #[error("it names the task with other params")]
    Params,
}

impl Warrant {
    /// Checks that a task is work that a task of the warrant causes. The issuer itself sends the tasks of the warrant, so another
    /// node passes on none without a path. Bounds the work by user, roles and request only: agents choose what they call, and
    /// the orchestrator of a part plans it.
    ///
    /// # Errors
    /// The first [`Gap`].
    pub fn covers(&self, task: &TaskRequest) -> Result<(), Gap> {
        let check = |fits: bool, gap| if fits { Ok(()) } else { Err(gap) };
        check(task.grant.user == self.user, Gap::User)?;
        let roles = &task.grant.roles;
        let has = |role| self.roles.contains(role);
        // The length first: the task's roles are not signed, and their number is not bounded.
        check(roles.len() <= self.roles.len(), Gap::Role)?;
        check(roles.iter().all(has), Gap::Role)?;
        let Lineage { path, depth, .. } = &*task.lineage;
        let sound = |step: &Step| step.caller.is_some() != step.part.is_some();
        let long = *depth <= Lineage::MAX_DEPTH && path.len() == usize::from(*depth);
        check(long && path.iter().all(sound), Gap::Task)?;
        let first = path.first().ok_or(Gap::Task)?;
        let named = self.tasks.iter().find(|named| named.id == first.task);
        let named = named.ok_or(Gap::Task)?;
        let delegates = named.capability.as_str().starts_with(DELEGATES);
        check(delegates || first.part.is_none(), Gap::Task)?;
        let differ = named.params.zip(first.part).is_some_and(|(a, b)| a != b);
        check(!differ, Gap::Params)?;
        let parts = path.iter().filter_map(|step| Some((step, step.part?)));
        let request = parts.fold(self.request, |request, (step, params)| {
            part_id(request, &step.task, &params)
        });
        check(request == task.request_id, Gap::Request)
    }
}

/// A [`Warrant`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The node that signed it, as the sender says.
    pub issuer: NodeName,
    /// The encoded warrant.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub warrant: Arc<[u8]>,
    /// The issuer's signature.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub signature: Arc<[u8]>,
}

fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// As a sequence of numbers, serde would read the bytes one by one.
fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Arc<[u8]>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Arc<[u8]>, E> {
            Ok(bytes.into())
        }
    }
    deserializer.deserialize_bytes(Bytes)
}

/// The words of a warrant that is signed only when a task leaves the node.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The accepted request.
    pub request: RequestId,
    /// The request's user, if known.
    pub user: Option<String>,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The request's tasks.
    pub tasks: Vec<WarrantedTask>,
    /// The request's whole deadline, in milliseconds.
    pub lifetime_ms: u64,
}

impl Draft {
    fn warrant(&self, issuer: NodeName, (now, lifetime_ms): (u64, u64)) -> Warrant {
        Warrant {
            issuer,
            request: self.request,
            user: self.user.clone(),
            roles: self.roles.clone(),
            tasks: self.tasks.clone(),
            issued_unix_ms: now,
            lifetime_ms,
        }
    }
}

/// The warrant under which a task is done: this node's own, signed when it is first needed, or another's, passed on as it came.
pub struct Backing {
    draft: Option<Draft>,
    /// With the end of its life for one of this node.
    sealed: Mutex<Option<(Sealed, u64)>>,
}

crate::opaque_debug!(Backing);

impl Backing {
    /// The backing of a request that this node accepted.
    #[must_use]
    pub const fn own(draft: Draft) -> Self {
        Self {
            draft: Some(draft),
            sealed: Mutex::new(None),
        }
    }

    /// The backing of a task that came with a warrant.
    #[must_use]
    pub const fn of(sealed: Sealed) -> Self {
        Self {
            draft: None,
            sealed: Mutex::new(Some((sealed, 0))),
        }
    }

    /// The words of this node's own warrant.
    #[must_use]
    pub const fn draft(&self) -> Option<&Draft> {
        self.draft.as_ref()
    }

    /// The warrant; none while no task with it has left the node.
    #[must_use]
    pub fn sealed(&self) -> Option<Sealed> {
        Some(self.sealed.lock().as_ref()?.0.clone())
    }

    /// Signs this node's own warrant, unless one is there that outlives a task of `task_ms` milliseconds that leaves `now`.
    pub fn seal(
        &self,
        issuer: &NodeName,
        (now, task_ms): (u64, u64),
        sign: impl FnOnce(&Warrant) -> Option<Sealed>,
    ) {
        let Some(draft) = &self.draft else {
            return;
        };
        let mut sealed = self.sealed.lock();
        let until = now.saturating_add(task_ms);
        if sealed.as_ref().is_none_or(|(_, end)| *end < until) {
            let lifetime = draft.lifetime_ms.max(task_ms);
            let signed = sign(&draft.warrant(issuer.clone(), (now, lifetime)));
            *sealed = signed.map(|signed| (signed, now.saturating_add(lifetime)));
        }
    }

    /// Takes over a later warrant of the same issuer: the work went on after it had waited for a person.
    pub fn renew(&self, by: &Self) {
        let Some(later) = by.sealed().filter(|_| self.draft.is_none()) else {
            return;
        };
        if let Some((sealed, _)) = self.sealed.lock().as_mut()
            && sealed.issuer == later.issuer
        {
            *sealed = later;
        }
    }
}

/// Equal when both show the same warrant.
impl PartialEq for Backing {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.sealed() == other.sealed()
    }
}

impl Eq for Backing {}

#[cfg(test)]
mod tests;
