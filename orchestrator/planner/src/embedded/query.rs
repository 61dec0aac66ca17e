//! A query, read once: its tokens, its facts, and the words that mark what follows them.
//!
//! Does not know any capability.

use std::ops::Range;

use jiff::civil::Date;

use super::facts::{Fact, Meaning, facts};
use super::text::{Token, TokenKind, tokens};
use super::words::{ENDS_MARK, FREE, Mark, PREFACE, QUOTES, SAYING, mark, phrase};

/// A query, read once.
#[derive(Debug)]
pub(super) struct Query<'q> {
    pub(super) text: &'q str,
    pub(super) tokens: Vec<Token<'q>>,
    pub(super) facts: Vec<Fact>,
    /// By token: the fact that it belongs to.
    in_fact: Vec<Option<usize>>,
    /// By token: how the words before it mark it, and these words.
    marks: Vec<Option<(Mark, Range<usize>)>>,
    /// By token: the words before a colon or a pause that may say whose words it is among.
    leads: Vec<Option<Range<usize>>>,
    pub(super) today: Date,
}

impl<'q> Query<'q> {
    pub(super) fn new(text: &'q str, today: Date) -> Self {
        let tokens = without_phrases(tokens(text));
        let facts = facts(text, &tokens, today);
        let mut in_fact = vec![None; tokens.len()];
        for (number, fact) in facts.iter().enumerate() {
            let places = in_fact
                .iter_mut()
                .take(fact.tokens.end)
                .skip(fact.tokens.start);
            places.for_each(|place| *place = Some(number));
        }
        let mut query = Self {
            text,
            tokens,
            facts,
            in_fact,
            marks: Vec::new(),
            leads: Vec::new(),
            today,
        };
        query.marks = query.find_marks();
        query.leads = query.find_leads();
        query
    }

    pub(super) fn token(&self, at: usize) -> Option<&Token<'q>> {
        self.tokens.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.lower.as_str())
    }

    /// The stem of the word at a place.
    pub(super) fn stem(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.stem.as_str())
    }

    pub(super) fn is_capitalised(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(Token::is_capitalised)
    }

    /// Whether a word in lower case, of letters alone, stands at a place.
    pub(super) fn is_plain(&self, at: usize) -> bool {
        let letters = |t: &Token<'_>| t.is_word() && t.lower.chars().all(char::is_alphabetic);
        self.fact(at).is_none()
            && !self.is_capitalised(at)
            && self.tokens.get(at).is_some_and(letters)
    }

    /// Whether a token is a word of one of the classes.
    pub(super) fn is(&self, at: usize, classes: u64) -> bool {
        self.tokens.get(at).is_some_and(|t| t.has(classes))
    }

    /// The word before a token; nothing at the beginning.
    pub(super) fn before(&self, at: usize) -> &str {
        at.checked_sub(1).map_or("", |at| self.lower(at))
    }

    pub(super) fn fact(&self, at: usize) -> Option<&Fact> {
        self.facts.get((*self.in_fact.get(at)?)?)
    }

    pub(super) fn mark(&self, at: usize) -> Option<&(Mark, Range<usize>)> {
        self.marks.get(at)?.as_ref()
    }

    /// Whether a word says that somebody else gave the words beside it: "she told me", but not "as I said".
    pub(super) fn quotes(&self, at: usize) -> bool {
        let own = matches!(self.before(at), "i" | "you" | "we" | "i've" | "you've");
        self.is(at, QUOTES) && !own
    }

    pub(super) fn lead(&self, at: usize) -> Option<&Range<usize>> {
        self.leads.get(at)?.as_ref()
    }

    /// Whether the words at `first` leave something out or bound it, with a mark that begins at `from` or after it.
    pub(super) fn restricts(&self, from: usize, first: usize) -> bool {
        let marks = |at: usize| {
            let cue = self.mark(at).map(|(_, cue)| cue.start);
            cue.is_some_and(|cue| (from..first + 2).contains(&cue))
        };
        marks(first + 1) || marks(first + 2)
    }

    /// The text that some tokens stand for, as written.
    pub(super) fn slice(&self, range: Range<usize>) -> &'q str {
        let tokens = self.tokens.get(range).unwrap_or_default();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            return "";
        };
        self.text
            .get(first.start..last.end)
            .unwrap_or_default()
            .trim()
    }

    /// A word that says something by itself, or a part of a fact.
    pub(super) fn is_content(&self, at: usize) -> bool {
        let fact = self.fact(at).is_some();
        self.token(at).is_some_and(|t| match t.kind {
            TokenKind::Word => fact || !t.has(FREE),
            TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
            TokenKind::Mark | TokenKind::Line => false,
        })
    }

    /// What stands before a colon leads all that follows up to the next empty line; before a pause only words of saying do.
    fn find_leads(&self) -> Vec<Option<Range<usize>>> {
        let (mut first, mut says) = (0, false);
        let mut lead: Option<Range<usize>> = None;
        let mut leads = Vec::with_capacity(self.tokens.len());
        for (at, token) in self.tokens.iter().enumerate() {
            leads.push(lead.clone());
            says |= self.quotes(at);
            let ends = token.is_line() || matches!(token.lower.as_str(), "." | "!" | "?" | ";");
            let pause = ends || matches!(token.lower.as_str(), "," | "-" | "–" | "—");
            let empty = |at: usize| self.token(at).is_some_and(Token::is_line);
            if token.is_line() && empty(at + 1) && lead.as_ref().is_some_and(|l| l.end + 1 < at) {
                (lead, says) = (None, false);
            } else if lead.is_none() && self.fact(at).is_none() && (token.is(":") || pause && says)
            {
                lead = Some(first..at);
            }
            if ends || token.is(":") {
                (first, says) = (at + 1, false);
            }
        }
        leads
    }

    fn is_number(&self, at: usize) -> bool {
        self.fact(at)
            .is_some_and(|f| matches!(f.meaning, Meaning::Number(..)))
    }

    /// What is marked by "without" and the like reaches to the next preposition or mark of punctuation; bounds reach to one number.
    fn find_marks(&self) -> Vec<Option<(Mark, Range<usize>)>> {
        let mut marks = Vec::with_capacity(self.tokens.len());
        let mut open: Option<(Mark, Range<usize>)> = None;
        let mut opening = None;
        let mut between = false;
        for (at, token) in self.tokens.iter().enumerate() {
            let span = self.fact(at).is_some_and(|f| f.span().is_some());
            let adjacent = open.as_ref().is_some_and(|(_, cue)| cue.end == at);
            if (token.has(ENDS_MARK) || token.kind == TokenKind::Line || span) && !adjacent {
                open = None;
            }
            let bound = matches!(open, Some((Mark::Least | Mark::Most, _)));
            let own = open.clone().filter(|_| !bound || self.is_number(at));
            let after = || {
                (at + 1..=at + 2).find_map(|from| {
                    let words = self.tokens.iter().skip(from).map(|t| t.lower.as_str());
                    let (mark, length) = mark(words, &["least_after", "most_after"])?;
                    Some((mark, from..from + length))
                })
            };
            marks.push(
                own.or_else(|| after().filter(|_| self.is_number(at) && !self.is_number(at + 1))),
            );
            if bound && self.is_number(at) && !self.is_number(at + 1) {
                // "between 200 and 400"
                let next = between.then_some((Mark::Most, at + 1..at + 2));
                open = next
                    .filter(|_| (at + 1..at + 4).any(|at| matches!(self.lower(at), "and" | "to")));
                between = false;
            }
            let to = || (at + 2..at + 4).any(|at| self.lower(at) == "to" && self.is_number(at + 1));
            if self.is_number(at + 1) && (token.is("between") || token.is("from") && to()) {
                (between, open) = (true, Some((Mark::Least, at..at + 1)));
            } else if opening.is_none() && !span {
                let words = self.tokens.iter().skip(at).map(|t| t.lower.as_str());
                opening = mark(words, &["except", "least", "most"])
                    .map(|(mark, length)| (mark, at..at + length));
            }
            if let Some(cue) = opening.take_if(|(_, cue)| cue.end == at + 1) {
                open = Some(cue);
            }
        }
        marks
    }
}

/// Leaves out greetings and phrases of courtesy: "don't forget to", "cheers". What somebody is to be told keeps its words.
fn without_phrases(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let ends = |at: usize| {
        let token = tokens.get(at);
        token.is_none_or(|t| matches!(t.kind, TokenKind::Mark | TokenKind::Line))
    };
    let mut keep = vec![true; tokens.len()];
    let (mut at, mut begins) = (0, true);
    while let Some(token) = tokens.get(at) {
        let words = tokens.iter().skip(at).map(|t| t.lower.as_str());
        let found = phrase(words, &["lead", "aside"]).filter(|(list, length)| {
            let bound = matches!(token.lower.as_str(), "when" | "while" | "if");
            let aside = ends(at + length) && (begins || bound);
            aside || (begins && *list == "lead" && !ends(at + length))
        });
        if let Some((_, length)) = found {
            // Its comma goes with it, the one before where the sentence ends.
            let comma = |at: usize| {
                tokens
                    .get(at)
                    .is_some_and(|t| matches!(t.lower.as_str(), "," | ":" | "-" | "–" | "!"))
            };
            let own = usize::from(comma(at + length) && begins);
            let from = at - usize::from(at > 0 && own == 0 && comma(at - 1));
            let places = keep.iter_mut().take(at + length + own).skip(from);
            places.for_each(|keep| *keep = false);
            at += length + own;
            continue;
        }
        if token.has(SAYING) || matches!(token.lower.as_str(), "say" | "that") {
            break;
        }
        begins = ends(at) || (begins && token.has(PREFACE));
        at += 1;
    }
    if keep.iter().all(|keep| !keep) {
        return tokens;
    }
    let kept = tokens.into_iter().zip(keep).filter(|(_, keep)| *keep);
    kept.map(|(token, _)| token).collect()
}
