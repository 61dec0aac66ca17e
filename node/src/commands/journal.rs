//! `amcp journal`: checks the journal of the data folder while no node uses it.
//!
//! Changes no record.

use amcp_journal::{FileJournal, JournalError};

use crate::cli;
use crate::config::layers::Loaded;
use crate::output::{self, Trouble};
use crate::root;

const RESTORE: &str = "keep a copy of the folder, then restore it from a backup or move it away";

/// # Errors
/// The journal is damaged, in use or in memory.
pub(crate) fn run(loaded: &Loaded, what: cli::Journal) -> Result<u8, Trouble> {
    match what {
        cli::Journal::Verify => {}
    }
    let Some(folder) = root::journal_folder(&loaded.config) else {
        return Err(Trouble::usage("the journal is in memory")
            .hint("name its folder in AMCP_JOURNAL, as file:FOLDER"));
    };
    let verified = FileJournal::verify(&folder).map_err(|error| {
        let trouble = Trouble::failed(error.to_string());
        match error {
            JournalError::Held { .. } => trouble.hint("stop that process first"),
            JournalError::Missing(_) => trouble
                .hint("`amcp node` writes one; name the data folder of that node with --data"),
            JournalError::Damaged { .. } | JournalError::Unusable(_) => trouble.hint(RESTORE),
        }
    })?;
    output::print(format_args!(
        "{} requests, {} of them open, with {} records: {} damaged.",
        verified.requests,
        verified.open,
        verified.records,
        verified.damages.len()
    ))?;
    if verified.damages.is_empty() {
        return Ok(0);
    }
    let named: Vec<_> = verified.damages.iter().map(ToString::to_string).collect();
    Err(Trouble::failed(named.join("\n")).hint(RESTORE))
}
