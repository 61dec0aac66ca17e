//! The capabilities that a plan may use.
//!
//! Does not know which agents offer them; the registry makes the catalogue from its directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use amcp_protocol::{Access, CapabilityName, Contract};

/// Contracts in the order of their capabilities' names, so that prompts and plans are reproducible.
#[derive(Debug, Clone, Default)]
pub struct Catalogue(BTreeMap<CapabilityName, Arc<Contract>>);

impl Catalogue {
    /// The contract of the capability with this exact name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Contract>> {
        self.0.get(name)
    }

    /// All contracts, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.0.values()
    }

    /// Number of capabilities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The capabilities that a user may use.
    #[must_use]
    pub fn permitted(&self, access: &Access) -> Self {
        self.iter()
            .filter(|contract| access.allows(&contract.capability))
            .cloned()
            .collect()
    }
}

impl FromIterator<Arc<Contract>> for Catalogue {
    fn from_iter<I: IntoIterator<Item = Arc<Contract>>>(contracts: I) -> Self {
        Self(
            contracts
                .into_iter()
                .map(|contract| (contract.capability.name.clone(), contract))
                .collect(),
        )
    }
}
