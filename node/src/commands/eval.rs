//! `amcp eval`: measures how many queries of a file the configured planner plans right.
//!
//! Carries no plan out, except those of cases with an answer under `--answers`; [`amcp_planner::eval`] judges plans and answers.

mod asked;

use std::sync::Arc;
use std::time::Instant;

use amcp_planner::client::SharedLlm;
use amcp_planner::eval::{self, Case, Cost, Report, Row, Scored};
use amcp_planner::{Planned, PlanningError};

use crate::cli;
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::root::{Planning, llm, this_day};
use crate::show;
use asked::Stage;

const HINT: &str = "a case is {\"query\": …, \"expect\": [{\"capability\": …, \"params\": {…}}]}; docs/COMMANDS.md has all fields";

/// Succeeds however bad the planner is.
///
/// # Errors
/// The configuration or the file is unusable.
pub(crate) async fn run(loaded: &Loaded, args: cli::Eval) -> Result<u8, Trouble> {
    let planning = Planning::new(&loaded.config)?;
    let cases = cases(&args, &planning)?;
    let stage = if args.answers {
        Some(Stage::start(&loaded.config, judge(&loaded.config, &args)?).await?)
    } else {
        None
    };
    let mut scored = Vec::with_capacity(cases.len());
    for case in &cases {
        scored.push(score(&planning, stage.as_ref(), case, &args).await?);
    }
    let report = Report::of(&scored);
    if args.json {
        output::print_json(&report)?;
        return Ok(0);
    }
    let style = Style::for_stdout();
    output::print(show::table(&rows(&report), style))?;
    output::print(cost(&report))?;
    if args.list {
        output::print(misses(&report, style))?;
    }
    Ok(0)
}

fn cases(args: &cli::Eval, planning: &Planning) -> Result<Vec<Case>, Trouble> {
    let shown = args.file.display();
    let unusable = |why: String| Trouble::usage(format!("{shown}: {why}")).hint(HINT);
    let text = std::fs::read_to_string(&args.file).map_err(|error| unusable(error.to_string()))?;
    // Paths of cards are relative to the file that names them.
    let mut load = |path: &str| {
        let path = args.file.with_file_name(path);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let cases = eval::read(&text, &planning.offered, &mut load);
    cases.map_err(|error| unusable(error.to_string()))
}

/// The model that judges answers; none without an LLM.
fn judge(config: &Config, args: &cli::Eval) -> Result<Option<SharedLlm>, Trouble> {
    let mut config = config.clone();
    config.model = args.judge.clone().or(config.model);
    let judge = llm(&config)?;
    if judge.is_none() && args.judge.is_some() {
        let message = "a judge is named, but no LLM server is configured";
        return Err(Trouble::usage(message).hint("add --llm ollama or --llm openai"));
    }
    Ok(judge)
}

/// The plan of a case, and what it cost.
type Made = (Result<Planned, PlanningError>, Cost);

async fn score(
    planning: &Planning,
    stage: Option<&Stage>,
    case: &Case,
    args: &cli::Eval,
) -> Result<Scored, Trouble> {
    let today = case.today.or(args.today).unwrap_or_else(this_day);
    let ((planned, cost), answer) = match stage.zip(case.answer.as_ref()) {
        // No agent here offers what foreign cards name.
        Some((stage, wanted)) if Arc::ptr_eq(&case.catalogue, &planning.offered) => {
            let (made, answer) = stage.ask(case, wanted, today).await?;
            (made, Some(answer))
        }
        Some(_) | None => {
            let input = planning.input(case.query.clone(), case.catalogue.clone(), today);
            let start = Instant::now();
            let planned = planning.plan(input).await;
            let cost = Cost::of(&planned, start.elapsed());
            ((planned, cost), None)
        }
    };
    Ok(Scored {
        id: case.id.clone(),
        class: case.class.clone(),
        query: case.query.clone(),
        verdict: eval::judge(case, planned.as_ref()),
        answer,
        cost,
    })
}

fn rows(report: &Report) -> Vec<Vec<String>> {
    let answers = has_answers(&report.total);
    let row = |class: &str, row: &Row| {
        let mut cells = cells(class, row);
        let judged = || format!("{} of {}", row.right_answers, row.answers);
        cells.extend(answers.then(judged));
        cells
    };
    let classes = report.classes.iter();
    let classes = classes.map(|(class, of)| row(&printable(class), of));
    let heading = "CLASS, CASES, RIGHT, PARTLY, SILENTLY WRONG, DECLINED, WRONG WRITES, TASK F1, EDGE F1, VALUE F1";
    let mut heading = show::heading(heading);
    if answers {
        heading.push("RIGHT ANSWERS".to_owned());
    }
    let rows = [heading].into_iter().chain(classes);
    rows.chain([row("all", &report.total)]).collect()
}

const fn has_answers(total: &Row) -> bool {
    total.answers + total.unjudged_answers > 0
}

fn cells(class: &str, row: &Row) -> Vec<String> {
    let outcome = |number: u32, share: f64| format!("{number} ({:.0} %)", 100.0 * share);
    let f1 = |f1: Option<f64>| f1.map_or_else(|| "-".to_owned(), |f1| format!("{f1:.2}"));
    let shares = row.shares;
    vec![
        class.to_owned(),
        row.cases.to_string(),
        outcome(row.right, shares.right),
        outcome(row.partly, shares.partly),
        outcome(row.silently_wrong, shares.silently_wrong),
        outcome(row.declined, shares.declined),
        row.wrong_writes.to_string(),
        f1(row.node_f1),
        f1(row.edge_f1),
        f1(row.value_f1),
    ]
}

fn cost(report: &Report) -> String {
    let (p50, max) = (report.latency_p50_ms, report.latency_max_ms);
    let usage = report.usage;
    let mut text = format!("\na plan took {p50:.2} ms in the median, {max:.2} ms at most");
    if has_answers(&report.total) {
        let (p50, max) = (report.answer_p50_ms, report.answer_max_ms);
        text += &format!("; an answer {p50:.2} ms, {max:.2} ms at most");
    }
    if report.llm_calls > 0 {
        let (calls, read, written) = (report.llm_calls, usage.prompt_tokens, usage.reply_tokens);
        text += &format!("; {calls} LLM calls read {read} tokens and wrote {written}");
    }
    if report.total.failed > 0 {
        let failed = report.total.failed;
        text += &format!(
            "\nthe planner could not work in {failed} cases, which count as none of the four"
        );
    }
    if report.total.unjudged_answers > 0 {
        let unjudged = report.total.unjudged_answers;
        text += &format!("\nthe judge could not judge {unjudged} answers, which count as neither");
    }
    text
}

fn misses(report: &Report, style: Style) -> String {
    let misses = report.misses.iter().map(|miss| {
        let head = format!("{} {}: {}", miss.id, miss.outcome.words(), miss.query);
        let why = miss
            .why
            .iter()
            .map(|why| format!("\n    {}", printable(why)));
        format!(
            "\n{}{}",
            style.bold(&printable(&head)),
            why.collect::<String>()
        )
    });
    misses.collect()
}
