//! Makes the links to reports in an answer ones that a user at this terminal can open: answers name a report by its path at a
//! gateway, `/files/NAME`, because they do not know who reads them where.
//!
//! Does not open anything.

use std::path::{Path, PathBuf};

use amcp_protocol::Answer;
use reqwest::Url;
use serde_json::Value;

/// The path of reports at every gateway.
const FILES: &str = "/files/";

/// The place of an answer's reports.
#[derive(Debug, Clone)]
pub(crate) enum Reports {
    /// The folder of this process.
    Here(PathBuf),
    /// A node, by its URL.
    At(String),
}

impl Reports {
    /// The answer with links that lead to the reports; other texts stay as they are.
    pub(crate) fn linked(&self, answer: &Answer) -> Answer {
        let linked = serde_json::to_value(answer).map(|mut value| {
            self.link(&mut value);
            value
        });
        // An answer can be written and read back; if not, it stays as it is.
        let linked = linked.and_then(serde_json::from_value);
        linked.unwrap_or_else(|_| answer.clone())
    }

    fn link(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains(FILES) => *text = self.link_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.link(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.link(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn link_text(&self, text: &str) -> String {
        let (mut linked, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once(FILES) {
            linked.push_str(before);
            let of_name = |c: char| c.is_ascii_alphanumeric() || "-_.%".contains(c);
            let end = after.find(|c| !of_name(c)).unwrap_or(after.len());
            // The full stop belongs to the sentence.
            let name = after.get(..end).unwrap_or_default().trim_end_matches('.');
            // The end of another path or URL is no link to a report.
            let is_whole = !before.ends_with(|c| of_name(c) || c == '/');
            match self.place(name).filter(|_| is_whole && is_report(name)) {
                Some(place) => linked.push_str(&place),
                None => {
                    linked.push_str(FILES);
                    linked.push_str(name);
                }
            }
            rest = after.get(name.len()..).unwrap_or_default();
        }
        linked + rest
    }

    fn place(&self, name: &str) -> Option<String> {
        match self {
            Self::Here(folder) => Some(path(folder, name)?.display().to_string()),
            Self::At(url) => Some(format!("{}{FILES}{name}", url.trim_end_matches('/'))),
        }
    }
}

/// The file of a report in a folder, by the last part of its link.
pub(crate) fn path(folder: &Path, name: &str) -> Option<PathBuf> {
    let folder = Url::from_directory_path(std::path::absolute(folder).ok()?).ok()?;
    let path = folder.join(name).ok()?.to_file_path().ok()?;
    path.is_file().then_some(path)
}

/// Whether a report may have this name: its request stands in it.
fn is_report(name: &str) -> bool {
    let is_request = |part: &str| part.len() == 12 && part.bytes().all(|b| b.is_ascii_hexdigit());
    name.split('-').any(is_request)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "/files/%C3%BCber-000000000001-t1.pdf";

    #[test]
    fn links_lead_to_the_file_or_to_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("über-000000000001-t1.pdf");
        let here = Reports::Here(folder.path().to_owned());
        let text = format!("The report is at {LINK}.");
        assert_eq!(here.link_text(&text), text, "there is no such file");
        std::fs::write(&file, "").unwrap();
        let at = file.display();
        assert_eq!(here.link_text(&text), format!("The report is at {at}."));
        let there = Reports::At("https://amcp.example.org/".to_owned());
        assert_eq!(
            there.link_text(&format!("({LINK}), {LINK} (1 page)")),
            format!("(https://amcp.example.org{LINK}), https://amcp.example.org{LINK} (1 page)")
        );
        for foreign in [
            "https://evil.example/files/a-000000000001-t1.pdf",
            "./files/a-000000000001-t1.pdf",
            "/files/",
            "/files/passwd",
            "/files/../x-000000000001",
        ] {
            assert_eq!(there.link_text(foreign), foreign);
        }
    }
}
