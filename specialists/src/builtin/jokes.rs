//! `joke.get`: a joke from the shipped list.
//!
//! Does not invent jokes.

use amcp_protocol::{AgentCard, Capability, Failure, Produces, terms};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{example, words};
use crate::specialist::{Context, Specialist, Task};

const KEYWORDS: &[&str] = &[
    "joke",
    "jokes",
    "funny",
    "laugh",
    "humor",
    "humour",
    "pun",
    "cheer me up",
];

pub(super) const AGENT: &str = "joke-1";

const LIST: &str = include_str!("../../data/jokes.txt");

/// Words that mean a topic of the list; each topic means itself.
const WORDS: &[(&str, &str)] = &[
    ("cod", "programming"),
    ("software", "programming"),
    ("developer", "programming"),
    ("comput", "programming"),
    ("tech", "programming"),
    ("program", "programming"),
    ("bug", "programming"),
    ("rust", "programming"),
    ("math", "math"),
    ("number", "math"),
    ("statistic", "math"),
    ("geometr", "math"),
    ("scien", "science"),
    ("physic", "science"),
    ("chemi", "science"),
    ("biolog", "science"),
    ("animal", "animals"),
    ("pet", "animals"),
    ("dog", "animals"),
    ("cat", "animals"),
    ("office", "office"),
    ("work", "office"),
    ("boss", "office"),
    ("meeting", "office"),
    ("food", "food"),
    ("cook", "food"),
    ("eat", "food"),
    ("kitchen", "food"),
];

/// Words that wish for no topic at all.
const ANY: &[&str] = &[
    "joke",
    "jokes",
    "any",
    "anything",
    "something",
    "random",
    "funny",
    "good",
    "general",
    "a",
    "one",
];

/// Tells jokes.
#[derive(Debug)]
pub(super) struct Jokes;

fn jokes() -> impl Iterator<Item = (&'static str, &'static str)> {
    LIST.lines().filter_map(|line| line.split_once(": "))
}

/// The list's topic that the words mean.
fn topic_of(words: &str) -> Option<&'static str> {
    let words = words.to_lowercase();
    let mut each = words.split(|c: char| !c.is_alphanumeric());
    each.find_map(|word| {
        jokes()
            .find(|(topic, _)| *topic == word)
            .map(|(topic, _)| topic)
            .or_else(|| {
                let known = WORDS.iter().find(|(start, _)| word.starts_with(start));
                known.map(|(_, topic)| *topic)
            })
    })
}

#[async_trait]
impl Specialist for Jokes {
    fn card(&self) -> AgentCard {
        let mut capability =
            Capability::new("joke.get", "Tells a joke, on a topic if one is wished.");
        capability.params = json!({
            "type": "object",
            "properties": {
                "topic": {
                    "type": "string", "maxLength": 200, terms::KIND: "topic",
                    "description": "What the joke is about.",
                    "examples": ["programming", "math", "science", "animals", "office", "food", "general"],
                },
            },
            "additionalProperties": false,
        });
        capability.result = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "joke": {"type": "string"},
                "topic": {"type": "string"},
                "note": {"type": "string"},
            },
            "required": ["text", "joke", "topic"],
        });
        capability.produces = vec![Produces {
            value_type: "text".into(),
            path: "/text".into(),
        }];
        capability.keywords = words(KEYWORDS);
        capability.examples = vec![
            example(
                "Tell me a programming joke",
                json!({"topic": "programming"}),
            ),
            example("Make me laugh", json!({})),
            example(
                "Do you know a joke about animals?",
                json!({"topic": "animals"}),
            ),
        ];
        AgentCard::new(AGENT, "Tells jokes from a shipped list.", vec![capability])
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let wished = task.text("topic");
        let topic = topic_of(wished);
        let choice: Vec<_> = jokes()
            .filter(|(t, _)| topic.is_none_or(|topic| *t == topic))
            .collect();
        // The same for each attempt at this task, and by chance another one for the next: ids are random.
        let seed =
            ctx.task_id()
                .as_str()
                .bytes()
                .fold(ctx.request_id().uuid().as_u128(), |seed, byte| {
                    seed.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B) ^ u128::from(byte)
                });
        let at = usize::try_from((seed ^ (seed >> 61)) % choice.len().max(1) as u128).unwrap_or(0);
        let (its_topic, joke) = choice
            .get(at)
            .ok_or_else(|| Failure::internal("the shipped list of jokes is empty"))?;
        let mut result = json!({"text": joke, "joke": joke, "topic": its_topic});
        let mut note = None;
        let wishes = wished
            .split_whitespace()
            .any(|word| !ANY.contains(&word.to_lowercase().as_str()));
        if topic.is_none() && wishes {
            let wished: String = wished.chars().take(60).collect();
            note = Some(format!(
                "no joke about '{wished}' is known; this one is about something else"
            ));
        }
        if let (Some(note), Some(fields)) = (note, result.as_object_mut()) {
            fields.insert("note".to_owned(), note.into());
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{ask, context};
    use super::*;

    #[test]
    fn the_list_is_as_promised_and_every_word_leads_to_it() {
        assert_eq!(jokes().count(), LIST.lines().count());
        assert!(jokes().count() >= 40);
        let topics: BTreeSet<_> = jokes().map(|(topic, _)| topic).collect();
        assert!(WORDS.iter().all(|(_, topic)| topics.contains(topic)));
        assert!(
            [
                "programming",
                "math",
                "science",
                "animals",
                "office",
                "general"
            ]
            .iter()
            .all(|t| topics.contains(t))
        );
    }

    #[tokio::test]
    async fn a_retry_tells_the_same_joke_and_other_requests_other_ones() {
        let mut told = BTreeSet::new();
        for request in 0..200 {
            let ctx = context(request);
            let joke = ask(&Jokes, json!({"topic": "programming"}), &ctx)
                .await
                .unwrap();
            assert_eq!(
                joke,
                ask(&Jokes, json!({"topic": "programming"}), &ctx)
                    .await
                    .unwrap()
            );
            assert_eq!(joke["topic"], "programming");
            told.insert(joke["joke"].to_string());
        }
        assert_eq!(
            told.len(),
            jokes().filter(|(topic, _)| *topic == "programming").count()
        );
    }

    #[tokio::test]
    async fn free_words_are_mapped_and_unknown_ones_said() {
        for (words, topic) in [
            ("Software developers", "programming"),
            ("my dog", "animals"),
            ("MATHS", "math"),
            ("the office", "office"),
        ] {
            let joke = ask(&Jokes, json!({"topic": words}), &context(1))
                .await
                .unwrap();
            assert_eq!(joke["topic"], topic, "{words}");
            assert!(joke.get("note").is_none());
        }
        let joke = ask(&Jokes, json!({"topic": "a good joke"}), &context(1))
            .await
            .unwrap();
        assert!(joke.get("note").is_none());
        let joke = ask(&Jokes, json!({"topic": "medieval heraldry"}), &context(1))
            .await
            .unwrap();
        assert!(joke["note"].as_str().unwrap().contains("medieval heraldry"));
    }
}
