//! The asker's side of a request: shows progress, and gets answers to flows from the person at the terminal or from `--yes`.
//!
//! Does not carry answers to the request: `amcp ask` and [`crate::client`] do.

use std::collections::VecDeque;
use std::future::pending;

use amcp_protocol::flow::{Decision, FlowEnd};
use amcp_protocol::{
    AnswerPiece, ErrorCode, Failure, Flow, FlowAnswer, FlowId, FlowKind, Progress,
};

use crate::live::Live;
use crate::output::{self, Trouble};
use crate::person::{Decides, Person};

/// The terminal and the person that follow one request, as far as there are any.
pub(crate) struct Audience<P = Person> {
    live: Option<Live>,
    person: Option<P>,
    /// `--yes`: approves confirmations without a question.
    yes: bool,
    quiet: bool,
    /// The open flows that can be answered here, in the order of their opening; as many as the plan has tasks.
    open: VecDeque<Flow>,
    stage: Stage,
    /// Progress since the question was put, shown after the answer; the plan's limits bound its length.
    held: Vec<Progress>,
}

/// The stage of the first open flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// The question is on the terminal; a line is still missing.
    Put,
    /// The answer is on its way.
    Answered,
}

impl Audience {
    /// The terminal and the person of this process; neither when `quiet`.
    pub(crate) fn here(quiet: bool, yes: bool) -> Self {
        Self {
            live: (!quiet && Live::is_wanted()).then(Live::new),
            person: if quiet { None } else { Person::at_terminal() },
            yes,
            quiet,
            open: VecDeque::new(),
            stage: Stage::New,
            held: Vec::new(),
        }
    }
}

impl<P: Decides> Audience<P> {
    /// The kinds of flows that can be answered.
    pub(crate) fn kinds(&self) -> Vec<FlowKind> {
        match (&self.person, self.yes) {
            (Some(_), _) => FlowKind::ALL.to_vec(),
            (None, true) => vec![FlowKind::Confirmation],
            (None, false) => Vec::new(),
        }
    }

    /// Whether the audience needs progress at all.
    pub(crate) fn attends(&self) -> bool {
        self.live.is_some() || !self.kinds().is_empty()
    }

    /// Keeps the list of open flows and shows the progress, or holds it while a question is on the terminal.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if let Progress::FlowRequired { flow } = progress {
            self.open.push_back(Flow::clone(flow));
        } else if let Progress::FlowEnded { flow, end, .. } = progress {
            self.ended(flow, *end);
        } else if let Progress::Answered { .. } = progress {
            while let Some(flow) = self.open.pop_front() {
                self.take_back(&flow, FlowEnd::Withdrawn);
            }
        }
        if self.stage == Stage::Put {
            self.held.push(progress.clone());
        } else if let Some(live) = &mut self.live {
            live.show(progress);
        }
    }

    /// Shows a piece of the answer while it is written; no flow is open by then.
    pub(crate) fn write(&mut self, piece: &AnswerPiece) {
        if let Some(live) = &mut self.live {
            live.write(piece);
        }
    }

    /// Waits for the next decision about a flow; never ends while no flow is open. Dropping the future loses nothing.
    pub(crate) async fn decided(&mut self) -> (FlowId, FlowAnswer) {
        let Some(flow) = self.open.front().filter(|_| self.stage != Stage::Answered) else {
            return pending().await;
        };
        let answer = if self.yes && flow.kind == FlowKind::Confirmation {
            if !self.quiet {
                let approved =
                    format_args!("approved by --yes: {}", output::printable(&flow.prompt));
                match &self.live {
                    Some(live) => live.say(&approved.to_string()),
                    None => output::say(approved),
                }
            }
            FlowAnswer {
                decision: Decision::Approve,
                digest: flow.digest.clone(),
                payload: serde_json::Value::Null,
                reason: None,
            }
        } else if let Some(person) = &mut self.person {
            if self.stage == Stage::New {
                if let Some(live) = &self.live {
                    live.pause();
                }
                person.put(flow);
                self.stage = Stage::Put;
            }
            person.decide(flow).await
        } else {
            // Cannot happen: the request names the kinds of flows that can be answered here.
            return pending().await;
        };
        let id = flow.id.clone();
        self.stage = Stage::Answered;
        self.go_on();
        (id, answer)
    }

    /// Reports an answer that does not count. After `bad_request` the person may answer again; otherwise the flow has ended.
    pub(crate) fn judged(&mut self, judged: Result<(), Failure>) {
        let Err(failure) = judged else {
            return;
        };
        if failure.code == ErrorCode::BadRequest && self.stage == Stage::Answered {
            self.stage = Stage::New;
        }
        let trouble = Trouble::from(failure);
        match &self.live {
            Some(live) => live.say(&trouble.to_string()),
            None => output::report(&trouble),
        }
    }

    /// Removes the lines of unfinished tasks.
    pub(crate) fn clear(&mut self) {
        if let Some(live) = &mut self.live {
            live.clear();
        }
    }

    fn ended(&mut self, id: &FlowId, end: FlowEnd) {
        let Some(at) = self.open.iter().position(|flow| flow.id == *id) else {
            return;
        };
        let flow = self.open.remove(at);
        if let Some(flow) = flow.filter(|_| at == 0) {
            self.take_back(&flow, end);
        }
    }

    /// Withdraws the question of the first flow, if it is on the terminal.
    fn take_back(&mut self, flow: &Flow, end: FlowEnd) {
        let put = self.stage == Stage::Put;
        self.stage = Stage::New;
        if let Some(person) = self.person.as_mut().filter(|_| put) {
            let ended = match end {
                FlowEnd::Approved => "was approved elsewhere",
                FlowEnd::Denied => "was denied elsewhere",
                FlowEnd::Expired => "has expired",
                FlowEnd::Withdrawn => "was withdrawn",
            };
            person.take_back(&format!("flow {} {ended}", flow.id));
            self.go_on();
        }
    }

    /// Shows the progress that was held while a question was on the terminal.
    fn go_on(&mut self) {
        let held = std::mem::take(&mut self.held);
        if let Some(live) = &mut self.live {
            live.go_on();
            held.iter().for_each(|progress| live.show(progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::flow::Subject;
    use amcp_protocol::{AnswerState, CapabilityName, FlowRequest, TaskId};
    use futures_util::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    /// Decides when the test sets `decision`; keeps what it was shown.
    #[derive(Default)]
    struct Told {
        decision: Option<Decision>,
        shown: Vec<String>,
    }

    impl Decides for Told {
        fn put(&mut self, flow: &Flow) {
            self.shown.push(format!("put {}", flow.id));
        }

        async fn decide(&mut self, flow: &Flow) -> FlowAnswer {
            let Some(decision) = self.decision.take() else {
                return pending().await;
            };
            FlowAnswer {
                decision,
                digest: flow.digest.clone(),
                payload: Value::Null,
                reason: None,
            }
        }

        fn take_back(&mut self, why: &str) {
            self.shown.push(why.to_owned());
        }
    }

    fn audience(person: Option<Told>, yes: bool) -> Audience<Told> {
        Audience {
            live: None,
            person,
            yes,
            quiet: true,
            open: VecDeque::new(),
            stage: Stage::New,
            held: Vec::new(),
        }
    }

    fn required(id: &str, kind: FlowKind) -> Progress {
        let subject = Subject {
            capability: CapabilityName::new("mail.send").unwrap(),
            params: json!({"to": "bob"}).into(),
        };
        let id = FlowId::new(id).unwrap();
        let task = TaskId::new(id.as_str().split('.').next().unwrap()).unwrap();
        let flow = Flow::open((id, task), FlowRequest::new(kind, "Go on?"), subject);
        Progress::FlowRequired {
            flow: Box::new(flow),
        }
    }

    fn ended(id: &str, end: FlowEnd) -> Progress {
        Progress::FlowEnded {
            task: TaskId::new("t1").unwrap(),
            flow: FlowId::new(id).unwrap(),
            end,
        }
    }

    impl Audience<Told> {
        fn next(&mut self) -> Option<(String, Decision)> {
            let (flow, answer) = self.decided().now_or_never()?;
            Some((flow.to_string(), answer.decision))
        }

        fn decide(&mut self, decision: Decision) {
            self.person.as_mut().unwrap().decision = Some(decision);
        }

        fn shown(&self) -> Vec<&str> {
            let shown = &self.person.as_ref().unwrap().shown;
            shown.iter().map(String::as_str).collect()
        }
    }

    #[test]
    fn flows_are_put_one_after_the_other() {
        let mut audience = audience(Some(Told::default()), false);
        assert_eq!(audience.kinds(), FlowKind::ALL);
        assert_eq!(audience.next(), None);
        audience.show(&required("t1.1", FlowKind::Confirmation));
        audience.show(&required("t2.1", FlowKind::Payment));
        assert_eq!(audience.next(), None);
        assert_eq!(audience.next(), None);
        assert_eq!(audience.shown(), ["put t1.1"], "once");
        audience.decide(Decision::Approve);
        assert_eq!(audience.next(), Some(("t1.1".into(), Decision::Approve)));
        audience.judged(Ok(()));
        // The end of t1.1 is not known yet.
        assert_eq!(audience.next(), None);
        audience.show(&ended("t1.1", FlowEnd::Approved));
        assert_eq!(audience.next(), None);
        assert_eq!(audience.shown(), ["put t1.1", "put t2.1"]);
        audience.decide(Decision::Deny);
        assert_eq!(audience.next(), Some(("t2.1".into(), Decision::Deny)));
    }

    #[test]
    fn a_question_that_needs_no_answer_any_more_is_taken_back() {
        let mut audience = audience(Some(Told::default()), false);
        audience.show(&required("t1.1", FlowKind::Confirmation));
        assert_eq!(audience.next(), None);
        audience.show(&required("t2.1", FlowKind::Confirmation));
        audience.show(&ended("t2.1", FlowEnd::Expired));
        audience.show(&ended("t1.1", FlowEnd::Expired));
        audience.decide(Decision::Approve);
        assert_eq!(audience.next(), None, "nothing is open");
        assert_eq!(audience.shown(), ["put t1.1", "flow t1.1 has expired"]);
        audience.show(&required("t1.2", FlowKind::Confirmation));
        audience.person.as_mut().unwrap().decision = None;
        assert_eq!(audience.next(), None);
        let state = AnswerState::Cancelled;
        audience.show(&Progress::Answered { state });
        assert_eq!(audience.shown().last(), Some(&"flow t1.2 was withdrawn"));
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_asked_for_again() {
        let mut audience = audience(Some(Told::default()), false);
        audience.show(&required("t1.1", FlowKind::Payment));
        for (code, shown) in [(ErrorCode::BadRequest, 2), (ErrorCode::FlowExpired, 2)] {
            audience.decide(Decision::Approve);
            assert!(audience.next().is_some());
            audience.judged(Err(Failure::new(code, "no")));
            assert_eq!(audience.next(), None);
            assert_eq!(audience.shown().len(), shown, "{code}");
        }
    }

    #[test]
    fn yes_approves_confirmations_and_nothing_else() {
        let mut alone = audience(None, true);
        assert_eq!(alone.kinds(), [FlowKind::Confirmation]);
        alone.show(&required("t1.1", FlowKind::Confirmation));
        assert_eq!(alone.next(), Some(("t1.1".into(), Decision::Approve)));
        assert_eq!(alone.next(), None);
        let mut with = audience(Some(Told::default()), true);
        with.show(&required("t1.1", FlowKind::Payment));
        assert_eq!(with.next(), None);
        assert_eq!(with.shown(), ["put t1.1"]);
        assert!(!audience(None, false).attends());
    }
}
