//! Output to the terminal: troubles with their hints, colour only where it is wanted, no error when a pipe closes.
//!
//! Does not choose the words; the commands do.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use amcp_cluster::ClusterError;
use amcp_gateway::codes;
pub(crate) use amcp_gateway::printable;
use amcp_protocol::{ErrorCode, Failure};
use serde::Serialize;

/// Ends a command: the fault, a hint what to do, and the exit code.
#[derive(Debug)]
pub(crate) struct Trouble {
    message: String,
    hint: Option<String>,
    exit: u8,
    /// Of a failure; a trouble of the command line has none.
    code: Option<ErrorCode>,
}

impl Trouble {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit,
            code: None,
        }
    }

    /// The command line, the configuration or the query is unusable.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(codes::EXIT_USAGE, message)
    }

    /// Something that should work did not.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(codes::EXIT_FAILED, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure without its exit code.
    pub(crate) fn into_failure(self) -> Failure {
        let by_exit = match self.exit {
            codes::EXIT_USAGE => ErrorCode::BadRequest,
            _ => ErrorCode::Internal,
        };
        let code = self.code.unwrap_or(by_exit);
        Failure {
            hint: self.hint,
            ..Failure::new(code, self.message)
        }
    }

    /// The message, with the code of a failure that the exit code does not name.
    fn said(&self) -> String {
        match self.code.filter(|code| *code != ErrorCode::BadRequest) {
            Some(code) => format!("{} [{code}]", self.message),
            None => self.message.clone(),
        }
    }

    pub(crate) const fn exit(&self) -> u8 {
        self.exit
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.said())?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self {
            message: failure.message,
            hint: failure.hint,
            exit: codes::outcome(failure.code).1,
            code: Some(failure.code),
        }
    }
}

impl From<ClusterError> for Trouble {
    fn from(error: ClusterError) -> Self {
        let trouble = if error.of_settings {
            Self::usage(error.message)
        } else {
            Self::failed(error.message)
        };
        Self {
            hint: error.hint,
            ..trouble
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::failed(format!("writing the output: {error}"))
    }
}

/// Writes to stdout. A reader may close its pipe early: that is no failure.
///
/// # Errors
/// Those of stdout except for a closed pipe.
pub(crate) fn print(text: impl fmt::Display) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints the verdict on a demo; returns its exit code.
///
/// # Errors
/// Those of [`print`].
pub(crate) fn verdict(good: bool, well: &str) -> Result<u8, Trouble> {
    let style = Style::for_stdout();
    if good {
        print(style.green(well))?;
        return Ok(codes::EXIT_ANSWERED);
    }
    print(style.red("Something was lost: see the counts."))?;
    Ok(codes::EXIT_FAILED)
}

/// Writes JSON to stdout: indented on a terminal, else on one line.
///
/// # Errors
/// Those of [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    print(text)
}

/// Writes to stderr; ignores errors, since no other channel could report them.
pub(crate) fn say(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Reports a trouble on stderr.
pub(crate) fn report(trouble: &Trouble) {
    let style = Style::for_stderr();
    say(format_args!("{} {}", style.red("error:"), trouble.said()));
    if let Some(hint) = &trouble.hint {
        say(format_args!("{} {hint}", style.cyan("hint:")));
    }
}

/// Adds colour to text, or leaves the text plain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    pub(crate) fn for_stdout() -> Self {
        Self::when(io::stdout().is_terminal())
    }

    pub(crate) fn for_stderr() -> Self {
        Self::when(io::stderr().is_terminal())
    }

    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self { colours: false }
    }

    /// <https://no-color.org>: any value that is not empty.
    fn when(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            colours: terminal && !unwanted,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}
