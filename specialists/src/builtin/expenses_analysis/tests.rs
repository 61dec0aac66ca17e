//! Analyses of what the query finds in the sample ledger.

use proptest::prelude::*;

use super::super::expenses_query::ExpensesQuery;
use super::super::tests::{ask, context};
use super::*;

async fn analysis(params: Value) -> Result<Value, Failure> {
    ask(&ExpensesAnalysis, params, &context(1)).await
}

async fn ledger(params: Value) -> Value {
    let dir = tempfile::tempdir().unwrap();
    ask(&ExpensesQuery::new(dir.path()), params, &context(1))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_quarter_is_summed_and_compared_with_the_one_before() {
    let rows = ledger(json!({"quarter": "Q4 2024"})).await;
    let result = analysis(json!({"rows": rows, "metric": "summary by department"}))
        .await
        .unwrap();
    assert_eq!(result["total"], 1_052_584.85);
    assert_eq!(result["previous_period"], "Q3 2024");
    // (105,258,485 - 75,051,422) / 75,051,422
    assert_eq!(
        (&result["change"], &result["change_percent"]),
        (&json!(302_070.63), &json!(40.2))
    );
    assert_eq!(result["groups"].as_array().unwrap().len(), 6);
    assert_eq!(
        result["groups"][0],
        json!({"name": "Engineering", "total": 292_594.39, "count": 47, "share": 27.8, "previous": 172_094.4, "change": 120_499.99, "change_percent": 70.0})
    );
    assert_eq!(
        result["text"],
        "The total of the expenses in Q4 2024 is $1,052,584.85: Engineering $292,594.39 (27.8 %), Operations $266,464.44 (25.3 %), Marketing \
         $190,342.73 (18.1 %), Finance $147,266.40 (14.0 %), and 2 more; up 40.2 % compared with Q3 2024."
    );
    assert_eq!(result["largest"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn bare_rows_give_the_same_sums_without_the_comparison() {
    let query = ledger(json!({"quarter": "Q4 2024"})).await;
    for by in ["department", "category", "month"] {
        let whole = analysis(json!({"rows": query, "group_by": by}))
            .await
            .unwrap();
        let bare = analysis(json!({"rows": query["rows"], "group_by": by}))
            .await
            .unwrap();
        assert_eq!(whole["total"], bare["total"]);
        assert_eq!(whole["groups"][0]["total"], bare["groups"][0]["total"]);
        assert!(bare.get("change").is_none());
        assert_eq!(bare["group_by"], by);
    }
}

#[tokio::test]
async fn rows_that_were_cut_do_not_cut_the_totals() {
    let whole = analysis(json!({"rows": ledger(json!({"year": 2024})).await}))
        .await
        .unwrap();
    let mut rows = ledger(json!({"year": 2024})).await;
    rows["rows"].as_array_mut().unwrap().truncate(3);
    rows["truncated"] = true.into();
    let cut = analysis(json!({"rows": rows})).await.unwrap();
    assert_eq!(whole["groups"], cut["groups"]);
    assert_eq!(whole["total"], 3_395_370.09);
    assert_eq!(
        (
            cut["largest"].as_array().unwrap().len(),
            cut["notes"].as_array().unwrap().len()
        ),
        (0, 1)
    );
}

#[tokio::test]
async fn a_sum_is_called_by_what_was_added_up() {
    for (params, begins) in [
        (
            json!({"year": 2024, "limit": 5}),
            "The total of the 5 largest expenses in 2024 is $140,062.41: ",
        ),
        (
            json!({"year": 2024, "limit": 1, "sort": "smallest"}),
            "The total of the smallest expense in 2024 is ",
        ),
        (
            json!({"quarter": "Q4 2024", "except": ["Travel", "Meals"]}),
            "The total of the expenses without Travel and Meals in Q4 2024 is $1,013,046.63: ",
        ),
        (
            json!({"department": "Engineering", "category": "Travel", "from": "2024-01-01", "to": "2024-06-30", "min_amount": 100, "max_amount": 900}),
            "The total of the expenses of Engineering on Travel of $100.00 to $900.00 each from 2024-01-01 to 2024-06-30 is ",
        ),
        (
            json!({"sql": "SELECT department, sum(amount) AS total FROM expenses WHERE year = 2024 GROUP BY 1"}),
            "The total of the rows that the SELECT found is $3,395,370.09: ",
        ),
    ] {
        let rows = ledger(params.clone()).await;
        for by in ["department", "month", "vendor"] {
            // A SELECT's rows have but one of them.
            if by == "department" || params.get("sql").is_none() {
                let result = analysis(json!({"rows": rows, "group_by": by}))
                    .await
                    .unwrap();
                let text = result["text"].as_str().unwrap();
                assert!(text.starts_with(begins), "{text}");
                assert_eq!(result["scope"], rows["scope"]);
            }
        }
    }
    let mut rows = ledger(json!({"year": 2024})).await;
    rows["rows"].as_array_mut().unwrap().truncate(3);
    let bare = analysis(json!({"rows": rows["rows"]})).await.unwrap();
    assert_eq!(bare["scope"], "given expenses (2024-01-01 to 2024-01-01)");
    rows["truncated"] = true.into();
    let cut = analysis(json!({"rows": rows, "group_by": "vendor"}))
        .await
        .unwrap();
    assert_eq!(cut["scope"], "first 3 of the expenses in 2024");
}

#[tokio::test]
async fn a_refund_has_no_share_and_no_other_group_has_more_than_all() {
    let row = |department: &str, amount: f64| json!({"department": department, "amount": amount});
    let rows = json!([row("R&D", 100.0), row("Sales", -3.0)]);
    let result = analysis(json!({"rows": rows})).await.unwrap();
    assert_eq!(
        result["text"],
        "The total of the given expenses (without dates) is $97.00: R&D $100.00, Sales -$3.00."
    );
    assert_eq!(result["groups"][0].get("share"), None);
}

#[tokio::test]
async fn words_that_name_no_group_are_refused() {
    let ask = async |words: &str| analysis(json!({"rows": [], "metric": words})).await;
    assert_eq!(
        ask("a summary by vendors").await.unwrap()["group_by"],
        "vendor"
    );
    let failure = ask("AAPL").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidParams);
}

#[tokio::test]
async fn rows_of_a_select_work_if_they_say_enough() {
    let rows = ledger(json!({"sql": "SELECT department, sum(amount) AS total FROM expenses WHERE year = 2024 GROUP BY 1"})).await;
    assert_eq!(
        analysis(json!({"rows": rows})).await.unwrap()["total"],
        3_395_370.09
    );
    for (sql, problem) in [
        ("SELECT vendor FROM expenses", "no amount; it has vendor"),
        ("SELECT amount FROM expenses", "no department"),
    ] {
        let failure = analysis(json!({"rows": ledger(json!({"sql": sql})).await}))
            .await
            .unwrap_err();
        assert!(failure.message.contains(problem), "{failure}");
    }
}

#[tokio::test]
async fn quarters_stand_in_order_and_are_those_of_the_days() {
    let rows = ledger(json!({"year": 2024})).await;
    let result = analysis(json!({"rows": rows, "group_by": "quarter"})).await;
    let result = result.unwrap();
    let quarters = result["groups"].as_array().unwrap().iter();
    let quarters: Vec<_> = quarters.map(|g| (&g["name"], &g["total"])).collect();
    assert_eq!(quarters.len(), 4);
    assert_eq!(quarters[0].0, "2024 Q1");
    assert_eq!(quarters[3], (&json!("2024 Q4"), &json!(1_052_584.85)));
    assert_eq!(result["group_by"], "quarter");
}

#[tokio::test]
async fn a_group_that_came_or_went_is_compared_with_nothing() {
    let sums = |name: &str, total: f64| json!({"period": "Q1", "by_department": [{"name": name, "total": total, "count": 1}]});
    let rows = json!({"rows": [{"department": "New", "amount": 30}], "period": "Q2", "previous": sums("Old", 20.0)});
    let result = analysis(json!({"rows": rows})).await.unwrap();
    assert_eq!(
        result["groups"],
        json!([
            {"name": "New", "total": 30.0, "count": 1, "share": 100.0, "previous": 0.0, "change": 30.0},
            {"name": "Old", "total": 0.0, "count": 0, "share": 0.0, "previous": 20.0, "change": -20.0, "change_percent": -100.0},
        ])
    );
    assert_eq!(
        result["headline"],
        "The given expenses (Q2): $30.00; up 50.0 % compared with Q1"
    );
}

#[tokio::test]
async fn no_expenses_are_no_fault() {
    let result = analysis(json!({"rows": ledger(json!({"year": 1999})).await}))
        .await
        .unwrap();
    assert_eq!(
        (&result["total"], &result["text"]),
        (&json!(0.0), &json!("There are no expenses in 1999."))
    );
    assert_eq!(analysis(json!({"rows": []})).await.unwrap()["count"], 0);
}

proptest! {
    #[test]
    fn invariant_groups_add_up_to_the_total(cents in prop::collection::vec((-1_000_000_000i64..1_000_000_000, 0..4usize), 0..60)) {
        let rows: Vec<_> = cents.iter().map(|(cents, d)| json!({"department": format!("d{d}"), "amount": amount(*cents)})).collect();
        let result = analyse(&rows.into(), GroupBy::Department).unwrap();
        let sum = |key: &str| result["groups"].as_array().unwrap().iter().map(|g| cents_of(&g[key]).unwrap()).sum::<i64>();
        let expected: i64 = cents.iter().map(|(cents, _)| cents).sum();
        prop_assert_eq!(cents_of(&result["total"]), Some(expected));
        prop_assert_eq!(sum("total"), expected);
    }
}
