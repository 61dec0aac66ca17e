//! The forms in which a client accepts an answer: JSON, events, or plain text for a person at a terminal.
//!
//! Chooses no words but those of the plain form.

use std::cmp::Reverse;
use std::fmt::Write;

use amcp_orchestrator::RequestView;
use amcp_protocol::{Answer, AnswerState, ErrorCode, Failure};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// The content type of the plain form.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// Server-sent events.
    Events,
    Plain,
}

/// The forms in the order in which they stand for a range such as `*/*`.
const FORMS: [(&str, Form); 3] = [
    ("application/json", Form::Json),
    ("text/plain", Form::Plain),
    ("text/event-stream", Form::Events),
];

impl Form {
    /// The form that the client likes best; JSON without an `Accept`, none if it accepts no form.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut accepts = headers.get_all(header::ACCEPT).iter().peekable();
        if accepts.peek().is_none() {
            return Some(Self::Json);
        }
        let texts = accepts.filter_map(|value| value.to_str().ok());
        let ranges: Vec<_> = texts.flat_map(|text| text.split(',')).map(range).collect();
        let judged = FORMS.iter().filter_map(|(name, form)| {
            let kind = name.split('/').next()?;
            // The most specific range counts, so that a form can be left out of `*/*`.
            let place = |wanted: &str| ranges.iter().position(|(range, _)| range == wanted);
            let at = place(name).or_else(|| place(&format!("{kind}/*")));
            let at = at.or_else(|| place("*/*"))?;
            let weight = ranges.get(at)?.1;
            (weight > 0.0).then_some((weight, Reverse(at), *form))
        });
        // Of equals the one that the client names first.
        let best = judged.reduce(|best, next| {
            let better = (next.0, next.1) > (best.0, best.1);
            if better { next } else { best }
        });
        best.map(|(_, _, form)| form)
    }

    /// # Errors
    /// `not_acceptable`.
    pub(crate) fn check(headers: &HeaderMap) -> Result<Self, Problem> {
        Self::of(headers).ok_or_else(|| {
            let message = "the node cannot answer in a form that the Accept header names";
            let hint = "accept application/json, text/event-stream or text/plain";
            Failure::new(ErrorCode::NotAcceptable, message)
                .hint(hint)
                .into()
        })
    }
}

/// A range of media types and how much it is liked, from one item of an `Accept` header.
fn range(item: &str) -> (String, f32) {
    let item = item.to_ascii_lowercase();
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_owned();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    (name, weight.unwrap_or(1.0))
}

/// Foreign text made safe to print: control characters could move the cursor or rewrite the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            // Bidirectional controls change the order in which text is read.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A failure in plain text.
pub(crate) fn failure(failure: &Failure) -> String {
    format!(
        "error: {} [{}]\n{}",
        printable(&failure.message),
        failure.code,
        hint(failure)
    )
}

fn hint(failure: &Failure) -> String {
    let hint = failure.hint.iter();
    hint.map(|hint| format!("hint: {}\n", printable(hint)))
        .collect()
}

/// An answer in plain text: the answer alone, its notes, and what is missing.
pub(crate) fn answer(answer: &Answer) -> String {
    let mut text = match (&answer.error, answer.state) {
        (Some(error), AnswerState::Failed | AnswerState::Cancelled) => failure(error),
        _ => printable(&answer.answer) + "\n",
    };
    for note in &answer.notes {
        let _ = writeln!(text, "note: {}", printable(note));
    }
    if let (AnswerState::Partial, Some(error)) = (answer.state, &answer.error) {
        let _ = write!(
            text,
            "partial: {}\n{}",
            printable(&error.message),
            hint(error)
        );
    }
    text
}

/// A request that waits for a person, or goes on, in plain text.
pub(crate) fn request(view: &RequestView) -> String {
    let id = view.account.request_id;
    let mut text = format!("request {id} is {}\n", view.account.state);
    for open in &view.flows {
        let (flow, prompt) = (&open.flow.id, printable(&open.flow.prompt));
        let _ = writeln!(
            text,
            "{}: {prompt}\nhint: answer it with POST /requests/{id}/flows/{flow}",
            open.flow.kind.noun()
        );
    }
    text
}

/// Plain text as a response.
pub(crate) fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, PLAIN)], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_form_that_is_liked_best_is_chosen() {
        for (accept, form) in [
            (None, Some(Form::Json)),
            (Some("*/*"), Some(Form::Json)),
            (
                Some("text/html, application/xhtml+xml, */*;q=0.8"),
                Some(Form::Json),
            ),
            (Some("text/plain"), Some(Form::Plain)),
            (
                Some("TEXT/Plain; charset=utf-8, */*;q=0.1"),
                Some(Form::Plain),
            ),
            (Some("text/event-stream"), Some(Form::Events)),
            (
                Some("text/plain;q=0.5, text/event-stream;q=0.9"),
                Some(Form::Events),
            ),
            (
                Some("text/plain;q=0, application/json;q=0.1"),
                Some(Form::Json),
            ),
            (Some("application/json;q=0, */*"), Some(Form::Plain)),
            (
                Some("text/plain; Q=0.5, text/event-stream;q=0.6"),
                Some(Form::Events),
            ),
            (Some("*/*, text/plain"), Some(Form::Json)),
            (Some("image/png"), None),
            (Some("application/json;q=0"), None),
            (Some(""), None),
        ] {
            let mut headers = HeaderMap::new();
            let value = accept.map(HeaderValue::from_static);
            headers.extend(value.map(|value| (header::ACCEPT, value)));
            assert_eq!(Form::of(&headers), form, "{accept:?}");
        }
    }
}
