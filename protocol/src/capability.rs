//! Capabilities: descriptions of agents' work, by which planners choose it, compilers wire it and policies judge it.
//!
//! Does not know where an agent runs or how busy it is; that is the registry's knowledge.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::FlowKind;
use crate::id::{AgentId, CapabilityName};
use crate::payload;
use crate::schema::Schema;
use crate::terms;

/// Longest description of a capability, in characters: it enters prompts, and its author is not trusted.
pub const MAX_DESCRIPTION: usize = 300;
/// The prefix of every orchestrator's capability.
pub const DELEGATES: &str = "orchestrate.";

/// How a task changes the world.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Effect {
    /// The task changes nothing.
    Read,
    /// The change can be put back or overwritten.
    Write,
    /// The change cannot be undone: a payment, a message to a person.
    Irreversible,
}

/// A parameter that another task's result can fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consumes {
    /// The parameter's name, at the top level of the params.
    pub param: String,
    /// The value types that the parameter takes, such as `expense.rows`; the preferred type first.
    pub types: Vec<String>,
}

impl Consumes {
    /// The type of whatever another task answers, as a whole: for a capability that makes something of any result.
    pub const ANY: &'static str = "*";

    /// Whether the param can be filled from the producer's result. What was made of any result counts as none: a report
    /// is not made of another report.
    #[must_use]
    pub fn takes(&self, producer: &Capability) -> bool {
        self.types.iter().any(|wanted| match wanted.as_str() {
            Self::ANY => !producer.takes_any(),
            wanted => producer.produces.iter().any(|p| p.value_type == wanted),
        })
    }

    /// A value type in words.
    #[must_use]
    pub fn spoken(value_type: &str) -> &str {
        match value_type {
            Self::ANY => "any result",
            other => other,
        }
    }
}

/// A part of the result that other tasks can consume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Produces {
    /// The value type, such as `expense.rows`.
    #[serde(rename = "type")]
    pub value_type: String,
    /// JSON pointer into the result; empty for the whole result.
    #[serde(default)]
    pub path: String,
}

/// A query and the params that it means: for readers, for prompts and for ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// A user's words.
    pub query: String,
    /// The params that the query means.
    #[serde(with = "payload")]
    #[schemars(with = "Value")]
    pub params: Value,
}

/// One thing that an agent can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// Such as `finance.db.query`.
    pub name: CapabilityName,
    /// The version of its contract; agents that share a name must share the contract.
    pub version: String,
    /// One line, at most [`MAX_DESCRIPTION`] characters.
    pub description: String,
    /// JSON Schema of the params, which are an object. [`terms`] lists the keywords beyond JSON Schema.
    #[serde(with = "payload")]
    #[schemars(with = "Value")]
    pub params: Value,
    /// JSON Schema of the result.
    #[serde(with = "payload")]
    #[schemars(with = "Value")]
    pub result: Value,
    /// Params that other tasks' results can fill.
    #[serde(default)]
    pub consumes: Vec<Consumes>,
    /// Parts of the result that other tasks can consume.
    #[serde(default)]
    pub produces: Vec<Produces>,
    /// Queries with the params that they mean.
    #[serde(default)]
    pub examples: Vec<Example>,
    /// Further words that users say for the capability.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// A user needs all of these roles; empty when every user may use the capability.
    #[serde(default)]
    pub required_roles: Vec<String>,
    /// Whether the capability only reads, or how well its change can be undone.
    pub effect: Effect,
    /// Whether doing the same task twice is the same as doing it once.
    pub idempotent: bool,
    /// Longest time that one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// Most tasks that one agent works on at a time.
    pub concurrency: u32,
}

impl Capability {
    /// A capability that reads, is idempotent, takes at most 30 s and four tasks at a time, with open schemas and no other
    /// declaration; refine it with struct update or the fields themselves.
    ///
    /// # Panics
    /// When `name`, which is written in the source, is not a capability name.
    #[must_use]
    pub fn new(name: &str, description: &str) -> Self {
        Self {
            name: CapabilityName::new(name).expect("a capability name in the source is valid"),
            version: "1.0".to_owned(),
            description: description.to_owned(),
            params: serde_json::json!({"type": "object"}),
            result: Value::Bool(true),
            consumes: Vec::new(),
            produces: Vec::new(),
            examples: Vec::new(),
            keywords: Vec::new(),
            required_roles: Vec::new(),
            effect: Effect::Read,
            idempotent: true,
            // Thrice what a slow HTTP service needs, half of a request's default deadline.
            timeout_ms: 30_000,
            concurrency: 4,
        }
    }

    /// Whether it makes something of [`Consumes::ANY`] result.
    #[must_use]
    pub fn takes_any(&self) -> bool {
        let mut types = self.consumes.iter().flat_map(|consumes| &consumes.types);
        types.any(|value_type| value_type == Consumes::ANY)
    }

    /// Longest time that one attempt may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long an attempt may go on without a sign of life ([`terms::IDLE_MS`]).
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        let ms = self.params.get(terms::IDLE_MS)?.as_u64();
        ms.map(Duration::from_millis)
    }

    /// The names of the params that its schema requires.
    pub fn required_params(&self) -> impl Iterator<Item = &str> {
        self.params
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// Whether tasks of this capability may carry data out of the mesh ([`terms::SENDS_OUT`]).
    #[must_use]
    pub fn sends_out(&self) -> bool {
        self.params.get(terms::SENDS_OUT).and_then(Value::as_bool) == Some(true)
    }

    /// The flow that its tasks wait for before their first dispatch: the one that it declares ([`terms::REQUIRES_FLOW`]), or else a
    /// confirmation of what cannot be undone. A task that is delegated waits for none: the other orchestrator asks, task by task.
    #[must_use]
    pub fn requires_flow(&self) -> Option<FlowKind> {
        let declared = self.params.get(terms::REQUIRES_FLOW).and_then(terms::flow);
        let confirmed =
            self.effect == Effect::Irreversible && !self.name.as_str().starts_with(DELEGATES);
        declared.or_else(|| confirmed.then_some(FlowKind::Confirmation))
    }

    /// The schema of one top-level param.
    #[must_use]
    pub fn param_schema(&self, param: &str) -> Option<&Value> {
        self.params.get("properties")?.get(param)
    }
}

/// A capability with compiled schemas: a specialist promises it, and the compiler checks plans against it.
#[derive(Debug)]
pub struct Contract {
    /// As the card declares it.
    pub capability: Capability,
    /// Judges params.
    pub params: Schema,
    /// Judges results.
    pub result: Schema,
}

impl Contract {
    /// Checks the declaration and compiles its schemas.
    ///
    /// # Errors
    /// [`CardError`] names the rule that the declaration breaks.
    pub fn new(capability: Capability) -> Result<Self, CardError> {
        check_capability(&capability)?;
        let schema_error = |what| {
            let name = capability.name.clone();
            move |source| CardError::Schema {
                capability: name,
                what,
                source,
            }
        };
        let params = Schema::compile(&capability.params).map_err(schema_error("params"))?;
        let result = Schema::compile(&capability.result).map_err(schema_error("result"))?;
        Ok(Self {
            capability,
            params,
            result,
        })
    }
}

/// An agent's description of itself, given when it joins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentCard {
    /// Unique in the mesh.
    pub id: AgentId,
    /// One line for readers.
    pub description: String,
    /// At least one. Thousands of agents of one kind may share the list.
    pub capabilities: Arc<[Capability]>,
}

impl AgentCard {
    /// A card that [`Self::contracts`] has not checked yet.
    ///
    /// # Panics
    /// When `id`, which is written in the source, is not an agent id.
    #[must_use]
    pub fn new(id: &str, description: &str, capabilities: Vec<Capability>) -> Self {
        Self {
            id: AgentId::new(id).expect("an agent id in the source is valid"),
            description: description.to_owned(),
            capabilities: capabilities.into(),
        }
    }

    /// Checks the card and compiles its contracts, in the card's order.
    ///
    /// # Errors
    /// [`CardError`] names the capability and the rule that it breaks.
    pub fn contracts(&self) -> Result<Vec<Arc<Contract>>, CardError> {
        self.check()?;
        self.capabilities
            .iter()
            .cloned()
            .map(|c| Contract::new(c).map(Arc::new))
            .collect()
    }

    /// Checks that the card lists at least one capability, and none twice. Compiles no contract.
    ///
    /// # Errors
    /// [`CardError`] names the capability.
    pub fn check(&self) -> Result<(), CardError> {
        if self.capabilities.is_empty() {
            return Err(CardError::Empty);
        }
        let mut names = BTreeSet::new();
        for capability in self.capabilities.iter() {
            if !names.insert(&capability.name) {
                return Err(CardError::Twice(capability.name.clone()));
            }
        }
        Ok(())
    }
}

/// Why a card is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// It lists no capability.
    #[error("the card lists no capability")]
    Empty,
    /// It lists one capability twice.
    #[error("the card lists '{0}' twice")]
    Twice(CapabilityName),
    /// The schema of the params or of the result is not a valid JSON Schema.
    #[error("the {what} schema of '{capability}' is {source}")]
    Schema {
        /// The capability with the schema.
        capability: CapabilityName,
        /// `params` or `result`.
        what: &'static str,
        /// The schema compiler's error.
        source: crate::schema::SchemaError,
    },
    /// A declaration contradicts itself.
    #[error("'{capability}': {reason}")]
    Declaration {
        /// The capability with the declaration.
        capability: CapabilityName,
        /// The broken rule, in a sentence without a full stop.
        reason: String,
    },
}

fn check_capability(capability: &Capability) -> Result<(), CardError> {
    let wrong = |reason: String| {
        Err(CardError::Declaration {
            capability: capability.name.clone(),
            reason,
        })
    };
    let description = &capability.description;
    if description.trim().is_empty()
        || description.contains('\n')
        || description.chars().count() > MAX_DESCRIPTION
    {
        return wrong(format!(
            "the description must be one line of 1 to {MAX_DESCRIPTION} characters"
        ));
    }
    if capability.params.get("type").and_then(Value::as_str) != Some("object") {
        return wrong("the params schema must have \"type\": \"object\"".to_owned());
    }
    if let Err(reason) = terms::check(&capability.params) {
        return wrong(format!("the params schema: {reason}"));
    }
    if capability.timeout_ms == 0 || capability.concurrency == 0 {
        return wrong("timeout_ms and concurrency must be at least 1".to_owned());
    }
    for consumes in &capability.consumes {
        if consumes.types.is_empty() {
            return wrong(format!(
                "consumes '{}' without a value type",
                consumes.param
            ));
        }
        if capability.param_schema(&consumes.param).is_none() {
            return wrong(format!(
                "consumes '{}', which its params schema does not have",
                consumes.param
            ));
        }
    }
    for produces in &capability.produces {
        if produces.value_type == Consumes::ANY {
            return wrong("a result is always any result: produce a type".to_owned());
        }
        if !(produces.path.is_empty() || produces.path.starts_with('/')) {
            return wrong(format!(
                "the path '{}' of '{}' is not a JSON pointer",
                produces.path, produces.value_type
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn card(change: impl FnOnce(&mut Capability)) -> AgentCard {
        let mut capability = Capability::new("weather.get", "The weather of a city.");
        capability.params = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        change(&mut capability);
        AgentCard::new("weather-1", "Tells the weather.", vec![capability])
    }

    #[test]
    fn a_sound_card_gives_contracts() {
        let contracts = card(|_| ()).contracts().unwrap();
        assert!(contracts[0].params.is_valid(&json!({"city": "Paris"})));
        assert!(!contracts[0].params.is_valid(&json!({})));
        assert_eq!(
            contracts[0]
                .capability
                .required_params()
                .collect::<Vec<_>>(),
            ["city"]
        );
    }

    #[test]
    fn each_unsound_card_is_refused_by_name() {
        let refused =
            |change: fn(&mut Capability)| card(change).contracts().unwrap_err().to_string();
        assert!(refused(|c| c.params = json!({"type": "objet"})).contains("\"type\": \"object\""));
        assert!(
            refused(|c| c.result = json!({"type": "strnig"}))
                .contains("result schema of 'weather.get'")
        );
        assert!(
            refused(|c| c.params["properties"]["city"]["x-kinds"] = json!("city")).contains(
                "'weather.get': the params schema: 'x-kinds' is not a known term; write 'x-kind'"
            )
        );
        assert!(refused(|c| c.description = String::new()).contains("one line"));
        assert!(refused(|c| c.timeout_ms = 0).contains("timeout_ms"));
        assert!(
            refused(|c| c.consumes.push(Consumes {
                param: "rows".into(),
                types: vec!["x".into()]
            }))
            .contains("does not have")
        );
        assert!(
            refused(|c| c.produces.push(Produces {
                value_type: "x".into(),
                path: "rows".into()
            }))
            .contains("pointer")
        );
    }
}
