//! Agents that do the work: the [`Specialist`] trait, the actor shell and the supervisor that run one, and the
//! specialists that AMCP ships.
//!
//! Does not know orchestrators: tasks come in through an agent's mailbox, whichever party sends them.
//!
//! # Your own specialist
//!
//! The card names the capabilities, and `handle` does the tasks. Users read the field `text` of a result when no language
//! model composes the answer:
//!
//! ```
//! use amcp_specialists::{AgentCard, Capability, Context, Failure, Specialist, Task, Value, async_trait, json};
//!
//! struct Coins;
//!
//! #[async_trait]
//! impl Specialist for Coins {
//!     fn card(&self) -> AgentCard {
//!         let mut flip = Capability::new("coin.flip", "Flips a coin, or several.");
//!         flip.params = json!({"type": "object", "properties": {"times": {"type": "integer", "minimum": 1, "maximum": 10}}});
//!         flip.result = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
//!         AgentCard::new("coin-1", "Flips coins.", vec![flip])
//!     }
//!
//!     async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
//!         let times = task.params["times"].as_u64().unwrap_or(1);
//!         let sides: Vec<_> = (0..times).map(|_| if fastrand::bool() { "heads" } else { "tails" }).collect();
//!         Ok(json!({"text": format!("The coin shows {}.", sides.join(", "))}))
//!     }
//! }
//!
//! # use std::time::Duration;
//! # let card = Coins.card();
//! # assert!(card.contracts().is_ok());
//! # let task = Task { capability: card.capabilities[0].name.clone(), params: json!({"times": 3}).into() };
//! # let ctx = Context::detached("00000000-0000-7000-8000-000000000001".parse().unwrap(), Duration::from_secs(1));
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # let result = runtime.block_on(Coins.handle(task, &ctx)).unwrap();
//! # assert_eq!(result["text"].as_str().unwrap().matches(',').count(), 2);
//! ```

pub mod builtin;
mod call;
pub mod quarantine;
pub mod reports;
pub mod shell;
pub mod specialist;
pub mod supervisor;

pub use amcp_protocol::{
    AgentCard, Capability, Consumes, Effect, Example, Failure, FlowKind, FlowRequest, Produces,
};
pub use async_trait::async_trait;
pub use serde_json::{Value, json};
pub use shell::ShellLimits;
pub use specialist::{Context, Specialist, Task};
pub use supervisor::{ChildSpec, Leftover, SupervisorConfig, SupervisorHandle};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
