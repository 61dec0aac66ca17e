//! Shapes of plans that models really write, and texts without a plan.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn capabilities(text: &str) -> Vec<String> {
    let plan = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    plan.tasks.into_iter().map(|task| task.capability).collect()
}

fn problem(text: &str) -> String {
    parse(text).unwrap_err().problem
}

#[test]
fn the_object_is_read_whole() {
    let plan = parse(
        r#"{"reasoning":"why","answer_directly":null,"unplaced":["the moon"],"tasks":[
            {"id":"t1","capability":"finance.db.query","params":{"quarter":"Q4 2024"},"depends_on":[]},
            {"id":"t2","capability":"finance.analyze.expenses","params":{"rows":{"$ref":"t1","path":"/rows"}},
             "depends_on":["t1"],"optional":true}]}"#,
    )
    .unwrap();
    assert_eq!(plan.reasoning.as_deref(), Some("why"));
    assert_eq!(plan.answer_directly, None);
    assert_eq!(plan.unplaced, ["the moon"]);
    assert_eq!(plan.tasks[0].id.as_deref(), Some("t1"));
    assert_eq!(plan.tasks[0].params["quarter"], "Q4 2024");
    assert_eq!(plan.tasks[1].depends_on, ["t1"]);
    assert_eq!(
        plan.tasks[1].params["rows"],
        json!({"$ref": "t1", "path": "/rows"})
    );
    assert!(plan.tasks[1].optional && !plan.tasks[0].optional);
}

#[test]
fn every_shape_is_read() {
    for text in [
        r#"[{"capability":"a.b","params":{}}]"#,
        r#"{"capability":"a.b"}"#,
        r#"{"capability":"a.b","params":null,"depends_on":null}"#,
        "```json\n{\"tasks\":[{\"capability\":\"a.b\"}]}\n```",
        r#"<think>maybe {"tasks":[{"capability":"x.y"}]}?</think>{"tasks":[{"capability":"a.b"}]}"#,
        r#"<think>hmm, [1] {so} {"tasks":[{"capability":"a.b"}]}"#,
        r#"{"reasoning":"no </think> here","tasks":[{"capability":"a.b"}]}"#,
        r#"Sure [as asked]! Of {"quarter":"Q4"} I make: {"tasks":[{"capability":"a.b"}]} and {"note":1}. Good?"#,
        r#"For example [{"capability":"x.y"}]. Yours: [{"capability":"a.b"}]"#,
        r#"{"plan":{"tasks":[{"capability":"a.b"}]}}"#,
        r#"{"plan":"in words","steps":[{"action":"a.b","input":{}}]}"#,
        r#"{"tasks":{"tool":"a.b","args":{}}}"#,
        r#"{"tool_calls":[{"type":"function","function":{"name":"a.b","arguments":"{\"x\":1}"}}]}"#,
        r#"{"tasks":[{"capability":"a.b"}]"#,
    ] {
        assert_eq!(capabilities(text), ["a.b"], "{text}");
    }
    assert_eq!(
        capabilities("{\"capability\":\"a.b\"}\n{\"capability\":\"c.d\"}"),
        ["a.b", "c.d"]
    );
}

#[test]
fn what_models_call_the_parts_of_a_task() {
    let task = |text: &str| parse(text).unwrap().tasks.remove(0);
    for text in [
        r#"[{"id":1,"name":"a.b","parameters":{"x":1},"dependencies":"t1, t2"}]"#,
        r#"[{"id":"1","tool":"a.b","args":{"x":1},"dependsOn":["t1","t2"]}]"#,
        r#"[{"task_id":"1","action":"a.b","name":"The first","x":1,"depends_on":["t1","t2"]}]"#,
    ] {
        let task = task(text);
        assert_eq!(task.id.as_deref(), Some("1"), "{text}");
        assert_eq!(task.capability, "a.b");
        assert_eq!(Value::Object(task.params), json!({"x": 1}), "{text}");
        assert_eq!(task.depends_on, ["t1", "t2"], "{text}");
    }
    assert_eq!(
        task(r#"[{"capability":"a.b","depends_on":2}]"#).depends_on,
        ["2"]
    );
}

#[test]
fn a_direct_answer_is_one_that_says_something() {
    let answer = |text: &str| parse(text).unwrap().answer_directly;
    assert_eq!(
        answer(r#"{"answer_directly":"Hello!","tasks":[]}"#).as_deref(),
        Some("Hello!")
    );
    assert_eq!(answer(r#"{"answer_directly":"null","tasks":[]}"#), None);
    assert_eq!(parse(r#"{"tasks":[]}"#).unwrap(), ProposedPlan::default());
    assert_eq!(parse("[]").unwrap(), ProposedPlan::default());
}

#[test]
fn a_plan_that_breaks_off_is_not_read_in_part() {
    for text in [
        r#"{"tasks":[{"capability":"a.b"},{"capability":"c.d"},{"capab"#,
        r#"[{"capability":"a.b"},{"capability":"c.d"}"#,
        r#"[{"capability":"a.b"},{"capability" "c.d"}]"#,
    ] {
        let problem = problem(text);
        assert!(problem.contains("at line 1"), "{text}: {problem}");
    }
    assert!(problem("\n{\"tasks\": [\n{\"capability\": \"a").contains("breaks off at line 3"));
    assert!(problem("x\n{\"tasks\": [\n{\"capability\" 1}]}").contains("broken at line 3"));
}

#[test]
fn an_error_says_what_to_write() {
    assert!(problem("I cannot do that.").contains("no JSON"));
    assert!(problem(r#"{"answer":42}"#).contains("'answer'"));
    assert!(problem(r#"{"tasks":[{"capability":"a.b"},{"id":"t2"}]}"#).contains("tasks[1]"));
    assert!(problem(r#"{"tasks":"none"}"#).contains("list of tasks"));
    assert!(problem(r#"[{"capability":"a.b","params":"Paris"}]"#).contains("tasks[0]"));
    assert!(problem(r#"[{"capability":"a.b","depends_on":{}}]"#).contains("depends_on"));
    assert!(problem(&"x".repeat(MAX_TEXT_BYTES + 1)).contains("more than"));
}

#[test]
fn a_hostile_text_costs_linear_time() {
    // Each would take minutes if the parser read the rest again after every brace.
    let deep = "{\"a\":[".repeat(100_000);
    let wide = format!("{}{}", "[".repeat(120), "1,".repeat(500_000));
    let strings = "[\"\\\"".repeat(200_000);
    for text in [
        "{".repeat(100_000),
        "[".repeat(100_000),
        deep,
        wide,
        strings,
        "{}".repeat(1_000_000),
    ] {
        assert!(parse(&text).is_err(), "{}…", &text[..20]);
    }
}

proptest! {
    #[test]
    fn invariant_no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn invariant_no_jumble_of_json_makes_the_parser_panic(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", "\"tasks\":", "\"capability\":", "\"a.b\"", ",", "<think>", "</think>", "```", "\"", "\\",
            "\"params\":", "null", "\"depends_on\":", "1", "\n", "é",
        ]), 0..60),
    ) {
        let _ = parse(&parts.concat());
    }
}

/// The tasks that the reader returns for these pieces.
fn arriving<'t>(pieces: impl IntoIterator<Item = &'t str>) -> Vec<ProposedTask> {
    let mut reader = TaskReader::default();
    pieces
        .into_iter()
        .flat_map(|piece| reader.push(piece))
        .collect()
}

/// The text in pieces that end after each of these positions.
fn pieces<'t>(text: &'t str, cuts: &[usize]) -> Vec<&'t str> {
    let mut cuts: Vec<usize> = cuts
        .iter()
        .map(|cut| text.floor_char_boundary(*cut))
        .chain([0, text.len()])
        .collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect()
}

#[test]
fn a_task_is_there_with_its_closing_brace() {
    let text = r#"Sure, [1] {so}: {"reasoning": "[{\"capability\":\"x.y\"}]", "tasks": [{"id":"t1","capability":"a.b","params":{"x":"}\\"}}"#;
    let mut reader = TaskReader::default();
    for (at, byte) in text.char_indices() {
        let tasks = reader.push(byte.encode_utf8(&mut [0; 4]));
        assert_eq!(tasks.len(), usize::from(at == text.len() - 1), "at {at}");
    }
    assert_eq!(reader.push(r#",{"id":"t2","capability":"c.d"}"#).len(), 1);
}

#[test]
fn what_is_no_task_does_not_arrive() {
    let task = r#"{"id":"t1","capability":"a.b"}"#;
    let deep = "[".repeat(300) + task;
    let nested = format!(
        r#"{{"tasks":[{{"capability":"a.b","params":{}1}}]}}"#,
        "[".repeat(300)
    );
    for text in [
        format!(r#"<think>{{"tasks":[{task}]}}"#),
        format!(r#"{{"note":[{task}]}}"#),
        format!(r#"{{"plan":{{"tasks":[{task}]}}}}"#),
        format!(r#"{{"tasks":["{task}"]}}"#),
        format!(r#"{{"reasoning":"tasks","unplaced":[{task}]}}"#),
        r#"{"tasks":[{"id":"t1"}]}"#.to_owned(),
        r#"{"tasks":[{"id":"t1","capability":"a.b""#.to_owned(),
        r#"{"tasks":[{"capability":"a.b","params":{"x":]}]}"#.to_owned(),
        r#"[{"name":"Ann"}]"#.to_owned(),
        nested,
        "x".repeat(MAX_TEXT_BYTES) + task,
    ] {
        assert_eq!(
            arriving([text.as_str()]),
            [],
            "{}",
            &text[..40.min(text.len())]
        );
    }
    assert_eq!(arriving([deep.as_str()]).len(), 1, "prose with brackets");
}

#[test]
fn a_plan_that_is_over_stays_over() {
    let text = r#"{"tasks":[{"capability":"a.b"}]} or {"tasks":[{"capability":"c.d"}]}"#;
    assert_eq!(arriving([text]).len(), 1);
    let broken = r#"{"tasks":[{"capability":"a.b"},3,{"capability":"c.d"}]}"#;
    assert_eq!(arriving([broken]).len(), 1);
}

prop_compose! {
    fn any_task()(
        id in prop::option::of("[a-z]{1,3}"),
        capability in "[a-z]{1,4}\\.[a-z]{1,4}",
        params in prop::collection::btree_map(".{0,6}", prop_oneof![
            ".{0,12}".prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            Just(json!({"$ref": "t1", "path": "/a"})),
            Just(json!([{"tasks": [{"capability": "x.y"}]}, null])),
        ], 0..4),
        depends_on in prop::collection::vec("[a-z]{1,3}", 0..2),
    ) -> ProposedTask {
        ProposedTask { id, capability, params: params.into_iter().collect(), depends_on, optional: false, replaces: Vec::new() }
    }
}

prop_compose! {
    fn any_plan_text()(
        tasks in prop::collection::vec(any_task(), 0..6),
        reasoning in ".{0,20}",
        shape in 0..4_u8,
        pretty: bool,
        (before, after) in prop_oneof![
            Just(("", "")),
            Just(("Here it is [as wished] {so}:\n```json\n", "\n```\nGood?")),
            Just(("<think>{\"tasks\":[{\"capability\":\"x.y\"}]} no</think>\n", "")),
            Just(("It's \"quoted: ", " }]")),
        ],
    ) -> String {
        let plan = match shape {
            0 => json!(tasks),
            1 => json!({"tasks": tasks}),
            2 => json!({"reasoning": reasoning, "answer_directly": null, "tasks": tasks, "unplaced": ["tasks"]}),
            _ => json!({"unplaced": ["[{"], "tasks": tasks, "reasoning": reasoning}),
        };
        let plan = if pretty { format!("{plan:#}") } else { plan.to_string() };
        format!("{before}{plan}{after}")
    }
}

proptest! {
    #[test]
    fn invariant_the_tasks_that_arrive_are_those_of_the_whole(
        text in any_plan_text(),
        cuts in prop::collection::vec(0_usize..900, 0..12),
    ) {
        let whole = parse(&text).map(|plan| plan.tasks).unwrap_or_default();
        prop_assert_eq!(arriving(pieces(&text, &cuts)), whole, "{}", text);
    }

    #[test]
    fn invariant_where_a_text_is_cut_changes_nothing(
        words in prop::collection::vec(prop_oneof![
            Just("{\"tasks\":["), Just("{\"id\":\"t\",\"capability\":\"a.b\"}"), Just("["), Just("]"), Just("{"), Just("}"),
            Just("\""), Just("\\"), Just(","), Just(":"), Just("<think>"), Just("</think>"), Just("é"), Just(" "), Just("1"),
        ], 0..40),
        cuts in prop::collection::vec(0_usize..300, 0..8),
    ) {
        let text = words.concat();
        let whole = arriving([text.as_str()]);
        prop_assert_eq!(arriving(pieces(&text, &cuts)), whole.clone());
        prop_assert_eq!(arriving(text.split_inclusive(|_| true)), whole);
    }
}
