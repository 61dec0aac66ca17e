//! The most telling sentences of a text: those closest to what all its sentences are about (the centroid of their tf·idf
//! weights, Radev et al. 2004).
//!
//! Knows no language: a word that stands in most sentences weighs little, whatever it is.

use std::collections::{BTreeMap, HashSet};

/// From this cosine on two sentences say the same.
const ALIKE: f64 = 0.7;
/// What ends with a full stop and ends no sentence; single letters too.
const ABBREVIATIONS: [&str; 12] = [
    "mr", "mrs", "ms", "dr", "st", "no", "vs", "prof", "inc", "e.g", "i.e", "approx",
];

type Weights = BTreeMap<String, f64>;

/// At most so many of the sentences, in their own order.
pub(super) fn summary(sentences: &[String], most: usize) -> String {
    if sentences.len() <= most {
        return sentences.join(" ");
    }
    let mut weights: Vec<Weights> = sentences.iter().map(|sentence| counts(sentence)).collect();
    let mut sentences_with = Weights::new();
    for word in weights.iter().flat_map(BTreeMap::keys) {
        *sentences_with.entry(word.clone()).or_default() += 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a text has few sentences")]
    let all = sentences.len() as f64;
    let mut centroid = Weights::new();
    for (word, weight) in weights.iter_mut().flatten() {
        *weight *= (all / sentences_with.get(word).copied().unwrap_or(all)).ln();
        *centroid.entry(word.clone()).or_default() += *weight;
    }
    // Of length 1, so that a product is a cosine; the centroid's length is the same for all.
    for weights in &mut weights {
        let length = product(weights, weights).sqrt();
        if length > 0.0 {
            weights.values_mut().for_each(|weight| *weight /= length);
        }
    }
    let mut order: Vec<_> = weights
        .iter()
        .zip(0..)
        .map(|(w, at)| (product(w, &centroid), at, w))
        .collect();
    // Of equal ones the earlier.
    order.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let mut chosen: Vec<(usize, &Weights)> = Vec::new();
    for (_, at, weights) in order {
        if chosen.len() < most && chosen.iter().all(|(_, w)| product(w, weights) < ALIKE) {
            chosen.push((at, weights));
        }
    }
    chosen.sort_by_key(|(at, _)| *at);
    let chosen: Vec<&str> = chosen
        .iter()
        .filter_map(|(at, _)| sentences.get(*at))
        .map(String::as_str)
        .collect();
    chosen.join(" ")
}

/// The sentences, each once, on one line and with an end. A blank line ends a sentence too.
pub(super) fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let after = text.get(end..).unwrap_or_default();
        let is_end = match character {
            '.' => {
                after.starts_with(char::is_whitespace)
                    && !goes_on(text.get(start..at).unwrap_or_default(), after)
            }
            '!' | '?' | '…' => after.starts_with(char::is_whitespace),
            '。' | '！' | '？' => true,
            '\n' => after
                .trim_start_matches([' ', '\r', '\t'])
                .starts_with('\n'),
            _ => false,
        };
        if is_end || characters.peek().is_none() {
            let words: Vec<_> = text
                .get(start..end)
                .unwrap_or_default()
                .split_whitespace()
                .collect();
            let mut sentence = words.join(" ");
            if sentence.ends_with(char::is_alphanumeric) {
                sentence.push('.');
            }
            sentences.extend((!sentence.is_empty()).then_some(sentence));
            start = end;
        }
    }
    let mut seen = HashSet::new();
    sentences.retain(|sentence| seen.insert(sentence.clone()));
    sentences
}

/// Whether a full stop between these ends an abbreviation.
fn goes_on(before: &str, after: &str) -> bool {
    let word = before.split_whitespace().next_back().unwrap_or_default();
    let word = word
        .trim_start_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase();
    let letter = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    letter
        || ABBREVIATIONS.contains(&word.as_str())
        || after.trim_start().starts_with(char::is_lowercase)
}

/// How often each word stands in the sentence; an ideograph is a word.
fn counts(sentence: &str) -> Weights {
    let mut counts = Weights::new();
    for word in sentence
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if word.starts_with(|c| ('\u{3040}'..='\u{9FFF}').contains(&c)) {
            for character in word.chars() {
                *counts.entry(character.to_string()).or_default() += 1.0;
            }
        } else {
            *counts.entry(word.to_lowercase()).or_default() += 1.0;
        }
    }
    counts
}

fn product(a: &Weights, b: &Weights) -> f64 {
    a.iter()
        .filter_map(|(word, weight)| Some(weight * b.get(word)?))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str, most: usize) -> String {
        super::summary(&sentences(text), most)
    }

    #[test]
    fn what_the_text_is_about_stays() {
        let text = "The harbour of Rotterdam is the largest in Europe. I had coffee this morning. In 2024 the harbour of Rotterdam handled \
                    436 million tonnes, says Mr. A. Smith of the port. It was sunny. Containers through Rotterdam's harbour grew by 2.5 percent.\n\nMy cat sleeps";
        assert_eq!(sentences(text).len(), 6, "{:?}", sentences(text));
        let short = summary(text, 2);
        assert!(
            short.contains("Rotterdam")
                && !short.contains("cat")
                && !short.contains("coffee")
                && !short.contains("sunny"),
            "{short}"
        );
        assert_eq!(sentences(&short).len(), 2, "{short}");
        // In the text's order, each once.
        assert_eq!(
            summary("Alpha beta gamma. Alpha beta gamma. Delta epsilon zeta.", 3),
            "Alpha beta gamma. Delta epsilon zeta."
        );
        assert_eq!(summary("Rain falls. Rain falls.", 3), "Rain falls.");
        assert_eq!(
            summary(
                "Alpha beta gamma. Alpha, beta gamma. Delta epsilon zeta. Eta theta.",
                3
            ),
            "Alpha beta gamma. Delta epsilon zeta. Eta theta."
        );
        assert_eq!(
            summary("One line\nwithout an end", 3),
            "One line without an end."
        );
        assert_eq!(
            summary("東京は晴れです。大阪は雨です。", 5),
            "東京は晴れです。 大阪は雨です。"
        );
        assert_eq!(summary(" \n ", 3), "");
    }
}
