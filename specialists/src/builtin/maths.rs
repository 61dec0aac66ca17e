//! `math.eval`: arithmetic as people write it.
//!
//! Does no algebra and knows no units. Written here because the crates looked at compute in doubles only (0.1 + 0.2), or
//! cannot be bounded in time and depth.

mod number;
mod parse;

use amcp_protocol::{AgentCard, Capability, Failure, terms};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{example, words};
use crate::specialist::{Context, Specialist, Task};

const KEYWORDS: &[&str] = &[
    "calculate",
    "calculation",
    "compute",
    "evaluate",
    "math",
    "maths",
    "arithmetic",
    "plus",
    "minus",
    "times",
    "multiplied",
    "divided",
    "percent",
    "square root",
    "power",
    "squared",
    "sum",
];

pub(super) const AGENT: &str = "math-1";

/// Longest expression in characters: longer than anybody types, and short enough to quote back.
const MAX_EXPRESSION: usize = 500;

/// Calculates.
#[derive(Debug)]
pub(super) struct Maths;

#[async_trait]
impl Specialist for Maths {
    fn card(&self) -> AgentCard {
        let mut capability = Capability::new(
            "math.eval",
            "Calculates an arithmetic expression: + - * / ^ %, parentheses, percentages, functions such as sqrt, sin, ln, round, max.",
        );
        capability.params = json!({
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION, terms::KIND: "expression",
                    "description": "What to calculate; words such as 'plus' and 'divided by' are understood.",
                    "examples": ["15% of 80", "(3 + 4) * 2^10", "sqrt(2) / 2"],
                },
            },
            "required": ["expression"],
            "additionalProperties": false,
        });
        capability.result = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "expression": {"type": "string"},
                "value": {"type": "number"},
                "result": {"type": "string"},
                "exact": {"type": "boolean"},
            },
            "required": ["text", "expression", "value", "result", "exact"],
        });
        capability.keywords = words(KEYWORDS);
        capability.examples = vec![
            example("What is 15% of 80?", json!({"expression": "15% of 80"})),
            example(
                "Calculate (3 + 4) * 2^10",
                json!({"expression": "(3 + 4) * 2^10"}),
            ),
            example("12 divided by 7", json!({"expression": "12 / 7"})),
            example(
                "What is the square root of 2?",
                json!({"expression": "sqrt(2)"}),
            ),
        ];
        AgentCard::new(
            AGENT,
            "Calculates exactly where that is possible.",
            vec![capability],
        )
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let expression = task
            .text("expression")
            .trim()
            .trim_end_matches(['?', '=', '.', ' ']);
        if expression.chars().count() > MAX_EXPRESSION {
            return Err(Failure::task(format!(
                "the expression has more than {MAX_EXPRESSION} characters"
            )));
        }
        let number = parse::evaluate(expression).map_err(|problem| {
            Failure::task(format!("cannot calculate '{expression}': {problem}"))
                .hint("write it like (3 + 4) * 2^10, 15% of 80 or sqrt(2)")
        })?;
        let (result, exact) = number.show();
        let is = if exact { "is" } else { "is about" };
        Ok(json!({
            "text": format!("{expression} {is} {}.", number::separated(&result)),
            "expression": expression,
            "value": number.to_json(),
            "result": result,
            "exact": exact,
        }))
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
    }

    #[tokio::test]
    async fn what_cannot_be_calculated_is_a_failure_that_says_why() {
        for (expression, why) in [
            ("1/0", "division by zero"),
            ("10^400", "too large"),
            ("sqrt(-1)", "not a real number"),
            ("2 +", "ends"),
            ("hello", "hello"),
        ] {
            let failure = ask(&Maths, json!({"expression": expression}), &context(1))
                .await
                .unwrap_err();
            assert!(failure.message.contains(why), "{failure}");
            assert!(failure.hint.is_some());
        }
    }
}
