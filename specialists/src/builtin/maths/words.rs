//! From an expression in text to its parts: numbers, words, signs, each with its place.
//!
//! Does not know what they come to.

use super::number::{MathError, Number};
use super::parse::{is_function, syntax};

/// Words before an expression that are no part of it.
const LEAD_INS: &str = "what is the result of, what is the value of, how much is, what is, what's, calculate, compute, evaluate, solve";

/// Words that stand for others or for signs, longest first.
const SPELLINGS: &str = "raised to power of=^, difference between=difference, to power of=^, absolute value=abs, multiplied by=*, divided by=/, \
    square root=sqrt, cube root=cbrt, natural logarithm=ln, natural log=ln, more than=morethan, less than=lessthan, per cent=%, \
    logarithm=log, multiply=product, quarters=(1/4), quarter=(1/4), thirds=(1/3), third=(1/3), half=(1/2), twice=2 *, \
    double=2 *, triple=3 *, percent=%, degrees=deg, degree=deg, radians=rad, squared=^2, cubed=^3, modulo=mod, minus=-, times=*, \
    plus=+, over=/, cosine=cos, tangent=tan, sine=sin, average=avg, mean=avg, largest=max, maximum=max, smallest=min, \
    minimum=min, total=sum";

/// From zero.
const NUMBERS: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
    seventeen eighteen nineteen twenty";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Number(Number),
    Word(String),
    Sign(char),
}

/// A part and its place: the number of its first character, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) part: Part,
    pub(super) at: usize,
}

fn spellings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SPELLINGS
        .split(", ")
        .filter_map(|pair| pair.split_once('='))
}

/// The expression without what people say before and after it.
pub(super) fn bare(text: &str) -> &str {
    let mut rest = text.trim().trim_end_matches(['?', '=', '.', ' ']);
    for lead_in in LEAD_INS.split(", ") {
        let begins = rest
            .get(..lead_in.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(lead_in));
        if let Some(after) = rest.get(lead_in.len()..).filter(|_| begins)
            && !after.starts_with(char::is_alphanumeric)
        {
            rest = after.trim_start_matches([' ', ':']);
        }
    }
    rest
}

/// The parts of an expression, other spellings replaced by one.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, MathError> {
    let plain = split(&text.to_lowercase())?;
    let mut rest = plain.as_slice();
    let mut tokens = Vec::new();
    while let [first, after @ ..] = rest {
        let spelling = spellings().find_map(|(words, spelled)| {
            let mut rest = rest.iter();
            let is_there =
                |word| matches!(rest.next(), Some(Token { part: Part::Word(w), .. }) if w == word);
            words
                .split(' ')
                .all(is_there)
                .then_some((rest.as_slice(), spelled))
        });
        let number = match &first.part {
            Part::Word(word) => NUMBERS.split(' ').position(|number| number == word),
            Part::Number(_) | Part::Sign(_) => None,
        };
        let (after, spelled) = match (spelling, number) {
            (Some((after, spelled)), _) => (after, split(spelled)?),
            (None, Some(number)) => (after, split(&number.to_string())?),
            (None, None) => (after, vec![first.clone()]),
        };
        tokens.extend(spelled.into_iter().map(|token| Token {
            at: first.at,
            ..token
        }));
        rest = after;
    }
    Ok(tokens)
}

/// Whether the word before a parenthesis makes what is in it arguments.
fn names_function(word: &str) -> bool {
    let spelled = spellings().find(|(words, _)| *words == word);
    is_function(spelled.map_or(word, |(_, spelled)| spelled))
}

fn split(text: &str) -> Result<Vec<Token>, MathError> {
    let mut tokens: Vec<Token> = Vec::new();
    // Whether the innermost open parenthesis holds a function's arguments: there a comma parts them, elsewhere thousands.
    let mut in_arguments = vec![false];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.chars().count() - rest.chars().count() + 1;
        let second = rest.chars().nth(1);
        let mut length = first.len_utf8();
        let mut push = |part| tokens.push(Token { part, at });
        match first {
            _ if first.is_whitespace() => (),
            // An amount is a number.
            '$' | '€' | '£' if second.is_some_and(|c| c.is_ascii_digit()) => (),
            '.' | '0'..='9' if first != '.' || second.is_some_and(|c| c.is_ascii_digit()) => {
                let (number, taken) = number(rest, in_arguments.last() == Some(&true))?;
                push(Part::Number(number));
                length = taken;
            }
            'π' => push(Part::Word("pi".to_owned())),
            '√' => push(Part::Word("sqrt".to_owned())),
            '°' => push(Part::Word("deg".to_owned())),
            '²' | '³' => {
                push(Part::Sign('^'));
                push(Part::Number(Number::whole(if first == '²' {
                    2
                } else {
                    3
                })));
            }
            _ if first.is_alphabetic() => {
                let end = rest
                    .find(|c: char| !c.is_alphabetic())
                    .unwrap_or(rest.len());
                // `log2` and `log10` are the only names with digits.
                let named = ["log10", "log2"]
                    .into_iter()
                    .find(|name| rest.starts_with(name));
                let word = named.or(rest.get(..end)).unwrap_or_default();
                length = word.len();
                if !["the", "a", "an"].contains(&word) {
                    push(Part::Word(word.to_owned()));
                }
            }
            '*' if second == Some('*') => {
                push(Part::Sign('^'));
                length = 2;
            }
            '×' | '·' | '∙' => push(Part::Sign('*')),
            '÷' | ':' => push(Part::Sign('/')),
            '−' | '–' => push(Part::Sign('-')),
            '(' | '[' | '{' => {
                in_arguments.push(matches!(tokens.last(), Some(Token { part: Part::Word(word), .. }) if names_function(word)));
                tokens.push(Token {
                    part: Part::Sign('('),
                    at,
                });
            }
            ')' | ']' | '}' => {
                in_arguments.pop();
                push(Part::Sign(')'));
            }
            '+' | '-' | '*' | '/' | '^' | '%' | '!' | ',' => push(Part::Sign(first)),
            other => {
                return Err(syntax(format!(
                    "'{other}' at character {at} is not understood"
                )));
            }
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

/// The number at the beginning of a text and how many bytes it takes.
fn number(text: &str, in_arguments: bool) -> Result<(Number, usize), MathError> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let group = |at: usize| {
        bytes.get(at) == Some(&b',')
            && digit(at + 1)
            && digit(at + 2)
            && digit(at + 3)
            && !digit(at + 4)
    };
    let mut end = 0;
    while digit(end) || (!in_arguments && group(end)) {
        end += 1;
    }
    if bytes.get(end) == Some(&b'.')
        && (digit(end + 1) || !bytes.get(end + 1).is_some_and(u8::is_ascii_alphanumeric))
    {
        end += 1;
        while digit(end) {
            end += 1;
        }
    }
    let mantissa_end = end;
    let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
    if bytes.get(end) == Some(&b'e') && digit(end + 1 + usize::from(signed)) {
        end += 1 + usize::from(signed);
        while digit(end) {
            end += 1;
        }
    }
    let plain = text.get(..end).unwrap_or_default().replace(',', "");
    let mantissa = text
        .get(..mantissa_end)
        .unwrap_or_default()
        .replace(',', "");
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    let exponent: i32 = text
        .get(mantissa_end + 1..end)
        .map_or(Ok(0), str::parse)
        .map_err(|_| MathError::TooLarge)?;
    let scale = exponent.saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
    let exact = format!("{whole}{fraction}")
        .parse::<i128>()
        .ok()
        .filter(|_| scale.abs() <= 30);
    let value = match exact {
        Some(digits) => {
            Number::whole(digits).multiply(Number::whole(10).power(Number::whole(scale.into()))?)?
        }
        None => Number::approx(
            plain
                .parse()
                .map_err(|_| syntax(format!("'{plain}' is no number")))?,
        )?,
    };
    Ok((value, end))
}
