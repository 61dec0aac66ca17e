//! Finds names, topics and texts by the words that announce them.
//!
//! Does not know dates, numbers and known values; see [`super::fill`].

use std::ops::Range;

use amcp_protocol::Effect;

use super::card::{GENITIVE, Param, Role};
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
/// The weight of a text that is announced as one: "saying …", ": …".
const SAID: f32 = 7.0;

/// Finds the values that words announce for one param.
struct Finder<'a> {
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
    let named = matches!(param.kind, Kind::Name | Kind::Ticker | Kind::Topic);
    if !named && !finder.takes_text() {
        return finder.found;
    }
    for at in words.range.clone() {
        match (finder.announces(at), param.kind) {
            (None, _) => {}
            (Some(weight), Kind::Name | Kind::Ticker) => finder.names(at + 1, weight, Some(at)),
            (Some(weight), _) => finder.phrase(at, weight),
        }
    }
    if named && param.role != Some(Role::Except) {
        words.range.clone().for_each(|at| finder.beside(at));
    }
    finder.found
}

/// Whether a word announces the param's value, by the examples or by the param's name.
pub(super) fn is_cue(param: &Param, word: &str) -> bool {
    let topic = param.kind == Kind::Topic && is(word, ABOUT);
    let named = || cues(word).any(|name| param.words.iter().any(|w| w == name));
    topic || param.cues.contains(word) || named()
}

impl Finder<'_> {
    fn lower(&self, at: usize) -> &str {
        self.words.query.lower(at)
    }

    fn is(&self, at: usize, classes: u64) -> bool {
        self.words.query.is(at, classes)
    }

    fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.words.token(at)
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
        let proper = self.is_proper(tokens.start);
        // Any word could be a symbol: without a capital only the known ones are.
        let symbol = self.param.kind == Kind::Ticker && !proper;
        let value = self.param.accepted(&[text]).filter(|_| !symbol);
        if let (Some(value), Some(mark)) = (value, self.words.marked(self.param, tokens.start)) {
            let mut candidate = Candidate::new(self.index, value, tokens, weight);
            candidate.is_plain = self.param.kind == Kind::Name && !proper;
            candidate.cue = cue.filter(|_| mark.is_empty()).unwrap_or(mark);
            self.found.push(candidate);
        }
    }

    /// How surely the word at a place announces the param's value.
    fn announces(&self, at: usize) -> Option<f32> {
        let param = self.param;
        if param.role == Some(Role::Except) {
            let cue = self.words.marked(param, at + 1)?;
            return (cue.end == at + 1 && !cue.is_empty()).then_some(3.0);
        }
        let token = self.token(at)?;
        let word = token.lower.as_str();
        let own = param.words.contains(&token.stem) && !self.words.is_own(at);
        let usual = match self.takes_text() {
            true => word == "say",
            // "on the table" names no name.
            false => {
                let place = is(word, PREPOSITION) && (word != "on" || param.kind == Kind::Topic);
                place || token.number().is_some()
            }
        };
        if self.takes_text() && is(word, SAYING) {
            Some(SAID)
        } else if param.cues.contains(word) {
            Some(3.0)
        } else if own || is_cue(param, word) {
            Some(2.0)
        } else {
            (param.required && usual).then_some(1.0)
        }
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
        if let ([first, second], 1, false) = (names.as_mut_slice(), commas, joined)
            && self.is_proper(second.start)
        {
            first.end = second.end;
            names.truncate(1);
            // More than the known value that is a part of it: "Paris, Texas".
            part = 4.0;
        }
        for tokens in names {
            let proper = self.is_proper(tokens.start);
            // What cannot be undone is not done to something that only may be a name.
            if !proper && self.words.card.capability().effect == Effect::Irreversible {
                continue;
            }
            // A capital says more than a preposition that the examples do not have.
            let capital = if proper { 0.6 + part } else { 0.0 };
            // A number that announces says something of its own.
            let word = cue.filter(|cue| self.token(*cue).is_some_and(Token::is_word));
            self.put(tokens, weight + capital, word.map(|cue| cue..cue + 1));
        }
    }

    /// The name that begins at a place: proper nouns, or a few words in lower case.
    fn name(&self, mut from: usize) -> Option<Range<usize>> {
        let skipped = |word: &str| is_article(word) || matches!(word, "is" | "are" | ":" | "=");
        while skipped(self.lower(from)) && from < self.words.range.end {
            from += 1;
        }
        let end = match self.is_proper(from) {
            true => self.proper_end(from),
            false => self.plain_end(from),
        };
        (end > from).then_some(from..end)
    }

    /// A word that no fact has.
    fn is_free(&self, at: usize) -> bool {
        self.words.query.fact(at).is_none() && self.token(at).is_some_and(Token::is_word)
    }

    fn is_proper(&self, at: usize) -> bool {
        let capital = |t: &Token<'_>| t.is_capitalised() && !t.has(STOP);
        self.is_free(at) && self.token(at).is_some_and(capital)
    }

    fn is_genitive(&self, at: usize) -> bool {
        self.token(at)
            .is_some_and(|t| t.name().len() < t.text.len())
    }

    /// Capitalised words, with the small words and numbers inside of names: "Rio de Janeiro", "Pixel 9".
    fn proper_end(&self, from: usize) -> usize {
        let mut end = from + 1;
        while !self.is_genitive(end - 1) {
            let digits = |t: &Token<'_>| t.text.contains(|c: char| c.is_ascii_digit());
            let number = match self.words.query.fact(end).map(|f| &f.meaning) {
                Some(Meaning::Number(_, None)) | None => !self.is(end + 1, MONEY),
                Some(_) => false,
            };
            if self.is_proper(end) || (number && self.token(end).is_some_and(digits)) {
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
        let fits = |token: &Token<'_>, at: usize| {
            let mut params = self.words.card.params.iter().flat_map(|p| &p.words);
            let known = self.words.is_own(at) || params.any(|word| *word == token.stem);
            let grammar = token.has(FREE | QUESTION | PEOPLE | NEGATIVE);
            let cue = at == from && (token.has(ADVERBIAL) || cues(&token.lower).next().is_some());
            self.is_free(at) && !(known || grammar || cue)
        };
        let most = from + MAX_PLAIN;
        let ends = |at: &usize| !self.token(*at).is_some_and(|token| fits(token, *at));
        (from..most).find(ends).unwrap_or(most)
    }

    /// A text up to the end, or a topic up to the next value, cue of a text, or mark. Words at its end that join it to others
    /// do not belong to it; a pronoun is none.
    fn phrase(&mut self, cue: usize, weight: f32) {
        let text = self.takes_text();
        let mut from = cue + 1;
        let skipped = |word: &str| match text {
            true => word == ":",
            false => matches!(word, "the" | "a" | "an"),
        };
        while skipped(self.lower(from)) {
            from += 1;
        }
        let ends = |at: &usize| {
            let word = self
                .token(*at)
                .is_some_and(|t| t.is_word() || t.is("'") || t.is("-"));
            !word || self.words.query.fact(*at).is_some() || self.is(*at, ENDS_TOPIC)
        };
        let most = self.words.range.end;
        let mut end = match text {
            true => most,
            false => (from..most.min(from + MAX_TOPIC))
                .find(ends)
                .unwrap_or(most.min(from + MAX_TOPIC)),
        };
        let quoted = self
            .token(from)
            .is_some_and(|t| t.kind == TokenKind::Quoted);
        while from < end && self.is(end - 1, LOOSE) && self.lower(cue) != ":" {
            end -= 1;
        }
        let says = |at: usize| {
            let word = self.token(at).filter(|t| t.kind != TokenKind::Mark);
            word.is_some_and(|t| !t.has(PRONOUN) && !is_article(&t.lower))
        };
        if (from..end).any(says) && !(text && quoted) {
            let cue = cue..if text { from } else { cue + 1 };
            self.put(from..end, weight, Some(cue));
        }
    }

    /// Names beside the words that they belong to: "a chuck norris joke", "Anna's deals", "Paris weather".
    fn beside(&mut self, at: usize) {
        let (param, query, start) = (self.param, self.words.query, self.words.range.start);
        let Some(token) = self.token(at).filter(|t| t.is_word()) else {
            return;
        };
        // "Email Bob": a capital at the beginning says nothing.
        let command = at == start && token.has(ASK | COMMAND | QUESTION);
        let grammar = command || self.words.is_own(at) || token.has(FREE | ACRONYM);
        let (proper, reads) = (self.is_proper(at), self.words.card.reads());
        // After a preposition only one that announces such names counts.
        if self.is_free(at) && !grammar && !is(query.before(at), PREPOSITION) {
            let end = if proper { self.proper_end(at) } else { at + 1 };
            if self.is_genitive(end - 1) && param.cues.contains(GENITIVE) {
                self.put(at..end, 3.0, None);
            } else if proper && param.kind != Kind::Topic && param.required {
                self.names(at, 0.8, None);
            }
        }
        // "berlin weather", "weather berlin", but not "weather weather wea"
        let again = at > start && query.stem(at - 1) == query.stem(at);
        let compound = param.required && param.kind == Kind::Name && self.words.is_own(at);
        if !compound || !reads || again {
            return;
        }
        let plain = |&at: &usize| {
            let grammar = self.words.is_own(at) || self.is(at, COMMAND | QUESTION | ADVERBIAL);
            self.is_free(at) && query.is_content(at) && !grammar
        };
        let end = self.words.range.end;
        let before = (start..at).rev().take(MAX_PLAIN).take_while(plain).last();
        let after = (at + 1..end).take(MAX_PLAIN).take_while(plain).last();
        let before = before.filter(|&from| from == start).map(|from| from..at);
        let after = after.filter(|&last| last + 1 == end);
        if let Some(tokens) = before.or(after.map(|last| at + 1..last + 1)) {
            self.put(tokens, 0.4, None);
        }
    }
}
