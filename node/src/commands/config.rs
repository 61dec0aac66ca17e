//! `amcp config`: prints each setting, its value and the source of the value; checks a file; prints the schema of such files.
//!
//! Does not change anything, and shows no secret.

use serde_json::{Value, json};

use crate::cli;
use crate::config::layers::{self, Inputs, Loaded, Source};
use crate::config::schema;
use crate::output::{self, Style, Trouble};

/// # Errors
/// The settings are unusable; those of stdout.
pub(crate) fn run(inputs: &Inputs, what: &cli::Config) -> Result<u8, Trouble> {
    match what {
        cli::Config::Show { json } => {
            let loaded = layers::load(inputs)?;
            for warning in &loaded.warnings {
                output::say(format_args!("warning: {warning}"));
            }
            show(&loaded, *json)?;
        }
        cli::Config::Check { file } => {
            let settings = layers::from_file(file)?.len();
            output::print(format_args!(
                "{} is usable: {settings} keys",
                file.display()
            ))?;
        }
        cli::Config::Schema => output::print_json(&schema::of_file())?,
    }
    Ok(0)
}

fn show(loaded: &Loaded, json: bool) -> Result<(), Trouble> {
    if json {
        let settings: Vec<Value> = loaded
            .values()
            .map(|(setting, value)| {
                let (kind, place) = match loaded.source(&setting.path) {
                    Source::Flag(flag) => ("flag", flag.clone()),
                    Source::Environment(name) => ("environment", name.clone()),
                    Source::File(path) => ("file", path.display().to_string()),
                    Source::Default => ("default", String::new()),
                };
                json!({"key": setting.path, "value": value, "source": kind, "from": place, "variables": setting.variables(), "doc": setting.doc})
            })
            .collect();
        let file = loaded.file.as_ref().map(|(path, _)| path);
        output::print_json(&json!({"file": file, "settings": settings}))?;
        return Ok(());
    }
    let style = Style::for_stdout();
    output::print(style.dim(&loaded.file_said()))?;
    let rows: Vec<(&str, String, &Source)> = loaded
        .values()
        .map(|(setting, value)| {
            let shown = Some(schema::shown(&value)).filter(|text| !text.is_empty());
            let shown = shown.unwrap_or_else(|| "(not set)".to_owned());
            (setting.path.as_str(), shown, loaded.source(&setting.path))
        })
        .collect();
    let widths = rows.iter().fold((0, 0), |(key, value), (path, shown, _)| {
        (key.max(path.len()), value.max(shown.chars().count()))
    });
    for (path, shown, source) in rows {
        let key = style.bold(&format!("{path:<0$}", widths.0));
        let from = source.to_string();
        let from = match source {
            Source::Default => style.dim(&from),
            Source::Flag(_) | Source::Environment(_) | Source::File(_) => style.green(&from),
        };
        output::print(format_args!("{key}  {shown:<0$}  {from}", widths.1))?;
    }
    Ok(())
}
