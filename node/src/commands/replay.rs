//! `amcp replay`: steps this build's request machine through a recording of `amcp ask --record`.
//!
//! Carries nothing out: calls no agent and no model.

use std::path::Path;

use amcp_plan::recording::{ReplayError, replay};

use crate::output::{self, Trouble};

/// # Errors
/// The file cannot be read or is no recording, or this build decides otherwise than the recording says.
pub(crate) fn run(file: &Path) -> Result<u8, Trouble> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Trouble::usage(format!("the recording {shown} cannot be read: {error}"))
            .hint("`amcp ask --record FILE` writes a recording")
    })?;
    let replayed = replay(&text).map_err(|error| match error {
        ReplayError::Differs { .. } => Trouble::failed(format!("{shown}: {error}"))
            .hint("this build decides otherwise; `jq` shows the event and its actions"),
        ReplayError::Empty | ReplayError::Unreadable { .. } | ReplayError::Version(_) => {
            Trouble::usage(format!("{shown}: {error}"))
                .hint("give a file that `amcp ask --record FILE` of this version wrote")
        }
    })?;
    let end = if replayed.answered {
        "up to the final response"
    } else {
        "without a final response: it was cut off"
    };
    let (turns, request) = (replayed.turns, replayed.accepted.request_id);
    output::print(format_args!(
        "{turns} events of request {request} are repeated by this build, {end}"
    ))?;
    Ok(0)
}
