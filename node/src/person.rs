//! The person at the terminal: reads a flow's question and types the decision.
//!
//! Decides nothing for the person, except that the end of the input denies.

use std::io::{self, IsTerminal, Write};

use amcp_protocol::flow::Decision;
use amcp_protocol::{Flow, FlowAnswer, FlowKind};
use futures_util::FutureExt;
use rustix::termios::{QueueSelector, tcflush};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader, Lines, Stdin};

use crate::output::Style;
use crate::show;

/// Decides about flows: the person at the terminal, or a test.
pub(crate) trait Decides {
    fn put(&mut self, flow: &Flow);

    /// Waits for the decision. Dropping the future loses nothing.
    async fn decide(&mut self, flow: &Flow) -> FlowAnswer;

    /// Says that the question needs no answer any more.
    fn take_back(&mut self, why: &str);
}

/// Reads lines from a terminal, which bounds each to 4,095 bytes.
pub(crate) struct Person<R = BufReader<Stdin>, W = io::Stderr> {
    lines: Lines<R>,
    to: W,
    style: Style,
}

impl Person {
    /// None unless stdin and stderr are a terminal.
    pub(crate) fn at_terminal() -> Option<Self> {
        let there = io::stdin().is_terminal() && io::stderr().is_terminal();
        there.then(|| Self {
            lines: BufReader::new(tokio::io::stdin()).lines(),
            to: io::stderr(),
            style: Style::for_stderr(),
        })
    }
}

impl<R: AsyncBufRead + Unpin, W: Write> Person<R, W> {
    /// Drops input from before the question: a person decides only about a question that they have read.
    fn forget_typed(&mut self) {
        // Fails without a terminal, where no input waits either.
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        while let Some(Ok(Some(_))) = self.lines.next_line().now_or_never() {}
    }

    /// Ignores errors: when the terminal is gone the input ends too.
    fn say(&mut self, text: &str) {
        let _ = self.to.write_all(text.as_bytes());
        let _ = self.to.flush();
    }
}

impl<R: AsyncBufRead + Unpin, W: Write> Decides for Person<R, W> {
    fn put(&mut self, flow: &Flow) {
        self.forget_typed();
        let question = show::flow(flow, self.style);
        self.say(&format!("{question}\n{}", invitation(flow.kind)));
    }

    async fn decide(&mut self, flow: &Flow) -> FlowAnswer {
        loop {
            let line = self.lines.next_line().await;
            let Ok(Some(line)) = line else {
                self.say("\n");
                let reason = "the input ended before an answer".to_owned();
                return answer(flow, Decision::Deny, Value::Null, Some(reason));
            };
            match read(flow.kind, &line) {
                Ok((decision, payload, reason)) => return answer(flow, decision, payload, reason),
                Err(problem) => self.say(&format!("  {problem}\n{}", invitation(flow.kind))),
            }
        }
    }

    fn take_back(&mut self, why: &str) {
        self.say(&format!("\n  {why}\n"));
    }
}

const fn invitation(kind: FlowKind) -> &'static str {
    match kind {
        FlowKind::Confirmation => "  [y]es / [n]o (and why): ",
        FlowKind::Payment => {
            "  paste the proof of payment as JSON on one line; [y]es without a proof / [n]o (and why): "
        }
        FlowKind::Delegation => {
            "  paste the mandate as JSON on one line; [y]es without a mandate / [n]o (and why): "
        }
        FlowKind::Oauth => {
            "  log in, then paste what the service gave you as JSON on one line; [y]es without it / [n]o (and why): "
        }
    }
}

fn answer(flow: &Flow, decision: Decision, payload: Value, reason: Option<String>) -> FlowAnswer {
    FlowAnswer {
        decision,
        digest: flow.digest.clone(),
        payload,
        reason,
    }
}

/// A typed line as a decision, its payload and its reason; else the fault of the line.
fn read(kind: FlowKind, line: &str) -> Result<(Decision, Value, Option<String>), &'static str> {
    let line = line.trim();
    let (word, rest) = line
        .split_once(|c: char| c.is_whitespace() || c == ',')
        .unwrap_or((line, ""));
    let rest = rest.trim();
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" if rest.is_empty() => return Ok((Decision::Approve, Value::Null, None)),
        "n" | "no" => {
            let reason = (!rest.is_empty()).then(|| rest.to_owned());
            return Ok((Decision::Deny, Value::Null, reason));
        }
        _ => {}
    }
    if kind == FlowKind::Confirmation {
        return Err("that is neither y nor n");
    }
    match serde_json::from_str(line) {
        Ok(payload @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => {
            Ok((Decision::Approve, payload, None))
        }
        Ok(_) | Err(_) => Err("that is neither y, n nor a JSON object, array or text"),
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::flow::Subject;
    use amcp_protocol::{CapabilityName, FlowId, FlowRequest, TaskId};
    use serde_json::json;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn flow(kind: FlowKind) -> Flow {
        let request = FlowRequest::new(kind, "Go \u{1b}[2J on?").payload(json!({"eur": 12}));
        let subject = Subject {
            capability: CapabilityName::new("mail.send").unwrap(),
            params: json!({"to": "bob", "text": "\u{202e}evil"}).into(),
        };
        let ids = (FlowId::new("t1.1").unwrap(), TaskId::new("t1").unwrap());
        Flow::open(ids, request, subject)
    }

    fn person() -> (Person<BufReader<DuplexStream>, Vec<u8>>, DuplexStream) {
        let (keyboard, input) = duplex(4_096);
        let lines = BufReader::new(input).lines();
        let (to, style) = (Vec::new(), Style::none());
        (Person { lines, to, style }, keyboard)
    }

    #[tokio::test]
    async fn a_person_reads_everything_and_decides_with_a_line() {
        let flow = flow(FlowKind::Confirmation);
        let (mut person, mut keyboard) = person();
        person.put(&flow);
        keyboard.write_all(b"\nmaybe\n{}\n Yes \n").await.unwrap();
        let approval = person.decide(&flow).await;
        assert_eq!(
            approval,
            answer(&flow, Decision::Approve, Value::Null, None)
        );
        let shown = String::from_utf8(person.to).unwrap();
        for part in [
            "? t1 needs a confirmation: Go \u{fffd}[2J on?\n  mail.send\n",
            "    to = \"bob\"\n",
            "    text = \"\u{fffd}evil\"",
            "  with {\"eur\":12}",
            "  [y]es / [n]o (and why): ",
        ] {
            assert!(shown.contains(part), "{part} is missing from:\n{shown}");
        }
        assert_eq!(shown.matches("that is neither y nor n").count(), 3);
    }

    #[tokio::test]
    async fn what_was_typed_before_the_question_decides_nothing() {
        let flow = flow(FlowKind::Confirmation);
        let (mut person, mut keyboard) = person();
        keyboard.write_all(b"y\ny\n").await.unwrap();
        person.put(&flow);
        assert!(person.decide(&flow).now_or_never().is_none());
        // Dropping the wait loses no line.
        keyboard.write_all(b"n, too dear\n").await.unwrap();
        let denial = person.decide(&flow).await;
        assert_eq!(denial.decision, Decision::Deny);
        assert_eq!(denial.reason.as_deref(), Some("too dear"));
    }

    #[tokio::test]
    async fn the_end_of_the_input_denies() {
        let flow = flow(FlowKind::Payment);
        let (mut person, keyboard) = person();
        person.put(&flow);
        drop(keyboard);
        assert_eq!(person.decide(&flow).await.decision, Decision::Deny);
    }

    #[test]
    fn a_payment_takes_its_proof_and_a_confirmation_none() {
        let approved = |payload| Ok((Decision::Approve, payload, None));
        let proof = r#"{"receipt": 7}"#;
        assert_eq!(
            read(FlowKind::Payment, proof),
            approved(json!({"receipt": 7}))
        );
        assert_eq!(read(FlowKind::Oauth, r#""code""#), approved(json!("code")));
        assert_eq!(read(FlowKind::Payment, "y"), approved(Value::Null));
        assert!(read(FlowKind::Confirmation, proof).is_err());
        for nothing in ["", "7", "true", "null", "yes please", "receipt 7", "{"] {
            assert!(read(FlowKind::Payment, nothing).is_err(), "{nothing}");
        }
        let denied = (Decision::Deny, Value::Null, Some("no money".to_owned()));
        assert_eq!(read(FlowKind::Payment, "No no money"), Ok(denied));
    }
}
