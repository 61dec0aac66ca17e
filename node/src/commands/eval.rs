//! `amcp eval`: measures how many queries of a file the configured planner plans right.
//!
//! Carries no plan out; [`amcp_planner::eval`] judges the plans.

use std::time::Instant;

use amcp_planner::eval::{self, Case, Cost, Report, Row, Scored};

use crate::cli;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::root::{Planning, this_day};
use crate::show;

const HINT: &str = "a case is {\"query\": …, \"expect\": [{\"capability\": …, \"params\": {…}}]}; docs/COMMANDS.md has all fields";

/// Succeeds however bad the planner is.
///
/// # Errors
/// The configuration or the file is unusable.
pub(crate) async fn run(loaded: &Loaded, args: cli::Eval) -> Result<u8, Trouble> {
    let planning = Planning::new(&loaded.config)?;
    let cases = cases(&args, &planning)?;
    let mut scored = Vec::with_capacity(cases.len());
    for case in &cases {
        scored.push(score(&planning, case, &args).await);
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

async fn score(planning: &Planning, case: &Case, args: &cli::Eval) -> Scored {
    let today = case.today.or(args.today).unwrap_or_else(this_day);
    let input = planning.input(case.query.clone(), case.catalogue.clone(), today);
    let start = Instant::now();
    let planned = planning.plan(input).await;
    let took = start.elapsed();
    let (llm_calls, usage) = match &planned {
        Ok(planned) => (planned.llm_calls, planned.usage),
        Err(error) => (error.llm_calls, error.usage),
    };
    Scored {
        id: case.id.clone(),
        class: case.class.clone(),
        query: case.query.clone(),
        verdict: eval::judge(case, planned.as_ref()),
        cost: Cost {
            took,
            llm_calls,
            usage,
        },
    }
}

fn rows(report: &Report) -> Vec<Vec<String>> {
    let heading = [
        "CLASS",
        "CASES",
        "RIGHT",
        "PARTLY",
        "SILENTLY WRONG",
        "DECLINED",
        "WRONG WRITES",
        "TASK F1",
        "EDGE F1",
        "VALUE F1",
    ];
    let classes = report.classes.iter();
    let classes = classes.map(|(class, row)| cells(&printable(class), row));
    let heading = heading.map(str::to_owned).to_vec();
    let rows = [heading].into_iter().chain(classes);
    rows.chain([cells("all", &report.total)]).collect()
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
