//! `math.eval`: arithmetic as people write it.
//!
//! Does no algebra and knows no units. Written here because the crates looked at compute in doubles only (0.1 + 0.2), or
//! cannot be bounded in time and depth.

mod number;
mod parse;
mod words;

use amcp_protocol::{AgentCard, Failure};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "math-1";

/// Longest expression in characters: longer than anybody types, and short enough to quote back.
const MAX_EXPRESSION: usize = 500;

/// Commands, which are no subject of "is".
const VERBS: &[&str] = &["add", "subtract", "multiply", "divide", "round"];

/// Calculates.
#[derive(Debug)]
pub(super) struct Maths;

#[async_trait]
impl Specialist for Maths {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let expression = words::bare(task.text("expression"));
        if expression.chars().count() > MAX_EXPRESSION {
            return Err(Failure::task(format!(
                "the expression has more than {MAX_EXPRESSION} characters"
            )));
        }
        let evaluated = parse::evaluate(expression).map_err(|problem| {
            Failure::task(format!("cannot calculate '{expression}': {problem}"))
                .hint("write it like (3 + 4) * 2^10, 15% of 80, sqrt(2) or average of 3, 5 and 10")
        })?;
        let number = evaluated.number;
        let (result, exact) = number.show();
        let verb = expression.split(' ').next().unwrap_or_default();
        let is_verb = VERBS.contains(&verb.to_lowercase().as_str());
        let is = if is_verb { "gives" } else { "is" };
        let about = if exact { "" } else { " about" };
        let readings: Vec<_> = evaluated.readings.into_iter().collect();
        let read = match readings.as_slice() {
            [] => String::new(),
            readings => format!(" ({})", readings.join("; ")),
        };
        Ok(json!({
            "text": format!("{} {is}{about} {}{read}.", sentence(expression), number::separated(&result)),
            "expression": expression,
            "value": number.to_json(),
            "result": result,
            "exact": exact,
        }))
    }
}

/// As a sentence begins, where it begins with a word: "Half of 90", but "sqrt(2)" and "sin 30°".
fn sentence(expression: &str) -> String {
    let word = expression
        .split(|c: char| !c.is_alphabetic())
        .next()
        .unwrap_or_default();
    let after = expression.get(word.len()..).unwrap_or_default();
    let is_sign = parse::is_in(parse::FUNCTIONS, word) && !after.starts_with(" of ");
    let is_word = after.starts_with(' ') && !is_sign;
    if is_word {
        super::capitalised(expression)
    } else {
        expression.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, context};
    use super::*;

    async fn text(expression: &str) -> String {
        let result = ask(&Maths, json!({"expression": expression}), &context(1))
            .await
            .unwrap();
        result["text"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn results_read_as_sentences() {
        assert_eq!(text("15% of 80").await, "15% of 80 is 12.");
        assert_eq!(text("2^20 =").await, "2^20 is 1,048,576.");
        assert_eq!(text("1/3?").await, "1/3 is about 0.333333333333.");
        assert_eq!(text("0.1 + 0.2").await, "0.1 + 0.2 is 0.3.");
        assert_eq!(text("half of 90").await, "Half of 90 is 45.");
        assert_eq!(
            text("What is the sum of 5, 10 and 15?").await,
            "The sum of 5, 10 and 15 is 30."
        );
        assert_eq!(
            text("sin(30 degrees)").await,
            "sin(30 degrees) is about 0.5."
        );
        assert_eq!(
            text("sin(30)").await,
            "sin(30) is about -0.988031624093 (angles in radians)."
        );
        assert_eq!(text("sin 30 degrees").await, "sin 30 degrees is about 0.5.");
        assert_eq!(text("add 5 to 10").await, "Add 5 to 10 gives 15.");
        assert_eq!(
            text("sum of 2 and 3 times 4").await,
            "Sum of 2 and 3 times 4 is 20 (the list by itself, then the rest)."
        );
    }

    #[tokio::test]
    async fn what_cannot_be_calculated_is_a_failure_that_says_why() {
        for (expression, why) in [
            ("1/0", "division by zero"),
            ("10^400", "too large"),
            ("sqrt(-1)", "not a real number"),
            ("2 +", "ends"),
            ("hello", "'hello' at character 1"),
            ("what is 5 + 3 apples", "'apples' at character 7"),
        ] {
            let failure = ask(&Maths, json!({"expression": expression}), &context(1))
                .await
                .unwrap_err();
            assert!(failure.message.contains(why), "{failure}");
            assert!(failure.hint.is_some());
        }
    }
}
