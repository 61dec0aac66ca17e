//! Queries of the sample ledger, their sums computed by other means.

use serde_json::json;

use super::super::tests::{ask, context};
use super::*;

async fn query(params: Value) -> Result<Value, Failure> {
    // One ledger for all tests of a process.
    static DIR: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap());
    ask(&ExpensesQuery::new(dir.path()), params, &context(1)).await
}

#[tokio::test]
async fn the_sums_are_those_of_the_sample() {
    // Computed from the sample file by other means.
    for (params, count, total) in [
        (json!({"quarter": "Q4 2024"}), 219, 1_052_584.85),
        (json!({"quarter": "q1-2021"}), 179, 588_852.56),
        (json!({"quarter": "Q3"}), 192, 830_120.65),
        (
            json!({"quarter": "Q4 2024", "department": "Sales"}),
            41,
            104_521.08,
        ),
        (
            json!({"from": "2024-10-01", "to": "2024-12-31"}),
            219,
            1_052_584.85,
        ),
        (
            json!({"year": 2023, "department": "Sales", "category": "Travel"}),
            26,
            38655.63,
        ),
        (
            json!({"month": "2024-10", "department": "Marketing"}),
            14,
            76420.32,
        ),
        (json!({}), 3679, 14326035.13),
        (
            json!({"quarter": "Q4 2024", "except": ["Travel", "Meals"]}),
            179,
            1_013_046.63,
        ),
        (
            json!({"quarter": "Q4 2024", "except": ["Sales"]}),
            178,
            948_063.77,
        ),
        (
            json!({"vendor": "Nimbus Cloud", "year": 2024}),
            24,
            287_619.96,
        ),
        (
            json!({"quarter": "Q4 2024", "min_amount": 10_000}),
            33,
            503_865.05,
        ),
        (
            json!({"quarter": "Q4 2024", "min_amount": 99.99, "max_amount": 250.5}),
            10,
            2020.8,
        ),
        (json!({"year": 2024, "limit": 5}), 5, 140_062.41),
    ] {
        let result = query(params.clone()).await.unwrap();
        assert_eq!(
            (result["count"].as_i64(), result["total"].as_f64()),
            (Some(count), Some(total)),
            "{params}"
        );
        assert_eq!(result["rows"].as_array().unwrap().len() as i64, count);
    }
}

#[tokio::test]
async fn the_period_before_comes_along_where_there_is_one() {
    let result = query(json!({"quarter": "Q4 2024"})).await.unwrap();
    assert_eq!(result["previous"]["period"], "Q3 2024");
    assert_eq!(result["previous"]["total"], 750_514.22);
    assert_eq!(
        result["totals"]["by_department"][0],
        json!({"name": "Engineering", "total": 292_594.39, "count": 47})
    );
    assert_eq!(
        result["text"],
        "219 expenses in Q4 2024 add up to $1,052,584.85, the largest part of it in Engineering ($292,594.39)."
    );
    assert!(
        query(json!({"quarter": "Q1 2021"}))
            .await
            .unwrap()
            .get("previous")
            .is_none()
    );
    assert!(query(json!({})).await.unwrap().get("previous").is_none());
}

#[tokio::test]
async fn nothing_found_says_what_there_is() {
    let result = query(json!({"year": 2019})).await.unwrap();
    assert_eq!(result["count"], 0);
    assert!(
        result["text"]
            .as_str()
            .unwrap()
            .contains("covers 2021-01-01 to 2025-09-30")
    );
}

#[tokio::test]
async fn what_was_chosen_reads_as_english() {
    for (params, begins) in [
        (
            json!({"year": 2024, "min_amount": 5000, "max_amount": 6000}),
            "48 expenses of $5,000.00 to $6,000.00 each in 2024 add up to ",
        ),
        (
            json!({"from": "2025-08-01", "except": ["Nimbus Cloud", "Sales"]}),
            "108 expenses without Nimbus Cloud and Sales since 2025-08-01 add up to ",
        ),
        (
            json!({"from": "2024-10-07", "to": "2024-10-07", "department": "Engineering"}),
            "3 expenses of Engineering on 2024-10-07 add up to $34,399.53:\n",
        ),
        (json!({}), "3,679 expenses add up to "),
        (
            json!({"year": 2025, "sort": "largest"}),
            "The largest of 598 expenses in 2025, which add up to $2,501,773.80:\n",
        ),
        (
            json!({"year": 2024, "max_amount": 20}),
            "There are no expenses of at most $20.00 each in 2024.",
        ),
        (
            json!({"to": "2020-12-31"}),
            "There are no expenses until 2020-12-31: the sample ledger (fictitious) covers 2021-01-01 to 2025-09-30.",
        ),
    ] {
        let result = query(params).await.unwrap();
        let text = result["text"].as_str().unwrap();
        assert!(text.starts_with(begins), "{text}");
    }
}

#[tokio::test]
async fn the_largest_are_meant_unless_another_order_is_named() {
    let says = async |params: Value| {
        let result = query(params).await.unwrap();
        assert_eq!(
            (&result["truncated"], result.get("previous")),
            (&json!(false), None)
        );
        assert_eq!(result["totals"]["total"], result["total"]);
        result["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        says(json!({"year": 2024, "limit": 2})).await,
        "The 2 largest expenses in 2024 add up to $61,125.43:\n\
         $31,447.79 to Brightline Media on 2024-09-26 (Advertising, Marketing);\n\
         $29,677.64 to Nimbus Cloud on 2024-10-07 (Cloud Services, Engineering)."
    );
    assert_eq!(
        says(json!({"department": "Sales", "year": 2024, "limit": 1, "sort": "smallest"})).await,
        "The smallest expense of Sales in 2024 is $92.29 to Inkwell Supplies on 2024-03-18 (Office Supplies, Sales)."
    );
    assert!(
        says(json!({"year": 2024, "limit": 1}))
            .await
            .starts_with("The largest expense in 2024 is $31,447.79 to")
    );
    let card = ExpensesQuery::new(Path::new("/nowhere")).card();
    for sort in card.capabilities[0].params["properties"]["sort"]["enum"]
        .as_array()
        .unwrap()
    {
        assert!(
            query(json!({"sort": sort, "year": 2024})).await.is_ok(),
            "{sort}"
        );
    }
    let latest = json!({"limit": 11, "sort": "latest"});
    assert!(says(latest).await.ends_with(";\nand 1 more."));
}

#[tokio::test]
async fn leaving_out_nothing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let own = rusqlite::Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    own.execute_batch(
        "CREATE TABLE expenses (date TEXT, department TEXT, category TEXT, vendor TEXT, amount_cents INTEGER);
        INSERT INTO expenses VALUES ('2024-01-01', 'R&D', 'Tea', 'Leaf', 150), ('2024-01-02', 'R&D', 'Nuts', 'Bean', 250);",
    )
    .unwrap();
    let except = async |name: &str| {
        ask(
            &ExpensesQuery::new(dir.path()),
            json!({"except": [name]}),
            &context(1),
        )
        .await
    };
    assert_eq!(
        except("tea").await.unwrap()["text"],
        "The only expense without tea is $2.50 to Bean on 2024-01-02 (Nuts, R&D)."
    );
    let failure = except("Coffee").await.unwrap_err();
    assert!(failure.message.contains("'Coffee'"), "{failure}");
}

#[tokio::test]
async fn a_select_of_ones_own_works_and_nothing_else_does() {
    let result =
        query(json!({"sql": "SELECT * FROM Expenses WHERE quarter='Q4' AND year = 2024;"}))
            .await
            .unwrap();
    assert_eq!(result["count"], 219);
    assert!(result["rows"][0]["amount"].is_f64());
    let result = query(json!({"sql": "SELECT sum(amount) AS total FROM expenses WHERE department = 'Sales' AND quarter = 'Q4' AND year = 2024"})).await.unwrap();
    assert_eq!(
        result["text"],
        "The query found one row: total is 104521.08."
    );
    let result = query(json!({"sql": "SELECT department, count(*) AS n FROM expenses WHERE year = 2024 GROUP BY 1"})).await.unwrap();
    assert!(
        result["text"]
            .as_str()
            .unwrap()
            .starts_with("The query found 6 rows:\ndepartment is Engineering, n is 1"),
        "{result}"
    );
    let result = query(json!({"sql": "SELECT 1 WHERE 0"})).await.unwrap();
    assert_eq!(result["text"], "The query found no rows.");
    let result = query(json!({"sql": "SELECT id, id FROM expenses", "limit": 3}))
        .await
        .unwrap();
    assert_eq!(result["rows"][2], json!({"id": 3, "id_2": 3}));
    assert_eq!(result["truncated"], true);
    let result = query(json!({"sql": "SELECT id, id, id, id AS id_2 FROM expenses LIMIT 1"}))
        .await
        .unwrap();
    assert_eq!(
        result["rows"][0],
        json!({"id": 1, "id_2": 1, "id_3": 1, "id_2_2": 1})
    );
    for (sql, problem) in [
        ("DROP TABLE expenses", "only be read"),
        ("PRAGMA table_info(expenses)", "only be read"),
        ("SELECT 1; SELECT 2", "Multiple statements"),
        ("SELEKT", "syntax"),
        ("SELECT nothing FROM expenses", "nothing"),
        ("SELECT length(zeroblob(100000000))", "too big"),
    ] {
        let failure = query(json!({"sql": sql})).await.unwrap_err();
        assert!(
            failure.message.contains(problem) && failure.hint.is_some(),
            "{sql}: {failure}"
        );
    }
    let failure = query(json!({"sql": "SELECT 1", "year": 2024}))
        .await
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidParams);
}

#[tokio::test]
async fn a_dropped_task_frees_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let specialist = ExpensesQuery {
        max_time: hour,
        ..ExpensesQuery::new(dir.path())
    };
    let ctx = Context::detached(context(1).request_id(), hour);
    let endless =
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n";
    let params = json!({"sql": endless}).into();
    let task = Task {
        capability: specialist.card().capabilities[0].name.clone(),
        params,
    };
    let running = tokio::spawn(async move { specialist.handle(task, &ctx).await });
    // The runtime's end waits for its blocking threads: it comes only because the statement was interrupted.
    while !dir.path().join("ledger.sqlite").exists() {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
}

#[test]
fn only_the_sample_has_known_departments() {
    let dir = tempfile::tempdir().unwrap();
    let schema = || {
        let card = ExpensesQuery::new(dir.path()).card();
        let department = &card.capabilities[0].params["properties"]["department"];
        department.get("enum").is_some()
    };
    assert!(schema());
    std::fs::write(dir.path().join("ledger.sqlite"), [0; 100]).unwrap();
    assert!(!schema());
}

#[tokio::test]
async fn wide_rows_are_cut_within_the_budget() {
    let columns = |count: usize| vec!["printf('%.*c', 60000, 'x')"; count].join(",");
    // Ten times 60,000 bytes: one row fits, two do not.
    let sql = format!("SELECT {} FROM expenses", columns(10));
    let result = query(json!({"sql": sql})).await.unwrap();
    assert_eq!(
        (&result["count"], &result["truncated"]),
        (&json!(1), &json!(true))
    );
    let sql = format!("SELECT {} FROM expenses", columns(20));
    let failure = query(json!({"sql": sql})).await.unwrap_err();
    assert!(failure.message.contains("single row"), "{failure}");
}

#[tokio::test]
async fn wide_expenses_of_ones_own_are_cut_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let own = rusqlite::Connection::open(dir.path().join("ledger.sqlite")).unwrap();
    own.execute_batch("CREATE TABLE expenses (date TEXT, department TEXT, category TEXT, vendor TEXT, description TEXT, amount_cents INTEGER);
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50)
        INSERT INTO expenses SELECT '2024-01-01', 'R&D', 'Tea', 'Leaf', printf('%.*c', 50000, 'x'), x FROM n;").unwrap();
    let result = ask(&ExpensesQuery::new(dir.path()), json!({}), &context(1))
        .await
        .unwrap();
    assert_eq!(
        (&result["count"], &result["truncated"]),
        (&json!(50), &json!(true))
    );
    assert_eq!(result["rows"].as_array().unwrap().len(), 19);
}

#[cfg(unix)]
#[tokio::test]
async fn a_query_that_was_given_up_keeps_its_place_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let places: &'static Semaphore = Box::leak(Box::new(Semaphore::new(1)));
    let specialist = ExpensesQuery {
        places,
        ..ExpensesQuery::new(dir.path())
    };
    let task = Task {
        capability: specialist.card().capabilities[0].name.clone(),
        params: json!({}).into(),
    };
    // A ledger whose opening waits, whatever it is told, until somebody writes.
    let pipe = dir.path().join("ledger.sqlite");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let ctx = context(1);
    let running = tokio::spawn(async move { specialist.handle(task, &ctx).await });
    while places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    assert_eq!(places.available_permits(), 0);
    let writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    drop(places.acquire().await.unwrap());
    drop(writer);
}
