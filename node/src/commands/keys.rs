//! `amcp keys`: makes, lists and ends the API keys in the data folder. Running nodes follow within a second.
//!
//! Needs no running node.

use std::sync::Arc;

use amcp_access::{Audit, Entry, Key, KeyError, KeyFile, KeyRing, NewKey, What};
use jiff::Timestamp;
use serde_json::json;

use crate::cli;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::show;

/// # Errors
/// The key is unknown or ended, a name is unusable, the file or the audit log cannot be read or written.
pub(crate) fn run(loaded: &Loaded, what: cli::Keys) -> Result<u8, Trouble> {
    let file = KeyFile::in_data(&loaded.config.data);
    let now = Timestamp::now();
    if let cli::Keys::List { json } = what {
        list(&file.read()?, json, now)?;
        return Ok(0);
    }
    // Opened first: without an audit log no key changes.
    let audit = Audit::open(loaded.config.audit_rules())?;
    let (kind, key, text) = match what {
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
            let (text, key) = file.change(|ring| ring.create(new, now))?;
            (What::KeyCreated, key, Some(text))
        }
        cli::Keys::Rotate { id, overlap } => {
            let rotate = |ring: &mut KeyRing| {
                let made = ring.rotate(&id, overlap, now)?;
                let old = ring.keys().into_iter().find(|old| old.id == id);
                Ok((made, old.map(|old| state(old, now))))
            };
            let ((text, key), old) = file.change(rotate)?;
            output::say(format_args!("Key {id} is {}.", old.unwrap_or_default()));
            (What::KeyRotated, key, Some(text))
        }
        cli::Keys::Revoke { id } => {
            let key = file.change(|ring| ring.revoke(&id, now))?;
            let user = printable(&key.user);
            output::say(format_args!("Key {id} of {user} is revoked."));
            (What::KeyRevoked, key, None)
        }
        cli::Keys::List { .. } => unreachable!("served above"),
    };
    let outcome = format!(
        "key {} of {} with the roles {:?}",
        key.id, key.user, key.roles
    );
    // Before the key is shown: that may fail, and the key is valid.
    let _ = audit.record(Entry {
        by: Some(Arc::new(amcp_access::local(Some(operator()), Vec::new()))),
        outcome: Some(outcome),
        ..Entry::new(kind)
    });
    // Before the log ends: the key is shown only now.
    if let Some(text) = text {
        reveal(&text, &key)?;
    }
    let written = audit.close();
    written
        .map_err(|words| Trouble::failed(format!("the change is not in the audit log: {words}")))?;
    Ok(0)
}

/// The operating system's user, which no variable can change.
fn operator() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

/// Only the key goes to stdout, so that a script can pipe it to where it belongs.
fn reveal(text: &str, key: &Key) -> Result<(), Trouble> {
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
    let heading = show::heading("ID, USER, ROLES, NAME, CREATED, STATE");
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
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
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
            KeyError::File { .. } => Self::failed(message)
                .hint("the data folder and the files in it belong to the node's user: run the command as that user, or as root"),
            KeyError::Content { .. } => Self::failed(message)
                .hint("restore the file from a copy; without it there are no keys"),
        }
    }
}
