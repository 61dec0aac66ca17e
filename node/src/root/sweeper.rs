//! The [`SweeperActor`]: removes reports that are older than the node keeps them.
//!
//! Does not touch the disk itself; a blocking task does.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use amcp_specialists::reports::sweep;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

/// Pause between two sweeps: short beside a day, the unit of `report_days`.
const PERIOD: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sweeps when it starts and once an hour.
#[derive(Debug)]
pub(super) struct SweeperActor;

/// From the timer, at the end of a pause.
#[derive(Debug)]
pub(super) struct Sweep;

impl ractor::Message for Sweep {}

#[derive(Debug)]
pub(super) struct SweeperState {
    reports: PathBuf,
    keep: Duration,
    timer: JoinHandle<()>,
}

impl Actor for SweeperActor {
    type Msg = Sweep;
    type State = SweeperState;
    type Arguments = (PathBuf, u32);

    async fn pre_start(
        &self,
        myself: ActorRef<Sweep>,
        (reports, days): Self::Arguments,
    ) -> Result<SweeperState, ActorProcessingErr> {
        myself.send_message(Sweep)?;
        Ok(SweeperState {
            reports,
            keep: DAY.saturating_mul(days),
            timer: myself.send_interval(PERIOD, || Sweep),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<Sweep>,
        Sweep: Sweep,
        state: &mut SweeperState,
    ) -> Result<(), ActorProcessingErr> {
        let (reports, keep) = (state.reports.clone(), state.keep);
        // Nobody waits for it: what one sweep leaves, the next one finds.
        tokio::task::spawn_blocking(move || {
            let before = now().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
            match sweep(&reports, before) {
                Ok(0) => {}
                Ok(reports) => tracing::info!(reports, "removed old reports"),
                Err(error) => tracing::warn!(%error, "old reports cannot be removed"),
            }
        });
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Sweep>,
        state: &mut SweeperState,
    ) -> Result<(), ActorProcessingErr> {
        state.timer.abort();
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "files bear wall-clock times")]
fn now() -> SystemTime {
    SystemTime::now()
}
