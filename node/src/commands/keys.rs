//! `amcp keys`: makes, lists and ends the API keys in the data folder. Running nodes follow within a second.
//!
//! Needs no running node.

use amcp_access::{Key, KeyError, KeyFile, KeyRing, NewKey};
use jiff::Timestamp;
use serde_json::json;

use crate::cli;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::show;

/// Runs the command.
///
/// # Errors
/// The key is unknown or ended, a name is unusable, the file cannot be read or written.
pub(crate) fn run(loaded: &Loaded, what: cli::Keys) -> Result<u8, Trouble> {
    let file = KeyFile::in_data(&loaded.config.data);
    let now = Timestamp::now();
    match what {
        cli::Keys::Create {
            user,
            roles,
            expires,
            name,
        } => {
            let new = NewKey {
                user,
                roles,
                name,
                lifetime: expires,
            };
            reveal(file.change(|ring| ring.create(new, now))?)?;
        }
        cli::Keys::Rotate { id, overlap } => {
            reveal(file.change(|ring| ring.rotate(&id, overlap, now))?)?;
            let old = file.read()?;
            if let Some(key) = old.keys().into_iter().find(|key| key.id == id) {
                output::say(format_args!("Key {id} {}.", state(key, now)));
            }
        }
        cli::Keys::Revoke { id } => {
            let key = file.change(|ring| ring.revoke(&id, now))?;
            output::say(format_args!(
                "Key {id} of {} is revoked.",
                printable(&key.user)
            ));
        }
        cli::Keys::List { json } => list(&file.read()?, json, now)?,
    }
    Ok(0)
}

/// Only the key goes to stdout, so that a script can pipe it to where it belongs.
fn reveal((text, key): (String, Key)) -> Result<(), Trouble> {
    output::print(text)?;
    let user = printable(&key.user);
    output::say(format_args!(
        "Key {} of {user} is shown only now: keep it as a secret.",
        key.id
    ));
    Ok(())
}

fn list(ring: &KeyRing, json: bool, now: Timestamp) -> Result<(), Trouble> {
    if json {
        let row = |key: &Key| {
            json!({"id": key.id, "user": key.user, "roles": key.roles, "name": key.name,
                "created": key.created, "ends": key.ends, "ended": key.has_ended(now)})
        };
        let rows: Vec<_> = ring.keys().into_iter().map(row).collect();
        output::print_json(&json!({"keys": rows}))?;
        return Ok(());
    }
    let heading = ["ID", "USER", "ROLES", "NAME", "CREATED", "STATE"].map(str::to_owned);
    let row = |key: &Key| {
        vec![
            key.id.clone(),
            printable(&key.user),
            printable(&key.roles.join(",")),
            printable(key.name.as_deref().unwrap_or("–")),
            minute(key.created),
            state(key, now),
        ]
    };
    let rows = ring.keys().into_iter().map(row);
    let rows: Vec<_> = std::iter::once(heading.to_vec()).chain(rows).collect();
    output::print(show::table(&rows, Style::for_stdout()))?;
    Ok(())
}

fn state(key: &Key, now: Timestamp) -> String {
    match key.ends {
        None => "valid".to_owned(),
        Some(ends) if key.has_ended(now) => format!("ended {}", minute(ends)),
        Some(ends) => format!("valid until {}", minute(ends)),
    }
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%MZ").to_string()
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Self {
        let message = error.to_string();
        match error {
            KeyError::Unknown(_) | KeyError::Ended { .. } => Self::usage(message)
                .hint("`amcp keys list` shows the keys of the data folder (--data)"),
            KeyError::Name(_) | KeyError::TooLong => Self::usage(message),
            KeyError::Full => Self::failed(message).hint("revoke those that nobody uses"),
            KeyError::File { .. } => Self::failed(message),
            KeyError::Content { .. } => Self::failed(message)
                .hint("restore the file from a copy; without it there are no keys"),
        }
    }
}
