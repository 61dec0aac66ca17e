//! What a capability's examples teach about its params: the words around their values, and other names for these.
//!
//! Does not read queries.

use std::collections::BTreeSet;

use amcp_protocol::Capability;
use jiff::civil::Date;
use serde_json::Value;

use super::facts::{Fact, facts};
use super::kind::Kind;
use super::spec::{Choice, Param};
use super::text::{Token, tokens};
use super::words::{is_article, is_stop};

/// Learns from the examples which words stand before a param's value, after a number, and which other names a value has.
pub(super) fn learn(capability: &Capability, known: &BTreeSet<String>, params: &mut [Param]) {
    let today = Date::constant(2000, 1, 1);
    for example in &capability.examples {
        let words = tokens(&example.query);
        let facts = facts(&example.query, &words, today);
        for param in &mut *params {
            let Some(value) = example.params.get(&param.name) else {
                continue;
            };
            for value in value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice)
            {
                match place_of(value, &words) {
                    Some(at) => {
                        let after = words.get(at + value.as_str().map_or(1, |v| tokens(v).len()));
                        if let Some(head) = after.filter(|t| known.contains(&t.stem)) {
                            param.heads.insert(head.stem.clone());
                        } else {
                            learn_before(param, &words, at);
                        }
                        if value.is_number()
                            && let Some(unit) = words
                                .get(at + 1)
                                .filter(|t| t.is_word() && !is_stop(&t.lower))
                        {
                            param.words.push(unit.stem.clone());
                        }
                    }
                    None => learn_name(param, value, &words, &facts),
                }
            }
        }
    }
}

fn learn_before(param: &mut Param, words: &[Token<'_>], at: usize) {
    let before = words.get(..at).unwrap_or_default();
    let cue = before.iter().rev().find(|t| !is_article(&t.lower));
    if let Some(cue) = cue.filter(|t| t.is_word() || t.is(":")) {
        param.cues.insert(cue.lower.clone());
    }
}

/// Where an example's query has a value, word for word.
fn place_of(value: &Value, words: &[Token<'_>]) -> Option<usize> {
    if let Some(number) = value.as_f64() {
        return words.iter().position(|t| t.number() == Some(number));
    }
    let text = value.as_str()?;
    if let Some(at) = words.iter().position(|t| t.text.eq_ignore_ascii_case(text)) {
        return Some(at);
    }
    let wanted = tokens(text);
    if wanted.is_empty() {
        return None;
    }
    words
        .windows(wanted.len())
        .position(|w| w.iter().zip(&wanted).all(|(a, b)| a.lower == b.lower))
}

/// A value that the query does not spell is another name for the one proper noun in it: "Apple" for `AAPL`.
fn learn_name(param: &mut Param, value: &Value, words: &[Token<'_>], facts: &[Fact]) {
    if !matches!(param.kind, Kind::Ticker | Kind::Choice | Kind::Name) {
        return;
    }
    let nouns: Vec<usize> = (1..words.len())
        .filter(|&i| {
            words
                .get(i)
                .is_some_and(|t| t.is_capitalised() && !is_stop(&t.lower))
        })
        .filter(|i| !facts.iter().any(|f| f.tokens.contains(i)))
        .collect();
    if let [noun] = *nouns.as_slice()
        && let Some(token) = words.get(noun)
    {
        param.choices.push(Choice {
            stems: vec![token.stem.clone()],
            value: value.clone(),
        });
        learn_before(param, words, noun);
    }
}
