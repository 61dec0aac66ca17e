//! Reports read back from their files.

use super::super::expenses_analysis::ExpensesAnalysis;
use super::super::expenses_query::ExpensesQuery;
use super::super::tests::{ask, context};
use super::*;
use std::path::Path;

fn writer() -> (tempfile::TempDir, ReportWriter) {
    let dir = tempfile::tempdir().unwrap();
    let writer = ReportWriter::new(&Settings::new(dir.path()));
    (dir, writer)
}

/// The writer's result with the `path` of the file.
async fn write(writer: &ReportWriter, params: Value, ctx: &Context) -> Result<Value, Failure> {
    let mut result = ask(writer, params, ctx).await?;
    let folder = reqwest::Url::from_directory_path(writer.reports.folder()).unwrap();
    let name = result["url"].as_str().unwrap().strip_prefix("/files/");
    let path = folder.join(name.unwrap()).unwrap().to_file_path().unwrap();
    result["path"] = json!(path);
    Ok(result)
}

async fn summary() -> Value {
    let dir = tempfile::tempdir().unwrap();
    let rows = ask(
        &ExpensesQuery::new(dir.path()),
        json!({"quarter": "Q4 2024"}),
        &context(1),
    )
    .await
    .unwrap();
    ask(&ExpensesAnalysis, json!({"rows": rows}), &context(1))
        .await
        .unwrap()
}

/// The words with single spaces between them: letters that moved together are pieces of their own to this reader.
pub(super) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn read_pdf(result: &Value) -> (lopdf::Document, Vec<String>) {
    let pdf = lopdf::Document::load(result["path"].as_str().unwrap()).unwrap();
    let pages = pdf
        .get_pages()
        .keys()
        .map(|page| spaced(&pdf.extract_text(&[*page]).unwrap()))
        .collect();
    (pdf, pages)
}

#[tokio::test]
async fn a_summary_becomes_a_pdf_that_can_be_read_back() {
    let (_dir, writer) = writer();
    let result = write(
        &writer,
        json!({"content": summary().await, "format": "PDF"}),
        &context(1),
    )
    .await
    .unwrap();
    assert_eq!(
        (&result["format"], &result["pages"], &result["title"]),
        (&json!("pdf"), &json!(1), &json!("Expenses in Q4 2024"))
    );
    assert_eq!(
        std::fs::metadata(result["path"].as_str().unwrap())
            .unwrap()
            .len(),
        result["bytes"].as_u64().unwrap()
    );
    let (pdf, pages) = read_pdf(&result);
    assert_eq!(pages.len(), 1);
    for text in [
        "Expenses in Q4 2024",
        "Engineering",
        "$292,594.39",
        "$1,052,584.85",
        "+70.0 %",
        "Q3 2024",
        "Largest expenses",
        "Page 1 of 1",
        "fictitious",
    ] {
        assert!(pages[0].contains(text), "{text}: {}", pages[0]);
    }
    assert!(!pages[0].contains('…'), "every cell fits: {}", pages[0]);
    let info = pdf
        .get_dictionary(pdf.trailer.get(b"Info").unwrap().as_reference().unwrap())
        .unwrap();
    assert_eq!(
        info.get(b"Title").unwrap().as_str().unwrap(),
        b"Expenses in Q4 2024"
    );
    // Six bars of the chart.
    let content = pdf.get_page_content(pdf.get_pages()[&1]);
    let operations = lopdf::content::Content::decode(&content)
        .unwrap()
        .operations;
    assert_eq!(
        operations
            .iter()
            .filter(|operation| operation.operator == "re")
            .count(),
        6
    );
}

#[tokio::test]
async fn a_long_table_breaks_over_pages_with_its_head_on_each() {
    let (_dir, writer) = writer();
    let rows: Vec<_> = (0..200)
        .map(|n| json!({"vendor": format!("Vendor {n}"), "amount": n}))
        .collect();
    let result = write(
        &writer,
        json!({"content": {"rows": rows, "currency": "USD"}, "title": "Long"}),
        &context(1),
    )
    .await
    .unwrap();
    let (_, pages) = read_pdf(&result);
    assert_eq!(result["pages"].as_u64().unwrap() as usize, pages.len());
    assert!(pages.len() > 3);
    for (at, page) in pages.iter().enumerate() {
        assert!(page.contains("Vendor") && page.contains("Amount"), "{page}");
        assert!(page.contains(&format!("Page {} of {}", at + 1, pages.len())));
    }
    let all = pages.concat();
    assert!((0..200).all(|n| all.contains(&format!("Vendor {n} $"))));
    assert!(pages.last().unwrap().contains("$19,900.00"));
}

#[tokio::test]
async fn characters_that_no_font_has_are_replaced_and_said() {
    let (_dir, writer) = writer();
    let content = json!({"content": "Café – \u{F0000} 5 €"});
    let result = write(&writer, content, &context(1)).await.unwrap();
    assert!(read_pdf(&result).1[0].contains("Café – \u{FFFD} 5 €"));
    let note = result["notes"][0].as_str().unwrap();
    assert!(note.contains("No font here has \u{F0000}:"), "{note}");
    let many: String = ('\u{F0000}'..'\u{F0009}').collect();
    let result = write(&writer, json!({"content": many}), &context(1))
        .await
        .unwrap();
    let note = result["notes"][0].as_str().unwrap();
    assert!(note.contains("and 4 more characters:"), "{note}");
    let result = write(&writer, json!({"content": "Łódź → Αθήνα"}), &context(1))
        .await
        .unwrap();
    assert_eq!(result["notes"], json!([]));
}

#[tokio::test]
async fn hostile_text_is_shown_and_not_interpreted() {
    let (_dir, writer) = writer();
    let hostile = json!([{"name": "<script>alert(1)</script>", "x|y": "a | b\n# c [l](javascript:x) \"'&", "amount": 1}]);
    for (format, inert) in [
        ("html", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("markdown", "a \\| b \\# c \\[l\\](javascript:x)"),
    ] {
        let result = write(
            &writer,
            json!({"content": hostile, "format": format, "title": "<img src=x onerror=y>"}),
            &context(1),
        )
        .await
        .unwrap();
        let file = std::fs::read_to_string(result["path"].as_str().unwrap()).unwrap();
        assert!(file.contains(inert), "{file}");
        assert!(
            !file.contains("<script") && !file.contains("<img"),
            "{file}"
        );
        assert!(result.get("pages").is_none());
    }
}

#[tokio::test]
async fn no_title_leads_out_of_the_folder() {
    let (dir, writer) = writer();
    for title in [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x",
        "\0",
        "日本",
        ".hidden",
        &"x".repeat(300),
    ] {
        let result = write(
            &writer,
            json!({"content": "x", "title": title}),
            &context(1),
        )
        .await
        .unwrap();
        let path = Path::new(result["path"].as_str().unwrap());
        assert_eq!(path.parent().unwrap(), dir.path().join("reports"));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            name.len() < 120
                && name
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '-' || c == '.')
                && name.matches('.').count() == 1,
            "{name}"
        );
    }
}

#[tokio::test]
async fn another_attempt_writes_the_same_file_and_another_request_its_own() {
    let (dir, writer) = writer();
    let params = json!({"content": "x", "title": "Same"});
    let first = write(&writer, params.clone(), &context(1)).await.unwrap();
    assert_eq!(first["url"], "/files/same-000000000001-t1.pdf");
    let text = first["text"].as_str().unwrap();
    assert!(
        text.contains(" at /files/same-000000000001-t1.pdf "),
        "{text}"
    );
    assert_eq!(
        first["path"],
        write(&writer, params.clone(), &context(1)).await.unwrap()["path"]
    );
    let other = write(&writer, params, &context(2)).await.unwrap();
    assert_eq!(other["url"], "/files/same-000000000002-t1.pdf");
    let params = json!({"content": "x", "title": "Übersicht: Łódź 東京"});
    let other = write(&writer, params, &context(2)).await.unwrap();
    let path = Path::new(other["path"].as_str().unwrap());
    assert!(path.ends_with("übersicht-łódź-東京-000000000002-t1.pdf"));
    assert!(
        other["url"].as_str().unwrap().ends_with(
            "/%C3%BCbersicht-%C5%82%C3%B3d%C5%BA-%E6%9D%B1%E4%BA%AC-000000000002-t1.pdf"
        )
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("reports"))
            .unwrap()
            .count(),
        3
    );
}

#[tokio::test]
async fn what_cannot_be_written_is_said() {
    let (dir, writer) = writer();
    std::fs::write(
        dir.path().join("reports"),
        "a file where the folder should be",
    )
    .unwrap();
    let failure = write(&writer, json!({"content": "x"}), &context(1))
        .await
        .unwrap_err();
    assert!(failure.message.contains("cannot be written") && failure.hint.is_some());
    let failure = write(&writer, json!({"content": {}}), &context(1))
        .await
        .unwrap_err();
    assert!(failure.message.contains("nothing to report"));
}
