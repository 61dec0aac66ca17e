//! `amcp ask`: one query, one answer.
//!
//! Prints only the answer on stdout; remarks about it go to stderr.

use std::io::Read;
use std::sync::Arc;

use amcp_gateway::codes;
use amcp_protocol::request::MAX_QUERY_BYTES;
use amcp_protocol::{Answer, AnswerState, UserRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::audience::Audience;
use crate::cli;
use crate::client::Client;
use crate::config::layers::{Loaded, Source};
use crate::config::value::LlmKind;
use crate::data;
use crate::openable::Reports;
use crate::output::{self, Style, Trouble, printable};
use crate::recording::Recording;
use crate::root::{Node, Purpose};

/// Settings that a command uses itself, whichever node answers.
const OF_COMMANDS: [&str; 5] = ["ca", "client_cert", "deadline", "log", "log_format"];
/// Most bytes of a query that is too long that are counted: a pipe may have no end.
const MAX_COUNTED: u64 = 64 * 1024 * 1024;

/// # Errors
/// The request was refused, or could not be sent.
pub(crate) async fn run(loaded: &Loaded, args: cli::Ask) -> Result<u8, Trouble> {
    let request = user_request(loaded, &args.query)?;
    carry_out(loaded, request, &args.query.asker, args.how).await
}

/// Has a request carried out, in this process or at the asker's node, and prints the answer; returns the exit code.
///
/// # Errors
/// The request was refused, or could not be sent.
pub(crate) async fn carry_out(
    loaded: &Loaded,
    mut request: UserRequest,
    asker: &cli::Asker,
    how: cli::How,
) -> Result<u8, Trouble> {
    let cli::How {
        idempotency_key,
        yes,
        record,
    } = how;
    let mut audience = Audience::here(asker.quiet, yes);
    request.flows = Some(audience.kinds());
    let answer = match &asker.url {
        Some(url) => {
            let client = Client::new(url, &loaded.config)?;
            let (begun, id) = oneshot::channel();
            let answer = async {
                let id = client.begin(&request, idempotency_key.as_deref()).await?;
                // Fails after an interrupt whose cancellation was given up.
                let _ = begun.send(id);
                client.answer(id, &mut audience).await
            };
            let cancel = async || match id.await {
                Ok(id) => client.cancel(id).await.map(drop),
                // The node did not accept the request.
                Err(_) => Ok(()),
            };
            unless_interrupted(answer, cancel).await?
        }
        None if idempotency_key.is_some() => {
            let trouble = Trouble::usage("--idempotency-key needs a running node");
            return Err(trouble.hint("name it with --url"));
        }
        None => {
            let recording = record.as_deref().map(Recording::create).transpose()?;
            let answer = here(loaded, request, recording.as_ref(), &mut audience).await;
            recording.map_or(Ok(()), Recording::finish)?;
            answer?
        }
    };
    let planned_here = asker.url.is_none() && loaded.config.llm == LlmKind::Embedded;
    if !asker.quiet {
        remark(&answer, planned_here);
    }
    let reports = match &asker.url {
        Some(url) => Reports::At(url.clone()),
        None => Reports::Here(loaded.config.data.join(data::REPORTS)),
    };
    show(&reports.linked(&answer), asker.json)
}

/// Builds and checks the request.
///
/// # Errors
/// The query is unusable; found before anything starts.
pub(crate) fn user_request(loaded: &Loaded, query: &cli::Query) -> Result<UserRequest, Trouble> {
    let words = query.words.join(" ");
    let text = if words == "-" { from_stdin()? } else { words };
    asked_by(loaded, &query.asker, UserRequest::new(text))
}

/// The request with its asker, checked.
///
/// # Errors
/// The request or its asker is unusable; found before anything starts.
pub(crate) fn asked_by(
    loaded: &Loaded,
    asker: &cli::Asker,
    mut request: UserRequest,
) -> Result<UserRequest, Trouble> {
    if asker.url.is_some() && !asker.quiet {
        say_what_has_no_effect(loaded);
    }
    if *loaded.source("deadline") != Source::Default {
        let deadline = loaded.config.deadline.as_millis();
        request.deadline_ms = Some(u64::try_from(deadline).unwrap_or(u64::MAX));
    }
    request.user.clone_from(&asker.user);
    request.roles.clone_from(&asker.roles);
    if asker.url.is_some() && (request.user.is_some() || !request.roles.is_empty()) {
        return Err(Trouble::usage("--user and --role have no effect with --url")
            .hint("set AMCP_KEY to a key of the user: `amcp keys create USER --roles A,B` on the node's machine makes one"));
    }
    request.check()?;
    Ok(request)
}

/// Names the flags that set up a node of this process, where another node answers.
pub(crate) fn say_what_has_no_effect(loaded: &Loaded) {
    let note = Style::for_stderr().cyan("note:");
    for (setting, _) in loaded.values() {
        let is_of_command = OF_COMMANDS.contains(&setting.path.as_str());
        if let (Source::Flag(flag), false) = (loaded.source(&setting.path), is_of_command) {
            output::say(format_args!(
                "{note} {flag} has no effect with --url: the node there has its own settings"
            ));
        }
    }
}

fn from_stdin() -> Result<String, Trouble> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Trouble::usage(format!("the query on stdin cannot be read: {why}"))
    };
    let (mut stdin, mut bytes) = (std::io::stdin().lock(), Vec::new());
    // A little more than allowed, for the ends of lines.
    let most = 2 * MAX_QUERY_BYTES;
    let read = stdin.by_ref().take(most as u64).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(&error))?;
    let rest = std::io::copy(&mut stdin.take(MAX_COUNTED), &mut std::io::sink());
    let rest = rest.map_err(|error| unreadable(&error))?;
    if rest > 0 {
        let more = if rest == MAX_COUNTED {
            "more than "
        } else {
            ""
        };
        let size = bytes.len() as u64 + rest;
        let message =
            format!("the query on stdin has {more}{size} bytes, more than {MAX_QUERY_BYTES}");
        return Err(Trouble::usage(message).hint("shorten it"));
    }
    let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    Ok(text.trim_end().to_owned())
}

async fn here(
    loaded: &Loaded,
    request: UserRequest,
    recording: Option<&Recording>,
    audience: &mut Audience,
) -> Result<Arc<Answer>, Trouble> {
    let node = Node::start(&loaded.config, Purpose::Work).await?;
    if let Some(recording) = recording {
        node.orchestrator.record_with(recording.recorder());
    }
    let ticket = node.orchestrator.ask(request, None)?;
    let id = ticket.request_id();
    let watch = async {
        let feeds = node.orchestrator.progress(id, 0);
        let feeds = feeds.zip(node.orchestrator.text(id));
        if let Some((mut feed, mut text)) = feeds.filter(|_| audience.attends()) {
            loop {
                tokio::select! {
                    biased;
                    Some((_, piece)) = text.next() => audience.write(&piece),
                    recorded = feed.next() => match recorded {
                        Some(recorded) => audience.show(&recorded.progress),
                        None => break,
                    },
                    (flow, answer) = audience.decided() => {
                        let judged = node.orchestrator.answer_flow(id, flow, answer).await;
                        audience.judged(judged);
                    }
                }
            }
            audience.clear();
        }
        Ok(ticket.answer().await)
    };
    unless_interrupted(watch, async || Ok(node.orchestrator.cancel(id)?)).await
}

/// Waits for the answer of a request; the first interrupt cancels the request, the second one ends the wait.
async fn unless_interrupted(
    answer: impl Future<Output = Result<Arc<Answer>, Trouble>>,
    cancel: impl AsyncFnOnce() -> Result<(), Trouble>,
) -> Result<Arc<Answer>, Trouble> {
    // Before anything is sent, so that an early interrupt is not lost.
    let mut interrupts = signal(SignalKind::interrupt())?;
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        _ = interrupts.recv() => {}
    }
    let mut end = "not known to be cancelled, so it may go on";
    let cancelled = async {
        match cancel().await {
            Ok(()) => end = "cancelled, and its answer was not awaited",
            // The answer may come all the same.
            Err(trouble) => output::report(&trouble),
        }
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        _ = interrupts.recv() => {}
        never = cancelled => match never {},
    }
    let message = format!("interrupted twice: the request is {end}");
    Err(Trouble::new(codes::EXIT_CANCELLED, message))
}

/// Prints the answer's notes, and the missing parts of a partial answer, to stderr.
pub(crate) fn remark(answer: &Answer, planned_here: bool) {
    let style = Style::for_stderr();
    let note = style.cyan("note:");
    if planned_here && answer.planner.starts_with("embedded") {
        output::say(format_args!(
            "{note} planned without a language model, none is configured (see --llm)"
        ));
    }
    for text in &answer.notes {
        output::say(format_args!("{note} {}", printable(text)));
    }
    if let (AnswerState::Partial, Some(error)) = (answer.state, &answer.error) {
        let partial = style.yellow("partial:");
        output::say(format_args!("{partial} {}", printable(&error.message)));
        if let Some(hint) = &error.hint {
            output::say(format_args!("{} {}", style.cyan("hint:"), printable(hint)));
        }
    }
}

/// Prints the answer, or the reason why there is none; returns the exit code.
///
/// # Errors
/// Those of stdout.
pub(crate) fn show(answer: &Answer, json: bool) -> Result<u8, Trouble> {
    let (_, exit) = codes::of_answer(answer);
    if json {
        output::print_json(answer)?;
        return Ok(exit);
    }
    match (answer.state, &answer.error) {
        (AnswerState::Completed | AnswerState::Partial, _) => {
            output::print(printable(&answer.answer))?;
        }
        (AnswerState::Failed | AnswerState::Cancelled, Some(error)) => {
            output::report(&error.clone().into());
            // The error is the first of several.
            if answer.answer.lines().count() > 1 {
                output::say(printable(&answer.answer));
            }
        }
        (AnswerState::Failed | AnswerState::Cancelled, None) => {
            output::report(&Trouble::new(exit, printable(&answer.answer)));
        }
    }
    Ok(exit)
}
