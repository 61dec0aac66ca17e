//! Finds names, topics and texts by the words that announce them.
//!
//! Does not know dates, numbers and known values; see [`super::fill`].

use std::ops::Range;

use amcp_protocol::Effect;

use super::card::{AFTER_NUMBER, GENITIVE, Param, Role};
use super::facts::Meaning;
use super::fill::{Candidate, Words};
use super::kind::Kind;
use super::text::{Token, TokenKind};
use super::words::{
    ABOUT, ACRONYM, ADVERBIAL, ASK, COMMAND, ENDS_TOPIC, FREE, LOOSE, MONEY, NEGATIVE, PARTICLE,
    PEOPLE, PREPOSITION, PRONOUN, QUESTION, SAYING, STOP, cues, is, is_article, is_joint,
};

/// Longest name in lower case, in words: longer runs are sentences.
const MAX_PLAIN: usize = 3;
/// Longest topic, in tokens.
const MAX_TOPIC: usize = 8;
/// The weight of a name that nothing announces and nothing requires, but for its capital.
const UNCUED: f32 = 0.2;
/// The weight of a text that is announced as one: "saying …", ": …".
const SAID: f32 = 7.0;

/// Finds the values that words announce for one param.
pub(super) struct Finder<'a> {
    words: &'a Words<'a>,
    index: usize,
    param: &'a Param,
    found: Vec<Candidate>,
}

/// The values that words announce for a param.
pub(super) fn candidates<'a>(
    words: &'a Words<'a>,
    index: usize,
    param: &'a Param,
) -> Vec<Candidate> {
    let found = Vec::new();
    let mut finder = Finder {
        words,
        index,
        param,
        found,
    };
    if !matches!(
        param.kind,
        Kind::Name | Kind::Ticker | Kind::Topic | Kind::Text | Kind::Content
    ) {
        return finder.found;
    }
    for at in words.range.clone() {
        let Some(strength) = finder.announces(at) else {
            continue;
        };
        let weight = strength + if param.required { 0.3 } else { 0.0 };
        if finder.takes_text() {
            finder.text(at, weight);
        } else if param.kind == Kind::Topic {
            finder.topic(at, weight);
        } else {
            finder.names(at + 1, weight, Some(at));
        }
    }
    if !finder.takes_text() && param.role != Some(Role::Except) {
        words.range.clone().for_each(|at| finder.beside(at));
    }
    finder.found
}

/// Whether a word announces the param's value, by the examples or by the param's name.
pub(super) fn is_cue(param: &Param, word: &str) -> bool {
    let topic = param.kind == Kind::Topic && is(word, ABOUT);
    param.cues.contains(word)
        || topic
        || cues(word).any(|name| param.words.iter().any(|w| w == name))
}

impl Finder<'_> {
    fn lower(&self, at: usize) -> &str {
        self.words.query.lower(at)
    }

    fn is(&self, at: usize, classes: u64) -> bool {
        self.words.query.is(at, classes)
    }

    fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.words
            .query
            .token(at)
            .filter(|_| at < self.words.range.end)
    }

    fn takes_text(&self) -> bool {
        matches!(self.param.kind, Kind::Text | Kind::Content)
    }

    /// Adds the text of some tokens, without a genitive ending, unless a word before marks it for another param.
    fn put(&mut self, tokens: Range<usize>, weight: f32, cue: Option<Range<usize>>) {
        let query = self.words.query;
        let ending = query
            .token(tokens.end - 1)
            .map_or(0, |t| t.text.len() - t.name().len());
        let text = query.slice(tokens.clone());
        let text = text.get(..text.len() - ending).unwrap_or(text);
        // Any word could be a symbol: without a capital only the known ones are.
        let symbol = self.param.kind == Kind::Ticker && !self.is_proper(tokens.start);
        let value = self
            .param
            .accepted(&[text])
            .filter(|_| !symbol && !text.is_empty());
        if let (Some(value), Some(mark)) = (value, self.words.marked(self.param, tokens.start)) {
            let mut candidate = Candidate::new(self.index, value, tokens, weight);
            candidate.is_plain =
                self.param.kind == Kind::Name && !self.is_proper(candidate.tokens.start);
            candidate.cue = cue.filter(|_| mark.is_empty()).unwrap_or(mark);
            self.found.push(candidate);
        }
    }

    /// How surely the word at a place announces the param's value.
    fn announces(&self, at: usize) -> Option<f32> {
        let (param, query) = (self.param, self.words.query);
        let token = query.token(at)?;
        let word = token.lower.as_str();
        if param.role == Some(Role::Except) {
            let own = self
                .words
                .marked(param, at + 1)
                .filter(|cue| !cue.is_empty())?;
            return (own.end == at + 1).then_some(3.0);
        }
        if self.takes_text() && is(word, SAYING) {
            return Some(SAID);
        }
        if param.cues.contains(word) {
            return Some(3.0);
        }
        let number = token.number().is_some() && query.fact(at).is_some();
        if number && param.cues.contains(AFTER_NUMBER) {
            return Some(2.5);
        }
        let own = param.words.contains(&token.stem) && !self.words.is_own(at);
        if own || is_cue(param, word) {
            return Some(2.0);
        }
        let usual = match word {
            "say" => self.takes_text(),
            "that" => self.takes_text() && !self.is(at + 1, PREPOSITION),
            "about" | "of" | "for" => !self.takes_text(),
            "on" => param.kind == Kind::Topic,
            "in" | "at" | "near" | "from" | "to" | "with" => {
                matches!(param.kind, Kind::Name | Kind::Ticker)
            }
            _ => false,
        };
        (param.required && usual).then_some(1.0)
    }

    /// A name, and those that are listed after it: "Paris, London and Rome", but "Paris, France" is one.
    fn names(&mut self, from: usize, weight: f32, cue: Option<usize>) {
        let mut names: Vec<Range<usize>> = Vec::new();
        let (mut at, mut commas, mut joined) = (from, 0, false);
        while let Some(name) = self.name(at) {
            at = name.end;
            names.push(name);
            if !is_joint(self.lower(at)) {
                break;
            }
            let comma = self.lower(at) == ",";
            let both = comma && matches!(self.lower(at + 1), "and" | "or");
            commas += usize::from(comma);
            joined |= !comma || both;
            at += 1 + usize::from(both);
            while matches!(self.lower(at), "in" | "for" | "of" | "to" | "also" | "from") {
                at += 1;
            }
        }
        let mut part = 0.0;
        if let ([_, second], 1, false) = (names.as_slice(), commas, joined)
            && self.is_proper(second.start)
        {
            let end = second.end;
            names.truncate(1);
            names.iter_mut().for_each(|name| name.end = end);
            // More than the known value that is a part of it: "Paris, Texas".
            part = 4.0;
        }
        // A number that announces says something of its own.
        let word = cue.filter(|&cue| self.token(cue).is_none_or(|t| t.number().is_none()));
        for tokens in names {
            let proper = self.is_proper(tokens.start);
            // What cannot be undone is not done to something that only may be a name.
            if !proper && self.words.card.capability().effect == Effect::Irreversible {
                continue;
            }
            // A capital says more than a preposition that the examples do not have.
            let capital = if proper { 0.6 + part } else { 0.0 };
            self.put(tokens, weight + capital, word.map(|cue| cue..cue + 1));
        }
    }

    /// The name that begins at a place: proper nouns, or a few words in lower case.
    fn name(&self, mut from: usize) -> Option<Range<usize>> {
        let is_skipped = |word: &str| is_article(word) || matches!(word, "is" | "are" | ":" | "=");
        while is_skipped(self.lower(from)) && from < self.words.range.end {
            from += 1;
        }
        let proper = self.is_proper(from);
        let end = if proper {
            self.proper_end(from)
        } else {
            self.plain_end(from)
        };
        (end > from).then_some(from..end)
    }

    /// A word that no fact has.
    fn is_free(&self, at: usize) -> bool {
        self.words.query.fact(at).is_none() && self.token(at).is_some_and(Token::is_word)
    }

    fn is_proper(&self, at: usize) -> bool {
        let capital = self
            .token(at)
            .is_some_and(|t| t.is_capitalised() && !t.has(STOP));
        capital && self.is_free(at)
    }

    fn is_genitive(&self, at: usize) -> bool {
        self.token(at)
            .is_some_and(|t| t.name().len() < t.text.len())
    }

    /// Capitalised words, with the small words and numbers inside of names: "Rio de Janeiro", "Pixel 9".
    fn proper_end(&self, from: usize) -> usize {
        let mut end = from + 1;
        while !self.is_genitive(end - 1) {
            let number = self
                .words
                .query
                .fact(end)
                .is_some_and(|f| matches!(f.meaning, Meaning::Number(_, None)));
            let token = self.token(end);
            let numbered = number
                && token
                    .is_some_and(|t| t.kind == TokenKind::Number && !t.text.contains(['.', ',']))
                && !self.is(end + 1, MONEY);
            let digits = token.is_some_and(|t| t.text.contains(|c: char| c.is_ascii_digit()));
            if self.is_proper(end) || numbered || (digits && self.is_free(end)) {
                end += 1;
            } else if self.is(end, PARTICLE) && self.is_proper(end + 1) {
                end += 2;
            } else {
                break;
            }
        }
        end
    }

    /// Words in lower case up to the next word of grammar, or of the capability itself.
    fn plain_end(&self, from: usize) -> usize {
        let fits = |at: usize| {
            let Some(token) = self.token(at) else {
                return false;
            };
            let mut params = self.words.card.params.iter().flat_map(|p| &p.words);
            let known = self.words.is_own(at) || params.any(|word| *word == token.stem);
            let grammar = token.has(FREE | QUESTION | PEOPLE | NEGATIVE);
            let cue = at == from && (token.has(ADVERBIAL) || cues(&token.lower).next().is_some());
            self.is_free(at) && !(known || grammar || cue)
        };
        let most = from + MAX_PLAIN;
        (from..most).find(|&at| !fits(at)).unwrap_or(most)
    }

    /// A phrase up to the next value, cue of a text, or mark.
    fn topic(&mut self, cue: usize, weight: f32) {
        let mut from = cue + 1;
        while matches!(self.lower(from), "the" | "a" | "an") {
            from += 1;
        }
        let ends = |at: &usize| {
            let word = self
                .token(*at)
                .is_some_and(|t| t.is_word() || t.is("'") || t.is("-"));
            !word || self.words.query.fact(*at).is_some() || self.is(*at, ENDS_TOPIC)
        };
        let most = self.words.range.end.min(from + MAX_TOPIC);
        let end = (from..most).find(ends).unwrap_or(most);
        if let Some(tokens) = self.phrase(from..end) {
            self.put(tokens, weight, Some(cue..cue + 1));
        }
    }

    /// A text up to the end; after a learned cue up to the words that announce the last value of another param.
    fn text(&mut self, cue: usize, weight: f32) {
        let from = cue + 1 + usize::from(self.lower(cue + 1) == ":");
        if self.token(from).is_none_or(|t| t.kind == TokenKind::Quoted) {
            return;
        }
        let tokens = from..self.words.range.end;
        let whole = self.lower(cue) == ":";
        if let Some(tokens) = if whole {
            Some(tokens)
        } else {
            self.phrase(tokens)
        } {
            self.put(tokens, weight, Some(cue..from));
        }
    }

    /// The tokens of a phrase without the words at its end that join it to others; none for a pronoun.
    fn phrase(&self, mut tokens: Range<usize>) -> Option<Range<usize>> {
        while !tokens.is_empty() && self.is(tokens.end - 1, LOOSE) {
            tokens.end -= 1;
        }
        let says = |at: usize| {
            let word = self.token(at).filter(|t| t.kind != TokenKind::Mark);
            word.is_some_and(|t| !t.has(PRONOUN) && !is_article(&t.lower) && t.lower != "off")
        };
        tokens.clone().any(says).then_some(tokens)
    }

    /// Names beside the words that they belong to: "a chuck norris joke", "Anna's deals", "Paris weather".
    fn beside(&mut self, at: usize) {
        let (param, query, start) = (self.param, self.words.query, self.words.range.start);
        let Some(token) = query.token(at).filter(|t| t.is_word()) else {
            return;
        };
        // "Email Bob": a capital at the beginning says nothing.
        let opens = |at: usize| {
            let command = at == start && self.is(at, ASK | COMMAND | QUESTION);
            command || self.words.is_own(at) || self.is(at, FREE)
        };
        let inside = at > start && self.is_proper(at - 1) && !opens(at - 1);
        // After a preposition only one that announces such names counts.
        let placed = is(query.before(at), PREPOSITION);
        let proper = self.is_proper(at);
        // "Long day": the first word has its capital anyway.
        let phrase = |at: usize| {
            let plain = self.is_free(at) && query.is_content(at) && !self.is_proper(at);
            plain && !self.words.is_own(at)
        };
        let said = at == start && phrase(at + 1) && at + 1 < self.words.range.end;
        if self.is_free(at) && !(inside || placed || said || opens(at) || token.has(ACRONYM)) {
            let end = if proper { self.proper_end(at) } else { at + 1 };
            if self.is_genitive(end - 1) && param.cues.contains(GENITIVE) {
                self.put(at..end, 3.0, None);
            } else if proper
                && param.kind != Kind::Topic
                && (param.required || param.bare && self.words.card.reads() && self.is_only())
            {
                self.names(at, if param.required { 0.8 } else { UNCUED }, None);
            }
        }
        // "berlin weather", "weather berlin"
        let reads = self.words.card.reads();
        let compound = param.required && param.kind == Kind::Name && self.words.is_own(at) && reads;
        let plain = |&at: &usize| {
            let grammar = self.words.is_own(at) || self.is(at, COMMAND | QUESTION | ADVERBIAL);
            self.is_free(at) && query.is_content(at) && !grammar
        };
        let end = self.words.range.end;
        let before = (start..at).rev().take(MAX_PLAIN).take_while(plain).last();
        let after = (at + 1..end).take(MAX_PLAIN).take_while(plain).last();
        // "weather weather wea"
        let again = at > start && query.stem(at - 1) == query.stem(at);
        let compound = compound && !again;
        let before = before.filter(|&from| from == start).map(|from| from..at);
        let after = after
            .filter(|&last| last + 1 == end)
            .map(|last| at + 1..last + 1);
        if let Some(tokens) = before.or(after).filter(|_| compound) {
            self.put(tokens, 0.4, None);
        }
    }

    /// Whether a name can mean no other param.
    fn is_only(&self) -> bool {
        let params = self.words.card.params.iter();
        params
            .filter(|p| p.kind == Kind::Name && p.role.is_none())
            .count()
            == 1
    }
}
