//! Documents out of content of any shape.

use serde_json::json;

use super::*;

#[test]
fn rows_become_a_table_with_numbers_on_the_right_and_their_sum() {
    let document = Document::new(
        "",
        &json!({"currency": "USD", "rows": [{"date": "2024-10-01", "amount": 1200.5}, {"date": "2024-10-02", "amount": 3}]}),
    );
    let [Block::Table(table), ..] = document.blocks.as_slice() else {
        panic!("{document:?}")
    };
    assert_eq!(
        table.columns.iter().map(|c| c.right).collect::<Vec<_>>(),
        [false, true]
    );
    assert_eq!(
        table.rows,
        [["2024-10-01", "$1,200.50"], ["2024-10-02", "$3.00"]]
    );
    assert_eq!(
        table.total,
        Some(vec!["Total".to_owned(), "$1,203.50".to_owned()])
    );
}

fn first_table(content: &Value) -> Table {
    let tables = |block| match block {
        Block::Table(table) => Some(table),
        Block::Heading(_) | Block::Paragraph(_) | Block::Chart(_) => None,
    };
    let mut blocks = Document::new("", content).blocks.into_iter();
    blocks.find_map(tables).unwrap()
}

#[test]
fn only_what_says_its_currency_is_money() {
    let rows = json!([{"item": "eggs", "total": 744, "amount": 12}, {"item": "flour", "total": 1.5, "amount": 3}]);
    let groups = json!([{"name": "eggs", "total": 744}, {"name": "flour", "total": 1.5}]);
    for content in [
        rows.clone(),
        json!({"rows": rows}),
        json!({"rows": rows, "currency": "EUR"}),
        json!([{"text": "x", "currency": "USD", "n": []}, {"rows": rows}]),
        json!({"groups": groups, "total": 745.5}),
    ] {
        let blocks = format!("{:?}", Document::new("", &content).blocks);
        assert!(
            blocks.contains("744") && !blocks.contains('$') && !blocks.contains("Chart"),
            "{blocks}"
        );
        assert!(!blocks.contains("total: Some"), "{blocks}");
    }
    let table = first_table(&json!({"rows": rows, "currency": "USD"}));
    assert_eq!(table.rows[0], ["eggs", "$744.00", "$12.00"]);
}

#[test]
fn rows_that_are_not_all_have_no_sum() {
    let sum = |rows: usize, truncated: bool, name: &str| {
        let row = json!({"name": name, "amount": 1});
        let rows = vec![row; rows];
        first_table(&json!({"currency": "USD", "truncated": truncated, "rows": rows})).total
    };
    assert_eq!(sum(2, false, "n").unwrap(), ["Total", "$2.00"]);
    assert_eq!(sum(2, true, "n"), None);
    assert_eq!(sum(MAX_ROWS + 1, false, "n"), None);
    assert_eq!(sum(MAX_ROWS, false, &"n".repeat(499)), None);
}

#[test]
fn any_content_becomes_something_and_is_bounded() {
    let mut deep = json!("bottom");
    for _ in 0..50 {
        deep = json!({"down": deep, "n": [1, [2]]});
    }
    for content in [
        deep,
        json!(null),
        json!([]),
        json!(3),
        json!([[], {}, "x", 4]),
        json!({"rows": "no rows"}),
        json!({"groups": [1], "total": "x"}),
    ] {
        assert!(Document::new("T", &content).blocks.len() <= MAX_BLOCKS);
    }
    let many: Vec<_> = (0..9_000).map(|n| json!({"n": n})).collect();
    let document = Document::new("", &json!({"a": many, "b": many}));
    assert_eq!(document.rows, MAX_ROWS);
    assert!(
        document
            .notes
            .iter()
            .any(|note| note.contains("5,000 of 9,000"))
    );
    let long: Vec<_> = (0..400)
        .map(|n| json!({"n": n, "text": "long ".repeat(1_000)}))
        .collect();
    let columns = |n| json!({"a": n, "b": "x".repeat(499), "c": "y".repeat(499)});
    for content in [json!(long), (0..4_000).map(columns).collect()] {
        let document = Document::new("", &content);
        let rows = |block: &Block| match block {
            Block::Table(table) => table.rows.iter().flatten().map(String::len).sum(),
            Block::Paragraph(text) | Block::Heading(text) => text.len(),
            Block::Chart(_) => 0,
        };
        let shown: usize = document.blocks.iter().map(rows).sum();
        assert!(shown <= MAX_CHARACTERS && document.blocks.len() <= MAX_BLOCKS);
    }
    let document = Document::new("", &(0..4_000).map(columns).collect());
    assert!(
        document
            .notes
            .iter()
            .any(|note| note.contains("its end is left out"))
    );
    let wide: Map<_, _> = (0..20).map(|n| (format!("c{n}"), json!(n))).collect();
    assert!(Document::new("", &json!([wide])).notes[0].contains("12 are left out"));
    assert_eq!(
        Document::new(&"x\n ".repeat(1_000), &json!("y"))
            .title
            .chars()
            .count(),
        151
    );
}

#[test]
fn results_that_are_not_known_show_their_text_and_their_values() {
    let document = Document::new(
        "",
        &json!({"text": "It rains.\n\nStill.", "wind_speed": 12345, "note": "sample", "days": [{"day": 1}]}),
    );
    assert!(
        matches!(document.blocks.as_slice(), [Block::Paragraph(_), Block::Paragraph(_), Block::Table(values), Block::Heading(days), Block::Table(_)]
        if values.rows == [["Wind speed", "12,345"]] && days == "Days")
    );
    assert_eq!(document.notes, ["sample"]);
}

#[test]
fn a_long_text_is_a_paragraph_and_is_shown_once() {
    let body = "A sentence of some length that goes on. ".repeat(30);
    let said = "What the text says already, in a sentence of its own.........";
    let document = Document::new(
        "",
        &json!({"text": format!("In short: {said}"), "summary": said, "body": body}),
    );
    let [
        Block::Paragraph(text),
        Block::Heading(heading),
        Block::Paragraph(shown),
    ] = document.blocks.as_slice()
    else {
        panic!("{document:?}")
    };
    assert!(text.contains(said) && heading == "Body");
    assert_eq!(shown, body.trim_end());
}

#[test]
fn several_results_have_a_part_each_under_their_titles() {
    let weather = |city: &str| json!({"text": format!("In {city} it rains."), "title": format!("weather in {city}"), "high": 3});
    let analysis = json!({"text": "It cost $5.", "scope": "expenses in 2024", "currency": "USD", "total": 5, "groups": []});
    let document = Document::new("", &json!([weather("Oslo"), weather("Rome"), analysis]));
    assert_eq!(
        document.title,
        "Weather in Oslo · Weather in Rome · Expenses in 2024"
    );
    let heads = document.blocks.iter().filter_map(|block| match block {
        Block::Heading(text) => Some(text.as_str()),
        Block::Paragraph(_) | Block::Table(_) | Block::Chart(_) => None,
    });
    let heads: Vec<_> = heads.collect();
    assert_eq!(
        heads,
        ["Weather in Oslo", "Weather in Rome", "Expenses in 2024"]
    );
    let one = Document::new("", &json!([weather("Oslo")]));
    assert_eq!(one.title, "Report");
    assert_eq!(Document::new("", &weather("Oslo")).title, "Weather in Oslo");
    // Rows with a column of that name stay a table.
    let rows = json!([{"text": "red", "n": 1}, {"text": "blue", "n": 2}]);
    assert_eq!(first_table(&rows).rows.len(), 2);
}
