//! A report as PDF: A4, with the parts of fonts that it uses embedded.
//!
//! Does not decide what is shown; lays out a document's blocks from top to bottom.

mod file;
mod text;

use std::collections::BTreeSet;

use jiff::civil::Date;
use pdf_writer::Content;

use self::text::{Fonts, Line, Style};
use super::document::{Bar, Block, Chart, Column, Document, Table};
use super::fonts;

/// A4, in points.
const PAGE: (f32, f32) = (595.0, 842.0);
const MARGIN: f32 = 56.0;
const WIDTH: f32 = PAGE.0 - 2.0 * MARGIN;
const TOP: f32 = PAGE.1 - MARGIN;
/// Below it is the footer's.
const BOTTOM: f32 = MARGIN + 20.0;
const BAR_HEIGHT: f32 = 18.0;
/// Between columns.
const GAP: f32 = 8.0;
/// The house's blue, for bars and lines.
const BLUE: (f32, f32, f32) = (0.16, 0.38, 0.66);
const RED: (f32, f32, f32) = (0.72, 0.22, 0.18);

/// A finished PDF.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) bytes: Vec<u8>,
    pub(super) pages: usize,
    /// Characters that no font has.
    pub(super) missing: BTreeSet<char>,
}

const fn regular(size: f32) -> Style {
    Style { bold: false, size }
}

const fn bold(size: f32) -> Style {
    Style { bold: true, size }
}

/// Lays the document out in the bundled fonts and these. `today` is printed in its footer. Fails when a font cannot be
/// embedded.
pub(super) fn render(
    document: &Document,
    today: Date,
    files: &[fonts::File],
) -> Result<Rendered, subsetter::Error> {
    let mut layout = Layout {
        fonts: Fonts::new(files),
        done: Vec::new(),
        page: Content::new(),
        y: TOP,
    };
    layout.lines(&document.title, bold(20.0));
    layout.y -= 10.0;
    for block in &document.blocks {
        match block {
            Block::Heading(text) => {
                layout.room(60.0);
                layout.y -= 8.0;
                layout.lines(text, bold(13.0));
                layout.y -= 2.0;
            }
            Block::Paragraph(text) => {
                layout.lines(text, regular(11.0));
                layout.y -= 8.0;
            }
            Block::Table(table) => layout.table(table),
            Block::Chart(chart) => layout.chart(chart),
        }
    }
    for note in &document.notes {
        layout.lines(note, regular(8.5));
    }
    layout.finish(document, today)
}

/// Pages being filled.
struct Layout<'a> {
    fonts: Fonts<'a>,
    done: Vec<Content>,
    page: Content,
    /// The lower edge of what is on the page.
    y: f32,
}

/// How a table is set.
struct Grid<'t> {
    columns: &'t [Column],
    widths: Vec<f32>,
    size: f32,
    /// Repeated on each page; none if no column has a title.
    titles: Option<Vec<String>>,
}

impl Layout<'_> {
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

    fn draw(&mut self, line: &Line, size: f32, place: (f32, f32)) {
        file::draw(&mut self.page, line, size, place);
    }

    fn lines(&mut self, text: &str, style: Style) {
        for line in self.fonts.lines(text, style, WIDTH) {
            self.room(style.size * 1.3);
            self.y -= style.size * 1.3;
            let indent = if line.rtl { WIDTH - line.width } else { 0.0 };
            self.draw(
                &line,
                style.size,
                (MARGIN + indent, self.y + style.size * 0.3),
            );
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
        let titles = table.columns.iter().map(|column| column.title.clone());
        let grid = Grid {
            columns: &table.columns,
            widths: self.column_widths(table, size),
            size,
            titles: Some(titles.collect())
                .filter(|titles: &Vec<String>| titles.iter().any(|title| !title.is_empty())),
        };
        // A head is not left alone at the foot of a page.
        self.room(size * 5.0);
        self.head(&grid);
        for row in &table.rows {
            self.row(row, &grid, regular(size));
        }
        if let Some(total) = &table.total {
            self.room(size * 1.6);
            self.rule(self.y + 1.0, 0.8);
            self.row(total, &grid, bold(size));
        }
        self.y -= 14.0;
    }

    fn head(&mut self, grid: &Grid<'_>) {
        if let Some(titles) = &grid.titles {
            // On a page of its own a head has room enough: it must not ask for another.
            let alone = Grid {
                titles: None,
                widths: grid.widths.clone(),
                ..*grid
            };
            self.row(titles, &alone, bold(grid.size));
            self.rule(self.y + 1.0, 0.8);
        }
    }

    /// Cells wrap; a row that does not fit goes on on the next page, below the head.
    fn row(&mut self, cells: &[String], grid: &Grid<'_>, style: Style) {
        let next = style.size * 1.25;
        let cells: Vec<_> = cells
            .iter()
            .zip(&grid.widths)
            .map(|(cell, width)| self.fonts.lines(cell, style, width - GAP))
            .collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
        #[expect(clippy::cast_precision_loss, reason = "a cell has a few lines")]
        let height = style.size * 0.35 + next * lines as f32;
        // What fills much of a page may as well begin on this one.
        if self.room(height.min((TOP - BOTTOM) / 3.0)) {
            self.head(grid);
        }
        for at in 0..lines {
            if self.room(next) {
                self.head(grid);
            }
            self.y -= next;
            let mut x = MARGIN;
            for ((cell, column), width) in cells.iter().zip(grid.columns).zip(&grid.widths) {
                if let Some(line) = cell.get(at) {
                    let indent = if column.right || line.rtl {
                        width - GAP - line.width
                    } else {
                        0.0
                    };
                    self.draw(line, style.size, (x + indent, self.y + style.size * 0.2));
                }
                x += width;
            }
        }
        self.y -= style.size * 0.35;
    }

    /// As wide as the longest cell; where that does not fit, the widest columns share what the others leave.
    fn column_widths(&mut self, table: &Table, size: f32) -> Vec<f32> {
        let mut widths: Vec<f32> = table
            .columns
            .iter()
            .map(|column| self.fonts.width(&column.title, bold(size)) + GAP)
            .collect();
        let rows = table.rows.iter().map(|row| (row, regular(size)));
        for (row, style) in rows.chain(table.total.iter().map(|row| (row, bold(size)))) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = width.max(self.fonts.width(cell, style) + GAP);
            }
        }
        // The gap after the last column may stick out.
        let mut spare = WIDTH + GAP;
        let mut narrow_first: Vec<&mut f32> = widths.iter_mut().collect();
        narrow_first.sort_by(|a, b| a.total_cmp(b));
        let mut left = narrow_first.len();
        for width in narrow_first {
            #[expect(clippy::cast_precision_loss, reason = "there are a few columns")]
            let share = spare / left as f32;
            *width = width.min(share);
            spare -= *width;
            left -= 1;
        }
        let mut texts: Vec<_> = widths.iter_mut().zip(&table.columns).collect();
        texts.retain(|(_, column)| !column.right);
        let sum: f32 = texts.iter().map(|(width, _)| **width).sum();
        if texts.len() < table.columns.len() {
            for (width, _) in texts {
                *width += spare * *width / sum;
            }
        }
        widths
    }

    fn chart(&mut self, chart: &Chart) {
        #[expect(clippy::cast_precision_loss, reason = "there are a dozen bars")]
        let height = chart.bars.len() as f32 * BAR_HEIGHT;
        self.room(height + 40.0);
        self.lines(&chart.title, bold(11.0));
        self.y -= 4.0;
        let mut widest = |of: fn(&Bar) -> &str| {
            let texts = chart.bars.iter().map(of);
            let widths = texts.map(|text| self.fonts.width(text, regular(9.0)));
            widths.fold(0.0, f32::max) + GAP
        };
        let labels = widest(|bar| &bar.label).min(WIDTH * 0.4);
        let values = widest(|bar| &bar.shown);
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
            for (text, x, most) in [
                (&bar.label, MARGIN, labels - GAP),
                (&bar.shown, to + 6.0, WIDTH),
            ] {
                // A label is at most 40 characters long; what is wider than its place ends at a word.
                if let Some(line) = self.fonts.lines(text, regular(9.0), most).first() {
                    self.draw(line, 9.0, (x, self.y + 6.0));
                }
            }
        }
        self.y -= 14.0;
    }

    fn finish(mut self, document: &Document, today: Date) -> Result<Rendered, subsetter::Error> {
        self.done
            .push(std::mem::replace(&mut self.page, Content::new()));
        let (mut done, small) = (std::mem::take(&mut self.done), regular(8.5));
        let pages = done.len();
        for (at, page) in done.iter_mut().enumerate() {
            let number = format!("Page {} of {pages}", at + 1);
            for (text, right) in [(today.to_string(), false), (number, true)] {
                for line in self.fonts.lines(&text, small, WIDTH) {
                    let indent = if right { WIDTH - line.width } else { 0.0 };
                    file::draw(page, &line, small.size, (MARGIN + indent, MARGIN - 8.0));
                }
            }
        }
        Ok(Rendered {
            bytes: file::assemble(&document.title, done, &self.fonts.all, today)?,
            pages,
            missing: self.fonts.missing,
        })
    }
}

#[cfg(test)]
mod tests;
