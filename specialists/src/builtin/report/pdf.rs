//! A report as PDF: A4, standard fonts, nothing embedded.
//!
//! Does not decide what is shown; lays out a document's blocks from top to bottom.

use jiff::civil::Date;
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::document::{Bar, Block, Chart, Column, Document, Table};
use super::winansi::{Font, encoded, fitted, width, wrapped};

/// A4, in points.
const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;
const WIDTH: f32 = PAGE.0 - 2.0 * MARGIN;
const TOP: f32 = PAGE.1 - MARGIN;
/// Below it is the footer's.
const BOTTOM: f32 = MARGIN + 20.0;
const BAR_HEIGHT: f32 = 18.0;
/// The house's blue, for bars and lines.
const BLUE: (f32, f32, f32) = (0.16, 0.38, 0.66);
const RED: (f32, f32, f32) = (0.72, 0.22, 0.18);

/// A finished PDF.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) bytes: Vec<u8>,
    pub(super) pages: usize,
    /// Whether the fonts lack some of the text's characters.
    pub(super) replaced: bool,
}

/// Lays the document out. `today` is printed in its footer.
pub(super) fn render(document: &Document, today: Date) -> Rendered {
    let mut layout = Layout {
        done: Vec::new(),
        page: Content::new(),
        y: TOP,
        replaced: false,
    };
    layout.lines(&document.title, Font::Bold, 20.0);
    layout.y -= 10.0;
    for block in &document.blocks {
        match block {
            Block::Heading(text) => {
                layout.room(60.0);
                layout.y -= 8.0;
                layout.lines(text, Font::Bold, 13.0);
                layout.y -= 2.0;
            }
            Block::Paragraph(text) => {
                layout.lines(text, Font::Regular, 11.0);
                layout.y -= 8.0;
            }
            Block::Table(table) => layout.table(table),
            Block::Chart(chart) => layout.chart(chart),
        }
    }
    for note in &document.notes {
        layout.lines(note, Font::Regular, 8.5);
    }
    layout.finish(document, today)
}

/// Pages being filled.
struct Layout {
    done: Vec<Content>,
    page: Content,
    /// The lower edge of what is on the page.
    y: f32,
    replaced: bool,
}

impl Layout {
    /// Goes on to the next page unless so much height is left.
    fn room(&mut self, height: f32) -> bool {
        let turn = self.y - height < BOTTOM;
        if turn {
            self.done
                .push(std::mem::replace(&mut self.page, Content::new()));
            self.y = TOP;
        }
        turn
    }

    fn text(&mut self, text: &str, font: Font, size: f32, (x, y): (f32, f32)) {
        let (bytes, replaced) = encoded(text);
        self.replaced |= replaced;
        let name = if font == Font::Bold {
            Name(b"F2")
        } else {
            Name(b"F1")
        };
        self.page
            .begin_text()
            .set_font(name, size)
            .next_line(x, y)
            .show(Str(&bytes))
            .end_text();
    }

    fn lines(&mut self, text: &str, font: Font, size: f32) {
        for line in wrapped(text, font, size, WIDTH) {
            self.room(size * 1.3);
            self.y -= size * 1.3;
            self.text(&line, font, size, (MARGIN, self.y + size * 0.3));
        }
    }

    fn rule(&mut self, y: f32, line_width: f32) {
        self.page
            .save_state()
            .set_stroke_gray(0.6)
            .set_line_width(line_width);
        self.page
            .move_to(MARGIN, y)
            .line_to(MARGIN + WIDTH, y)
            .stroke()
            .restore_state();
    }

    fn table(&mut self, table: &Table) {
        let size = if table.columns.len() > 6 { 8.0 } else { 9.5 };
        let widths = column_widths(table, size);
        let height = size * 1.6;
        let headed = table.columns.iter().any(|column| !column.title.is_empty());
        let titles: Vec<_> = table
            .columns
            .iter()
            .map(|column| column.title.clone())
            .collect();
        // A head is not left alone at the foot of a page.
        self.room(height * 3.0);
        let mut head = headed;
        for row in &table.rows {
            head |= self.room(height) && headed;
            if head {
                self.row(&titles, &table.columns, &widths, (Font::Bold, size));
                self.rule(self.y + 1.0, 0.8);
                head = false;
            }
            self.row(row, &table.columns, &widths, (Font::Regular, size));
        }
        if let Some(total) = &table.total {
            self.room(height);
            self.rule(self.y + 1.0, 0.8);
            self.row(total, &table.columns, &widths, (Font::Bold, size));
        }
        self.y -= 14.0;
    }

    fn row(
        &mut self,
        cells: &[String],
        columns: &[Column],
        widths: &[f32],
        (font, size): (Font, f32),
    ) {
        self.y -= size * 1.6;
        let mut x = MARGIN;
        for ((cell, column), column_width) in cells.iter().zip(columns).zip(widths) {
            let shown = fitted(cell, font, size, column_width - GAP);
            let indent = if column.right {
                column_width - GAP - width(&shown, font, size)
            } else {
                0.0
            };
            self.text(&shown, font, size, (x + indent, self.y + size * 0.45));
            x += column_width;
        }
    }

    fn chart(&mut self, chart: &Chart) {
        #[expect(clippy::cast_precision_loss, reason = "there are a dozen bars")]
        let height = chart.bars.len() as f32 * BAR_HEIGHT;
        self.room(height + 40.0);
        self.lines(&chart.title, Font::Bold, 11.0);
        self.y -= 4.0;
        let widest = |of: fn(&Bar) -> &str| {
            chart
                .bars
                .iter()
                .map(|bar| width(of(bar), Font::Regular, 9.0))
                .fold(0.0, f32::max)
        };
        let labels = (widest(|bar| &bar.label) + 8.0).min(WIDTH * 0.3);
        let values = widest(|bar| &bar.shown) + 8.0;
        let room = WIDTH - labels - values;
        let highest = chart.bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        let lowest = chart.bars.iter().map(|bar| bar.value).fold(0.0, f64::min);
        let span = if highest > lowest {
            highest - lowest
        } else {
            1.0
        };
        #[expect(clippy::cast_possible_truncation, reason = "a place on the page")]
        let place = |value: f64| MARGIN + labels + room * ((value - lowest) / span) as f32;
        for bar in &chart.bars {
            self.y -= BAR_HEIGHT;
            let (from, to) = (place(bar.value.min(0.0)), place(bar.value.max(0.0)));
            let (r, g, b) = if bar.value < 0.0 { RED } else { BLUE };
            self.page.save_state().set_fill_rgb(r, g, b);
            self.page
                .rect(from, self.y + 3.0, (to - from).max(0.5), BAR_HEIGHT - 6.0)
                .fill_nonzero()
                .restore_state();
            let label = fitted(&bar.label, Font::Regular, 9.0, labels - 8.0);
            self.text(&label, Font::Regular, 9.0, (MARGIN, self.y + 6.0));
            self.text(&bar.shown, Font::Regular, 9.0, (to + 6.0, self.y + 6.0));
        }
        self.y -= 14.0;
    }

    fn finish(mut self, document: &Document, today: Date) -> Rendered {
        let pages = self.done.len() + 1;
        let mut contents = Vec::with_capacity(pages);
        let unfinished: Vec<_> = std::mem::take(&mut self.done)
            .into_iter()
            .chain([std::mem::replace(&mut self.page, Content::new())])
            .collect();
        for (at, page) in unfinished.into_iter().enumerate() {
            self.page = page;
            let number = format!("Page {} of {pages}", at + 1);
            let x = MARGIN + WIDTH - width(&number, Font::Regular, 8.5);
            self.text(&number, Font::Regular, 8.5, (x, MARGIN - 8.0));
            self.text(
                &today.to_string(),
                Font::Regular,
                8.5,
                (MARGIN, MARGIN - 8.0),
            );
            contents.push(std::mem::replace(&mut self.page, Content::new()));
        }
        Rendered {
            bytes: assemble(document, contents, today),
            pages,
            replaced: self.replaced,
        }
    }
}

/// Between columns.
const GAP: f32 = 8.0;

/// As wide as the longest cell; if that does not fit, columns of text give way first.
fn column_widths(table: &Table, size: f32) -> Vec<f32> {
    let cell =
        |row: &[String], at: usize, font| row.get(at).map_or(0.0, |cell| width(cell, font, size));
    let mut widths: Vec<f32> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let head = width(&column.title, Font::Bold, size).max(
                table
                    .total
                    .as_ref()
                    .map_or(0.0, |row| cell(row, at, Font::Bold)),
            );
            table
                .rows
                .iter()
                .map(|row| cell(row, at, Font::Regular))
                .fold(head, f32::max)
                + GAP
        })
        .collect();
    let is_number = |at: usize| table.columns.get(at).is_some_and(|column| column.right);
    let sum = |widths: &[f32], numbers: bool| -> f32 {
        widths
            .iter()
            .enumerate()
            .filter(|(at, _)| is_number(*at) == numbers)
            .map(|(_, w)| w)
            .sum()
    };
    let (numbers, texts) = (sum(&widths, true), sum(&widths, false));
    // The gap after the last column may stick out.
    let spare = WIDTH + GAP - numbers - texts;
    if spare < 0.0 {
        // Half of the page stays for text.
        let for_text = (WIDTH - numbers).max(WIDTH / 2.0).min(texts);
        let scale = |width: f32, from: f32, to: f32| {
            if from > 0.0 {
                width * (to / from).min(1.0)
            } else {
                width
            }
        };
        for (at, width) in widths.iter_mut().enumerate() {
            *width = if is_number(at) {
                scale(*width, numbers, WIDTH - for_text)
            } else {
                scale(*width, texts, for_text)
            };
        }
    } else if numbers > 0.0 && texts > 0.0 {
        for (_, width) in widths
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| !is_number(*at))
        {
            *width += spare * *width / texts;
        }
    }
    widths
}

fn assemble(document: &Document, contents: Vec<Content>, today: Date) -> Vec<u8> {
    let mut next = 0;
    let mut id = || {
        next += 1;
        Ref::new(next)
    };
    let (catalog, tree, regular, bold, info) = (id(), id(), id(), id(), id());
    let pages: Vec<_> = contents
        .into_iter()
        .map(|content| (id(), id(), content))
        .collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree).lang(TextStr("en"));
    pdf.pages(tree)
        .kids(pages.iter().map(|(page, ..)| *page))
        .count(i32::try_from(pages.len()).unwrap_or(i32::MAX));
    for (font, name) in [(regular, &b"Helvetica"[..]), (bold, b"Helvetica-Bold")] {
        pdf.type1_font(font)
            .base_font(Name(name))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (page_id, content_id, content) in pages {
        let mut page = pdf.page(page_id);
        page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1))
            .parent(tree)
            .contents(content_id);
        page.resources()
            .fonts()
            .pair(Name(b"F1"), regular)
            .pair(Name(b"F2"), bold);
        page.finish();
        pdf.stream(content_id, &content.finish());
    }
    let date = pdf_writer::Date::new(today.year().unsigned_abs())
        .month(today.month().unsigned_abs())
        .day(today.day().unsigned_abs());
    pdf.document_info(info)
        .title(TextStr(&document.title))
        .creator(TextStr("AMCP"))
        .producer(TextStr("AMCP"))
        .creation_date(date);
    pdf.finish()
}
