//! The settings as data: the JSON Schema of the file, and what follows from it: each setting's path, its names in the
//! environment and on the command line, its form as text.
//!
//! Does not read any source of settings; that is [`super::layers`].

use std::sync::LazyLock;

use clap::builder::ArgAction;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::Config;
use super::value::SECRET;

/// The JSON Schema of the configuration file.
pub(crate) fn of_file() -> Schema {
    schema::<Config>()
}

fn schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let settings = settings.with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>()
}

/// TOML has no null: a setting without a value is one that the file does not name.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(allowed)) = schema.get_mut("enum") {
        allowed.retain(|value| !value.is_null());
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// The form in which flags and the environment give a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Switch,
    Number,
    /// `a,b`
    List,
    /// `key=a,b;key=c`
    Lists,
    /// A path, beside the secret itself.
    Secret,
    Text,
    /// Only the file can hold it.
    Structure,
}

/// A value that every source can give: a leaf of the tree, with all that flags and the environment need to know.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The keys from the root of the file, with dots between them.
    pub(crate) path: String,
    /// The id of its flag, which is also its name in the environment.
    pub(crate) env: String,
    flag: String,
    pub(crate) doc: String,
    form: Form,
    schema: Value,
}

/// All settings, in the file's order.
pub(crate) fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| leaves(of_file().as_value(), ""));
    &SETTINGS
}

/// The value at a JSON pointer; null without one.
pub(super) fn at<'a>(tree: &'a Value, pointer: &str) -> &'a Value {
    tree.pointer(pointer).unwrap_or(&Value::Null)
}

fn leaves(schema: &Value, prefix: &str) -> Vec<Setting> {
    let properties = at(schema, "/properties").as_object().into_iter().flatten();
    let found = properties.flat_map(|(key, schema)| {
        let path = format!("{prefix}{key}");
        if at(schema, "/properties").is_object() && at(schema, "/type") == "object" {
            return leaves(schema, &format!("{path}."));
        }
        vec![Setting::new(path, schema.clone())]
    });
    found.collect()
}

impl Setting {
    fn new(path: String, schema: Value) -> Self {
        let form = match at(&schema, "/type").as_str() {
            _ if at(&schema, "/format") == SECRET => Form::Secret,
            Some("boolean") => Form::Switch,
            Some("integer") => Form::Number,
            Some("array") if at(&schema, "/items/type") == "string" => Form::List,
            Some("object") if at(&schema, "/additionalProperties/items/type") == "string" => {
                Form::Lists
            }
            Some("string") => Form::Text,
            _ => Form::Structure,
        };
        let name = path.replace('.', "_");
        let of_file = if form == Form::Secret { "-file" } else { "" };
        Self {
            env: format!("AMCP_{}", name.to_ascii_uppercase()),
            flag: format!("{}{of_file}", name.replace('_', "-")),
            doc: at(&schema, "/description")
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            form,
            path,
            schema,
        }
    }

    /// Its names in the environment: a secret may also be in a file that the variable names.
    pub(crate) fn variables(&self) -> Vec<String> {
        match self.form {
            Form::Structure => Vec::new(),
            Form::Secret => vec![self.env.clone(), format!("{}_FILE", self.env)],
            Form::Switch | Form::Number | Form::List | Form::Lists | Form::Text => {
                vec![self.env.clone()]
            }
        }
    }

    /// Its flag; a secret's names a file, since other users of the machine can read command lines.
    pub(crate) fn flag(&self) -> Option<String> {
        (self.form != Form::Structure).then(|| format!("--{}", self.flag))
    }

    /// Whether every command has the flag, not only `amcp node`.
    pub(crate) fn anywhere(&self) -> bool {
        at(&self.schema, "/x-anywhere") == true
    }

    /// Whether a running node takes a new value over.
    pub(crate) fn is_live(&self) -> bool {
        at(&self.schema, "/x-live") == true
    }

    /// The values that it takes, for people.
    pub(crate) fn allowed(&self) -> String {
        let of = |schema: &Value| match (
            at(schema, "/enum").as_array(),
            at(schema, "/format").as_str(),
        ) {
            (Some(choices), _) => choices.iter().map(shown).collect::<Vec<_>>().join(", "),
            (None, Some(format)) => format.to_owned(),
            (None, None) => "text".to_owned(),
        };
        match self.form {
            Form::Switch => "true or false".to_owned(),
            Form::Number => format!("number from {}", at(&self.schema, "/minimum")),
            Form::List => format!("list of {}", of(at(&self.schema, "/items"))),
            Form::Lists => format!(
                "table of lists of {}",
                of(at(&self.schema, "/additionalProperties/items"))
            ),
            Form::Structure => "tables, in the file only".to_owned(),
            Form::Secret | Form::Text => of(&self.schema),
        }
    }

    /// The default as text; none where the setting has no default.
    pub(crate) fn default(&self) -> Option<String> {
        let default = self.schema.get("default").map(shown);
        default.filter(|text| !text.is_empty())
    }

    /// Reads the text of a flag or a variable, as `name` gives it.
    ///
    /// # Errors
    /// The text has not the form of the setting; it is in the error unless it may hold a secret.
    pub(crate) fn read(&self, name: &str, text: &str) -> Result<toml::Value, String> {
        let words = |text: &str| -> toml::Value {
            let words = text.split(',').map(str::trim);
            words
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .into()
        };
        match self.form {
            Form::Switch => match text {
                "true" | "1" | "yes" | "on" => Ok(true.into()),
                "false" | "0" | "no" | "off" => Ok(false.into()),
                _ => Err(format!("'{text}' is neither true nor false")),
            },
            Form::Number => match text.parse::<i64>() {
                Ok(number) => Ok(number.into()),
                Err(_) => Err(format!("'{text}' is no whole number")),
            },
            Form::List => Ok(words(text)),
            Form::Lists => {
                let mut lists = toml::Table::new();
                for list in text
                    .split(';')
                    .map(str::trim)
                    .filter(|list| !list.is_empty())
                {
                    let (key, list) = list
                        .split_once('=')
                        .ok_or_else(|| format!("'{list}' has no '=': write name=word,word"))?;
                    if lists.insert(key.trim().to_owned(), words(list)).is_some() {
                        return Err(format!("{key} is there twice"));
                    }
                }
                Ok(lists.into())
            }
            Form::Secret if name != self.env => {
                Ok(toml::Table::from_iter([("file".to_owned(), text.into())]).into())
            }
            Form::Secret | Form::Text | Form::Structure => Ok(text.into()),
        }
    }
}

/// A value of a setting as [`Setting::read`] reads it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // A structure, which only the file can give.
        Value::Array(items) if items.iter().any(Value::is_object) => value.to_string(),
        Value::Object(inner) if inner.values().any(Value::is_object) => value.to_string(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        Value::Object(lists) => {
            let list = |(key, list)| format!("{key}={}", shown(list));
            lists.iter().map(list).collect::<Vec<_>>().join(";")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The flags of the settings that every command has, or of those that only `amcp node` has.
pub(crate) fn flags(anywhere: bool) -> impl Iterator<Item = clap::Arg> {
    let chosen = settings().iter().filter(move |s| s.anywhere() == anywhere);
    chosen
        .filter(|s| s.form != Form::Structure)
        .map(move |setting| {
            let place = settings()
                .iter()
                .position(|other| other.path == setting.path);
            let default = setting.default().filter(|_| setting.form != Form::Switch);
            let default = default.map_or_else(String::new, |text| format!(" [default: {text}]"));
            let of_file = if setting.form == Form::Secret {
                " (a file that holds it)"
            } else {
                ""
            };
            let doc = setting.doc.trim_end_matches('.');
            let flag = clap::Arg::new(setting.env.as_str())
                .long(setting.flag.as_str())
                .help(format!("{doc}{of_file}{default}"))
                .help_heading("Settings")
                .display_order(place.unwrap_or_default())
                .global(anywhere);
            match setting.form {
                Form::Switch => flag
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .hide_possible_values(true)
                    .value_name("BOOL"),
                Form::List => flag.action(ArgAction::Append).value_name("LIST"),
                Form::Lists => flag.action(ArgAction::Append).value_name("NAME=LIST"),
                Form::Secret => flag.value_name("FILE"),
                Form::Number => flag.value_name("NUMBER"),
                Form::Text | Form::Structure => {
                    let allowed = setting.allowed().replace(", ", "|");
                    flag.value_name(allowed.replace('`', "").to_ascii_uppercase())
                }
            }
        })
}

/// The settings that flags give, with the flags' names and texts; the flag of a list may be there several times.
pub(crate) fn given(matches: &clap::ArgMatches) -> Vec<(&'static Setting, String)> {
    let given = settings().iter().filter_map(|setting| {
        let texts = matches.try_get_many::<String>(&setting.env).ok()??;
        let separator = if setting.form == Form::Lists {
            ";"
        } else {
            ","
        };
        let texts: Vec<&str> = texts.map(String::as_str).collect();
        Some((setting, texts.join(separator)))
    });
    given.collect()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::value::Secret;

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Tree {
        /// About all.
        servers: Vec<Server>,
        limits: Limits,
        token: Option<Secret>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Server {
        name: String,
    }

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Limits {
        most: u32,
    }

    #[test]
    fn tables_have_paths_and_what_no_text_can_say_is_for_the_file_alone() {
        let found = leaves(schema::<Tree>().as_value(), "");
        let [servers, most, token] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!((servers.flag(), servers.variables()), (None, vec![]));
        assert_eq!(servers.doc, "About all.");
        assert_eq!(most.path, "limits.most");
        assert_eq!(most.flag().as_deref(), Some("--limits-most"));
        assert_eq!(most.variables(), ["AMCP_LIMITS_MOST"]);
        assert_eq!(most.default().as_deref(), Some("0"));
        assert_eq!(token.flag().as_deref(), Some("--token-file"));
        assert_eq!(token.variables(), ["AMCP_TOKEN", "AMCP_TOKEN_FILE"]);
    }
}
