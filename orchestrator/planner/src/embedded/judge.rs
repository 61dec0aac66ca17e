//! Whether some capabilities, filled from a clause, do what the clause says: each content word is explained, nothing is denied,
//! and nothing is changed that nobody asked to change.
//!
//! Does not choose capabilities and does not fill them.

use std::ops::Range;
use std::rc::Rc;

use amcp_protocol::Effect;

use super::card::Card;
use super::facts::Meaning;
use super::fill::Filled;
use super::kind::Kind;
use super::rank::Reading;
use super::text::TokenKind;
use super::words::{
    ASK, COMMAND, FREE, LIGHT, PEOPLE, PREFACE, PREPOSITION, QUESTION, TAKES_BACK, is, is_article,
    is_negative,
};

/// Most leftover words that are named to the user.
const SHOWN: usize = 5;

/// A capability of a clause, and what the clause says about its params.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) entry: usize,
    pub(super) filled: Rc<Filled>,
}

/// A clause beside the capabilities that could carry it out.
pub(super) struct Case<'a> {
    pub(super) reading: &'a Reading<'a>,
    pub(super) range: &'a Range<usize>,
    pub(super) members: &'a [Member],
}

/// How a clause asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// With the verb at this token.
    Command(usize),
    Question,
    /// "I need the deal marked".
    Wish,
    /// Without a verb: "expense report for Q4".
    Phrase,
    /// "the garage is open".
    Statement,
}

impl<'a> Case<'a> {
    fn lower(&self, at: usize) -> &str {
        self.reading.query.lower(at)
    }

    fn cards(&self) -> impl Iterator<Item = &'a Card> {
        self.members
            .iter()
            .filter_map(|m| self.reading.index.card(m.entry))
    }

    fn uses(&self, at: usize) -> bool {
        self.members.iter().any(|m| m.filled.uses(at))
    }

    /// Whether the word stands for a member, or for a param that it has a value for.
    fn names(&self, at: usize) -> bool {
        let stem = self.reading.query.token(at).map_or("", |t| t.stem.as_str());
        let filled = |m: &Member, card: &Card| {
            let mut params = card
                .params
                .iter()
                .filter(|p| m.filled.values.contains_key(&p.name));
            params.any(|p| p.words.iter().any(|word| word == stem))
        };
        let card = |m: &Member| {
            self.reading
                .index
                .card(m.entry)
                .is_some_and(|card| filled(m, card))
        };
        self.members
            .iter()
            .any(|m| self.reading.names(at, m.entry) || card(m))
    }

    /// Why the clause is not carried out by the members, leaving aside words that they do not explain.
    pub(super) fn objection(&self) -> Option<String> {
        self.denied().or_else(|| self.unasked_change())
    }

    /// "without travel", "more than 500", "don't": no param takes it.
    fn denied(&self) -> Option<String> {
        let handed_on = self.cards().any(|card| card.plans);
        let denies = |at: &usize| {
            let marked = self
                .reading
                .query
                .mark(*at)
                .filter(|(_, cue)| self.range.contains(&cue.start));
            let lost = marked.is_some_and(|(_, cue)| !self.uses(cue.start));
            if handed_on {
                is_negative(self.lower(*at))
            } else {
                lost || (is_negative(self.lower(*at)) && !self.uses(*at))
            }
        };
        let at = self.range.clone().find(denies)?;
        let from = self
            .reading
            .query
            .mark(at)
            .map_or(at, |(_, cue)| cue.start.max(self.range.start));
        let end = (at.max(from) + 3).min(self.range.end);
        Some(format!(
            "no agent here can take '{}' into account",
            self.reading.query.slice(from..end)
        ))
    }

    /// What changes something is asked for with a verb that its card names.
    fn unasked_change(&self) -> Option<String> {
        let mood = self.mood();
        if let Mood::Command(verb) = mood
            && self.cards().all(Card::reads)
            && let Some(other) = self.changer(verb)
        {
            return Some(format!(
                "'{}' asks for a change that {} cannot make of this",
                self.lower(verb),
                other.name()
            ));
        }
        for card in self.cards().filter(|card| !card.reads()) {
            let asked = match mood {
                Mood::Command(verb) if card.plans => !is(self.lower(verb), TAKES_BACK),
                Mood::Question | Mood::Phrase | Mood::Statement | Mood::Wish if card.plans => true,
                Mood::Command(verb) => self.commands(card, verb),
                Mood::Wish => {
                    self.range.clone().any(|at| self.is_verb(card, at))
                        || card.capability().effect == Effect::Write
                }
                Mood::Phrase => card.capability().effect == Effect::Write,
                Mood::Question | Mood::Statement => false,
            };
            if !asked {
                return Some(format!(
                    "{} changes something, and this does not ask for that",
                    card.name()
                ));
            }
        }
        None
    }

    /// A capability that changes something and has the verb of a command as its own: then the command asks for that one.
    fn changer(&self, verb: usize) -> Option<&'a Card> {
        let next = self.reading.query.token(verb + 1)?;
        let object = is_article(&next.lower)
            || matches!(
                next.lower.as_str(),
                "it" | "them" | "all" | "off" | "on" | "up" | "every"
            )
            || !next.is_word()
            || next.is_capitalised();
        let stem = &self.reading.query.token(verb)?.stem;
        let mut cards = self
            .reading
            .changers
            .iter()
            .filter_map(|&entry| self.reading.index.card(entry));
        (object && is(self.lower(verb), COMMAND))
            .then(|| cards.find(|card| card.own.contains(stem)))
            .flatten()
    }

    fn commands(&self, card: &Card, verb: usize) -> bool {
        let lower = self.lower(verb);
        if is(lower, ASK) {
            return self.is_verb(card, verb);
        }
        let light = is(lower, LIGHT) && card.capability().effect == Effect::Write;
        light
            || self.is_verb(card, verb)
            || self
                .members
                .iter()
                .any(|m| self.is_of(card, m) && self.reading.names(verb, m.entry))
    }

    fn is_of(&self, card: &Card, member: &Member) -> bool {
        self.reading
            .index
            .card(member.entry)
            .is_some_and(|other| std::ptr::eq(other, card))
    }

    fn is_verb(&self, card: &Card, at: usize) -> bool {
        self.reading.query.token(at).is_some_and(|t| {
            card.words.contains(&t.stem) && !card.params.iter().any(|p| p.words.contains(&t.stem))
        })
    }

    /// "can you", "I need to" and the like are commands in disguise.
    fn mood(&self) -> Mood {
        let mut wished = false;
        let mut at = self.range.start;
        while at < self.range.end {
            let (lower, next) = (self.lower(at), self.lower(at + 1));
            if matches!(lower, "can" | "could" | "would" | "will") && next == "you" {
                at += 2;
                wished = true;
            } else if is(lower, PREFACE) && !is(lower, QUESTION)
                || matches!(lower, "," | "me" | "us" | "to" | "help")
                || (lower == "be" && wished)
            {
                wished |= matches!(lower, "need" | "want" | "like" | "wish" | "i'd");
                at += 1;
            } else {
                break;
            }
        }
        let word = self.lower(at);
        let own = || {
            self.cards().any(|card| self.is_verb(card, at))
                && !self
                    .reading
                    .query
                    .token(at)
                    .is_some_and(|t| t.is_capitalised() && at > self.range.start)
        };
        let states = |at: usize| {
            matches!(
                self.lower(at),
                "is" | "are" | "was" | "were" | "did" | "has" | "had" | "does"
            )
        };
        if is(word, QUESTION) && !wished {
            Mood::Question
        } else if is(word, ASK | LIGHT | COMMAND) {
            Mood::Command(at)
        } else if wished {
            Mood::Wish
        } else if self.range.clone().any(states) {
            Mood::Statement
        } else if own() {
            Mood::Command(at)
        } else {
            Mood::Phrase
        }
    }

    /// The words that stand for nothing.
    pub(super) fn left_over(&self) -> Vec<usize> {
        if self.cards().any(|card| card.plans) {
            return Vec::new();
        }
        let first = self
            .reading
            .first_word(self.range)
            .unwrap_or(self.range.end);
        self.range
            .clone()
            .filter(|&at| self.is_left(at, first))
            .collect()
    }

    fn is_left(&self, at: usize, first: usize) -> bool {
        let Some(token) = self.reading.query.token(at) else {
            return false;
        };
        if self.uses(at) || at < first {
            return false;
        }
        let reads = || self.cards().all(Card::reads);
        match self.reading.query.fact(at).map(|f| &f.meaning) {
            // Today's prices are the latest ones.
            Some(Meaning::Span(span))
                if span.from == Some(self.reading.query.today) && span.to == span.from =>
            {
                !reads()
            }
            Some(Meaning::Span(_)) => token.is_word() || token.number().is_some(),
            Some(_) => {
                token.kind != TokenKind::Mark && !(is_article(&token.lower) || self.is_free(at))
            }
            None => match token.kind {
                TokenKind::Word => !self.is_free(at) && !self.names(at) && !self.is_beneficiary(at),
                TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
                TokenKind::Mark => {
                    token.is("%")
                        && self
                            .cards()
                            .any(|c| c.params.iter().any(|p| p.kind == Kind::Expression))
                }
                TokenKind::Line => false,
            },
        }
    }

    /// A word that needs no explanation. Questions for a reason, a person, a time or a place do, where no card speaks of them.
    fn is_free(&self, at: usize) -> bool {
        let lower = self.lower(at);
        if lower == "when" && self.lower(at + 1) == "you" {
            return true;
        }
        if matches!(
            lower,
            "why" | "who" | "who's" | "whom" | "whose" | "when" | "where" | "should"
        ) && self.opens_question(at)
        {
            let word = lower.trim_end_matches("'s");
            return self.cards().any(|card| speaks_of(card, word));
        }
        // "what is it good for", "which one is the best"
        let next = self.lower(at + 1);
        let last = at + 1 >= self.range.end || matches!(next, "?" | "." | "!" | ",");
        let dangles = last && matches!(lower, "for" | "of" | "about" | "with" | "from");
        if dangles
            || (matches!(lower, "best" | "good" | "better") && (last || is(next, PREPOSITION)))
        {
            return false;
        }
        let stem = self.reading.query.token(at).map_or("", |t| t.stem.as_str());
        is(lower, FREE)
            || is(stem, ASK | LIGHT)
            || self.reading.is_slip(at)
            || (is(lower, PREFACE) && is(self.reading.query.before(at), PREFACE))
    }

    fn opens_question(&self, at: usize) -> bool {
        at == self.range.start
            || self.reading.first_word(self.range) == Some(at)
            || self.lower(at) != "should"
    }

    /// "for my boss"
    fn is_beneficiary(&self, at: usize) -> bool {
        let before = self.reading.query.before(at);
        let article = is_article(before);
        let lead = at
            .checked_sub(1 + usize::from(article))
            .map_or("", |at| self.lower(at));
        is(self.lower(at), PEOPLE) && lead == "for"
    }

    /// Whether all that the clause says is explained by values and names.
    pub(super) fn shown(&self, left: &[usize]) -> String {
        let words: Vec<&str> = left
            .iter()
            .take(SHOWN)
            .map(|&at| self.reading.query.slice(at..at + 1))
            .collect();
        words.join(" ")
    }
}

/// Whether a card's description or examples use a word.
fn speaks_of(card: &Card, word: &str) -> bool {
    let capability = card.capability();
    let texts = capability
        .examples
        .iter()
        .map(|e| &e.query)
        .chain([&capability.description]);
    let mut words = texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.any(|said| said.eq_ignore_ascii_case(word))
}
