//! What the dispatcher costs per lease: one answer in, the next lease out.
//!
//! `cargo bench --bench dispatch`; the aim is below 2 µs, so that 8,000 leases a second take less
//! than 2 % of a core.

use criterion::{Criterion, criterion_group, criterion_main};
use levada::dispatch::{
    Action, Command, DispatchOptions, Dispatcher, FailurePolicy, GroupOptions, LeaseId, Millis,
    SinkId, SinkOptions,
};
use levada::offset::Offset;
use std::collections::VecDeque;
use std::hint::black_box;

/// A dispatcher whose sinks all have full queues, and the leases that are out.
struct Running {
    dispatcher: Dispatcher,
    leases: VecDeque<LeaseId>,
    tail: u64,
}

impl Running {
    fn new(sinks: usize, policy: FailurePolicy) -> Running {
        let sink = |index| SinkOptions {
            policy: policy.into(),
            ..SinkOptions::named(format!("k{index}"))
        };
        let sinks: Vec<_> = (0..sinks).map(sink).collect();
        let ids = (0..sinks.len()).map(SinkId);
        let group = GroupOptions { name: "default".into(), sinks, ..GroupOptions::default() };
        let options = DispatchOptions { groups: vec![group], seed: 1 };
        let dispatcher = Dispatcher::restore(&options, &[], Offset(0)..Offset(0));
        let mut running = Running { dispatcher, leases: VecDeque::new(), tail: 0 };
        for id in ids {
            running.apply(Action::SinkReady(id));
        }
        running.grow();
        running
    }

    fn apply(&mut self, action: Action) {
        for command in black_box(self.dispatcher.apply(Millis(0), action)) {
            if let Command::Deliver { lease, .. } = command {
                self.leases.push_back(lease);
            }
        }
    }

    fn grow(&mut self) {
        self.tail += 100;
        self.apply(Action::Tail(Offset(self.tail)));
    }

    /// The log grows by a batch, a lease is answered, the next one is lent.
    fn turn(&mut self, take: impl Fn(&mut VecDeque<LeaseId>) -> Option<LeaseId>) {
        self.grow();
        if let Some(lease) = take(&mut self.leases) {
            self.apply(Action::Delivered { lease });
        }
    }
}

fn leases(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch");
    for (sinks, policy, name) in [
        (1, FailurePolicy::Requeue, "1 sink"),
        (4, FailurePolicy::Requeue, "4 sinks"),
        (16, FailurePolicy::RetryAndResume, "16 sinks, retryAndResume"),
    ] {
        let mut running = Running::new(sinks, policy);
        group.bench_function(format!("{name}, acks in order"), |b| {
            b.iter(|| running.turn(VecDeque::pop_front));
        });
    }
    // the first lease hangs, every other one is answered above it
    let mut running = Running::new(4, FailurePolicy::Requeue);
    group.bench_function("4 sinks, acks above a hanging lease", |b| {
        b.iter(|| running.turn(|leases| leases.remove(1)));
    });
    let mut running = Running::new(4, FailurePolicy::Requeue);
    for _ in 0..8 {
        running.grow();
    }
    group.bench_function("snapshot of 4 sinks with full queues", |b| {
        b.iter(|| black_box(running.dispatcher.snapshot()));
    });
    group.finish();
}

criterion_group!(benches, leases);
criterion_main!(benches);
