//! The file that `amcp ask --record` writes, on a thread of its own: a request's actor never waits for a disk.
//!
//! Does not read the lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, spawn};

use amcp_orchestrator::Recorder;

use crate::output::Trouble;

/// A recording that is being written. The limits of the request bound the lines that wait.
pub(crate) struct Recording {
    path: PathBuf,
    lines: Sender<Option<String>>,
    writer: JoinHandle<std::io::Result<()>>,
}

impl Recording {
    /// Creates the file.
    ///
    /// # Errors
    /// The file exists already, or cannot be created.
    pub(crate) fn create(path: &Path) -> Result<Self, Trouble> {
        let file = File::create_new(path).map_err(|error| {
            Trouble::usage(format!("{} cannot be created: {error}", path.display()))
                .hint("--record needs the path of a new file in a folder that exists")
        })?;
        let (lines, written) = channel::<Option<String>>();
        let writer = spawn(move || {
            let mut file = BufWriter::new(file);
            while let Ok(Some(line)) = written.recv() {
                writeln!(file, "{line}")?;
            }
            file.flush()
        });
        Ok(Self {
            path: path.to_owned(),
            lines,
            writer,
        })
    }

    /// The recorder whose lines go to this file.
    pub(crate) fn recorder(&self) -> Recorder {
        let lines = self.lines.clone();
        Recorder::new(move |_, line| {
            // `finish` reports a writer that has failed.
            let _ = lines.send(Some(line));
        })
    }

    /// Waits until all lines are in the file.
    ///
    /// # Errors
    /// The file could not be written to its end.
    pub(crate) fn finish(self) -> Result<(), Trouble> {
        let _ = self.lines.send(None);
        let written = self.writer.join();
        let error = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its writer died".to_owned(),
        };
        let message = format!(
            "the recording {} is not whole: {error}",
            self.path.display()
        );
        Err(Trouble::failed(message))
    }
}
