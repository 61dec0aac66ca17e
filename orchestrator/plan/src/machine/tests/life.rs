//! Signs of life: the idle time under the total one, and the notes in the progress.

use super::*;

const SILENCE: TimerKey = TimerKey::Silence {
    task: 0,
    attempt: 1,
};
const ATTEMPT: TimerKey = TimerKey::Attempt {
    task: 0,
    attempt: 1,
};

/// A task with an idle time of 5 s and a time-out of 30 s.
fn crawl(id: &str) -> PlanTask {
    let crawl = capability("test.crawl", |crawl| {
        crawl.params = json!({"type": "object", "x-idle-ms": 5_000});
    });
    task_of(id, &[], crawl)
}

impl Run {
    fn at(&mut self, ms: u64) -> &mut Self {
        self.now = Duration::from_millis(ms - 1);
        self
    }

    fn sign(&mut self, task: usize, attempt: u32, note: &str) -> &mut Self {
        let note = note.to_owned();
        self.step(Event::Progressed {
            task,
            attempt,
            note,
        })
    }

    /// The time of a timer that the last actions set.
    fn set(&self, key: TimerKey) -> Option<u64> {
        let at = |action: &Action| {
            if let Action::SetTimer { key: set, at } = action {
                return (*set == key).then_some(*at);
            }
            None
        };
        self.last
            .iter()
            .find_map(at)
            .map(|at| u64::try_from(at.as_millis()).unwrap())
    }

    fn clears(&self, key: TimerKey) -> bool {
        self.last.contains(&Action::ClearTimer(key))
    }

    fn shown(&self) -> Vec<&str> {
        let mut notes = Vec::new();
        for action in &self.last {
            if let Action::Report(Progress::Progressed { note, .. }) = action {
                notes.push(note.as_str());
            }
        }
        notes
    }
}

#[test]
fn a_sign_renews_the_idle_time_and_nothing_renews_the_total_time() {
    let mut run = Run::planned(vec![crawl("t1")]);
    assert_eq!(run.set(ATTEMPT), Some(30_001));
    assert_eq!(run.set(SILENCE), None, "no agent works on it yet");
    assert_eq!(run.at(100).sent(0, 1, "agent-1").set(SILENCE), Some(5_100));
    run.at(4_000).sign(0, 1, "");
    assert!(run.clears(SILENCE));
    assert_eq!((run.set(SILENCE), run.set(ATTEMPT)), (Some(9_000), None));
    assert_eq!(run.at(25_500).sign(0, 1, "").set(SILENCE), None);
    assert!(run.clears(SILENCE), "the total time is over sooner");
    run.at(30_001).fire(ATTEMPT);
    assert!(run.clears(SILENCE));
    assert!(run.last.contains(&Action::Abandon {
        task: 0,
        attempt: 1
    }));
}

#[test]
fn a_silent_attempt_is_given_up_and_tried_elsewhere() {
    let mut run = Run::planned(vec![crawl("t1")]);
    run.sent(0, 1, "agent-1").at(5_002).fire(SILENCE);
    let abandon = Action::Abandon {
        task: 0,
        attempt: 1,
    };
    assert!(run.last.contains(&abandon) && run.clears(ATTEMPT));
    let retried = run.last.iter().find_map(|action| {
        if let Action::Report(Progress::Retried { error, .. }) = action {
            return Some(error.clone());
        }
        None
    });
    let error = retried.unwrap();
    assert_eq!(error.code, ErrorCode::TaskTimeout);
    assert_eq!(error.message, "agent-1 gave no sign of life for 5s");
    let retry = TimerKey::Retry {
        task: 0,
        attempt: 1,
    };
    assert_eq!(run.fire(retry).dispatched(), [(0, 2)]);
    let avoids =
        |action: &Action| matches!(action, Action::Choose { avoid, .. } if !avoid.is_empty());
    assert!(run.last.iter().any(avoids));
    assert_eq!(run.fire(SILENCE).last, [], "of an attempt that is over");
}

#[test]
fn what_a_silent_attempt_did_is_unknown() {
    let mut pay = crawl("t1");
    pay.terms.idempotent = false;
    let mut run = Run::planned(vec![pay]);
    run.sent(0, 1, "agent-1").fire(SILENCE);
    let error = run.conclusion().error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::TaskTimeout);
    assert!(error.hint.unwrap().contains("unknown"));
}

#[test]
fn late_stale_and_foreign_signs_say_nothing() {
    let mut run = Run::planned(vec![crawl("t1"), task("t2", &[])]);
    assert_eq!(run.sign(0, 1, "not sent").last, []);
    run.sent(0, 1, "agent-1").sent(1, 1, "agent-1");
    for (task, attempt) in [(0, 0), (0, 2), (7, 1)] {
        assert_eq!(run.sign(task, attempt, "foreign").last, []);
    }
    assert_eq!(run.sign(1, 1, "without an idle time").shown().len(), 1);
    assert_eq!(run.last.len(), 1, "nothing but the words");
    run.fire(SILENCE);
    assert_eq!(run.sign(0, 1, "in the backoff").last, []);
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 1,
    });
    run.sent(0, 2, "agent-2");
    assert_eq!(run.sign(0, 1, "of the first attempt").last, []);
    let answered = Event::Responded {
        task: 0,
        attempt: 2,
        outcome: TaskOutcome::Done(json!(1).into()),
        calls: Vec::new(),
    };
    assert!(run.step(answered).clears(TimerKey::Silence {
        task: 0,
        attempt: 2
    }));
    assert_eq!(run.sign(0, 2, "after the end").last, []);
    run.done(1, 1, json!(1));
    assert_eq!(run.sign(1, 1, "after the response").last, []);
    assert_eq!(run.machine.dropped(), Dropped::default());
}

#[test]
fn a_cancelled_attempt_leaves_no_timer() {
    let mut run = Run::planned(vec![crawl("t1")]);
    run.sent(0, 1, "agent-1").step(Event::CancelRequested);
    assert!(run.clears(SILENCE) && run.clears(ATTEMPT));
}

#[test]
fn of_many_words_a_few_are_shown_and_all_renew() {
    let mut hour = crawl("t1");
    hour.terms.timeout_ms = 3_600_000;
    let policy = Policy {
        deadline: Duration::from_secs(3_600),
        ..Policy::default()
    };
    let mut run = Run::planned_with(policy, vec![hour]);
    run.sent(0, 1, "agent-1");
    assert_eq!(run.sign(0, 1, "page 1").shown(), ["page 1"]);
    assert_eq!(run.at(900).sign(0, 1, "page 2").shown().len(), 0);
    assert_eq!(run.set(SILENCE), Some(5_900));
    assert_eq!(run.at(2_000).sign(0, 1, "page 3").shown(), ["page 3"]);
    let mut shown = 2;
    for n in 21..35_900 {
        shown += run.at(n * 100).sign(0, 1, "more").shown().len();
    }
    assert!((50..70).contains(&shown), "{shown} in an hour");
}

#[test]
fn a_record_without_signs_repeats_all_decisions() {
    let decisions = |signs: bool| {
        let mut run = Run::planned(vec![crawl("t1"), crawl("t2")]);
        run.sent(0, 1, "agent-1").sent(1, 1, "agent-2");
        for ms in [3_000, 6_000, 9_000] {
            run.at(ms);
            if signs {
                run.sign(0, 1, "").sign(1, 1, "goes on");
            }
        }
        run.at(14_001).fire(SILENCE).at(14_500).done(1, 1, json!(1));
        run.at(14_600).fire(TimerKey::Retry {
            task: 0,
            attempt: 1,
        });
        run.at(15_000).done(0, 2, json!(2)).conclusion().clone()
    };
    assert_eq!(decisions(true), decisions(false));
}
