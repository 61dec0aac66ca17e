//! Limits the effects of later plans: their planner has read results, which may contain instructions.

use amcp_protocol::{CapabilityName, Effect, ErrorCode, Failure};

use super::Machine;
use super::task::TaskRun;
use crate::catalogue::Catalogue;
use crate::plan::PlanTask;

impl Machine {
    /// The capabilities of `catalogue`, which holds what the user may use, that a later planning round may use: those that read, and
    /// those that the first plan used, unless they are not idempotent and may have been done. So no result can lead to an effect that was
    /// not planned before.
    #[must_use]
    pub fn authorised(&self, catalogue: &Catalogue) -> Vec<CapabilityName> {
        let names = catalogue.iter().map(|contract| &contract.capability);
        names
            .filter(|capability| {
                let used = || {
                    self.planned_runs()
                        .any(|run| run.plan.capability == capability.name)
                };
                (capability.effect == Effect::Read || used())
                    && !self.may_be_done(&capability.name, capability.idempotent)
            })
            .map(|capability| capability.name.clone())
            .collect()
    }

    /// Checks a later plan; the compiler authorised the first. A later plan may use only those capabilities with effects that
    /// the first plan used, none again that is not idempotent, and nothing irreversible with other params or more often.
    pub(super) fn check_authorised(&self, tasks: &[PlanTask]) -> Result<(), Failure> {
        if self.round == 1 {
            return Ok(());
        }
        let mut earlier: Vec<&TaskRun> = self.planned_runs().collect();
        for task in tasks {
            let same = |run: &TaskRun| run.plan.capability == task.capability;
            let denied = |run: &TaskRun| same(run) && run.was_denied() && run.asks_the_same(task);
            let refused = if self.may_be_done(&task.capability, task.terms.idempotent) {
                "may have been done already and is not idempotent"
            } else if self.planned_runs().any(denied) {
                "was denied by a person with these params"
            } else {
                let confirmed = task.terms.flow.is_some();
                let (likewise, refused): (&dyn Fn(&TaskRun) -> bool, _) = match task.terms.effect {
                    Effect::Read => continue,
                    Effect::Write => (&same, "was not authorised before results were read"),
                    Effect::Irreversible => (
                        // If a flow comes first, a person sees the params.
                        &|run| same(run) && (confirmed || run.asks_the_same(task)),
                        "was not authorised as often with these params before results were read",
                    ),
                };
                match earlier.iter().position(|run| likewise(run)) {
                    // Each task uses up one of the first plan, except for idempotent writes.
                    Some(_) if task.terms.effect == Effect::Write && task.terms.idempotent => {
                        continue;
                    }
                    Some(at) => {
                        earlier.swap_remove(at);
                        continue;
                    }
                    None => refused,
                }
            };
            let message = format!("{} {refused}", task.capability);
            return Err(Failure::new(ErrorCode::NotPermitted, message));
        }
        Ok(())
    }

    /// Whether an attempt of an earlier round may have done the work of a capability that is not idempotent, whatever it
    /// answered.
    fn may_be_done(&self, capability: &CapabilityName, idempotent: bool) -> bool {
        let tried = |run: &TaskRun| run.plan.capability == *capability;
        !idempotent && self.planned_runs().any(|run| tried(run) && run.may_be_done)
    }
}
