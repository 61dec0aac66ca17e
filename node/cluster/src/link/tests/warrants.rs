//! What `b` passes on to `c` of requests that `a` accepted: `c` does what `a` has signed, and nothing else.

use std::collections::BTreeMap;

use amcp_protocol::warrant::{Sealed, WarrantedTask, digest, part_id};
use amcp_protocol::{AccessRules, Backing, Permissions, Step, Warrant};
use tempfile::TempDir;

use super::super::warrants::Doubt;
use super::*;
use crate::certs;
use crate::transport::Tls;

/// Certificates for a, b and c; none without TLS.
struct Keys(Option<TempDir>);

impl Keys {
    fn made() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certs::init(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            certs::issue(folder.path(), &name.parse().unwrap(), &[]).unwrap();
        }
        Self(Some(folder))
    }

    fn tls(&self, name: &str) -> Option<Tls> {
        let folder = self.0.as_ref()?.path();
        let files = crate::settings::TlsFiles {
            ca: folder.join("ca.pem"),
            cert: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        Some(Tls::load(&files, &name.parse().unwrap()).unwrap())
    }

    fn of(&self, name: &str) -> Identity {
        Identity::new(name.parse().unwrap(), COOKIE, self.tls(name).as_ref())
    }

    /// What `by` signs.
    fn sealed(&self, by: &str, warrant: &Warrant) -> Sealed {
        Warrants::new(self.of(by)).sign(warrant).unwrap()
    }
}

/// `c` with an agent for `a.x`, linked with `b`, and with `a` before, if the two have met.
struct Pair {
    b: Node,
    c: Node,
    port: AgentPort,
}

impl Pair {
    async fn start(keys: &Keys, trust: Trust, met: bool) -> Self {
        let b = Node::of(keys.of("b"), Trust::default(), None).await;
        let c = Node::of(keys.of("c"), trust, None).await;
        c.agent("worker@c", "a.x").await;
        if met {
            let own = keys.tls("a").map(|tls| tls.own.cert[0].clone());
            c.links.0.warrants.met(&"a".parse().unwrap(), own);
        }
        link(&b, &c, 1);
        let port = b.sees("worker@c").await;
        Self { b, c, port }
    }

    /// Whether `c` does a task of `b`; else the code of its refusal.
    async fn does(&self, task: TaskRequest) -> Result<(), ErrorCode> {
        let mut answered = send(&self.port, task);
        tokio::select! {
            biased;
            response = &mut answered => Err(code(response.unwrap())),
            mut begun = self.c.tasks(1) => {
                let (asked, answer) = begun.remove(0);
                answer.answer(done(&asked, json!({})));
                answered.await.unwrap();
                Ok(())
            }
        }
    }
}

/// `a` may use `a.*` here for analysts, `b` nothing.
fn trust(capabilities: &str) -> Trust {
    let issue = |roles: &[&str], capabilities: &[&str]| Issue {
        roles: Some(roles.iter().map(|&role| role.to_owned()).collect()),
        capabilities: Some(capabilities.iter().map(|c| c.parse().unwrap()).collect()),
    };
    let of_a = ("a".parse().unwrap(), issue(&["analyst"], &[capabilities]));
    let of_b = ("b".parse().unwrap(), issue(&[], &[]));
    Trust {
        issue: [of_a, of_b].into(),
        ..Trust::default()
    }
}

fn warrant() -> Warrant {
    let named = |id: &str, capability: &str, params: Option<Value>| WarrantedTask {
        id: id.parse().unwrap(),
        capability: capability.parse().unwrap(),
        params: params.map(|params| digest(&params)),
    };
    Warrant {
        issuer: "a".parse().unwrap(),
        request: REQUEST.parse().unwrap(),
        user: Some("ana".to_owned()),
        roles: vec!["analyst".to_owned()],
        tasks: vec![
            named("t1", "trip.plan", None),
            named("t2", "a.x", None),
            named("t3", "orchestrate.b", Some(json!({"query": "?"}))),
        ],
        issued_unix_ms: u64::try_from(amcp_registry::bus::unix_ms()).unwrap(),
        lifetime_ms: 60_000,
    }
}

fn step(task: &str, caller: Option<&str>) -> Step {
    Step {
        task: task.parse().unwrap(),
        caller: caller.map(|caller| caller.parse().unwrap()),
        part: caller.is_none().then(|| digest(&json!({"query": "?"}))),
    }
}

/// A call that an agent of `b` makes for `t1`.
fn passed_on(sealed: Option<Sealed>) -> TaskRequest {
    let mut task = task(&format!("t1-c{}", fastrand::u32(..)), 1);
    task.grant = Arc::new(amcp_protocol::Grant {
        user: Some("ana".to_owned()),
        roles: vec!["analyst".to_owned()],
        flows: Vec::new(),
    });
    task.lineage = Arc::new(amcp_protocol::Lineage {
        depth: 1,
        path: vec![step("t1", Some("trip@b"))],
        backing: sealed.map(|sealed| Arc::new(Backing::of(sealed))),
        ..amcp_protocol::Lineage::default()
    });
    task
}

fn path(task: &mut TaskRequest, path: Vec<Step>) {
    let lineage = Arc::make_mut(&mut task.lineage);
    lineage.depth = u8::try_from(path.len()).unwrap();
    lineage.path = path;
}

/// A task of the part that `of` delegates.
fn of_part(task: &mut TaskRequest, of: &str) {
    let params = digest(&json!({"query": "?"}));
    task.request_id = part_id(task.request_id, &of.parse().unwrap(), &params);
}

#[tokio::test(start_paused = true)]
async fn what_the_issuer_signed_is_done() {
    for keys in [Keys(None), Keys::made()] {
        let pair = Pair::start(&keys, trust("a.*"), true).await;
        let sealed = keys.sealed("a", &warrant());
        assert_eq!(pair.does(passed_on(Some(sealed.clone()))).await, Ok(()));
        assert_eq!(pair.does(passed_on(Some(sealed.clone()))).await, Ok(()));
        let mut part = passed_on(Some(sealed));
        path(&mut part, vec![step("t3", None)]);
        of_part(&mut part, "t3");
        assert_eq!(pair.does(part).await, Ok(()));
        assert_eq!(pair.c.links.counts().unproven, 0);
    }
}

type Forge = fn(&Keys, Sealed) -> TaskRequest;

/// Tasks that `b` makes of a warrant of `a`.
static FORGERIES: &[(&str, Forge)] = &[
    ("no warrant", |_, _| passed_on(None)),
    ("a changed signature", |_, mut sealed| {
        Arc::make_mut(&mut sealed.signature)[9] ^= 1;
        passed_on(Some(sealed))
    }),
    ("an empty signature", |_, mut sealed| {
        sealed.signature = [].into();
        passed_on(Some(sealed))
    }),
    (
        "changed words under the old signature",
        |keys, mut sealed| {
            let mut more = warrant();
            more.roles.push("admin".to_owned());
            sealed.warrant = keys.sealed("a", &more).warrant;
            passed_on(Some(sealed))
        },
    ),
    ("bytes that are no warrant", |_, mut sealed| {
        sealed.warrant = [0xc1; 3].into();
        passed_on(Some(sealed))
    }),
    ("another node's name over it", |_, mut sealed| {
        sealed.issuer = "c".parse().unwrap();
        passed_on(Some(sealed))
    }),
    ("signed with another kind of key", |keys, _| {
        let other = if keys.0.is_some() {
            Keys(None)
        } else {
            Keys::made()
        };
        passed_on(Some(other.sealed("a", &warrant())))
    }),
    ("replayed for another request", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        task.request_id = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        task
    }),
    ("another task", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        path(&mut task, vec![step("t9", Some("trip@b"))]);
        task
    }),
    ("a task that the issuer sends itself", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        task.task_id = "t2".parse().unwrap();
        path(&mut task, vec![]);
        task
    }),
    ("a path that is shorter than the depth", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        Arc::make_mut(&mut task.lineage).depth = 2;
        task
    }),
    ("a part of another query", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        let other = digest(&json!({"query": "!"}));
        let of = Step {
            part: Some(other),
            ..step("t3", None)
        };
        task.request_id = part_id(task.request_id, &of.task, &other);
        path(&mut task, vec![of]);
        task
    }),
    ("a role that the user lacks", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        Arc::make_mut(&mut task.grant)
            .roles
            .push("admin".to_owned());
        task
    }),
    ("another user", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        Arc::make_mut(&mut task.grant).user = Some("eve".to_owned());
        task
    }),
    ("an ended warrant", |keys, _| {
        let mut old = warrant();
        old.issued_unix_ms -= 400_000;
        passed_on(Some(keys.sealed("a", &old)))
    }),
    ("a warrant of the future", |keys, _| {
        let mut new = warrant();
        new.issued_unix_ms += 400_000;
        passed_on(Some(keys.sealed("a", &new)))
    }),
    ("a call by an agent of another node", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        path(&mut task, vec![step("t1", Some("trip@a"))]);
        task
    }),
    ("a call that names no caller", |_, sealed| {
        let mut task = passed_on(Some(sealed));
        let nobody = Step {
            part: None,
            ..step("t1", None)
        };
        path(&mut task, vec![nobody]);
        task
    }),
    ("the passing node's own warrant", |keys, _| {
        let own = Warrant {
            issuer: "b".parse().unwrap(),
            ..warrant()
        };
        passed_on(Some(keys.sealed("b", &own)))
    }),
];

#[tokio::test(start_paused = true)]
async fn nothing_else_is_done_under_a_warrant() {
    for keys in [Keys(None), Keys::made()] {
        for (fault, forge) in FORGERIES {
            let pair = Pair::start(&keys, trust("a.*"), true).await;
            let task = forge(&keys, keys.sealed("a", &warrant()));
            let does = pair.does(task).await;
            assert_eq!(does, Err(ErrorCode::NotPermitted), "{fault}");
            assert_eq!(pair.c.links.counts().not_allowed, 1, "{fault}");
            let heard = pair.c.refused.lock().unwrap().clone();
            assert_eq!(heard, [ErrorCode::NotPermitted], "{fault}");
        }
    }
}

/// With certificates no other node can sign for `a`; the cookie, which all have, proves only that a node of the mesh did.
#[tokio::test(start_paused = true)]
async fn another_nodes_key_does_not_sign_for_the_issuer() {
    let keys = Keys::made();
    let pair = Pair::start(&keys, trust("a.*"), true).await;
    let forged = keys.sealed("b", &warrant());
    let does = pair.does(passed_on(Some(forged))).await;
    assert_eq!(does, Err(ErrorCode::NotPermitted));
    assert_eq!(pair.c.links.counts().unproven, 1);
}

#[tokio::test(start_paused = true)]
async fn the_issuer_must_be_trusted_with_the_work_and_the_caller_permitted() {
    let keys = Keys(None);
    let sealed = keys.sealed("a", &warrant());
    let pair = Pair::start(&keys, trust("b.*"), true).await;
    let does = pair.does(passed_on(Some(sealed.clone()))).await;
    assert_eq!(does, Err(ErrorCode::NotPermitted), "a may not use a.x");
    assert_eq!(pair.c.links.counts().unproven, 0);

    let pair = Pair::start(&keys, trust("a.*"), true).await;
    let denies: AccessRules = serde_json::from_value(json!({"deny": ["a.*"]})).unwrap();
    pair.c.registry.permit(Permissions {
        agents: BTreeMap::from([("trip".to_owned(), denies)]),
        ..Permissions::default()
    });
    let does = pair.does(passed_on(Some(sealed.clone()))).await;
    assert_eq!(does, Err(ErrorCode::NotPermitted), "calls.trip denies it");
    // Nor through an orchestrator, or through another agent, that it calls.
    let call = || step("t1", Some("trip@b"));
    let mut part = passed_on(Some(sealed.clone()));
    path(&mut part, vec![call(), step("t1-c1", None)]);
    of_part(&mut part, "t1-c1");
    let mut by_other = passed_on(Some(sealed));
    path(&mut by_other, vec![call(), step("t1-c1", Some("other@b"))]);
    for (case, task) in [("an orchestrator", part), ("an agent", by_other)] {
        let does = pair.does(task).await;
        assert_eq!(does, Err(ErrorCode::NotPermitted), "through {case}");
    }
    assert_eq!(pair.c.links.counts().unproven, 0);
}

/// Work for a node without a table, and work that comes back to the node that accepted the request.
#[tokio::test(start_paused = true)]
async fn the_table_of_the_node_that_passes_on_counts_where_the_issuer_has_none() {
    let keys = Keys(None);
    for issuer in ["a", "c"] {
        let own = Warrant {
            issuer: issuer.parse().unwrap(),
            ..warrant()
        };
        let sealed = keys.sealed(issuer, &own);
        let mut trust = trust("a.*");
        trust.issue.remove("a");
        let of_b = Pair::start(&keys, trust.clone(), true).await;
        let does = of_b.does(passed_on(Some(sealed.clone()))).await;
        assert_eq!(does, Err(ErrorCode::NotPermitted), "b may not use a.x");
        assert_eq!(of_b.c.links.counts().unproven, 0);
        trust.issue.insert(own.issuer, Issue::default());
        let of_issuer = Pair::start(&keys, trust, true).await;
        assert_eq!(of_issuer.does(passed_on(Some(sealed))).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_passed_on_ends_with_its_warrant() {
    let keys = Keys(None);
    let pair = Pair::start(&keys, trust("a.*"), true).await;
    let mut task = passed_on(Some(keys.sealed("a", &warrant())));
    task.deadline_ms = 3_600_000;
    let answered = send(&pair.port, task);
    let (asked, answer) = pair.c.tasks(1).await.remove(0);
    assert!(asked.deadline_ms <= 60_000, "{}", asked.deadline_ms);
    answer.answer(done(&asked, json!({})));
    answered.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_takes_no_tasks_looks_at_no_warrants() {
    let keys = Keys(None);
    let pair = Pair::start(&keys, trust("a.*"), true).await;
    pair.c.links.withdraw();
    let does = pair.does(passed_on(None)).await;
    assert_eq!(does, Err(ErrorCode::AgentUnavailable));
    assert_eq!(pair.c.links.counts().not_allowed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_warrant_ends_by_this_nodes_clock() {
    let keys = Keys(None);
    let warrants = Warrants::new(keys.of("c"));
    let prove = |warrant: &Warrant| {
        let rest = warrants.prove(&keys.sealed("a", warrant), &passed_on(None));
        rest.map(|rest| rest.as_secs())
    };
    let first = warrant();
    assert_eq!(prove(&first), Ok(60));
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(prove(&first), Ok(0));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(prove(&first), Err(Doubt::Ended));
}

/// A mesh without tables works as before, and one with tables waits for the link that shows the issuer's certificate.
#[tokio::test(start_paused = true)]
async fn only_a_node_with_tables_needs_warrants() {
    let keys = Keys::made();
    let sealed = keys.sealed("a", &warrant());
    let open = Pair::start(&keys, Trust::default(), false).await;
    assert_eq!(open.does(passed_on(None)).await, Ok(()));
    assert_eq!(open.does(passed_on(Some(sealed.clone()))).await, Ok(()));
    let strict = Pair::start(&keys, trust("a.*"), false).await;
    let stranger = strict.does(passed_on(Some(sealed.clone()))).await;
    assert_eq!(stranger, Err(ErrorCode::AgentUnavailable));
    // Only a is limited here: it cannot do more by leaving the warrant out and having b ask.
    let mut of_a = trust("a.*");
    of_a.issue.remove("b");
    let open_to_b = Pair::start(&keys, of_a, true).await;
    let bare = open_to_b.does(passed_on(None)).await;
    assert_eq!(bare, Err(ErrorCode::NotPermitted));
    assert_eq!(open_to_b.does(task("t1", 1)).await, Ok(()), "b's own");
    // Whoever may ask for everything has no use for a lie; two clocks that differ must not part such a mesh.
    let met = Pair::start(&keys, Trust::default(), true).await;
    let mut forged = sealed;
    forged.signature = [].into();
    assert_eq!(met.does(passed_on(Some(forged))).await, Ok(()));
    drop(met.b);
}

#[tokio::test(start_paused = true)]
async fn verified_warrants_are_bounded() {
    let warrants = Warrants::new(Keys(None).of("c"));
    for n in 0..1_100 {
        let request = format!("00000000-0000-0000-0000-{n:012x}").parse().unwrap();
        let sealed = warrants
            .sign(&Warrant {
                request,
                ..warrant()
            })
            .unwrap();
        let mut task = passed_on(None);
        task.request_id = request;
        for _ in 0..2 {
            assert!(warrants.prove(&sealed, &task).is_ok());
        }
    }
    assert_eq!(warrants.remembered(), (1_024, 1_024));
}
