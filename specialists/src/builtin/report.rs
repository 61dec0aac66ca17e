//! `document.report.generate`: a report file out of the results of other tasks.
//!
//! Does not serve the file; the gateway does.

mod document;
mod fonts;
mod markup;
mod pdf;

use std::collections::BTreeSet;

use amcp_protocol::{AgentCard, ErrorCode, Failure};
use async_trait::async_trait;
use serde_json::{Value, json};
use unicode_bidi::BidiClass;

use self::document::Document;
use super::Settings;
use crate::reports::Reports;
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "report-writer-1";

/// Most bytes of the title in a file's name: with the rest of the name and a task's id a file system takes it.
const MAX_NAME: usize = 80;

/// Writes reports.
#[derive(Debug)]
pub(super) struct ReportWriter {
    reports: Reports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Pdf,
    Markdown,
    Html,
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "" | "pdf" => Some(Self::Pdf),
            "markdown" | "md" => Some(Self::Markdown),
            "html" => Some(Self::Html),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Markdown => "markdown",
            Self::Html => "html",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Markdown => "md",
            Self::Html => "html",
        }
    }
}

impl ReportWriter {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            reports: Reports::new(settings.data_dir.join("reports"), settings.quota),
        }
    }
}

#[async_trait]
impl Specialist for ReportWriter {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let format = Format::of(task.text("format")).ok_or_else(|| {
            Failure::new(
                ErrorCode::InvalidParams,
                "the format is none of pdf, markdown and html",
            )
        })?;
        let document = Document::new(
            task.text("title"),
            task.params.get("content").unwrap_or(&Value::Null),
        );
        if document.blocks.is_empty() {
            return Err(
                Failure::task("there is nothing to report: the content is empty")
                    .hint("give a result or a text as 'content'"),
            );
        }
        let name = format!("{}.{}", file_name(&document.title, ctx), format.extension());
        let (reports, file) = (self.reports.clone(), name.clone());
        let owner = ctx.grant().user.clone();
        ctx.progress(&format!("writing {name}"));
        // The date a reader expects is the one of the place where the node runs.
        let today = jiff::Zoned::now().date();
        let written = tokio::task::spawn_blocking(move || {
            let unwritable = |error| Failure::task(format!("the report cannot be made: {error}"));
            let (bytes, pages, missing) = contents(&document, format, today).map_err(unwritable)?;
            let saved = reports.save(&file, owner.as_deref(), &bytes);
            saved.map(|()| (document, bytes.len(), pages, missing))
        });
        let (document, bytes, pages, missing) = written
            .await
            .map_err(|error| Failure::internal(format!("the report broke off: {error}")))??;
        let mut notes = document.notes;
        notes.extend(lacking(&missing));
        let url = link(&name);
        let size = match pages {
            Some(1) => "1 page".to_owned(),
            Some(pages) => format!("{pages} pages"),
            None => format.name().to_owned(),
        };
        let mut result = json!({
            "text": format!("The report \"{}\" is at {url} ({size}).", document.title),
            "url": url,
            "format": format.name(),
            "title": document.title,
            "bytes": bytes,
            "notes": notes,
        });
        if let (Some(pages), Some(result)) = (pages, result.as_object_mut()) {
            result.insert("pages".to_owned(), pages.into());
        }
        Ok(result)
    }
}

/// The path at any gateway of the mesh: no node knows under which addresses clients reach the others.
fn link(name: &str) -> String {
    let url = reqwest::Url::parse(&format!("http://localhost/files/{name}"));
    url.map_or_else(|_| name.to_owned(), |url| url.path().to_owned())
}

/// The file's bytes, how many pages it has, and the characters that it cannot show. Reads fonts of the machine.
fn contents(
    document: &Document,
    format: Format,
    today: jiff::civil::Date,
) -> std::io::Result<(Vec<u8>, Option<usize>, BTreeSet<char>)> {
    let text = match format {
        Format::Markdown => markup::markdown(document),
        Format::Html => markup::html(document),
        Format::Pdf => {
            let mut pdf = pdf::render(document, today, &[]).map_err(std::io::Error::other)?;
            let files = fonts::covering(&pdf.missing);
            if !files.is_empty() {
                // A font that cannot be embedded is as good as none.
                pdf = pdf::render(document, today, &files).unwrap_or(pdf);
            }
            return Ok((pdf.bytes, Some(pdf.pages), pdf.missing));
        }
    };
    Ok((text.into_bytes(), None, BTreeSet::new()))
}

fn lacking(missing: &BTreeSet<char>) -> Option<String> {
    let shown: Vec<_> = missing.iter().take(5).map(char::to_string).collect();
    let more = match missing.len() - shown.len() {
        0 => String::new(),
        1 => " and 1 more character".to_owned(),
        more => format!(" and {more} more characters"),
    };
    (!missing.is_empty()).then(|| {
        format!(
            "No font here has {}{more}: the PDF shows \u{FFFD} instead; HTML and Markdown have all characters.",
            shown.join(" ")
        )
    })
}

/// A name that says what is in the file and that another attempt at the same task finds again.
fn file_name(title: &str, ctx: &Context) -> String {
    let request = ctx.request_id().uuid().as_u128() & 0xFFFF_FFFF_FFFF;
    let name = slug(title);
    let (name, _) = name.split_at(name.floor_char_boundary(MAX_NAME));
    let name = match name.trim_matches('-') {
        "" => "report",
        name => name,
    };
    format!("{name}-{request:012x}-{}", slug(ctx.task_id().as_str()))
}

/// Small letters with their marks, digits and single hyphens only, in whatever script.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars() {
        if character.is_alphanumeric() {
            slug.extend(character.to_lowercase().filter(|c| c.is_alphanumeric()));
        } else if !slug.is_empty() && !slug.ends_with('-') {
            let is_mark = unicode_bidi::bidi_class(character) == BidiClass::NSM;
            slug.push(if is_mark { character } else { '-' });
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests;
