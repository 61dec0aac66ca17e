//! `joke.get`: a joke from the shipped list.
//!
//! Does not invent jokes.

use amcp_protocol::{AgentCard, Failure};
use async_trait::async_trait;
use serde_json::{Value, json};

use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "joke-1";

const LIST: &str = include_str!("../../data/jokes.txt");

/// Words, in the singular, that mean a topic of the list; each topic means itself.
const SAME: &[(&str, &str)] = &[
    (
        "code coding coder software developer computer computing tech technology program programmer",
        "programming",
    ),
    ("math mathematic mathematical mathematician", "math"),
    ("science scientific scientist", "science"),
    ("animal", "animals"),
    ("work working worker workplace", "office"),
];

/// Words, in the singular, whose jokes, if there are any, are among those of a topic.
const NEAR: &[(&str, &str)] = &[
    ("number geometry geometric", "math"),
    ("physic physicist chemistry chemist", "science"),
    ("pet dog bird horse", "animals"),
    ("cook cooking eat eating kitchen drink drinking", "food"),
];

/// Words that wish for no topic at all.
const ANY: &str = "joke jokes any anything something random funny good general a one the my some and or of about with for me";

/// Tells jokes.
#[derive(Debug)]
pub(super) struct Jokes;

fn jokes() -> impl Iterator<Item = (&'static str, &'static str)> {
    LIST.lines().filter_map(|line| line.split_once(": "))
}

/// What a wish comes to: the jokes that fulfil it, or others and what to say of them.
struct Choice {
    jokes: Vec<(&'static str, &'static str)>,
    note: Option<String>,
}

fn choice(wished: &str) -> Choice {
    let lower = wished.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !ANY.split(' ').any(|any| any == *word))
        .collect();
    let topic_in = |table: &[(&str, &'static str)]| {
        let topic = |word: &&str| {
            table
                .iter()
                .find(|(meant, _)| meant.split(' ').any(|meant| meant == singular(word)))
                .map(|(_, topic)| *topic)
        };
        words.iter().find_map(topic)
    };
    let among = |topic: Option<&str>| {
        jokes()
            .filter(|(t, _)| topic.is_none_or(|topic| topic == *t))
            .collect()
    };
    let own = jokes()
        .map(|(topic, _)| topic)
        .find(|topic| words.contains(topic));
    let topic = own.or_else(|| topic_in(SAME));
    if topic.is_some() || words.is_empty() {
        return Choice {
            jokes: among(topic),
            note: None,
        };
    }
    let told: Vec<_> = jokes()
        .filter(|(_, joke)| words.iter().any(|word| speaks_of(joke, word)))
        .collect();
    if !told.is_empty() {
        return Choice {
            jokes: told,
            note: None,
        };
    }
    let near = topic_in(NEAR);
    let shown: String = wished.chars().take(60).collect();
    let instead = near.unwrap_or("something else");
    Choice {
        jokes: among(near),
        note: Some(format!(
            "I know no joke about '{shown}'; this one is about {instead}."
        )),
    }
}

fn singular(word: &str) -> &str {
    word.strip_suffix('s').unwrap_or(word)
}

/// Whether a joke has the word, in the singular or the plural.
fn speaks_of(joke: &str, word: &str) -> bool {
    let joke = joke.to_lowercase();
    joke.split(|c: char| !c.is_alphanumeric())
        .any(|said| said.len() > 2 && singular(said) == singular(word))
}

#[async_trait]
impl Specialist for Jokes {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let wished = task.text("topic");
        let Choice { jokes, note } = choice(wished);
        // The same for each attempt at this task, and by chance another one for the next: ids are random.
        let seed =
            ctx.task_id()
                .as_str()
                .bytes()
                .fold(ctx.request_id().uuid().as_u128(), |seed, byte| {
                    seed.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B) ^ u128::from(byte)
                });
        let at = usize::try_from((seed ^ (seed >> 61)) % jokes.len().max(1) as u128).unwrap_or(0);
        let (its_topic, joke) = jokes
            .get(at)
            .ok_or_else(|| Failure::internal("the shipped list of jokes is empty"))?;
        let mut result = json!({"text": joke, "title": "A joke", "joke": joke, "topic": its_topic});
        if let (Some(note), Some(fields)) = (note, result.as_object_mut()) {
            fields.insert("text".to_owned(), format!("{note}\n{joke}").into());
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
        assert!(
            SAME.iter()
                .chain(NEAR)
                .all(|(_, topic)| topics.contains(topic))
        );
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
        for (words, topic, says) in [
            ("Software developers", "programming", ""),
            ("MATHS", "math", ""),
            ("computers", "programming", ""),
            ("the cod fishing industry", "", "no joke about"),
            ("workouts", "", "no joke about"),
            ("the office", "office", ""),
            ("cats", "science", "cat walks"),
            ("the penguin", "animals", "penguin"),
            (
                "my dog",
                "animals",
                "no joke about 'my dog'; this one is about animals",
            ),
            (
                "medieval heraldry",
                "",
                "no joke about 'medieval heraldry'; this one is about something else",
            ),
            ("a good joke", "", ""),
        ] {
            let joke = ask(&Jokes, json!({"topic": words}), &context(1))
                .await
                .unwrap();
            assert!(
                topic.is_empty() || joke["topic"] == topic,
                "{words}: {joke}"
            );
            assert!(
                joke["text"].as_str().unwrap().contains(says),
                "{words}: {joke}"
            );
            assert_eq!(
                joke.get("note").is_some(),
                says.starts_with("no joke"),
                "{words}: {joke}"
            );
        }
    }
}
