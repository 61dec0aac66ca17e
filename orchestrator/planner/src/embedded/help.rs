//! What is answered to "hello", "help" and "what can you do?": what the cards offer, with examples that work.
//!
//! Does not answer a query that says anything else.

use std::fmt::Write as _;

use super::rank::Reading;
use super::words::FREE;

/// Examples that are shown: enough to see how to ask.
const EXAMPLES: usize = 3;
/// Most capabilities that are named: a screen.
const NAMED: usize = 20;

/// The answer, if the query asks for nothing but help.
pub(super) fn answer(reading: &Reading<'_>) -> Option<String> {
    let query = reading.query;
    let mut words = query.tokens.iter().filter(|token| token.is_word());
    let greets = query.tokens.iter().any(|token| {
        matches!(
            token.lower.as_str(),
            "hello" | "hi" | "hey" | "help" | "do" | "who"
        )
    });
    let plain = words.all(|word| word.has(FREE));
    let greets = greets && plain && query.facts.is_empty();
    // Ranking costs as much as a plan: only few queries come so far.
    if !greets || reading.stands(0..query.tokens.len()).is_some() {
        return None;
    }
    let cards = reading.index.cards.iter().enumerate();
    let cards = cards.filter(|(entry, _)| reading.is_allowed(*entry));
    let cards: Vec<_> = cards.map(|(_, card)| card.capability()).collect();
    let mut text = "I can do this:\n".to_owned();
    for card in cards.iter().take(NAMED) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {} ({})", card.description, card.name);
    }
    if cards.len() > NAMED {
        let _ = writeln!(text, "- and {} more", cards.len() - NAMED);
    }
    let examples = cards.iter().filter_map(|card| card.examples.first());
    let examples: Vec<_> = examples.take(EXAMPLES).map(|e| e.query.as_str()).collect();
    if !examples.is_empty() {
        let _ = writeln!(text, "Ask for example:");
    }
    for example in examples {
        let _ = writeln!(text, "- {example}");
    }
    (!cards.is_empty()).then(|| text.trim_end().to_owned())
}
