//! Names in a query: proper nouns, lists of them, and plain words where a name is required.
//!
//! Does not find what announces a name; see [`super::phrase`].

use std::ops::Range;

use serde_json::Value;

use super::fill::Filler;
use super::kind::Kind;
use super::phrase::Found;
use super::spec::Param;
use super::text::{Token, TokenKind};
use super::words::{is_article, is_command, is_generic, is_joint, is_question, is_stop};

/// Longest name in lower case, in words: longer runs are sentences.
const MAX_PLAIN_NAME: usize = 3;

/// A name, and those that are listed after it: "Paris, London and Rome", but "Paris, France" is one.
pub(super) fn listed_names(filler: &Filler<'_>, param: &Param, from: usize) -> Found {
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
