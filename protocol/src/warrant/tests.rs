use serde_json::json;

use super::*;
use crate::task::Grant;

fn warrant() -> Warrant {
    let named = |id: &str, capability: &str, params: Option<Value>| WarrantedTask {
        id: id.parse().unwrap(),
        capability: capability.parse().unwrap(),
        params: params.map(|params| digest(&params)),
    };
    Warrant {
        issuer: "a".parse().unwrap(),
        request: "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
        user: Some("ana".to_owned()),
        roles: vec!["analyst".to_owned(), "user".to_owned()],
        tasks: vec![
            named("t1", "trip.plan", None),
            named("t2", "orchestrate.finance", Some(json!({"query": "What?"}))),
            named("t3", "orchestrate.finance", None),
        ],
        issued_unix_ms: 0,
        lifetime_ms: 1_000,
    }
}

fn call(task: &str) -> Step {
    Step {
        task: task.parse().unwrap(),
        caller: Some("trip-1@b".parse().unwrap()),
        part: None,
    }
}

fn part(task: &str, query: &str) -> Step {
    Step {
        task: task.parse().unwrap(),
        caller: None,
        part: Some(digest(&json!({"query": query}))),
    }
}

/// A task that comes by this path, of the request that the path leads to.
fn task(path: Vec<Step>) -> TaskRequest {
    let parts = path
        .iter()
        .filter_map(|step| Some((&step.task, step.part?)));
    let request = warrant().request;
    TaskRequest {
        version: 1,
        request_id: parts.fold(request, |id, (task, params)| part_id(id, task, &params)),
        task_id: "t1-c1".parse().unwrap(),
        attempt: 1,
        deadline_ms: 1,
        traceparent: None,
        grant: Arc::new(Grant {
            user: Some("ana".to_owned()),
            roles: vec!["analyst".to_owned()],
            flows: Vec::new(),
        }),
        lineage: Arc::new(Lineage {
            depth: u8::try_from(path.len()).unwrap(),
            path,
            ..Lineage::default()
        }),
        capability: "weather.get".parse().unwrap(),
        flows: Vec::new(),
        params: json!({}).into(),
    }
}

#[test]
fn a_warrant_covers_its_tasks_and_their_work() {
    let deep = vec![
        call("t1"),
        part("t1-c1", "What?"),
        call("x"),
        part("y", "?"),
    ];
    for (path, covered) in [
        // The issuer itself sends its tasks.
        (vec![], Err(Gap::Task)),
        (vec![call("t1")], Ok(())),
        (vec![call("t1"); 8], Ok(())),
        (vec![call("t1"), call("t1-c1")], Ok(())),
        (vec![part("t2", "What?")], Ok(())),
        (vec![part("t2", "What?"), call("anything")], Ok(())),
        (vec![part("t3", "bound at run time")], Ok(())),
        (deep, Ok(())),
        (vec![call("t9")], Err(Gap::Task)),
        (vec![part("t9", "What?")], Err(Gap::Task)),
        (vec![part("t1", "What?")], Err(Gap::Task)),
        (vec![part("t2", "Who?")], Err(Gap::Params)),
        (vec![call("t1"); 9], Err(Gap::Task)),
    ] {
        assert_eq!(warrant().covers(&task(path.clone())), covered, "{path:?}");
    }
}

#[test]
fn a_warrant_covers_nothing_else() {
    type Change = fn(&mut TaskRequest);
    let cases: [(Change, Gap); 8] = [
        (|t| Arc::make_mut(&mut t.grant).user = None, Gap::User),
        (
            |t| Arc::make_mut(&mut t.grant).roles.push("admin".to_owned()),
            Gap::Role,
        ),
        (
            |t| Arc::make_mut(&mut t.grant).roles = vec!["user".to_owned(); 3],
            Gap::Role,
        ),
        (
            |t| t.request_id = part_id(t.request_id, &t.task_id, &[0; 32]),
            Gap::Request,
        ),
        (|t| Arc::make_mut(&mut t.lineage).depth = 0, Gap::Task),
        (|t| Arc::make_mut(&mut t.lineage).depth = 2, Gap::Task),
        (
            |t| {
                Arc::make_mut(&mut t.lineage).path = vec![Step {
                    caller: None,
                    ..call("t1")
                }];
            },
            Gap::Task,
        ),
        (
            |t| Arc::make_mut(&mut t.lineage).path = vec![part("t2", "What?")],
            Gap::Request,
        ),
    ];
    for (change, gap) in cases {
        let mut task = task(vec![call("t1")]);
        change(&mut task);
        assert_eq!(warrant().covers(&task), Err(gap), "{task:?}");
    }
}

#[test]
fn a_draft_is_signed_once_and_again_when_the_warrant_ends_before_the_task() {
    let backing = Backing::own(Draft {
        request: warrant().request,
        user: Some("ana".to_owned()),
        roles: vec!["analyst".to_owned()],
        tasks: warrant().tasks,
        lifetime_ms: 1_000,
    });
    assert_eq!(backing.sealed(), None, "no task has left");
    let mut signed = Vec::new();
    for (now, task_ms) in [(100, 1_000), (100, 500), (900, 200), (900, 201), (950, 900)] {
        backing.seal(&"a".parse().unwrap(), (now, task_ms), |warrant| {
            signed.push((warrant.issued_unix_ms, warrant.lifetime_ms));
            Some(Sealed {
                issuer: warrant.issuer.clone(),
                warrant: [0].into(),
                signature: [0].into(),
            })
        });
    }
    assert_eq!(signed, [(100, 1_000), (900, 1_000)]);
    assert!(backing.sealed().is_some());
}

#[test]
fn a_part_has_one_id_and_other_parts_have_others() {
    let (request, task) = (warrant().request, "t1".parse().unwrap());
    let id = part_id(request, &task, &[1; 32]);
    assert_eq!(id, part_id(request, &task, &[1; 32]));
    assert_ne!(id, part_id(request, &task, &[2; 32]));
    assert_ne!(id, part_id(request, &"t2".parse().unwrap(), &[1; 32]));
    assert_ne!(id, part_id(id, &task, &[1; 32]));
}

#[test]
fn only_a_warrant_of_the_same_issuer_takes_anothers_place() {
    let sealed = |issuer: &str, signature: u8| Sealed {
        issuer: issuer.parse().unwrap(),
        warrant: [0].into(),
        signature: [signature].into(),
    };
    let held = Backing::of(sealed("a", 1));
    for (later, is) in [(("z", 2), ("a", 1)), (("a", 3), ("a", 3))] {
        held.renew(&Backing::of(sealed(later.0, later.1)));
        assert_eq!(held.sealed(), Some(sealed(is.0, is.1)));
    }
}
