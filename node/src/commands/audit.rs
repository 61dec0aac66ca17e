//! `amcp audit`: checks and shows the audit log in the data folder, also while a node writes it.
//!
//! Changes nothing.

use amcp_access::audit::{self, AuditError, AuditRules, PublicKey, Record, What};
use serde_json::{Value, json};

use crate::cli;
use crate::config::layers::Loaded;
use crate::output::{self, Trouble, printable};
use crate::show;

/// # Errors
/// The log cannot be read, or has a fault.
pub(crate) fn run(loaded: &Loaded, what: cli::Audit) -> Result<u8, Trouble> {
    let rules = loaded.config.audit_rules();
    match what {
        cli::Audit::Verify {
            anchors,
            public_key,
        } => {
            let key = match public_key {
                Some(digits) => PublicKey::new(&digits),
                None => PublicKey::of_log(&rules.folder)?,
            };
            let anchors = anchors.unwrap_or(rules.anchors);
            let verified = audit::verify(&rules.folder, &anchors, &key)?;
            let verified = verified.map_err(|flaw| {
                Trouble::failed(flaw.to_string())
                    .hint("the log is evidence now: keep a copy before you change anything")
            })?;
            output::print(verified)?;
            output::say(format_args!(
                "Signed with the key {}.",
                printable(key.as_str())
            ));
        }
        cli::Audit::Show(shown) => each(&rules, &shown, |record, text| {
            output::print(line(record, text))
        })?,
        cli::Audit::Export(shown) => each(&rules, &shown, |record, text| {
            let mut value = json!(record);
            if let Some(member) = value.get_mut("text") {
                *member = json!({"sha256": member.take(), "text": text});
            }
            output::print(value)
        })?,
    }
    Ok(0)
}

fn each(
    rules: &AuditRules,
    shown: &cli::Shown,
    mut print: impl FnMut(&Record, Option<&str>) -> std::io::Result<()>,
) -> Result<(), Trouble> {
    let mut printed = Ok(());
    audit::records(&rules.folder, |record, text| {
        if is_shown(shown, &record) {
            printed = print(&record, text);
        }
        printed.is_ok()
    })?;
    Ok(printed?)
}

fn is_shown(shown: &cli::Shown, record: &Record) -> bool {
    let is_kind = |kind: &String| {
        let name = word(record.what);
        name == *kind || name.split('.').next() == Some(kind)
    };
    shown
        .user
        .as_ref()
        .is_none_or(|user| record.user.as_ref() == Some(user))
        && shown.since.is_none_or(|since| record.time >= since)
        && shown.what.as_ref().is_none_or(is_kind)
}

fn word(what: What) -> String {
    show::word(&what)
}

/// A record on one line.
fn line(record: &Record, text: Option<&str>) -> String {
    let time = record.time.strftime("%Y-%m-%d %H:%M:%SZ");
    let user = record.user.as_deref().unwrap_or("–");
    let request = record.request.map(|id| id.to_string());
    let capability = record.capability.as_ref().map(ToString::to_string);
    let text = match (text, &record.text) {
        (Some(text), _) => Some(Value::from(text).to_string()),
        (None, Some(_)) => Some("(text deleted)".to_owned()),
        (None, None) => None,
    };
    let details = [
        request,
        capability,
        record.decision.clone(),
        record.outcome.clone(),
        text,
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    let (seq, what) = (record.seq, word(record.what));
    // A reason may have several lines; a record has one.
    printable(&format!(
        "{seq:>6}  {time}  {what:<16}  {user}  {}",
        details.join("  ")
    ))
    .replace(['\n', '\t'], " ")
}

impl From<AuditError> for Trouble {
    fn from(error: AuditError) -> Self {
        let message = error.to_string();
        match error {
            AuditError::File { .. } => {
                Self::failed(message).hint("the log is in the folder audit of the data folder (--data)")
            }
            AuditError::Key { .. } | AuditError::End { .. } | AuditError::Cut { .. } => Self::failed(message)
                .hint("`amcp audit verify` says more; move the folder audit away, as evidence, to begin another log"),
        }
    }
}
