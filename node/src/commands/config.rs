//! `amcp config show`: prints each setting, its value and the source of the value.
//!
//! Does not change anything, and shows no secret.

use serde_json::json;

use crate::cli;
use crate::config::layers::{Loaded, Source, Sourced};
use crate::output::{self, Style, Trouble};

/// Runs the command.
///
/// # Errors
/// Those of stdout.
pub(crate) fn run(loaded: &Loaded, what: &cli::Config) -> Result<u8, Trouble> {
    let cli::Config::Show { json } = what;
    if *json {
        let settings: Vec<_> = loaded.sourced.iter().map(as_json).collect();
        output::print_json(&json!({"settings": settings}))?;
        return Ok(0);
    }
    let style = Style::for_stdout();
    let widths = loaded.sourced.iter().fold((0, 0), |(key, value), sourced| {
        (
            key.max(sourced.setting.key.len()),
            value.max(shown(sourced).chars().count()),
        )
    });
    for sourced in &loaded.sourced {
        let key = format!("{:<1$}", sourced.setting.key, widths.0);
        let value = format!("{:<1$}", shown(sourced), widths.1);
        let source = sourced.source.to_string();
        let source = match sourced.source {
            Source::Default => style.dim(&source),
            Source::Flag(_) | Source::Environment(_) | Source::File(_) => style.green(&source),
        };
        output::print(format_args!("{}  {value}  {source}", style.bold(&key)))?;
    }
    Ok(0)
}

fn shown(sourced: &Sourced) -> &str {
    match sourced.text.as_str() {
        "" => "(not set)",
        _ if sourced.setting.secret => "(secret)",
        text => text,
    }
}

fn as_json(sourced: &Sourced) -> serde_json::Value {
    let value = match sourced.text.as_str() {
        "" => serde_json::Value::Null,
        _ => shown(sourced).into(),
    };
    let (kind, place) = match &sourced.source {
        Source::Flag(flag) => ("flag", flag.clone()),
        Source::Environment(name) => ("environment", name.clone()),
        Source::File(path) => ("file", path.display().to_string()),
        Source::Default => ("default", String::new()),
    };
    json!({"key": sourced.setting.key, "value": value, "source": kind, "from": place, "doc": sourced.setting.doc.trim()})
}
