//! The types that every part of the mesh shares: ids, capabilities and cards, requests, tasks, progress, events,
//! error codes.
//!
//! Pure: no runtime, no actor, no clock, no randomness. It sends nothing; callers pass in times and ids.

/// Implements `Debug` by the type's name alone: for types that hold functions, sockets or secrets.
#[macro_export]
macro_rules! opaque_debug {
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

pub mod access;
pub mod capability;
pub mod error;
pub mod event;
pub mod file;
pub mod flow;
pub mod id;
pub mod llm;
pub mod payload;
pub mod plan;
pub mod principal;
pub mod request;
pub mod retry;
pub mod schema;
pub mod task;
pub mod terms;
pub mod topic;
pub mod warrant;

pub use access::{Access, AccessRules, Irreversible, Permissions};
pub use capability::{
    AgentCard, Capability, CardError, Consumes, Contract, Effect, Example, Produces,
};
pub use error::{ErrorCode, Failure};
pub use event::{CloudEvent, EventError};
pub use file::FilePiece;
pub use flow::{EndedFlow, Flow, FlowAnswer, FlowKind, FlowRequest};
pub use id::{
    AgentId, CapabilityName, CapabilityPattern, FlowId, IdError, NodeName, RequestId, TaskId,
};
pub use payload::Payload;
pub use plan::{PlannedTaskView, ProposedPlan, ProposedTask};
pub use principal::{Principal, Proof};
pub use request::{
    Answer, AnswerPiece, AnswerState, Progress, Role, RunRequest, TaskReport, TaskState, Turn,
    UserRequest,
};
pub use schema::{Schema, SchemaError, Violation};
pub use task::{CallBudget, CallReport, Grant, Lineage, TaskRequest, TaskResponse};
pub use topic::{Topic, TopicError, TopicPattern};
pub use warrant::{Backing, Step, Warrant};
