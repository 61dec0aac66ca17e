//! Whether some capabilities, filled from a clause, do what the clause says: each content word is explained, nothing is denied,
//! and nothing is changed that nobody asked to change.
//!
//! Does not choose capabilities and does not fill them.

use std::ops::Range;
use std::rc::Rc;

use amcp_protocol::Effect;

use super::card::Card;
use super::facts::{Fact, Meaning};
use super::fill::Filled;
use super::kind::Kind;
use super::rank::{PLACED, Reading};
use super::text::{TokenKind, stem};
use super::words::{
    ARTICLE, ASK, CHANGE, COMMAND, FILLER, FREE, LIGHT, NEGATIVE, PEOPLE, POLITE, PREFACE,
    PREPOSITION, PRONOUN, QUESTION, REPORTS, STATES, SUBJECT, TAKES_BACK, TELLS, TURNS, base, is,
    is_article, is_negative, synonyms,
};

/// Most leftover words that are named to the user.
const SHOWN: usize = 5;

/// A capability of a clause, and what the clause says about its params.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub(super) entry: usize,
    pub(super) card: &'a Card,
    pub(super) filled: Rc<Filled>,
}

/// A clause beside the capabilities that could carry it out.
pub(super) struct Case<'a> {
    pub(super) reading: &'a Reading<'a>,
    pub(super) range: &'a Range<usize>,
    /// The part of it that asks; the rest tells what is asked about.
    pub(super) ask: &'a Range<usize>,
    pub(super) members: &'a [Member<'a>],
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

    fn is(&self, at: usize, classes: u64) -> bool {
        self.reading.query.is(at, classes)
    }

    fn reads(&self) -> bool {
        self.cards().all(Card::reads)
    }

    fn cards(&self) -> impl Iterator<Item = &'a Card> {
        self.members.iter().map(|m| m.card)
    }

    fn uses(&self, at: usize) -> bool {
        self.members.iter().any(|m| m.filled.uses(at))
    }

    /// Whether the word stands for a member, or for a param that it has a value for.
    fn names(&self, at: usize) -> bool {
        let stem = self.reading.query.token(at).map(|t| &t.stem);
        let filled = |m: &Member<'_>| {
            let mut params = m.card.params.iter();
            params.any(|p| {
                (m.filled.values.contains_key(&p.name) || p.consumed)
                    && p.words.iter().any(|w| Some(w) == stem)
            })
        };
        let mut members = self.members.iter();
        let name = self.reading.query.is_capitalised(at) && at > self.range.start;
        members.any(|m| self.reading.names(at, m.entry, name) || filled(m))
    }

    /// Why the clause is not carried out by the members, leaving aside words that they do not explain.
    pub(super) fn objection(&self) -> Option<String> {
        let tells = || "this tells something, and asks for nothing".to_owned();
        let told = || self.tells_only().then(tells);
        let denied = self.denied().or_else(told);
        denied.or_else(|| self.unasked_change())
    }

    /// "I already know the weather in Rome", "the deal was lost": nothing is asked, not even to read.
    fn tells_only(&self) -> bool {
        let (first, end) = (self.ask.start, self.ask.end);
        if self.lower(end) == "?" || self.mood() != Mood::Statement {
            return false;
        }
        let skipped = |at: &usize| self.is(*at, TELLS | PREFACE | FILLER);
        let verb = (first..end).find(|at| !skipped(at)).unwrap_or(first);
        let knows = matches!(
            base(self.lower(verb)),
            "know" | "had" | "see" | "hear" | "remember"
        );
        let own = matches!(self.lower(first), "i" | "we" | "it" | "it's")
            && !is(self.reading.query.stem(verb), ASK);
        let states = |at: usize| matches!(self.lower(at), "is" | "are" | "was" | "were");
        // "orders that were delivered"
        let relates = |at: usize| matches!(self.reading.query.before(at), "that" | "which" | "who");
        let asks = |at: usize| self.is(at, QUESTION) && !self.is(at, STATES);
        let tells = own || self.ask.clone().any(|at| states(at) && !relates(at));
        knows || (tells && !self.ask.clone().any(asks))
    }

    /// "without travel", "more than 500", "don't": no param takes it.
    pub(super) fn denied(&self) -> Option<String> {
        let query = self.reading.query;
        // All words of a clause that is handed on are used.
        let handed_on = self.cards().any(|card| card.plans);
        let cue = |at: usize| {
            let mark = query.mark(at).map(|(_, cue)| cue.start);
            mark.filter(|start| self.range.contains(start) && !handed_on)
        };
        let denies = |&at: &usize| {
            let only =
                self.lower(at) == "only" && matches!(self.lower(at + 1), "if" | "when" | "once");
            let negative = is_negative(self.lower(at)) && (handed_on || !self.uses(at));
            let condition = handed_on && self.lower(at) == "if" && !self.is_free(at);
            only || negative || condition || cue(at).is_some_and(|start| !self.uses(start))
        };
        let at = self.range.clone().find(denies)?;
        let end = (at + 3).min(self.range.end);
        let shown = query.slice(cue(at).unwrap_or(at)..end);
        Some(format!("no agent here can take '{shown}' into account"))
    }

    /// What changes something is asked for with a verb that its card names.
    fn unasked_change(&self) -> Option<String> {
        let mood = self.mood();
        let refused = |verb: usize| {
            let verb = self.lower(verb);
            Some(format!(
                "'{verb}' asks for a change, and no agent here makes it"
            ))
        };
        if let Mood::Command(verb) = mood
            && !self.uses(verb)
            && self.reads()
            && self.asks_for_change(verb)
        {
            return refused(verb);
        }
        let reported = self.is_reported();
        let asked = |card: &Card| {
            if reported {
                return false;
            }
            let writes = card.capability().effect == Effect::Write;
            match mood {
                Mood::Command(verb) if card.plans => !self.is(verb, TAKES_BACK),
                Mood::Command(verb) => self.commands(card, verb),
                Mood::Wish if card.plans || writes => true,
                Mood::Wish => self.range.clone().any(|at| self.is_verb(card, at)),
                Mood::Phrase => card.plans || (writes && !self.is_told()),
                Mood::Question => card.plans,
                Mood::Statement => false,
            }
        };
        let several =
            |m: &Member<'_>| !m.card.reads() && m.filled.values.values().any(|v| v.len() > 1);
        if self.members.iter().any(several) && self.range.clone().any(|at| self.lower(at) == "or") {
            return Some("say which one: 'or' leaves it open".to_owned());
        }
        let unasked = self.cards().find(|card| !card.reads() && !asked(card))?;
        if let Mood::Command(verb) = mood
            && self.is(verb, TAKES_BACK)
        {
            return refused(verb);
        }
        let name = unasked.name();
        let why = format!("{name} changes something, and this does not ask for that");
        Some(why)
    }

    /// Whether the words before a colon say who else asks: "Anna's text: lock the door". Courtesy says nobody, nor does what
    /// names the work itself: "Two bookings have to go: …".
    fn is_reported(&self) -> bool {
        let query = self.reading.query;
        let named = |at: usize| {
            let mut members = self.members.iter();
            members.any(|m| self.reading.names(at, m.entry, query.is_capitalised(at)))
        };
        let other = |at: usize| {
            let said = query.is_content(at) && !self.is(at, PREFACE) && query.fact(at).is_none();
            query.quotes(at) || (said && !named(at))
        };
        let mut lead = query.lead(self.ask.start).cloned().unwrap_or_default();
        // "…, she told me"
        let mut after = self.ask.end + 1..self.ask.end + 4;
        let tag = self.lower(self.ask.end) == "," && after.any(|at| query.quotes(at));
        tag || lead.any(other)
    }

    /// "my meeting tomorrow", "a meeting tomorrow?" speak of something that is there.
    fn is_told(&self) -> bool {
        let first = self.reading.first_word(self.ask).unwrap_or(self.ask.start);
        let there = |at: usize| matches!(self.lower(at), "there" | "got");
        let told = |at: usize| self.is(at, ARTICLE | PRONOUN | STATES) || there(at);
        (self.ask.start..first + 1).any(told) || self.lower(self.ask.end) == "?"
    }

    /// Whether a command asks for more than to read: "order it", "open a store", "make it warmer".
    fn asks_for_change(&self, verb: usize) -> bool {
        let query = self.reading.query;
        // "turn off the light"
        let particle = matches!(self.lower(verb + 1), "on" | "off" | "up" | "down" | "out");
        let next = query.token(verb + 1 + usize::from(particle));
        let Some((verb, next)) = query.token(verb).zip(next) else {
            return false;
        };
        let pronoun = matches!(next.lower.as_str(), "it" | "them");
        let named = !next.is_word() || next.is_capitalised();
        let noun = is_article(&next.lower) || matches!(next.lower.as_str(), "all" | "every");
        let own = self.cards().any(|card| card.own.contains(&verb.stem));
        let others = self.reading.changers.iter();
        let mut others = others.filter_map(|&entry| self.reading.index.card(entry));
        let changes = verb.has(CHANGE) || others.any(|card| card.words.contains(&verb.stem));
        let object = pronoun || named || noun || !own;
        (verb.has(LIGHT) && pronoun) || (object && changes && verb.has(COMMAND))
    }

    fn commands(&self, card: &Card, verb: usize) -> bool {
        let lower = self.lower(verb);
        // "take" and "give" turn many things into their opposite.
        let any = matches!(lower, "make" | "set" | "put" | "turn" | "create" | "do");
        if self.is_verb(card, verb) || (any && card.capability().effect == Effect::Write) {
            return true;
        }
        // A synonym of the card's verb means another card that names it: "move", where one card sends and another one moves.
        let changers = self.reading.changers.iter();
        let mut changers = changers.filter_map(|&entry| self.reading.index.card(entry));
        let mut others = synonyms(lower).filter(|_| !is(lower, ASK));
        !changers.any(|other| self.is_verb(other, verb))
            && others.any(|other| card.words.contains(&stem(other)))
    }

    fn is_verb(&self, card: &Card, at: usize) -> bool {
        let (stem, lower) = (self.reading.query.stem(at), self.lower(at));
        let mut params = card.params.iter().flat_map(|p| &p.words);
        // "text Piotr" to a card that has "text" as a keyword and as a param.
        let mut keywords = card.capability().keywords.iter();
        let commands = self.is(at, COMMAND) && keywords.any(|keyword| keyword == lower);
        card.words.contains(stem) && (commands || params.all(|word| word != stem))
    }

    /// "can you", "I need to" and the like are commands in disguise.
    fn mood(&self) -> Mood {
        let (mut at, end) = (self.ask.start, self.ask.end);
        let (mut wished, mut subject) = (false, false);
        while at < end {
            let (lower, next) = (self.lower(at), self.lower(at + 1));
            let preface = is(lower, PREFACE) && !is(lower, QUESTION);
            let asks = matches!(lower, "can" | "could" | "would" | "will" | "may");
            if asks && matches!(next, "you" | "i" | "we") {
                at += 2;
                wished |= next == "you" || matches!(self.lower(at), "get" | "have");
            } else if preface
                || (subject && is(lower, FILLER))
                || matches!(lower, "," | "me" | "us" | "to" | "help")
                || (lower == "be" && wished)
            {
                wished |= matches!(lower, "need" | "want" | "i'd" | "we'd")
                    || matches!((lower, next), ("wish", "to"));
                subject |= matches!(lower, "i" | "we" | "you");
                at += 1;
            } else {
                break;
            }
        }
        // "the door needs locking"
        let needed = |at: &usize| {
            matches!(self.reading.query.before(*at), "need" | "needs")
                && self.lower(*at).ends_with("ing")
        };
        let asks = self.is(at, QUESTION) || self.lower(end) == "?";
        if let Some(verb) = (at + 1..end).find(needed).filter(|_| !asks) {
            return Mood::Command(verb);
        }
        let word = self.lower(at);
        let name = self.reading.query.is_capitalised(at) && at > self.ask.start;
        // What was done or goes on is told, not asked for: "bought", "buying".
        let named = |card: &Card| card.name().split('.').any(|part| part.starts_with(word));
        let done = word.ends_with("ed") || word.ends_with("ing") || base(word) != word;
        let told = done && !self.cards().any(named);
        // "Bob wants me to …", "Anna should …", but "the kitchen should be at 20 degrees".
        let tells = |at: usize| self.is(at, REPORTS) && self.lower(at + 1) != "be";
        let states = |at: usize| self.is(at, STATES) || (at > self.ask.start && tells(at));
        let polite = wished || (self.ask.clone()).any(|at| self.lower(at) == "please");
        let command = is(word, ASK | LIGHT | COMMAND) && (self.reads() || polite);
        let open = self.lower(end) == "?" && !wished && !command;
        let noun = matches!(self.lower(at + 1), "of");
        let clause = (self.ask.start..end).take_while(|at| self.lower(*at) != ",");
        // "it rained", "it's freezing"
        let it = matches!(self.lower(self.ask.start), "it" | "it's");
        if (is(word, QUESTION) && !wished) || open {
            Mood::Question
        } else if (subject || it) && !wished {
            Mood::Statement
        } else if is(word, ASK | LIGHT | COMMAND) && !noun {
            Mood::Command(at)
        } else if wished {
            Mood::Wish
        } else if told || clause.clone().any(states) {
            Mood::Statement
        } else if !name && !noun && self.cards().any(|card| self.is_verb(card, at)) {
            Mood::Command(at)
        } else {
            Mood::Phrase
        }
    }

    /// The words that stand for nothing.
    pub(super) fn left_over(&self) -> Vec<usize> {
        let handed_on = self.cards().any(|card| card.plans);
        let first = self.reading.first_word(self.range).filter(|_| !handed_on);
        let words = first.unwrap_or(self.range.end)..self.range.end;
        let (start, end) = (self.range.start, self.range.end);
        let beside = [start..self.ask.start, self.ask.end..end];
        let beside = beside.map(|part| Some(part).filter(|part| self.tells_beside(part)));
        let told = |at: &usize| beside.iter().flatten().any(|part| part.contains(at));
        words.filter(|at| self.is_left(*at) && !told(at)).collect()
    }

    /// Whether a part tells of what is asked about, and asks nothing itself: "We're flying to Rome on Friday. How warm will it be?"
    fn tells_beside(&self, part: &Range<usize>) -> bool {
        let turns = |at: usize| self.is(at, TURNS) || is_negative(self.lower(at));
        let first = self.reading.first_word(part).unwrap_or(part.start);
        let told = self.is(part.start, TELLS) || self.is(first, TELLS | PRONOUN | SUBJECT);
        told && !part.clone().any(turns)
    }

    fn is_left(&self, at: usize) -> bool {
        let query = self.reading.query;
        // "a job in finance" names no place where another agent knows of finance.
        let strange =
            |m: &Member<'_>| m.filled.plain.contains(&at) && self.means_other(at, m.entry);
        if self.members.iter().any(strange) {
            return true;
        }
        let Some(token) = query.token(at).filter(|_| !self.uses(at)) else {
            return false;
        };
        let fact = query.fact(at);
        if let Some(span) = fact.and_then(Fact::span) {
            // Today's prices are the latest ones.
            let today = span.from == Some(query.today) && span.to == span.from;
            let dated = |card: &Card| card.params.iter().any(|p| p.kind == Kind::Date);
            let now = today && self.cards().all(|card| card.reads() && !dated(card));
            return !now && (token.is_word() || token.number().is_some());
        }
        match token.kind {
            TokenKind::Word if fact.is_some() && self.counts_list(at) => false,
            TokenKind::Word if fact.is_some() => !is_article(&token.lower) && !self.is_free(at),
            TokenKind::Word => !self.is_free(at) && !self.names(at) && !self.is_beneficiary(at),
            // "two jokes, about food and about cars"
            TokenKind::Number if self.counts_list(at) => false,
            TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
            TokenKind::Mark => {
                let mut params = self.cards().flat_map(|card| &card.params);
                token.is("%") && fact.is_none() && params.any(|p| p.kind == Kind::Expression)
            }
            TokenKind::Line => false,
        }
    }

    /// Whether a number counts the values of a list that is there.
    fn counts_list(&self, at: usize) -> bool {
        let mut lists = self.members.iter().flat_map(|m| m.filled.values.values());
        let number = self.reading.query.fact(at).map(|fact| &fact.meaning);
        #[expect(clippy::cast_precision_loss, reason = "lists are short")]
        let counts = |list: &Vec<_>| {
            list.len() > 1
                && matches!(number, Some(Meaning::Number(n, None)) if *n == list.len() as f64)
        };
        lists.any(counts)
    }

    /// Whether a word stands for another capability, and says less of this one.
    fn means_other(&self, at: usize, entry: usize) -> bool {
        let own = self.reading.worth(at, entry);
        let mut hits = self.reading.hits(at).iter();
        hits.any(|hit| hit.entry != entry && hit.strength >= PLACED && hit.strength > own)
    }

    /// A word that needs no explanation. Questions for a reason, a person, a time or a place do, where no card speaks of them.
    fn is_free(&self, at: usize) -> bool {
        let query = self.reading.query;
        let (lower, before, next) = (self.lower(at), query.before(at), self.lower(at + 1));
        let first = self.reading.first_word(self.range) == Some(at);
        match lower {
            // "I wonder if you could", but not a condition.
            "if" => next == "possible" || (matches!(next, "you" | "i") && self.is(at + 2, POLITE)),
            "out" | "down" | "up" if matches!(next, "of" | "to" | "for") => true,
            "off" | "out" | "away" | "down" if !self.reads() => {
                self.cards().any(|card| speaks_of(card, lower))
            }
            "last" if !self.reads() => true,
            "where" if is(next, SUBJECT) && self.reads() => true,
            "when" if is(next, SUBJECT) && matches!(self.lower(at + 2), "i" | "we") => true,
            "should" if !first => true,
            // "guests who arrive tomorrow", "who is the manager of Anna"
            "who" if !first || is(next, ARTICLE | STATES) => true,
            "why" | "who" | "whom" | "whose" | "when" | "where" | "should" => {
                self.cards().any(|card| speaks_of(card, lower))
            }
            _ => {
                let prefaced = is(lower, PREFACE) && is(before, PREFACE);
                let grammar = is(lower, FREE) || is(query.stem(at), ASK | LIGHT);
                prefaced || grammar || self.is_verb_of_reading(at)
            }
        }
    }

    /// The verb of a question that only reads says nothing of what is read: "what should we expect", "costing us".
    fn is_verb_of_reading(&self, at: usize) -> bool {
        let query = self.reading.query;
        let (lower, before, next) = (self.lower(at), query.before(at), self.lower(at + 1));
        let plain = query.is_plain(at) && !self.is(at, CHANGE | TAKES_BACK);
        let inflected = ["ed", "ing"].iter().any(|ending| lower.ends_with(ending));
        let object = is_article(next) || is(next, PRONOUN | SUBJECT);
        let verb = is(before, SUBJECT) || (inflected && object);
        plain && verb && self.reads()
    }

    /// "for my boss"
    fn is_beneficiary(&self, at: usize) -> bool {
        let article = usize::from(is_article(self.reading.query.before(at)));
        let lead = at.checked_sub(1 + article).map_or("", |at| self.lower(at));
        let my = article == 1 && self.is(at - 1, PRONOUN | TELLS) && self.reads();
        lead == "for" && (self.is(at, PEOPLE) || (my && !self.reading.query.is_content(at + 1)))
    }

    /// A noun or a verb in lower case that nothing puts beside the data: without it the same is read.
    pub(super) fn is_harmless(&self, at: usize) -> bool {
        let query = self.reading.query;
        let lead = query.before(at);
        let first = self.reading.first_word(self.range) == Some(at);
        let turns = self.is(at, CHANGE | TAKES_BACK | TURNS | NEGATIVE);
        let bound =
            first || is_article(lead) || is(lead, PREPOSITION | NEGATIVE | TURNS | QUESTION);
        let unknown = query.is_plain(at) && self.reading.hits(at).is_empty();
        unknown && !turns && !bound && self.reads()
    }

    /// The words that are understood and change nothing.
    pub(super) fn note(&self) -> Option<String> {
        let people = |&at: &usize| self.is_beneficiary(at) && !self.uses(at);
        let at = self.range.clone().find(people)?;
        let article = usize::from(is_article(self.reading.query.before(at)));
        let words = self.reading.query.slice(at - 1 - article..at + 1);
        Some(format!("'{words}' changed nothing"))
    }

    /// Some words, as they were written.
    pub(super) fn shown(&self, left: &[usize]) -> String {
        let left = left.iter().take(SHOWN);
        let words = left.map(|&at| self.reading.query.slice(at..at + 1));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Whether a card's keywords, description or examples use a word.
fn speaks_of(card: &Card, word: &str) -> bool {
    let capability = card.capability();
    let examples = capability.examples.iter().map(|e| &e.query);
    let texts = examples
        .chain([&capability.description])
        .chain(&capability.keywords);
    let mut words = texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.any(|said| said.eq_ignore_ascii_case(word))
}
