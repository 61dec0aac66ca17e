//! Values that are phrases: names, topics and free texts, found by the words before them or by what is left.
//!
//! Does not know dates, numbers and known values: those were taken before.

use std::ops::Range;

use serde_json::Value;

use super::fill::{Filler, Reach};
use super::kind::Kind;
use super::spec::Param;
use super::text::{Token, TokenKind};
use super::words::{is_article, is_command, is_generic, is_joint, is_question, is_stop};

/// Longest name in lower case, in words: longer runs are sentences.
const MAX_PLAIN_NAME: usize = 3;

/// Fills params whose values follow a preposition or the like.
pub(super) fn cued(filler: &mut Filler<'_>) {
    let range = filler.range.clone();
    let mut at = range.start;
    while at < range.end {
        let best = filler
            .open()
            .into_iter()
            .filter_map(|(index, param)| Some((cue_strength(filler, param, at)?, index, param)))
            .filter_map(|(strength, index, param)| {
                let found = phrases(filler, param, at + 1)?;
                Some((strength, index, found))
            })
            // Of equal ones the first param, which is a required one if there is any.
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        if let Some((_, index, found)) = best
            && !filler.is_used(at)
        {
            let end = found.last().map_or(at + 1, |(_, tokens)| tokens.end);
            for (value, tokens) in found {
                filler.put(index, value, tokens);
            }
            at = end.max(at + 1);
        } else {
            at += 1;
        }
    }
}

/// How surely the word at a place announces the param's value.
fn cue_strength(filler: &Filler<'_>, param: &Param, at: usize) -> Option<f32> {
    let word = filler.query.lower(at);
    if word.is_empty()
        || !matches!(
            param.kind,
            Kind::Name | Kind::Topic | Kind::Text | Kind::Content | Kind::Ticker
        )
    {
        return None;
    }
    // A text's learned cue may be any word; only those that are grammar announce anything elsewhere.
    let learned = param.cues.contains(word)
        && (is_stop(word) || !filler.is_known_word(at) || is_text(param.kind));
    let stem = filler.query.token(at).map_or("", |t| t.stem.as_str());
    let own = param.words.iter().any(|w| w == stem);
    if filler.reach == Reach::Elsewhere && is_text(param.kind) {
        return None;
    }
    if learned {
        return Some(3.0 + if param.required { 0.5 } else { 0.0 });
    }
    if filler.reach == Reach::Elsewhere {
        return None;
    }
    if named_cue(param, word) || (own && !filler.is_known_word(at)) {
        return Some(2.0 + if param.required { 0.5 } else { 0.0 });
    }
    (param.required && kind_cue(param.kind, word)).then_some(1.0)
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Content)
}

/// Cues that a param's own name suggests.
fn named_cue(param: &Param, word: &str) -> bool {
    let named = |names: &[&str]| param.words.iter().any(|w| names.contains(&w.as_str()));
    match word {
        "called" | "titled" | "named" | "entitled" => named(&["titl", "name", "subject", "label"]),
        "about" | "regarding" | "concerning" | "re" => {
            param.kind == Kind::Topic || named(&["subject", "topic", "about", "queri"])
        }
        "to" => named(&[
            "to", "recipi", "target", "languag", "destin", "receiv", "contact",
        ]),
        "into" => named(&["target", "languag", "to"]),
        "from" => named(&["from", "origin", "sourc", "sender"]),
        "with" => named(&["attende", "person", "particip", "contact", "guest"]),
        "in" | "at" | "near" => named(&[
            "citi", "locat", "place", "town", "room", "countri", "region", "address", "languag",
        ]),
        "by" => named(&["author", "artist", "user"]),
        "saying" | "says" | "stating" | "reading" | ":" => is_text(param.kind),
        _ => false,
    }
}

/// Cues that a required param of a kind accepts whatever its name.
fn kind_cue(kind: Kind, word: &str) -> bool {
    let cues: &[&str] = if matches!(kind, Kind::Name | Kind::Ticker) {
        &[
            "in", "for", "of", "at", "near", "from", "to", "with", "about",
        ]
    } else if kind == Kind::Topic {
        &["about", "on", "regarding", "concerning", "of", "for"]
    } else {
        &[":", "saying", "that"]
    };
    cues.contains(&word)
}

type Found = Vec<(Value, Range<usize>)>;

fn phrases(filler: &Filler<'_>, param: &Param, from: usize) -> Option<Found> {
    let found = if param.kind == Kind::Topic {
        topic(filler, param, from).into_iter().collect()
    } else if is_text(param.kind) {
        text_after(filler, param, from).into_iter().collect()
    } else {
        listed_names(filler, param, from)
    };
    (!found.is_empty()).then_some(found)
}

/// A name, and those that are listed after it: "Paris, London and Rome", but "Paris, France" is one.
fn listed_names(filler: &Filler<'_>, param: &Param, from: usize) -> Found {
    let mut found = Found::new();
    let mut commas = 0;
    let mut joined = false;
    let mut at = from;
    while let Some((value, tokens)) = name(filler, param, at) {
        at = tokens.end;
        found.push((value, tokens));
        let joint = filler.query.lower(at);
        if !is_joint(joint) {
            break;
        }
        let word_joint = joint != ",";
        commas += usize::from(!word_joint);
        at += 1;
        if !word_joint && matches!(filler.query.lower(at), "and" | "or") {
            joined = true;
            at += 1;
        }
        joined |= word_joint;
        while matches!(
            filler.query.lower(at),
            "in" | "for" | "of" | "to" | "also" | "from"
        ) {
            at += 1;
        }
    }
    if let [first, second] = found.as_slice()
        && commas == 1
        && !joined
        && filler
            .query
            .token(second.1.start)
            .is_some_and(Token::is_capitalised)
    {
        let tokens = first.1.start..second.1.end;
        let value = Value::from(filler.query.slice(tokens.clone()));
        return if param.accepts(&value) {
            vec![(value, tokens)]
        } else {
            found
        };
    }
    found
}

fn name(filler: &Filler<'_>, param: &Param, mut from: usize) -> Option<(Value, Range<usize>)> {
    let query = filler.query;
    while is_article(query.lower(from)) && from < filler.range.end {
        from += 1;
    }
    let first = query
        .token(from)
        .filter(|_| from < filler.range.end && !filler.is_used(from))?;
    if first.kind == TokenKind::Quoted {
        return Some((param.accepted_text(&[first.text])?, from..from + 1));
    }
    let end = if is_proper(filler, from) {
        proper_end(filler, from)
    } else {
        plain_end(filler, from)
    };
    if end == from {
        return None;
    }
    let text = query.slice(from..end);
    let text = query.token(end - 1).map_or(text, |last| {
        text.get(..text.len() - (last.text.len() - last.name().len()))
            .unwrap_or(text)
    });
    let upper = text.to_uppercase();
    let spellings: &[&str] =
        if param.kind == Kind::Ticker && text.len() <= 5 && !is_proper(filler, from) {
            &[upper.as_str()]
        } else {
            &[text]
        };
    Some((param.accepted_text(spellings)?, from..end))
}

fn is_free_word(filler: &Filler<'_>, at: usize) -> bool {
    at < filler.range.end
        && !filler.is_used(at)
        && !filler.query.in_fact.get(at).copied().unwrap_or(false)
        && filler.query.token(at).is_some_and(Token::is_word)
}

fn is_proper(filler: &Filler<'_>, at: usize) -> bool {
    is_free_word(filler, at)
        && filler.query.token(at).is_some_and(Token::is_capitalised)
        && filler.query.lower(at) != "i"
}

/// Capitalised words, with the small words inside of names: "Rio de Janeiro".
fn proper_end(filler: &Filler<'_>, from: usize) -> usize {
    let mut end = from + 1;
    loop {
        let possessive = filler
            .query
            .token(end - 1)
            .is_some_and(|t| t.name().len() < t.text.len());
        if possessive {
            return end;
        }
        let small = matches!(
            filler.query.lower(end),
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
        );
        if is_proper(filler, end) {
            end += 1;
        } else if small && is_proper(filler, end + 1) {
            end += 2;
        } else {
            return end;
        }
    }
}

/// Lower-case words up to the next word of grammar, or of the capability itself.
fn plain_end(filler: &Filler<'_>, from: usize) -> usize {
    let mut end = from;
    while end - from < MAX_PLAIN_NAME
        && is_free_word(filler, end)
        && !is_stop(filler.query.lower(end))
        && !(is_generic(filler.query.lower(end)) || is_question(filler.query.lower(end)))
        && (end == from || !filler.is_known_word(end))
    {
        end += 1;
    }
    // A word of the capability itself is no value: "the price of the stock".
    if end == from + 1 && filler.is_known_word(from) {
        from
    } else {
        end
    }
}

/// A phrase up to the next value or mark.
fn topic(filler: &Filler<'_>, param: &Param, mut from: usize) -> Option<(Value, Range<usize>)> {
    let query = filler.query;
    if let Some(token) = query
        .token(from)
        .filter(|t| t.kind == TokenKind::Quoted && !filler.is_used(from))
    {
        return Some((param.accepted_text(&[token.text])?, from..from + 1));
    }
    while from < filler.range.end && matches!(query.lower(from), "the" | "a" | "an") {
        from += 1;
    }
    // "about lunch saying …": the next announcement ends the topic.
    let announced = |at: usize| {
        let others = filler.open();
        let mut others = others.iter().filter(|(_, other)| other.name != param.name);
        others.any(|(_, other)| cue_strength(filler, other, at).is_some_and(|s| s >= 2.0))
    };
    let ends = |at: usize| {
        filler.is_used(at)
            || announced(at)
            || query.token(at).is_none_or(|t| {
                matches!(t.kind, TokenKind::Mark | TokenKind::Line) && !t.is("'") && !t.is("-")
            })
    };
    let end = (from..filler.range.end)
        .find(|&at| ends(at))
        .unwrap_or(filler.range.end);
    phrase_value(filler, param, from..end, Says::Something)
}

/// A text up to the end of the clause.
fn text_after(filler: &Filler<'_>, param: &Param, from: usize) -> Option<(Value, Range<usize>)> {
    let query = filler.query;
    let after_colon =
        query.lower(from) == ":" || from.checked_sub(1).is_some_and(|i| query.lower(i) == ":");
    let from = from + usize::from(query.lower(from) == ":");
    if let Some(token) = query
        .token(from)
        .filter(|t| t.kind == TokenKind::Quoted && !filler.is_used(from))
    {
        return Some((param.accepted_text(&[token.text])?, from..from + 1));
    }
    let end = filler.range.end;
    if after_colon {
        // A text of its own, with its own punctuation.
        let text = query.slice(from..end);
        let whole = filler.are_free(from..end) && !text.is_empty();
        return whole
            .then(|| Some((param.accepted_text(&[text])?, from..end)))
            .flatten();
    }
    phrase_value(filler, param, from..end, Says::Anything)
}

/// What a phrase must have to be a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It was announced: "saying we are over it".
    Anything,
    /// A word that is not mere grammar.
    Something,
}

/// The text of some tokens, without words of grammar and used values at its ends.
fn phrase_value(
    filler: &Filler<'_>,
    param: &Param,
    mut tokens: Range<usize>,
    wanted: Says,
) -> Option<(Value, Range<usize>)> {
    let query = filler.query;
    let loose = |at: usize| {
        filler.is_used(at)
            || matches!(
                query.lower(at),
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
            )
    };
    while !tokens.is_empty() && loose(tokens.end - 1) {
        tokens.end -= 1;
    }
    while !tokens.is_empty()
        && (filler.is_used(tokens.start)
            || matches!(query.lower(tokens.start), "," | ":" | "\n" | "-"))
    {
        tokens.start += 1;
    }
    let says = tokens.clone().any(|at| {
        let word = query.token(at).is_some_and(Token::is_word);
        let announced = wanted == Says::Anything && !is_pronoun(query.lower(at));
        query.is_content(at) || (word && (announced || !is_stop(query.lower(at))))
    });
    let whole = filler.are_free(tokens.clone());
    let text = query.slice(tokens.clone());
    (says && whole)
        .then(|| param.accepted_text(&[text]))
        .flatten()
        .map(|value| (value, tokens))
}

/// Stands for something else: "translate it" has no text.
fn is_pronoun(lower: &str) -> bool {
    matches!(
        lower,
        "it" | "this" | "that" | "them" | "these" | "those" | "please"
    )
}

/// Gives names and topics the words before what the examples show them before: "a chuck norris joke".
pub(super) fn modifiers(filler: &mut Filler<'_>) {
    for (index, param) in filler.open() {
        if !matches!(param.kind, Kind::Name | Kind::Topic) || param.heads.is_empty() {
            continue;
        }
        let query = filler.query;
        let is_head = |at: &usize| {
            query
                .token(*at)
                .is_some_and(|t| param.heads.contains(&t.stem))
        };
        let Some(head) = filler.range.clone().find(is_head) else {
            continue;
        };
        let says = |at: usize| {
            is_free_word(filler, at)
                && query.is_content(at)
                && !filler.is_known_word(at)
                && !is_command(query.lower(at))
        };
        let mut start = head;
        while start > filler.range.start && head - start < MAX_PLAIN_NAME && says(start - 1) {
            start -= 1;
        }
        let value = param
            .accepted_text(&[query.slice(start..head)])
            .filter(|_| start < head);
        if let Some(value) = value {
            filler.put(index, value, start..head);
        }
    }
}

/// Gives quoted texts to the params that take texts.
pub(super) fn quoted(filler: &mut Filler<'_>) {
    let takers = [Kind::Text, Kind::Content, Kind::Topic, Kind::Name];
    let order = |param: &Param| takers.iter().position(|&kind| kind == param.kind);
    for at in filler.range.clone() {
        let Some(token) = filler
            .query
            .token(at)
            .filter(|t| t.kind == TokenKind::Quoted)
        else {
            continue;
        };
        if filler.is_used(at) {
            continue;
        }
        let taker = filler
            .open()
            .into_iter()
            .filter(|(_, p)| order(p).is_some() && (p.required || p.kind != Kind::Name))
            .min_by_key(|(_, p)| (!p.required, order(p)))
            .and_then(|(index, param)| Some((index, param.accepted_text(&[token.text])?)));
        if let Some((index, value)) = taker {
            filler.put(index, value, at..at + 1);
        }
    }
}

/// Gives required names the proper nouns that nothing announced, and then what words are left.
pub(super) fn names(filler: &mut Filler<'_>) {
    for (index, param) in filler.open() {
        if !param.required || !matches!(param.kind, Kind::Name | Kind::Ticker) {
            continue;
        }
        let proper = |f: &Filler<'_>, at: usize| {
            let lower = f.query.lower(at);
            is_proper(f, at)
                && !f.is_known_word(at)
                && !is_stop(lower)
                && !is_generic(lower)
                && !is_command(lower)
        };
        let plain = |f: &Filler<'_>, at: usize| {
            is_free_word(f, at)
                && f.query.is_content(at)
                && !f.is_known_word(at)
                && !is_command(f.query.lower(at))
                && plain_end(f, at) > at
        };
        let range = filler.range.clone();
        let start = range
            .clone()
            .find(|&at| proper(filler, at))
            .or_else(|| range.clone().find(|&at| plain(filler, at)));
        let found = start
            .map(|at| listed_names(filler, param, at))
            .unwrap_or_default();
        for (value, tokens) in found {
            filler.put(index, value, tokens);
        }
    }
}

/// Gives a required topic or text what is left of the clause after the words that ask for the capability.
pub(super) fn texts(filler: &mut Filler<'_>) {
    for (index, param) in filler.open() {
        if !param.required || !matches!(param.kind, Kind::Topic | Kind::Text) {
            continue;
        }
        if let Some((value, tokens)) = remainder(filler, param) {
            filler.put(index, value, tokens);
        }
    }
}

fn remainder(filler: &Filler<'_>, param: &Param) -> Option<(Value, Range<usize>)> {
    let query = filler.query;
    let asks = |at: usize| {
        let lower = query.lower(at);
        filler.is_known_word(at)
            || is_command(lower)
            || is_generic(lower)
            || is_question(lower)
            || is_article(lower)
            || matches!(
                lower,
                "" | "me"
                    | "us"
                    | "please"
                    | "following"
                    | ":"
                    | ","
                    | "\n"
                    | "i"
                    | "want"
                    | "would"
                    | "like"
                    | "to"
                    | "of"
                    | "for"
                    | "word"
                    | "phrase"
                    | "sentence"
            ) && query.token(at).is_none_or(|t| t.kind != TokenKind::Quoted)
    };
    let from = filler.range.clone().find(|&at| !asks(at))?;
    let end = (from..filler.range.end)
        .find(|&at| filler.is_used(at))
        .unwrap_or(filler.range.end);
    phrase_value(filler, param, from..end, Says::Something)
}
