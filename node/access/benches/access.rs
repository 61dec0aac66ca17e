//! What a request pays for being known.

use std::hint::black_box;

use amcp_access::{KeyRing, NewKey};
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;

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

criterion_group!(benches, check);
criterion_main!(benches);
