//! The costs of knowing who asks and what they may, and of writing down what is done: a check of a key, of permissions and of a
//! budget, a record of the audit log.
//!
//! Does not measure HTTP.

use std::hint::black_box;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amcp_access::{Audit, AuditRules, Budget, Budgets, Entry, KeyRing, NewKey, Spent, What};
use amcp_protocol::{Capability, Permissions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

fn check(criterion: &mut Criterion) {
    let mut ring = KeyRing::default();
    let now = Timestamp::now();
    let new = NewKey {
        user: "ana".to_owned(),
        roles: vec!["analyst".to_owned()],
        ..NewKey::default()
    };
    for _ in 0..999 {
        ring.create(new.clone(), now).expect("room");
    }
    let (text, _) = ring.create(new, now).expect("room");
    criterion.bench_function("check a key among 1,000", |bencher| {
        bencher.iter(|| ring.check(black_box(&text), now).is_ok());
    });
}

fn permissions(criterion: &mut Criterion) {
    let role = |n: u32| {
        let patterns = |word: &str| vec![format!("{word}{n}.*"), format!("{word}{n}.db.query")];
        let rules = json!({"allow": patterns("a"), "deny": patterns("d")});
        (format!("role-{n}"), rules)
    };
    let rules: Map<String, Value> = (0..20).map(role).collect();
    let permissions = serde_json::from_value(json!({ "roles": rules })).expect("rules");
    let permissions: Permissions = permissions;
    let roles: Vec<String> = (0..5).map(|n| format!("role-{n}")).collect();
    let capability = Capability::new("a4.db.query", "For the bench.");
    criterion.bench_function("judge a capability by five of 20 roles", |bencher| {
        bencher.iter(|| permissions.check(black_box(&roles), &capability).is_ok());
    });
    let budgets = Budgets::default();
    let budget = Budget {
        requests_per_minute: NonZeroU64::new(u64::from(u32::MAX)),
        at_a_time: NonZeroU64::new(1_000),
        ..Budget::default()
    };
    budgets.set([("role-1".to_owned(), budget)].into());
    let now = Instant::now();
    criterion.bench_function("admit and end a request under a budget", |bencher| {
        bencher.iter(|| {
            let admitted = budgets.admit("ana", black_box(&roles), true, now);
            budgets.spend("ana", Spent::default(), true);
            admitted.is_ok()
        });
    });
}

fn audit(criterion: &mut Criterion) {
    const BURST: u64 = 4_000;
    let folder = tempfile::tempdir().expect("a folder");
    let by = Arc::new(amcp_access::local(Some("ana".to_owned()), Vec::new()));
    let entry = || Entry {
        by: Some(Arc::clone(&by)),
        outcome: Some("completed".to_owned()),
        ..Entry::new(What::RequestEnded)
    };
    let mut group = criterion.benchmark_group("audit");
    // A burst fits into the queue, so that nothing is lost.
    let burst = |audit: &Audit| {
        let begin = Instant::now();
        for _ in 0..BURST {
            audit.record(entry()).expect("room in the queue");
        }
        begin.elapsed()
    };
    let written = |audit: &Audit, before: u64| {
        while audit.durable() < before + BURST {
            std::thread::yield_now();
        }
    };
    let timed = |until_durable: bool| {
        let rules = AuditRules::in_data(folder.path());
        let audit = Audit::open(rules).expect("a log");
        move |rounds: u64| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let (begin, before) = (Instant::now(), audit.durable());
                let called = burst(&audit);
                written(&audit, before);
                spent += if until_durable {
                    begin.elapsed()
                } else {
                    called
                };
            }
            spent
        }
    };
    group
        .throughput(Throughput::Elements(BURST))
        .sample_size(20);
    let mut called = timed(false);
    group.bench_function("record(), at its caller, 4,000 times", |bencher| {
        bencher.iter_custom(&mut called)
    });
    drop(called);
    let mut durable = timed(true);
    group.bench_function("4,000 records until they are durable", |bencher| {
        bencher.iter_custom(&mut durable)
    });
    group.finish();
}

criterion_group!(benches, check, permissions, audit);
criterion_main!(benches);
