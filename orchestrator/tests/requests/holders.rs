//! Agents that hold a task's work while a person is asked, and must learn that nobody waits for it any more.

use amcp_protocol::flow::FlowEnd;

use super::*;

/// Holds its task until it is cancelled, asks for a payment in spite of that, and holds work until it is told for a second time
/// that nobody waits; the first time it is busy.
struct Crosses {
    id: AgentId,
    held: Arc<AtomicUsize>,
}

impl Actor for Crosses {
    type Msg = AgentMsg;
    type State = (Held, bool);
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<AgentMsg>,
        (): (),
    ) -> Result<(Held, bool), ActorProcessingErr> {
        Ok((Vec::new(), false))
    }

    async fn handle(
        &self,
        _: ActorRef<AgentMsg>,
        message: AgentMsg,
        (tasks, told): &mut (Held, bool),
    ) -> Result<(), ActorProcessingErr> {
        let answer = |task: &TaskRequest, outcome: TaskOutcome| TaskResponse {
            version: 1,
            request_id: task.request_id,
            task_id: task.task_id.clone(),
            attempt: task.attempt,
            agent: self.id.clone(),
            calls: Vec::new(),
            usage: Usage::default(),
            outcome,
        };
        match message {
            AgentMsg::Execute(task, port) if task.flows.is_empty() => {
                tasks.push((task, port));
                self.held.store(1, Ordering::SeqCst);
            }
            AgentMsg::Execute(task, port) if !*told => {
                *told = true;
                let busy = Failure::new(ErrorCode::AgentBusy, "as told");
                port.answer(answer(&task, TaskOutcome::Refused(busy)));
            }
            AgentMsg::Execute(task, _) => {
                let end = task.flows.last().map(|flow| flow.end);
                assert_eq!(end, Some(FlowEnd::Withdrawn));
                self.held.store(0, Ordering::SeqCst);
            }
            AgentMsg::Cancel(_) => {
                for (task, port) in tasks.drain(..) {
                    let flow = FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?");
                    let flow = Box::new(FlowRequest { held: true, ..flow });
                    port.answer(answer(&task, TaskOutcome::FlowRequired(flow)));
                }
            }
            AgentMsg::Drain => {}
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_question_crosses_the_cancellation_learns_that_nobody_waits() {
    let mesh = Mesh::with("crosses", Settings::default()).await;
    let capability = Capability::new("test.pay", "For tests.");
    let card = AgentCard::new("payer-1", "A worker.", vec![capability]);
    let (id, held) = (card.id.clone(), mesh.held.clone());
    let (actor, _) = Actor::spawn(None, Crosses { id, held }, ()).await.unwrap();
    let agent = Registration::new(card, 1, actor.get_derived());
    mesh.registry.register(agent).await.unwrap();
    let pays = json!({"id": "t1", "capability": "test.pay", "params": {}});
    let request = UserRequest::new(plan(&[pays]));
    let ticket = mesh.handle.ask(request, None).unwrap();
    mesh.until_held(1).await;
    mesh.handle.cancel(ticket.request_id()).unwrap();
    assert_eq!(ticket.answer().await.state, AnswerState::Cancelled);
    mesh.until_held(0).await;
}
