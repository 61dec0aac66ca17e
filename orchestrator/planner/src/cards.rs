//! Reads a catalogue from JSON: a list of capabilities, written as on an agent's card.
//!
//! Reads no file and asks no agent. A missing field of a capability has the value of [`Capability::new`].

use std::collections::BTreeSet;
use std::sync::Arc;

use amcp_plan::Catalogue;
use amcp_protocol::{Capability, CapabilityName, CardError, Contract};
use serde_json::Value;

/// The fault of a list of capabilities.
#[derive(Debug, thiserror::Error)]
pub enum CardsError {
    /// The text is no JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The value is no list, or an empty one.
    #[error("not a list of capabilities")]
    NotAList,
    /// A capability has no name, an unknown field or a field of a wrong type.
    #[error("capability {number}: {problem}")]
    Form {
        /// Its place in the list, from 1.
        number: usize,
        /// The fault.
        problem: String,
    },
    /// A capability contradicts itself.
    #[error(transparent)]
    Card(#[from] CardError),
}

/// Reads the catalogue from a JSON text.
///
/// # Errors
/// [`CardsError`] names the unusable capability.
pub fn parse(text: &str) -> Result<Catalogue, CardsError> {
    catalogue(&serde_json::from_str(text)?)
}

/// Reads the catalogue from a JSON value.
///
/// # Errors
/// [`CardsError`] names the unusable capability.
pub fn catalogue(cards: &Value) -> Result<Catalogue, CardsError> {
    let cards = cards.as_array().filter(|cards| !cards.is_empty());
    let cards = cards.ok_or(CardsError::NotAList)?;
    let mut names = BTreeSet::new();
    let mut contracts = Vec::new();
    for (at, card) in cards.iter().enumerate() {
        let capability = capability(card).map_err(|problem| CardsError::Form {
            number: at + 1,
            problem,
        })?;
        if !names.insert(capability.name.clone()) {
            return Err(CardError::Twice(capability.name).into());
        }
        contracts.push(Arc::new(Contract::new(capability)?));
    }
    Ok(contracts.into_iter().collect())
}

fn capability(card: &Value) -> Result<Capability, String> {
    let text = |field: &str| {
        let text = card.get(field).and_then(Value::as_str);
        text.ok_or_else(|| format!("'{field}' is missing or no text"))
    };
    let name = text("name")?;
    CapabilityName::new(name).map_err(|error| error.to_string())?;
    let defaults = Capability::new(name, text("description")?);
    let mut whole = serde_json::to_value(defaults).map_err(|error| error.to_string())?;
    if let (Some(whole), Some(given)) = (whole.as_object_mut(), card.as_object()) {
        whole.extend(
            given
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Effect;

    use super::*;

    #[test]
    fn what_a_capability_leaves_out_is_as_in_a_new_one() {
        let text =
            r#"[{"name": "lamp.set", "description": "Switches a lamp.", "effect": "write"}]"#;
        let catalogue = parse(text).unwrap();
        let lamp = &catalogue.get("lamp.set").unwrap().capability;
        let expected = Capability {
            effect: Effect::Write,
            ..Capability::new("lamp.set", "Switches a lamp.")
        };
        assert_eq!(*lamp, expected);
    }

    #[test]
    fn an_unusable_list_says_which_capability_is_wrong() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        let lamp = r#"{"name": "lamp.set", "description": "Switches a lamp."}"#;
        assert!(refused("{").starts_with("not JSON"));
        assert_eq!(refused("{}"), "not a list of capabilities");
        assert_eq!(refused("[]"), "not a list of capabilities");
        assert!(refused(&format!("[{lamp}, {{}}]")).starts_with("capability 2: 'name'"));
        assert!(refused(&format!("[{lamp}, {lamp}]")).contains("'lamp.set' twice"));
        let misspelt = r#"[{"name": "a.b", "description": "A.", "keyword": []}]"#;
        assert!(refused(misspelt).contains("unknown field `keyword`"));
        let unsound = r#"[{"name": "a.b", "description": "A.", "params": {"type": "strin"}}]"#;
        assert!(refused(unsound).contains("'a.b'"));
    }
}
