//! `amcp completions` and `amcp man`: what shells and `man` know of the command line.
//!
//! Needs no settings; the texts are those of `--help`.

use std::path::Path;

use clap_complete::Shell;

use crate::cli::with_settings;
use crate::output::{self, Trouble};

/// Prints completions.
///
/// # Errors
/// Those of stdout.
pub(crate) fn completions(shell: Shell) -> Result<u8, Trouble> {
    // In memory first: the generator panics where a reader closes its pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut with_settings(), "amcp", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(0)
}

/// Writes a page for `amcp` and one for each of its commands, such as `amcp-ask.1`.
///
/// # Errors
/// The folder or a file cannot be written.
pub(crate) fn man(folder: &Path) -> Result<u8, Trouble> {
    let unwritable = |error: std::io::Error| {
        Trouble::failed(format!(
            "the pages cannot be written to {}: {error}",
            folder.display()
        ))
        .hint("name a folder that you may write to")
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(with_settings(), folder)
    };
    write().map_err(unwritable)?;
    output::print(format_args!(
        "man --manpath {} amcp",
        folder.parent().unwrap_or(folder).display()
    ))?;
    Ok(0)
}
