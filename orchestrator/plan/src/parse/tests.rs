//! Shapes of plans that models really write, and texts that are none.

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
    // Each of these would take minutes if every brace meant reading the rest again.
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
