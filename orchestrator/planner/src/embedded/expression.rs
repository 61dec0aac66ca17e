//! Arithmetic as people type it: `12 * (3 + 4)`, `15% of 80`, `twelve times 3`, `square root of 16`.
//!
//! Does not calculate.

use super::text::{Token, TokenKind};

/// How "% of" is calculated.
pub(super) const PERCENT_OF: &str = " / 100 * ";

const FUNCTIONS: [&str; 14] = [
    "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "abs", "round", "floor", "ceil", "min", "max",
    "pow",
];

/// The longest expression at the start of `tokens` that has an operator or a function, and how many tokens it takes.
pub(super) fn read(tokens: &[Token<'_>]) -> Option<(usize, String)> {
    if let Some(read) = commanded(tokens) {
        return Some(read);
    }
    let mut parse = Parse {
        tokens,
        at: 0,
        text: String::new(),
        depth: 0,
        operators: 0,
    };
    let mut wants_operand = true;
    let mut best = None;
    while parse.at < tokens.len() {
        let done = if wants_operand {
            parse.operand()
        } else {
            parse.operator()
        };
        let Some(wants) = done else { break };
        wants_operand = wants;
        if !wants_operand && parse.depth == 0 && parse.operators > 0 {
            best = Some((parse.at, parse.text.trim().to_owned()));
        }
    }
    best
}

struct Parse<'a> {
    tokens: &'a [Token<'a>],
    at: usize,
    text: String,
    depth: usize,
    operators: usize,
}

impl Parse<'_> {
    fn lower(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |t| t.lower.as_str())
    }

    fn push(&mut self, text: &str, tokens: usize) {
        self.text.push_str(text);
        self.at += tokens;
    }

    /// Reads one operand or what may stand before it; says whether an operand is still wanted.
    fn operand(&mut self) -> Option<bool> {
        let lower = self.lower(0).to_owned();
        if let Some(number) = self.tokens.get(self.at).and_then(number_text) {
            self.push(&number, 1);
            return Some(false);
        }
        match lower.as_str() {
            "(" => {
                self.depth += 1;
                self.push("(", 1);
                Some(true)
            }
            "-" if !self.text.ends_with('-') => {
                self.push("-", 1);
                Some(true)
            }
            "pi" => {
                self.push("pi", 1);
                Some(false)
            }
            "square" if self.lower(1) == "root" => {
                let of = usize::from(self.lower(2) == "of");
                self.call("sqrt", 2 + of)
            }
            function if FUNCTIONS.contains(&function) && self.lower(1) == "(" => {
                self.operators += 1;
                self.depth += 1;
                self.push(&format!("{function}("), 2);
                Some(true)
            }
            _ => None,
        }
    }

    fn call(&mut self, function: &str, skip: usize) -> Option<bool> {
        self.at += skip;
        self.operators += 1;
        if self.lower(0) == "(" {
            self.depth += 1;
            self.push(&format!("{function}("), 1);
            return Some(true);
        }
        let number = self.tokens.get(self.at).and_then(number_text)?;
        self.push(&format!("{function}({number})"), 1);
        Some(false)
    }

    /// Reads one operator or what may stand after an operand; says whether an operand is wanted now.
    fn operator(&mut self) -> Option<bool> {
        let by = usize::from(matches!(self.lower(1), "by" | "with"));
        let (text, tokens) = match self.lower(0) {
            ")" if self.depth > 0 => {
                self.depth -= 1;
                self.push(")", 1);
                return Some(false);
            }
            "squared" => return self.suffix("^2"),
            "cubed" => return self.suffix("^3"),
            "%" | "percent" if self.lower(1) == "of" => (PERCENT_OF, 2),
            "%" => return None,
            "*" if self.lower(1) == "*" => ("^", 2),
            "*" | "×" | "·" | "x" | "times" => (" * ", 1),
            "multiplied" => (" * ", 1 + by),
            "/" | "÷" | "over" => (" / ", 1),
            "divided" => (" / ", 1 + by),
            "+" | "plus" => (" + ", 1),
            "-" | "–" | "−" | "minus" => (" - ", 1),
            "^" => ("^", 1),
            "mod" | "modulo" => (" % ", 1),
            "," if self.depth > 0 => (", ", 1),
            "to" if self.lower(1) == "the" && self.lower(2) == "power" => {
                ("^", 3 + usize::from(self.lower(3) == "of"))
            }
            _ => return None,
        };
        self.operators += 1;
        self.push(text, tokens);
        Some(true)
    }

    fn suffix(&mut self, text: &str) -> Option<bool> {
        self.operators += 1;
        self.push(text, 1);
        Some(false)
    }
}

/// `add 3 and 4`, `multiply 3 by 4`, `the sum of 3 and 4`, `subtract 3 from 10`.
fn commanded(tokens: &[Token<'_>]) -> Option<(usize, String)> {
    let lower = |i: usize| tokens.get(i).map_or("", |t| t.lower.as_str());
    let operator = match lower(0) {
        "add" | "sum" => "+",
        "multiply" | "product" => "*",
        "divide" | "quotient" => "/",
        "subtract" | "difference" => "-",
        _ => return None,
    };
    let mut at = 1 + usize::from(matches!(lower(1), "of" | "between"));
    let first = number_text(tokens.get(at)?)?;
    let joint = lower(at + 1);
    let second = number_text(tokens.get(at + 2)?)?;
    at += 3;
    let allowed = match operator {
        "+" => matches!(joint, "and" | "to" | ","),
        "*" | "/" => matches!(joint, "by" | "and" | "with"),
        _ => matches!(joint, "from" | "and"),
    };
    if !allowed {
        return None;
    }
    let (left, right) = if joint == "from" {
        (second, first)
    } else {
        (first, second)
    };
    let mut text = format!("{left} {operator} {right}");
    // A sum may have more terms.
    while operator == "+" && matches!(lower(at), "and" | ",") {
        let Some(term) = tokens.get(at + 1).and_then(number_text) else {
            break;
        };
        text = format!("{text} + {term}");
        at += 2;
    }
    Some((at, text))
}

fn number_text(token: &Token<'_>) -> Option<String> {
    if token.kind == TokenKind::Number {
        return token.number().map(|_| token.text.replace([',', '_'], ""));
    }
    const WORDS: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    WORDS
        .iter()
        .position(|w| token.is(w))
        .map(|n| n.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::text::tokens;
    use super::*;

    #[test]
    fn symbols_and_words() {
        for (query, expression) in [
            ("12 * (3 + 4) please", "12 * (3 + 4)"),
            ("12*7", "12 * 7"),
            ("2^10?", "2^10"),
            ("15% of 80", "15 / 100 * 80"),
            ("twelve times 3", "12 * 3"),
            ("10 divided by 4 plus 1", "10 / 4 + 1"),
            ("square root of 16", "sqrt(16)"),
            ("sqrt(2) * pi", "sqrt(2) * pi"),
            ("-3 - -4", "-3 - -4"),
            ("add 3 and 4 and 5", "3 + 4 + 5"),
            ("subtract 3 from 10", "10 - 3"),
            ("7 squared", "7^2"),
        ] {
            assert_eq!(
                read(&tokens(query)).map(|(_, e)| e).as_deref(),
                Some(expression),
                "{query}"
            );
        }
        for query in ["42", "(((", "3 +", "5 apples", "- and"] {
            assert_eq!(read(&tokens(query)), None, "{query}");
        }
    }
}
