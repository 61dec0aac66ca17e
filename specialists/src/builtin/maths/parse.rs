//! From an expression in text to its value, in one pass.
//!
//! Does not know how numbers are computed or shown, nor how people spell signs.

use std::collections::BTreeSet;

use super::number::{MathError, Number};
use super::words::{Part, Token, tokens};

/// Deepest nesting: bounds the stack; people do not nest deeper.
const MAX_DEPTH: usize = 64;
/// Most arguments of a function.
const MAX_ARGUMENTS: usize = 100;

/// What an expression comes to.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) number: Number,
    /// How it was read, where people may mean it otherwise.
    pub(super) readings: BTreeSet<&'static str>,
}

/// The value of an expression.
pub(super) fn evaluate(expression: &str) -> Result<Evaluated, MathError> {
    let mut parser = Parser {
        tokens: tokens(expression)?,
        at: 0,
        depth: 0,
        readings: BTreeSet::new(),
    };
    let number = parser.sum()?.0;
    match parser.peek() {
        None => Ok(Evaluated {
            number,
            readings: parser.readings,
        }),
        Some(_) => Err(parser.unexpected()),
    }
}

pub(super) fn syntax(problem: impl Into<String>) -> MathError {
    MathError::Syntax(problem.into())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    readings: BTreeSet<&'static str>,
}

impl Parser {
    fn peek(&self) -> Option<&Part> {
        self.tokens.get(self.at).map(|token| &token.part)
    }

    /// What stands here is not what the expression needs.
    fn unexpected(&self) -> MathError {
        let Some(Token { part, at }) = self.tokens.get(self.at) else {
            return syntax("it ends where a number is expected");
        };
        syntax(match part {
            Part::Number(number) => format!(
                "the number {} at character {at} is not expected",
                number.show().0
            ),
            Part::Word(word) => format!("'{word}' at character {at} is not understood"),
            Part::Sign(sign) => format!("'{sign}' at character {at} is not expected"),
        })
    }

    fn takes(&mut self, sign: char) -> bool {
        let takes = self.peek() == Some(&Part::Sign(sign));
        self.at += usize::from(takes);
        takes
    }

    fn takes_word(&mut self, wanted: &[&str]) -> bool {
        let takes =
            matches!(self.peek(), Some(Part::Word(word)) if wanted.contains(&word.as_str()));
        self.at += usize::from(takes);
        takes
    }

    /// Whether an operand begins here, as after an operator that is not written.
    fn at_operand(&self) -> bool {
        match self.peek() {
            Some(Part::Number(_) | Part::Sign('(')) => true,
            Some(Part::Word(word)) => is_function(word) || constant(word).is_some(),
            Some(Part::Sign(_)) | None => false,
        }
    }

    /// A sum, and whether it is nothing but a percentage.
    fn sum(&mut self) -> Result<(Number, bool), MathError> {
        let (mut value, mut is_only_percentage) = self.product()?;
        loop {
            let minus = if self.takes('+') {
                false
            } else if self.takes('-') {
                true
            } else {
                return Ok((value, is_only_percentage));
            };
            is_only_percentage = false;
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
            let is_less = matches!(self.peek(), Some(Part::Word(word)) if ["off", "lessthan"].contains(&word.as_str()));
            value = if self.takes_word(&["off", "on"]) {
                // 20% off 150 is 120.
                let whole = self.signed()?.0;
                change((value, is_percentage), whole, is_less)?
            } else if self.takes_word(&["lessthan", "morethan"]) {
                // 10 less than 2 times 30 is 50.
                let whole = self.deeper(Self::product)?.0;
                change((value, is_percentage), whole, is_less)?
            } else if self.takes('*') || self.takes_word(&["x", "of"]) {
                value.multiply(self.signed()?.0)?
            } else if self.takes('/') {
                value.divide(self.signed()?.0)?
            } else if self.takes('%') || self.takes_word(&["mod"]) {
                value.modulo(self.signed()?.0)?
            } else if matches!(self.peek(), Some(Part::Sign('(') | Part::Word(_)))
                && self.at_operand()
            {
                value.multiply(self.signed()?.0)?
            } else {
                return Ok((value, is_percentage));
            };
            is_percentage = false;
        }
    }

    /// Every recursion passes here.
    fn deeper<T>(&mut self, read: fn(&mut Self) -> Result<T, MathError>) -> Result<T, MathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(syntax(format!(
                "it is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// An operand with its signs, powers and marks.
    fn signed(&mut self) -> Result<(Number, bool), MathError> {
        if self.takes('-') {
            let (value, is_percentage) = self.deeper(Self::signed)?;
            return Ok((value.negate(), is_percentage));
        }
        if self.takes('+') {
            return self.deeper(Self::signed);
        }
        self.deeper(Self::power)
    }

    fn power(&mut self) -> Result<(Number, bool), MathError> {
        let mut value = self.operand()?;
        let mut is_percentage = false;
        loop {
            if self.takes('!') {
                value = value.factorial()?;
            } else if self.takes_word(&["deg"]) {
                value = value.multiply(Number::approx(std::f64::consts::PI / 180.0)?)?;
            } else if self.takes_word(&["rad"]) {
                // The unit of every angle.
            } else if self.peek() == Some(&Part::Sign('%')) && !self.modulo_follows() {
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
            readings: BTreeSet::new(),
        };
        after.at_operand()
    }

    fn operand(&mut self) -> Result<Number, MathError> {
        let start = self.at;
        self.at += 1;
        match self.tokens.get(start).map(|token| token.part.clone()) {
            Some(Part::Number(number)) => Ok(number),
            Some(Part::Sign('(')) => {
                let value = self.sum()?.0;
                self.closes().map(|()| value)
            }
            Some(Part::Word(word)) if is_function(&word) => {
                let arguments = self.arguments(&word)?;
                let has_unit = |token: &Token| matches!(&token.part, Part::Word(w) if ["deg", "rad", "pi", "tau"].contains(&w.as_str()));
                let taken = self.tokens.get(start..self.at).unwrap_or_default();
                let in_radians = match word.as_str() {
                    "asin" | "acos" | "atan" => true,
                    "sin" | "cos" | "tan" => !taken.iter().any(has_unit),
                    _ => false,
                };
                if in_radians {
                    self.readings.insert("angles in radians");
                }
                call(&word, arguments)
            }
            Some(Part::Word(word)) if constant(&word).is_some() => {
                Ok(constant(&word).unwrap_or(Number::whole(0)))
            }
            _ => {
                self.at = start;
                Err(self.unexpected())
            }
        }
    }

    fn closes(&mut self) -> Result<(), MathError> {
        if self.takes(')') {
            Ok(())
        } else {
            Err(syntax("a parenthesis is not closed"))
        }
    }

    /// `(a, b)`, `of a, b and c`, or one operand; with each, whether it is a percentage.
    fn arguments(&mut self, function: &str) -> Result<Vec<(Number, bool)>, MathError> {
        self.takes_word(&["of"]);
        let in_parentheses = self.takes('(');
        let is_list = is_in(LISTS, function);
        if !in_parentheses && !is_list {
            return Ok(vec![self.signed()?]);
        }
        let mut arguments = Vec::new();
        loop {
            arguments.push(if in_parentheses {
                self.sum()?
            } else {
                self.signed()?
            });
            if arguments.len() > MAX_ARGUMENTS {
                return Err(syntax(format!("more than {MAX_ARGUMENTS} arguments")));
            }
            let comma = self.takes(',');
            if !self.takes_word(&["and", "to", "by", "from", "with"]) && !comma {
                break;
            }
        }
        if in_parentheses {
            self.closes()?;
        } else if arguments.len() < 2 {
            // "The sum of 100,200" may mean one number or two.
            return Err(syntax(format!(
                "'{function}' needs several numbers, with ', ' or 'and' between them"
            )));
        } else if !matches!(self.peek(), None | Some(Part::Sign(')' | ','))) {
            self.readings.insert("the list by itself, then the rest");
        }
        Ok(arguments)
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

pub(super) const FUNCTIONS: &str =
    "sqrt cbrt abs round floor ceil exp ln log log2 log10 sin cos tan asin acos atan mod factorial";

/// Functions of any number of numbers, also without parentheses.
const LISTS: &str = "min max sum avg median add product difference divide subtract";

pub(super) fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

pub(super) fn is_function(word: &str) -> bool {
    is_in(FUNCTIONS, word) || is_in(LISTS, word)
}

/// `whole`, more or less by a number or by a percentage of itself.
fn change(by: (Number, bool), whole: Number, is_less: bool) -> Result<Number, MathError> {
    let share = if by.1 { by.0.multiply(whole)? } else { by.0 };
    whole.add(if is_less { share.negate() } else { share })
}

fn call(name: &str, arguments: Vec<(Number, bool)>) -> Result<Number, MathError> {
    if let ("add" | "subtract", [by, (whole, false)]) = (name, arguments.as_slice()) {
        return change(*by, *whole, name == "subtract");
    }
    let percentages = arguments.iter().filter(|(_, is_percentage)| *is_percentage);
    let is_mixed = ![0, arguments.len()].contains(&percentages.count());
    if is_mixed && is_in(LISTS, name) && !["product", "divide"].contains(&name) {
        return Err(syntax(format!(
            "'{name}' has percentages beside numbers, and nothing says of what they are shares"
        )));
    }
    let arguments: Vec<_> = arguments.into_iter().map(|(number, _)| number).collect();
    match (name, arguments.as_slice()) {
        ("min", all) => extreme(all, |a, b| a < b),
        ("max", all) => extreme(all, |a, b| a > b),
        ("sum" | "add", all) => total(all),
        ("avg", all) => total(all)?.divide(Number::whole(all.len() as i128)),
        ("product", all) => all
            .iter()
            .try_fold(Number::whole(1), |product, x| product.multiply(*x)),
        ("median", all) => median(all),
        ("difference", [a, b]) => call_one("abs", a.add(b.negate())?),
        ("subtract", [a, b]) => b.add(a.negate()),
        ("divide", [a, b]) => a.divide(*b),
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
        "factorial" => x.factorial(),
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

fn median(all: &[Number]) -> Result<Number, MathError> {
    let mut all = all.to_vec();
    all.sort_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
    let middle = all
        .get((all.len() - 1) / 2..=all.len() / 2)
        .unwrap_or_default();
    total(middle)?.divide(Number::whole(middle.len() as i128))
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
