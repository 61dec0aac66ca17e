//! Values that are phrases: names, topics and free texts, found by the words before them or by what is left.
//!
//! Does not know dates, numbers and known values: those were taken before.

use std::ops::Range;

use serde_json::Value;

use super::fill::{Filler, Reach};
use super::kind::Kind;
use super::names::listed_names;
use super::spec::Param;
use super::text::{Token, TokenKind};
use super::words::{is_article, is_command, is_generic, is_question, is_stop};

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

pub(super) type Found = Vec<(Value, Range<usize>)>;

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
