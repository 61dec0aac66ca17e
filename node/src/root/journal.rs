//! Opens the journal of a node that serves, and hands it to the orchestrator with the requests that it has.
//!
//! Does not begin them: the orchestrator does, once admission is open.

use std::path::PathBuf;
use std::sync::Arc;

use amcp_journal::{FileJournal, JournalError, Retention};
use amcp_orchestrator::OrchestratorHandle;

use crate::config::Config;
use crate::config::value::JournalPlace;
use crate::data;
use crate::output::Trouble;

/// The journal's folder; none if the settings keep requests in memory only.
pub(crate) fn folder(config: &Config) -> Option<PathBuf> {
    match &*config.journal {
        JournalPlace::Memory => None,
        JournalPlace::Data => Some(config.data.join(data::JOURNAL)),
        JournalPlace::Folder(folder) => Some(folder.clone()),
    }
}

/// Takes over the requests of an earlier process, if the node `serves` requests. With a damaged journal the node starts and is not ready: it says why, and accepts
/// nothing.
///
/// # Errors
/// Another process has the journal.
pub(super) async fn open(
    config: &Config,
    serves: bool,
    orchestrator: &OrchestratorHandle,
) -> Result<(), Trouble> {
    if !serves {
        return Ok(());
    }
    let Some(folder) = folder(config) else {
        tracing::warn!("the journal is in memory: accepted requests end with this process");
        return Ok(());
    };
    let (to, shown) = (orchestrator.clone(), folder.display().to_string());
    // Reads the whole file after a crash.
    let opened = tokio::task::spawn_blocking(move || {
        let (journal, heads) = FileJournal::open(&folder, Retention::default())?;
        Ok(to.recover(Arc::new(journal), heads))
    });
    let recovered = match opened
        .await
        .map_err(|error| Trouble::failed(error.to_string()))?
    {
        Ok(recovered) => recovered,
        Err(held @ JournalError::Held { .. }) => {
            return Err(Trouble::failed(held.to_string())
                .hint("stop that process, or give this node a journal of its own with --journal file:FOLDER"));
        }
        Err(
            error @ (JournalError::Damaged { .. }
            | JournalError::Missing(_)
            | JournalError::Unusable(_)),
        ) => Err(error.to_string()),
    };
    match recovered {
        Ok(recovered) => {
            let (open, answered) = (recovered.open, recovered.answered);
            let set_aside = recovered.set_aside.len();
            tracing::info!(
                journal = shown,
                open,
                answered,
                set_aside,
                "requests of the journal"
            );
        }
        Err(reason) => {
            tracing::error!(
                journal = shown,
                reason,
                "the journal cannot be used, and the node accepts no request"
            );
            orchestrator.cannot_keep(reason);
        }
    }
    Ok(())
}
