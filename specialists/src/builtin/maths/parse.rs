//! From an expression in text to its value, in one pass.
//!
//! Does not know how numbers are computed or shown.

use super::number::{MathError, Number};

/// Deepest nesting: bounds the stack; people do not nest deeper.
const MAX_DEPTH: usize = 64;
/// Most arguments of a function.
const MAX_ARGUMENTS: usize = 100;

/// Words before an expression that are no part of it.
const LEAD_INS: &[&str] = &[
    "what is the result of",
    "what is the value of",
    "how much is",
    "what is",
    "what's",
    "calculate",
    "compute",
    "evaluate",
    "solve",
];

/// Words and signs that stand for others, longest first.
const SPELLINGS: &[(&str, &str)] = &[
    ("to the power of", "^"),
    ("the square root of", "sqrt"),
    ("square root of", "sqrt"),
    ("the cube root of", "cbrt"),
    ("cube root of", "cbrt"),
    ("multiplied by", "*"),
    ("divided by", "/"),
    ("percent of", "% of"),
    ("percent", "%"),
    ("degrees", "deg"),
    ("squared", "^2"),
    ("modulo", "mod"),
    ("cubed", "^3"),
    ("minus", "-"),
    ("times", "*"),
    ("plus", "+"),
    ("over", "/"),
];

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(Number),
    Word(String),
    Sign(char),
}

/// The value of an expression.
pub(super) fn evaluate(expression: &str) -> Result<Number, MathError> {
    let tokens = tokens(&spelled_out(expression))?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    let value = parser.sum()?;
    match parser.peek() {
        None => Ok(value),
        Some(token) => Err(unexpected(token)),
    }
}

fn spelled_out(expression: &str) -> String {
    let mut text: String = expression
        .to_lowercase()
        .replace("**", "^")
        .chars()
        .map(|c| match c {
            '×' | '·' | '∙' => '*',
            '÷' | ':' => '/',
            '−' | '–' => '-',
            '[' | '{' => '(',
            ']' | '}' => ')',
            other => other,
        })
        .collect();
    text = text
        .replace('√', " sqrt ")
        .replace('π', " pi ")
        .replace('°', " deg ");
    let mut rest = text.trim();
    for lead_in in LEAD_INS {
        rest = rest
            .strip_prefix(lead_in)
            .filter(|r| !r.starts_with(char::is_alphanumeric))
            .unwrap_or(rest);
    }
    // Words are replaced as whole words only: runs of letters are looked at, never their middle.
    let mut text = format!(
        " {} ",
        rest.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    for (words, sign) in SPELLINGS {
        text = text.replace(&format!(" {words} "), &format!(" {sign} "));
    }
    text
}

fn syntax(problem: impl Into<String>) -> MathError {
    MathError::Syntax(problem.into())
}

fn unexpected(token: &Token) -> MathError {
    match token {
        Token::Number(number) => syntax(format!(
            "the number {} is not expected there",
            number.show().0
        )),
        Token::Word(word) => syntax(format!("'{word}' is not known there")),
        Token::Sign(sign) => syntax(format!("'{sign}' is not expected there")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, MathError> {
    let mut tokens = Vec::new();
    // Whether the innermost open parenthesis holds a function's arguments: there a comma parts them, elsewhere thousands.
    let mut in_arguments = vec![false];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length;
        if first.is_ascii_digit()
            || (first == '.' && rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()))
        {
            let (number, taken) = number(rest, in_arguments.last() == Some(&true))?;
            tokens.push(Token::Number(number));
            length = taken;
        } else if first.is_alphabetic() {
            length = rest
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(rest.len());
            // `log2` and `log10` are the only names with digits.
            let named = ["log10", "log2"]
                .into_iter()
                .find(|name| rest.starts_with(name));
            let word = named.or(rest.get(..length)).unwrap_or_default();
            tokens.push(Token::Word(word.to_owned()));
            rest = rest.get(word.len()..).unwrap_or_default().trim_start();
            continue;
        } else {
            match first {
                '(' => in_arguments
                    .push(matches!(tokens.last(), Some(Token::Word(word)) if is_function(word))),
                ')' => drop(in_arguments.pop()),
                '+' | '-' | '*' | '/' | '^' | '%' | '!' | ',' => (),
                other => return Err(syntax(format!("'{other}' has no meaning here"))),
            }
            tokens.push(Token::Sign(first));
            length = first.len_utf8();
        }
        rest = rest.get(length..).unwrap_or_default().trim_start();
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

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, sign: char) -> bool {
        let takes = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, wanted: &[&str]) -> bool {
        let takes =
            matches!(self.peek(), Some(Token::Word(word)) if wanted.contains(&word.as_str()));
        self.at += usize::from(takes);
        takes
    }

    /// Whether an operand begins here, as after an operator that is not written.
    fn at_operand(&self) -> bool {
        match self.peek() {
            Some(Token::Number(_) | Token::Sign('(')) => true,
            Some(Token::Word(word)) => is_function(word) || constant(word).is_some(),
            Some(Token::Sign(_)) | None => false,
        }
    }

    fn sum(&mut self) -> Result<Number, MathError> {
        let mut value = self.product()?.0;
        loop {
            let minus = if self.takes('+') {
                false
            } else if self.takes('-') {
                true
            } else {
                return Ok(value);
            };
            let (mut operand, is_percentage) = self.product()?;
            // As on a pocket calculator: 100 + 10% is 110.
            if is_percentage {
                operand = operand.multiply(value)?;
            }
            value = value.add(if minus { operand.negate() } else { operand })?;
        }
    }

    /// A product, and whether it is nothing but a percentage.
    fn product(&mut self) -> Result<(Number, bool), MathError> {
        let (mut value, mut is_percentage) = self.signed()?;
        loop {
            value = if self.takes('*') || self.takes_word(&["x", "of"]) {
                value.multiply(self.signed()?.0)?
            } else if self.takes('/') {
                value.divide(self.signed()?.0)?
            } else if self.takes('%') || self.takes_word(&["mod"]) {
                value.modulo(self.signed()?.0)?
            } else if matches!(self.peek(), Some(Token::Sign('(') | Token::Word(_)))
                && self.at_operand()
            {
                value.multiply(self.signed()?.0)?
            } else {
                return Ok((value, is_percentage));
            };
            is_percentage = false;
        }
    }

    /// An operand with its signs, powers and marks. Every recursion passes here.
    fn signed(&mut self) -> Result<(Number, bool), MathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(syntax(format!(
                "it is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let result = if self.takes('-') {
            self.signed()
                .map(|(value, is_percentage)| (value.negate(), is_percentage))
        } else if self.takes('+') {
            self.signed()
        } else {
            self.power()
        };
        self.depth -= 1;
        result
    }

    fn power(&mut self) -> Result<(Number, bool), MathError> {
        let mut value = self.operand()?;
        let mut is_percentage = false;
        loop {
            if self.takes('!') {
                value = value.factorial()?;
            } else if self.takes_word(&["deg"]) {
                value = value.multiply(Number::approx(std::f64::consts::PI / 180.0)?)?;
            } else if self.peek() == Some(&Token::Sign('%')) && !self.modulo_follows() {
                self.at += 1;
                value = value.divide(Number::whole(100))?;
                is_percentage = true;
            } else {
                break;
            }
        }
        if self.takes('^') {
            return Ok((value.power(self.signed()?.0)?, false));
        }
        Ok((value, is_percentage))
    }

    /// Whether the `%` here stands between two operands.
    fn modulo_follows(&self) -> bool {
        let after = Self {
            tokens: self.tokens.get(self.at + 1..).unwrap_or_default().to_vec(),
            at: 0,
            depth: 0,
        };
        after.at_operand()
    }

    fn operand(&mut self) -> Result<Number, MathError> {
        let token = self
            .peek()
            .cloned()
            .ok_or_else(|| syntax("it ends where a number is expected"))?;
        self.at += 1;
        match token {
            Token::Number(number) => Ok(number),
            Token::Sign('(') => {
                let value = self.sum()?;
                self.closes().map(|()| value)
            }
            Token::Word(word) if is_function(&word) => {
                let arguments = self.arguments()?;
                call(&word, &arguments)
            }
            Token::Word(word) => {
                constant(&word).ok_or_else(|| syntax(format!("'{word}' is not known")))
            }
            Token::Sign(_) => Err(unexpected(&token)),
        }
    }

    fn closes(&mut self) -> Result<(), MathError> {
        if self.takes(')') {
            Ok(())
        } else {
            Err(syntax("a parenthesis is not closed"))
        }
    }

    /// `(a, b)`, or one operand without parentheses.
    fn arguments(&mut self) -> Result<Vec<Number>, MathError> {
        if !self.takes('(') {
            return Ok(vec![self.signed()?.0]);
        }
        let mut arguments = vec![self.sum()?];
        while self.takes(',') {
            arguments.push(self.sum()?);
            if arguments.len() > MAX_ARGUMENTS {
                return Err(syntax(format!("more than {MAX_ARGUMENTS} arguments")));
            }
        }
        self.closes().map(|()| arguments)
    }
}

fn constant(word: &str) -> Option<Number> {
    let value = match word {
        "pi" => std::f64::consts::PI,
        "e" => std::f64::consts::E,
        "tau" => std::f64::consts::TAU,
        _ => return None,
    };
    Some(Number::Approx(value))
}

const FUNCTIONS: &[&str] = &[
    "sqrt", "cbrt", "abs", "round", "floor", "ceil", "exp", "ln", "log", "log2", "log10", "sin",
    "cos", "tan", "asin", "acos", "atan", "min", "max", "sum", "avg", "average", "mean", "mod",
];

fn is_function(word: &str) -> bool {
    FUNCTIONS.contains(&word)
}

fn call(name: &str, arguments: &[Number]) -> Result<Number, MathError> {
    match (name, arguments) {
        ("min", all) => extreme(all, |a, b| a < b),
        ("max", all) => extreme(all, |a, b| a > b),
        ("sum", all) => total(all),
        ("avg" | "average" | "mean", all) => total(all)?.divide(Number::whole(all.len() as i128)),
        ("mod", [a, b]) => a.modulo(*b),
        ("log", [x, base]) => logarithm(*x)?.divide(logarithm(*base)?),
        ("round", [x, places]) => {
            let scale = Number::whole(10).power(*places)?;
            x.multiply(scale)?.round()?.divide(scale)
        }
        (_, [x]) => call_one(name, *x),
        _ => Err(syntax(format!(
            "{name} does not take {} arguments",
            arguments.len()
        ))),
    }
}

fn call_one(name: &str, x: Number) -> Result<Number, MathError> {
    let value = x.to_f64();
    // A multiple of pi is never exact: what is left of a zero at the sixteenth digit is none.
    let snapped = |value: f64| if value.abs() < 1e-15 { 0.0 } else { value };
    match name {
        "sqrt" => x.sqrt(),
        "cbrt" => {
            let root = Number::approx(value.cbrt())?;
            #[expect(clippy::cast_possible_truncation, reason = "checked by cubing")]
            let whole = Number::whole(value.cbrt().round() as i128);
            Ok(if whole.power(Number::whole(3)) == Ok(x) {
                whole
            } else {
                root
            })
        }
        "abs" => Ok(if value < 0.0 { x.negate() } else { x }),
        "round" => x.round(),
        "floor" => x.floor(),
        "ceil" => Ok(x.negate().floor()?.negate()),
        "exp" => Number::approx(value.exp()),
        "ln" => logarithm(x),
        "log" | "log10" => logarithm(x).and_then(|_| Number::approx(value.log10())),
        "log2" => logarithm(x).and_then(|_| Number::approx(value.log2())),
        "sin" => Number::approx(snapped(value.sin())),
        "cos" => Number::approx(snapped(value.cos())),
        "tan" if snapped(value.cos()) == 0.0 => Err(MathError::DivisionByZero),
        "tan" => Number::approx(snapped(value.tan())),
        "asin" | "acos" if value.abs() > 1.0 => Err(MathError::NotReal(format!(
            "{name} of a number beyond -1 to 1"
        ))),
        "asin" => Number::approx(value.asin()),
        "acos" => Number::approx(value.acos()),
        "atan" => Number::approx(value.atan()),
        _ => Err(syntax(format!("{name} takes two arguments"))),
    }
}

fn logarithm(x: Number) -> Result<Number, MathError> {
    if x.to_f64() <= 0.0 {
        return Err(MathError::NotReal(
            "the logarithm of a number that is not positive".to_owned(),
        ));
    }
    Number::approx(x.to_f64().ln())
}

fn total(all: &[Number]) -> Result<Number, MathError> {
    all.iter().try_fold(Number::whole(0), |sum, x| sum.add(*x))
}

fn extreme(all: &[Number], better: fn(f64, f64) -> bool) -> Result<Number, MathError> {
    let first = all.first().copied().ok_or_else(|| syntax("no arguments"))?;
    Ok(all.iter().fold(first, |best, x| {
        if better(x.to_f64(), best.to_f64()) {
            *x
        } else {
            best
        }
    }))
}

#[cfg(test)]
mod tests;
