//! Finds names, topics and texts by the words that announce them.
//!
//! Does not know dates, numbers and known values; see [`super::fill`].

use std::ops::Range;

use serde_json::Value;

use super::card::{AFTER_NUMBER, GENITIVE, Param, Role};
use super::facts::Meaning;
use super::fill::{Candidate, Words};
use super::kind::Kind;
use super::text::{Token, TokenKind};
use super::words::{
    ACRONYM, ADVERBIAL, ASK, COMMAND, FREE, PEOPLE, PREPOSITION, PRONOUN, QUESTION, STOP, is,
    is_article, is_joint,
};

/// Longest name in lower case, in words: longer runs are sentences.
const MAX_PLAIN: usize = 3;
/// Longest topic, in tokens.
const MAX_TOPIC: usize = 8;

/// Adds the values that words announce for a param.
pub(super) fn candidates(
    words: &Words<'_>,
    index: usize,
    param: &Param,
    found: &mut Vec<Candidate>,
) {
    let wanted = if param.required { 0.3 } else { 0.0 };
    let is_name = matches!(param.kind, Kind::Name | Kind::Ticker | Kind::Topic);
    if !is_name && !is_text(param.kind) {
        return;
    }
    for at in words.range.clone() {
        let Some(strength) = announces(words, param, at) else {
            continue;
        };
        let weight = strength + wanted;
        if is_text(param.kind) {
            found.extend(text(words, index, param, (at, weight)));
        } else if param.kind == Kind::Topic {
            found.extend(topic(words, index, param, (at, weight)));
        } else {
            listed(words, (index, param), (at + 1, weight), Some(at), found);
        }
    }
    if is_name {
        beside(words, index, param, found);
    }
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Content)
}

/// How surely the word at a place announces the param's value.
fn announces(words: &Words<'_>, param: &Param, at: usize) -> Option<f32> {
    let token = words.query.token(at)?;
    let word = token.lower.as_str();
    let value = at + 1;
    if param.role == Some(Role::Except) {
        let cue = words
            .query
            .mark(value)
            .filter(|(_, cue)| cue.end == value)?;
        return words
            .marked(param, value)
            .filter(|own| *own == cue.1)
            .map(|_| 3.0);
    }
    if is_text(param.kind) && matches!(word, ":" | "saying" | "stating" | "says") {
        return Some(7.0);
    }
    if param.cues.contains(word) {
        return Some(3.0);
    }
    if token.number().is_some()
        && words.query.fact(at).is_some()
        && param.cues.contains(AFTER_NUMBER)
    {
        return Some(2.5);
    }
    let own = param.words.contains(&token.stem) && !words.is_own(at);
    if own || cue_of_name(param, word) {
        return Some(2.0);
    }
    let usual: &[&str] = if matches!(param.kind, Kind::Name | Kind::Ticker) {
        &[
            "in", "for", "of", "at", "near", "from", "to", "with", "about",
        ]
    } else if param.kind == Kind::Topic {
        &["about", "on", "regarding", "concerning", "of", "for"]
    } else if word == "that" && is(words.query.lower(value), PREPOSITION) {
        &[]
    } else {
        &["say", "that"]
    };
    (param.required && usual.contains(&word)).then_some(1.0)
}

/// Whether a word announces the param's value, by the examples or by the param's name.
pub(super) fn is_cue(param: &Param, word: &str) -> bool {
    param.cues.contains(word) || cue_of_name(param, word)
}

/// Cues that a param's own name suggests.
fn cue_of_name(param: &Param, word: &str) -> bool {
    let named = |names: &[&str]| param.has_word(names);
    match word {
        "called" | "titled" | "named" | "entitled" => named(&["titl", "name", "subject", "label"]),
        "about" | "regarding" | "concerning" | "re" => {
            param.kind == Kind::Topic || named(&["subject", "topic", "about", "queri", "word"])
        }
        "to" => named(&[
            "to", "recipi", "target", "languag", "destin", "receiv", "contact", "countri",
        ]),
        "into" => named(&["target", "languag", "to"]),
        "from" => named(&["from", "origin", "sourc", "sender", "vendor", "brand"]),
        "with" => named(&[
            "attende", "person", "particip", "contact", "guest", "vendor", "customer",
        ]),
        "in" | "at" | "near" => named(&[
            "citi", "locat", "place", "town", "room", "countri", "region", "address", "languag",
        ]),
        "by" => named(&["author", "artist", "user", "owner"]),
        "of" => named(&["owner", "sender"]),
        _ => false,
    }
}

/// A name after a cue, and those that are listed after it: "Paris, London and Rome", but "Paris, France" is one.
fn listed(
    words: &Words<'_>,
    (index, param): (usize, &Param),
    (from, weight): (usize, f32),
    cue: Option<usize>,
    found: &mut Vec<Candidate>,
) {
    let query = words.query;
    let mut names: Vec<Range<usize>> = Vec::new();
    let (mut at, mut commas, mut joined) = (from, 0, false);
    while let Some(name) = name(words, at) {
        at = name.end;
        names.push(name);
        if !is_joint(query.lower(at)) {
            break;
        }
        let comma = query.lower(at) == ",";
        commas += usize::from(comma);
        let both = comma && matches!(query.lower(at + 1), "and" | "or");
        joined |= !comma || both;
        at += 1 + usize::from(both);
        while matches!(
            query.lower(at),
            "in" | "for" | "of" | "to" | "also" | "from"
        ) {
            at += 1;
        }
    }
    let mut part = 0.0;
    if let ([_, second], 1, false) = (names.as_slice(), commas, joined)
        && is_proper(words, second.start)
    {
        let end = second.end;
        names.truncate(1);
        names.iter_mut().for_each(|name| name.end = end);
        // More than the known value that is a part of it: "Paris, Texas".
        part = 4.0;
    }
    for tokens in names {
        // "in the garden", "of the sun"
        if param.bare && !is_proper(words, tokens.start) && is_article(query.before(tokens.start)) {
            continue;
        }
        // A capital says more than a preposition that the examples do not have.
        let sure = if is_proper(words, tokens.start) || weight >= 2.0 {
            weight
        } else {
            weight - 0.5
        };
        let sure = if is_proper(words, tokens.start) {
            sure + 0.6 + part
        } else {
            sure
        };
        if let (Some(value), Some(mark)) = (
            spelt(words, param, &tokens),
            words.marked(param, tokens.start),
        ) {
            let mut candidate = Candidate::new(index, value, tokens.clone(), sure);
            // A verb or the param's own name as a cue is explained by its value; a number says something of its own.
            let word = cue.filter(|&cue| query.token(cue).is_none_or(|t| t.number().is_none()));
            candidate.cue = word
                .filter(|_| mark.is_empty())
                .map_or(mark, |cue| cue..cue + 1);
            found.push(candidate);
        }
    }
}

/// The text of a name without its genitive, as the schema takes it.
fn spelt(words: &Words<'_>, param: &Param, tokens: &Range<usize>) -> Option<Value> {
    let text = words.query.slice(tokens.clone());
    let last = words.query.token(tokens.end.checked_sub(1)?)?;
    let text = text
        .get(..text.len() - (last.text.len() - last.name().len()))
        .unwrap_or(text);
    // Any word could be a symbol: without a capital only the known ones are.
    let named = param.kind != Kind::Ticker || is_proper(words, tokens.start);
    param.accepted(&[text]).filter(|_| named)
}

/// The name that begins at a place: proper nouns, or a few words in lower case.
fn name(words: &Words<'_>, mut from: usize) -> Option<Range<usize>> {
    while is_article(words.query.lower(from)) && from < words.range.end {
        from += 1;
    }
    let token = words.query.token(from).filter(|_| from < words.range.end)?;
    if token.kind == TokenKind::Quoted {
        return None;
    }
    let end = if is_proper(words, from) {
        proper_end(words, from)
    } else {
        plain_end(words, from)
    };
    (end > from).then_some(from..end)
}

/// A word that no fact has, or a number in a name: "Pixel 9".
fn is_free_word(words: &Words<'_>, at: usize) -> bool {
    at < words.range.end
        && words.query.fact(at).is_none()
        && words.query.token(at).is_some_and(Token::is_word)
}

fn is_proper(words: &Words<'_>, at: usize) -> bool {
    is_free_word(words, at)
        && words.query.token(at).is_some_and(Token::is_capitalised)
        && !is(words.query.lower(at), STOP)
}

/// Capitalised words, with the small words and numbers inside of names: "Rio de Janeiro", "Pixel 9".
fn proper_end(words: &Words<'_>, from: usize) -> usize {
    let mut end = from + 1;
    loop {
        let before = words.query.token(end - 1);
        if before.is_some_and(|t| t.name().len() < t.text.len()) {
            return end;
        }
        let small = matches!(
            words.query.lower(end),
            "de" | "la"
                | "le"
                | "du"
                | "von"
                | "van"
                | "der"
                | "of"
                | "upon"
                | "am"
                | "el"
                | "di"
                | "da"
                | "&"
        );
        let numbered = end < words.range.end
            && words.query.fact(end).is_some_and(|f| {
                matches!(f.meaning, Meaning::Number(_, None)) && f.tokens.len() == 1
            })
            && words
                .query
                .token(end)
                .is_some_and(|t| t.kind == TokenKind::Number);
        let coded = is_free_word(words, end)
            && words
                .query
                .token(end)
                .is_some_and(|t| t.text.chars().any(|c| c.is_ascii_digit()));
        if is_proper(words, end) || numbered || coded {
            end += 1;
        } else if small && is_proper(words, end + 1) {
            end += 2;
        } else {
            return end;
        }
    }
}

/// Words in lower case up to the next word of grammar, or of the capability itself.
fn plain_end(words: &Words<'_>, from: usize) -> usize {
    let fits = |at: usize| {
        let lower = words.query.lower(at);
        let stem = words.query.token(at).map_or("", |t| t.stem.as_str());
        let mut params = words.card.params.iter().flat_map(|p| &p.words);
        let known = words.is_own(at) || params.any(|word| word == stem);
        let adverb = at == from && is(lower, ADVERBIAL);
        is_free_word(words, at) && !(known || adverb || is(lower, FREE | QUESTION | PEOPLE))
    };
    let most = from + MAX_PLAIN;
    (from..most).find(|&at| !fits(at)).unwrap_or(most)
}

/// A phrase up to the next value, cue of a text, or mark.
fn topic(
    words: &Words<'_>,
    index: usize,
    param: &Param,
    (cue, weight): (usize, f32),
) -> Option<Candidate> {
    let query = words.query;
    let mut from = cue + 1;
    while from < words.range.end && matches!(query.lower(from), "the" | "a" | "an") {
        from += 1;
    }
    let ends = |at: &usize| {
        let mark = query.token(*at).is_none_or(|t| {
            matches!(
                t.kind,
                TokenKind::Mark | TokenKind::Line | TokenKind::Quoted
            ) && !t.is("'")
                && !t.is("-")
        });
        mark || query.fact(*at).is_some()
            || matches!(
                query.lower(*at),
                "saying" | "says" | "stating" | "titled" | "called" | "please" | "with" | "for"
            )
    };
    let end = (from..words.range.end.min(from + MAX_TOPIC))
        .find(ends)
        .unwrap_or(words.range.end.min(from + MAX_TOPIC));
    let value = phrase(words, from..end)?;
    let mut candidate = Candidate::new(
        index,
        param.accepted(&[query.slice(value.clone())])?,
        value,
        weight,
    );
    candidate.cue = cue..cue + 1;
    words.marked(param, from)?;
    Some(candidate)
}

/// A text up to the end; after a learned cue up to the words that announce the last value of another param.
fn text(
    words: &Words<'_>,
    index: usize,
    param: &Param,
    (cue, weight): (usize, f32),
) -> Option<Candidate> {
    let query = words.query;
    let from = cue + 1 + usize::from(query.lower(cue + 1) == ":");
    if query
        .token(from)
        .is_some_and(|t| t.kind == TokenKind::Quoted)
    {
        return None;
    }
    let mut end = words.range.end;
    if weight < 7.0 {
        let preposition = |at: &usize| {
            let value = |p: &Param| {
                p.known.iter().any(|k| {
                    k.words
                        .first()
                        .is_some_and(|(word, _)| query.lower(at + 1) == word)
                })
            };
            matches!(query.lower(*at), "in" | "into" | "to" | "for" | "as")
                && words.card.params.iter().any(value)
        };
        end = (from..end).rev().find(preposition).unwrap_or(end);
    }
    let tokens = if query.lower(cue) == ":" {
        from..end
    } else {
        phrase(words, from..end)?
    };
    let text = query.slice(tokens.clone());
    if text.is_empty() {
        return None;
    }
    let mut candidate = Candidate::new(index, param.accepted(&[text])?, tokens, weight);
    candidate.cue = cue..from;
    Some(candidate)
}

/// The tokens of a phrase without the words at its end that join it to others; none for a pronoun.
fn phrase(words: &Words<'_>, mut tokens: Range<usize>) -> Option<Range<usize>> {
    let loose = |at: usize| {
        matches!(
            words.query.lower(at),
            "please"
                | ","
                | ";"
                | "."
                | ":"
                | "?"
                | "!"
                | "and"
                | "to"
                | "in"
                | "for"
                | "into"
                | "as"
                | "\n"
                | "then"
        )
    };
    while !tokens.is_empty() && loose(tokens.end - 1) {
        tokens.end -= 1;
    }
    let says = |at: usize| {
        let lower = words.query.lower(at);
        words
            .query
            .token(at)
            .is_some_and(|t| t.kind != TokenKind::Mark)
            && !is(lower, PRONOUN)
            && !is_article(lower)
    };
    (!tokens.is_empty() && tokens.clone().any(says)).then_some(tokens)
}

/// Names beside the words that they belong to: "a chuck norris joke", "Anna's deals", "Paris weather".
fn beside(words: &Words<'_>, index: usize, param: &Param, found: &mut Vec<Candidate>) {
    if param.role == Some(Role::Except) {
        return;
    }
    let query = words.query;
    let plain = |at: usize| {
        is_free_word(words, at)
            && query.is_content(at)
            && !words.is_own(at)
            && !is(query.lower(at), COMMAND | QUESTION)
    };
    // "Email Bob": a capital at the beginning says nothing.
    let opens = |at: usize| {
        let lower = query.lower(at);
        let command = at == words.range.start && is(lower, ASK | COMMAND | QUESTION);
        command || words.is_own(at) || is(lower, FREE)
    };
    for at in words.range.clone() {
        let Some(token) = query.token(at).filter(|t| t.is_word()) else {
            continue;
        };
        let inside = at > words.range.start && is_proper(words, at - 1) && !opens(at - 1);
        if is_proper(words, at) && !inside && !opens(at) && !is(&token.lower, ACRONYM) {
            let end = proper_end(words, at);
            let last = query.token(end - 1);
            let genitive = last.is_some_and(|t| t.name().len() < t.text.len());
            if genitive && param.cues.contains(GENITIVE) {
                put(words, (index, param), at..end, 3.0, found);
            } else if param.kind != Kind::Topic && (param.required || is_only_name(words)) {
                let weight = if param.required { 0.8 } else { 0.2 };
                listed(words, (index, param), (at, weight), None, found);
            }
        }
        let head = param.heads.contains(&token.stem);
        let compound =
            param.required && param.kind == Kind::Name && words.card.own.contains(&token.stem);
        if head || compound {
            let first = (words.range.start..at)
                .rev()
                .take(MAX_PLAIN)
                .take_while(|&at| plain(at))
                .last();
            let opens = |from: usize| words.range.start == from;
            if let Some(from) = first.filter(|&from| head || opens(from)) {
                put(
                    words,
                    (index, param),
                    from..at,
                    if head { 3.2 } else { 0.4 },
                    found,
                );
            }
        }
    }
}

/// Whether a name can mean no other param.
fn is_only_name(words: &Words<'_>) -> bool {
    let names =
        words.card.params.iter().filter(|p| {
            matches!(p.kind, Kind::Name | Kind::Topic | Kind::Ticker) && p.role.is_none()
        });
    names.count() == 1
}

fn put(
    words: &Words<'_>,
    (index, param): (usize, &Param),
    tokens: Range<usize>,
    weight: f32,
    found: &mut Vec<Candidate>,
) {
    if let (Some(value), Some(_)) = (
        spelt(words, param, &tokens),
        words.marked(param, tokens.start),
    ) {
        found.push(Candidate::new(index, value, tokens, weight));
    }
}
