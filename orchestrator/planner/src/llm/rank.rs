//! Chooses the capabilities of a prompt when there are too many for it.
//!
//! Compares words only; callers may plug in a better ranking.

use std::collections::BTreeSet;
use std::sync::Arc;

use amcp_plan::Catalogue;
use amcp_protocol::{Capability, CapabilityName};

/// Ranks the capabilities of a catalogue for a query, the best first; capabilities that it omits come last.
pub type Rank = Arc<dyn Fn(&str, &Catalogue) -> Vec<CapabilityName> + Send + Sync>;

/// Ranks by the number of words that the query shares with the capability's card.
#[must_use]
pub fn by_shared_words(query: &str, catalogue: &Catalogue) -> Vec<CapabilityName> {
    let wanted = words([query]);
    let mut ranked: Vec<(usize, &CapabilityName)> = catalogue
        .iter()
        .map(|contract| {
            let capability = &contract.capability;
            let shared = own_words(capability).intersection(&wanted).count();
            (shared, &capability.name)
        })
        .collect();
    // Stable: equal ranks stay in the catalogue's order.
    ranked.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    ranked.into_iter().map(|(_, name)| name.clone()).collect()
}

/// The `most` best capabilities, or all of a small catalogue.
pub(super) fn best(query: &str, catalogue: Catalogue, most: usize, rank: &Rank) -> Catalogue {
    if catalogue.len() <= most {
        return catalogue;
    }
    let ranked = rank(query, &catalogue);
    let rest: Vec<CapabilityName> = catalogue
        .iter()
        .map(|contract| contract.capability.name.clone())
        .filter(|name| !ranked.contains(name))
        .collect();
    ranked
        .iter()
        .chain(&rest)
        .filter_map(|name| catalogue.get(name.as_str()))
        .take(most)
        .cloned()
        .collect()
}

fn own_words(capability: &Capability) -> BTreeSet<String> {
    let texts = [capability.name.as_str(), &capability.description];
    let keywords = capability.keywords.iter().map(String::as_str);
    let examples = capability.examples.iter().map(|e| e.query.as_str());
    words(texts.into_iter().chain(keywords).chain(examples))
}

/// Words of three letters and more, in lower case.
fn words<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    texts
        .into_iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.chars().count() >= 3)
        .map(str::to_lowercase)
        .collect()
}
