//! Pages read back, and lines looked at.

use fontdb::Database;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rendered(content: &Value, files: &[fonts::File]) -> (Rendered, lopdf::Document) {
    let today = jiff::civil::date(2025, 1, 31);
    let pdf = render(&Document::new("Prüfung", content), today, files).unwrap();
    let read = lopdf::Document::load_mem(&pdf.bytes).unwrap();
    (pdf, read)
}

fn text_of(pdf: &lopdf::Document) -> String {
    let pages: Vec<_> = pdf.get_pages().into_keys().collect();
    super::super::tests::spaced(&pdf.extract_text(&pages).unwrap())
}

/// The fonts of the tests, as if the machine had them.
fn of_the_machine(characters: &str) -> Vec<fonts::File> {
    let mut database = Database::new();
    database.load_fonts_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fonts/tests"));
    assert_eq!(database.len(), 2);
    fonts::choose(&database, &characters.chars().collect())
}

#[test]
fn the_bundled_fonts_have_the_alphabets_of_europe() {
    let text =
        "Zażółć gęślą jaźń, Ελληνικά γράμματα, Съешь ещё этих булок, Tiếng Việt, ½ – € → ≤ ✓ ■";
    let (pdf, read) = rendered(&json!([text, {"Größe": "Łódź"}]), &[]);
    assert_eq!(pdf.missing, BTreeSet::new());
    let shown = text_of(&read);
    for word in text.split(' ').chain(["Größe", "Łódź", "Prüfung"]) {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let name = |object: &lopdf::Object| {
        let name = object.as_dict().ok()?.get(b"BaseFont").ok()?;
        String::from_utf8(name.as_name().ok()?.to_vec()).ok()
    };
    let names: BTreeSet<_> = read.objects.values().filter_map(name).collect();
    let names: Vec<_> = names
        .iter()
        .map(|name| name.split_once('+').unwrap().1)
        .collect();
    let fonts = [
        "NotoSans-Regular",
        "NotoSans-Bold",
        "NotoSansMath-Regular",
        "NotoSansSymbols2-Regular",
    ];
    assert_eq!(names, fonts);
    // The parts in use, compressed: the fonts are 470 KB.
    assert!(pdf.bytes.len() < 40_000, "{}", pdf.bytes.len());
    let streams = read
        .objects
        .values()
        .filter_map(|object| object.as_stream().ok());
    assert!(streams.into_iter().all(|stream| stream.dict.has(b"Filter")));
}

#[test]
fn other_scripts_come_from_the_fonts_of_the_machine() {
    let files = of_the_machine("東京مرحبا");
    assert_eq!(files.len(), 2);
    let (pdf, read) = rendered(&json!("Report 東京 報告 (日本)"), &files);
    assert_eq!(pdf.missing, BTreeSet::new());
    assert!(
        text_of(&read).contains("Report 東京 報告 ( 日本 )"),
        "{:?}",
        text_of(&read)
    );
    assert!(
        read.objects
            .values()
            .any(|o| o.as_dict().is_ok_and(|d| d.has(b"FontFile3")))
    );
    let (pdf, _) = rendered(&json!("東京"), &of_the_machine("مرحبا"));
    assert_eq!(pdf.missing, BTreeSet::from(['東', '京']));
    assert!(of_the_machine("\u{F0000}").is_empty());
}

#[test]
fn arabic_runs_from_the_right_and_its_letters_join() {
    let files = of_the_machine("مرحبا بالعالم");
    let mut fonts = Fonts::new(&files);
    let [line] = fonts
        .lines("مرحبا بالعالم 12 → AB", regular(10.0), WIDTH)
        .try_into()
        .unwrap();
    assert!(line.rtl && fonts.missing.is_empty());
    let says = |run: &text::Run| -> String {
        let says = run
            .glyphs
            .iter()
            .filter_map(|glyph| fonts.all[run.font].says.get(&glyph.id));
        says.cloned().collect()
    };
    let shown: Vec<_> = line.runs.iter().map(says).collect();
    let arabic: String = "مرحبا بالعالم".chars().rev().collect();
    assert_eq!(
        shown.concat().replace("  ", " "),
        format!("AB → 12 {arabic}")
    );
    // Beh has a form for the beginning of a word and one for its middle.
    let last = line.runs.last().unwrap();
    let forms = fonts.all[last.font]
        .says
        .values()
        .filter(|says| *says == "ب");
    assert_eq!(forms.count(), 2);
}

#[test]
fn what_is_missing_keeps_its_direction() {
    let mut fonts = Fonts::new(&[]);
    let mut rtl = |text: &str| fonts.lines(text, regular(10.0), WIDTH)[0].rtl;
    assert!(!rtl("日本語 מרחבא") && rtl("שלום 日本語"));
    assert!(fonts.missing.contains(&'日') && fonts.missing.contains(&'ש'));
}

#[test]
fn cells_wrap_and_a_row_may_be_longer_than_a_page() {
    let words: Vec<_> = (0..60).map(|n| format!("word{n}")).collect();
    let (_, read) = rendered(
        &json!([{"name": "A", "remark": words.join(" "), "amount": 1}, {"name": "B"}]),
        &[],
    );
    let shown = text_of(&read);
    assert!(
        words.iter().all(|word| shown.contains(&format!("{word} "))),
        "{shown}"
    );
    assert!(!shown.contains('…'));
    let column = |n| (format!("c{n}"), json!("W".repeat(500)));
    let (pdf, read) = rendered(
        &json!([(0..8).map(column).collect::<serde_json::Map<_, _>>()]),
        &[],
    );
    assert_eq!(text_of(&read).matches('W').count(), 8 * 500);
    assert_eq!(pdf.pages, 2);
    assert_eq!(
        text_of(&read).matches("C7").count(),
        2,
        "the head is on both pages"
    );
}

proptest! {
    #[test]
    fn invariant_no_line_is_wider_than_allowed_and_nothing_is_lost(text in "[ -~éß日本…→]{0,200}", most in 20f32..300.0) {
        let mut fonts = Fonts::new(&[]);
        let lines = fonts.lines(&text, bold(10.0), most);
        let mut shown = String::new();
        for line in &lines {
            prop_assert!(line.width <= most + 0.1, "{} > {most}", line.width);
            for run in &line.runs {
                shown.extend(run.glyphs.iter().filter_map(|glyph| fonts.all[run.font].says.get(&glyph.id)).map(String::as_str));
            }
        }
        prop_assert_eq!(shown.replace(' ', ""), text.replace(' ', "").replace(['日', '本'], "\u{FFFD}"));
    }
}
