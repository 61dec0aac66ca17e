//! Cases that are asked: a node of this process answers them, so that the answer can be judged too.
//!
//! Judges no plan. The data folder is the configured one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use amcp_planner::client::SharedLlm;
use amcp_planner::eval::{self, Answered, Case, Cost, WantedAnswer};
use amcp_planner::{
    ComposeInput, Composed, Planned, Planner, PlanningError, PlanningInput, SharedPlanner,
};
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, UserRequest};
use jiff::civil::Date;
use parking_lot::Mutex;

use super::Made;
use crate::config::Config;
use crate::output::Trouble;
use crate::root::{Node, Purpose};

/// How long a judge may take: as long as a large model on a slow machine takes for a sentence.
const JUDGE_TIME: Duration = Duration::from_secs(60);

/// A node, and what its planner made of the case under way.
pub(super) struct Stage {
    node: Node,
    heard: Arc<Mutex<Heard>>,
    judge: Option<SharedLlm>,
}

#[derive(Default)]
struct Heard {
    today: Date,
    planned: Option<Result<Planned, PlanningError>>,
    cost: Cost,
}

impl Stage {
    /// Starts the node; `judge` judges the answers, beside the texts of their cases.
    pub(super) async fn start(config: &Config, judge: Option<SharedLlm>) -> Result<Self, Trouble> {
        // Each question sets the day.
        let heard = Arc::<Mutex<Heard>>::default();
        let ear = Arc::clone(&heard);
        let overheard = move |planner| {
            Arc::new(Overheard {
                planner,
                heard: ear,
            }) as SharedPlanner
        };
        let node = Node::start_with(config, Purpose::Work, overheard).await?;
        Ok(Self { node, heard, judge })
    }

    /// Asks one case after the other: no two at once. Nobody is there to answer flows.
    pub(super) async fn ask(
        &self,
        case: &Case,
        wanted: &WantedAnswer,
        today: Date,
    ) -> Result<(Made, Answered), Failure> {
        *self.heard.lock() = Heard {
            today,
            ..Heard::default()
        };
        let mut request = UserRequest::new(case.query.clone());
        request.flows = Some(Vec::new());
        let start = Instant::now();
        let answer = self.node.orchestrator.ask(request, None)?.answer().await;
        let took = start.elapsed();
        // An answer names its missing parts in its error.
        let error = answer.error.iter().map(|error| error.message.as_str());
        let texts = [answer.answer.as_str()].into_iter().chain(error);
        let text = texts.chain(answer.notes.iter().map(String::as_str));
        let text = text.collect::<Vec<_>>().join("\n");
        let faults = self.faults(case, wanted, &text).await;
        let mut heard = self.heard.lock();
        let planned = heard.planned.take().unwrap_or_else(|| {
            let failure = answer.error.clone();
            let failure = failure.unwrap_or_else(|| Failure::internal("nothing was planned"));
            Err(PlanningError::new(failure, answer.planner.clone()))
        });
        let cost = heard.cost;
        Ok(((planned, cost), Answered { faults, took }))
    }

    async fn faults(
        &self,
        case: &Case,
        wanted: &WantedAnswer,
        text: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut faults = wanted.faults(text);
        if let Some(judge) = &self.judge {
            let request = eval::judge_request(&case.query, wanted, text);
            let reply = tokio::time::timeout(JUDGE_TIME, judge.chat(request)).await;
            let reply = reply.map_err(|_| Failure::internal("the judge takes too long"))?;
            faults.extend(eval::judged(&reply?)?);
        }
        Ok(faults)
    }
}

/// Plans for the case's day, and keeps the first plan and the cost.
struct Overheard {
    planner: SharedPlanner,
    heard: Arc<Mutex<Heard>>,
}

impl Planner for Overheard {
    fn inner(&self) -> Option<&dyn Planner> {
        Some(&*self.planner)
    }

    fn plan(&self, mut input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            input.today = self.heard.lock().today;
            let start = Instant::now();
            let planned = self.planner.plan(input).await;
            let mut heard = self.heard.lock();
            let cost = Cost::of(&planned, start.elapsed());
            heard.cost.llm_calls += cost.llm_calls;
            heard.cost.usage += cost.usage;
            if heard.planned.is_none() {
                heard.cost.took = cost.took;
                heard.planned = Some(planned.clone());
            }
            planned
        })
    }

    fn compose(&self, input: ComposeInput) -> PortFuture<'_, Result<Composed, Failure>> {
        Box::pin(async move {
            let composed = self.planner.compose(input).await;
            let mut heard = self.heard.lock();
            // A failed call has been made, too.
            let (calls, usage) = composed
                .as_ref()
                .map_or((1, Default::default()), |c| (c.llm_calls, c.usage));
            heard.cost.llm_calls += calls;
            heard.cost.usage += usage;
            composed
        })
    }
}
