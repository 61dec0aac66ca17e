//! Requests of one task that takes its agent 50 ms, at 1, 2, 4 and 8 agents: whether the rate grows as they do.

use std::sync::Arc;
use std::time::Duration;

use amcp_orchestrator::Settings;
use amcp_plan::Plan;
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{AgentCard, AnswerState, Capability, Failure};
use amcp_specialists::{ChildSpec, Context, Specialist, Task, Value, async_trait, json};
use amcp_tests::bench::load::{self, Fate};
use amcp_tests::bench::report::{Goal, Report};
use amcp_tests::bench::{capabilities, catalogue, compiled};
use amcp_tests::mesh::Mesh;

const TASK: Duration = Duration::from_millis(50);
/// Requests in flight for each agent: enough that chance leaves hardly any agent idle.
const EACH: usize = 8;

/// Adds the series to the report: each rate beside as many times that of one agent.
pub(crate) async fn series(report: &mut Report, duration: Duration) {
    let mut one = f64::NAN;
    for agents in [1, 2, 4, 8] {
        eprintln!("── {agents} agents of 50 ms tasks");
        let rate = rate(agents, duration).await;
        if agents == 1 {
            one = rate;
        }
        let name = |what| format!("{agents} agents of 50 ms tasks: {what}");
        report.add(name("requests per second"), "/s", (rate, None), Goal::None);
        let share = rate / (one * agents as f64);
        let goal = Goal::AtLeast(0.9);
        report.add(name("share of linear"), "", (share, None), goal);
    }
}

async fn rate(agents: usize, duration: Duration) -> f64 {
    let children = (0..agents).map(|n| ChildSpec::new(&format!("slow-{n}"), || Slow));
    let planner = Arc::new(OneTask(plan()));
    let mesh = Mesh::start(planner, Settings::default(), children.collect()).await;
    let mesh = Arc::new(Asked(mesh));
    let in_flight = EACH * agents;
    // Until every agent has its share of what is in flight.
    load::closed(&mesh, (), in_flight, TASK * 20).await;
    load::closed(&mesh, (), in_flight, duration).await.rate()
}

struct Asked(Mesh);

impl load::Subject for Asked {
    type Question = ();

    async fn ask(&self, (): ()) -> Fate {
        let answer = self.0.ask("one task").await;
        assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
        Fate::Answered
    }
}

fn capability() -> Capability {
    let [a, ..] = capabilities();
    Capability {
        concurrency: 1,
        ..a
    }
}

fn plan() -> Plan {
    let task = json!({"id": "t1", "capability": capability().name, "params": {"n": 1}});
    let proposal = serde_json::from_value(json!({"tasks": [task]}));
    compiled(
        &proposal.expect("a plan of the documented form"),
        &catalogue(),
    )
}

struct OneTask(Plan);

impl Planner for OneTask {
    fn name(&self) -> String {
        "precompiled".to_owned()
    }

    fn plan(&self, _: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        let planned = Planned {
            plan: self.0.clone(),
            planner: self.name(),
            llm_calls: 0,
            usage: Usage::default(),
            notes: Vec::new(),
        };
        Box::pin(async move { Ok(planned) })
    }
}

struct Slow;

#[async_trait]
impl Specialist for Slow {
    fn card(&self) -> AgentCard {
        AgentCard::new("slow", "Takes its time.", vec![capability()])
    }

    async fn handle(&self, _: Task, _: &Context) -> Result<Value, Failure> {
        tokio::time::sleep(TASK).await;
        Ok(json!({"n": 1}))
    }
}
