//! What it costs to choose an agent, in meshes of several sizes, with nobody and with somebody to avoid.
//!
//! The pure directory: no actor and no process group.

use std::hint::black_box;
use std::time::Duration;

use amcp_protocol::{AgentCard, AgentId};
use amcp_registry::{Directory, Registration};
use amcp_tests::bench::capabilities;
use criterion::{Criterion, criterion_group, criterion_main};

fn mesh(agents: usize) -> Directory<()> {
    let mut directory = Directory::default();
    for number in 0..agents {
        let card = AgentCard::new(
            &format!("bench-{number}"),
            "Counts.",
            capabilities().to_vec(),
        );
        directory
            .register(Registration::<()>::new(card, 1, ()), Duration::ZERO)
            .expect("it may join");
    }
    directory
}

fn choose(criterion: &mut Criterion) {
    let [capability, ..] = capabilities();
    let avoid = [AgentId::new("bench-0").expect("an agent id")];
    let mut group = criterion.benchmark_group("registry");
    for agents in [2, 64, 1_024] {
        let directory = mesh(agents);
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random
        };
        group.bench_function(format!("choose of {agents}"), |bencher| {
            bencher.iter(|| {
                let choice = directory.choose(&capability.name, &[], next());
                black_box(choice.map(|choice| choice.begin()))
            });
        });
        group.bench_function(format!("choose of {agents}, avoiding one"), |bencher| {
            bencher.iter(|| {
                let choice = directory.choose(&capability.name, &avoid, next());
                black_box(choice.map(|choice| choice.begin()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, choose);
criterion_main!(benches);
