//! Text as glyphs in lines: which font has a character, how letters join, where a line ends, which way it runs.
//!
//! Does not place lines on a page.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use rustybuzz::ttf_parser::GlyphId;
use rustybuzz::{BufferClusterLevel, Direction, UnicodeBuffer};
use subsetter::GlyphRemapper;
use unicode_bidi::{BidiInfo, ParagraphInfo};

use super::super::fonts::{BUNDLED, File};

/// Stands for what no font has.
const MISSING: char = '\u{FFFD}';
/// What floats may lose: a column is as wide as its longest cell.
const TOLERANCE: f32 = 0.05;

/// Longest text, in bytes, whose line is kept: a table's cell.
const MAX_KEPT_BYTES: usize = 64;
/// Most lines that are kept: with their glyphs some 8 MB.
const MAX_KEPT: usize = 4_096;

/// The fonts of one document, and what it uses of them.
pub(super) struct Fonts<'a> {
    pub(super) all: Vec<Font<'a>>,
    /// Characters that none has.
    pub(super) missing: BTreeSet<char>,
    /// Short texts in one line: cells repeat, and each is measured before it is drawn.
    kept: HashMap<(String, bool, u32), Line>,
}

pub(super) struct Font<'a> {
    pub(super) data: &'a [u8],
    pub(super) index: u32,
    pub(super) face: rustybuzz::Face<'a>,
    /// The glyphs in use, and their numbers in the document.
    pub(super) used: GlyphRemapper,
    /// What each of them says, for readers that copy or search.
    pub(super) says: BTreeMap<u16, String>,
}

/// How text looks; the size is in points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) size: f32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// From left to right, whatever way they are read.
    pub(super) runs: Vec<Run>,
    /// In points.
    pub(super) width: f32,
    /// Whether its paragraph is read from right to left.
    pub(super) rtl: bool,
}

/// Glyphs of one font.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// Its place in [`Fonts::all`].
    pub(super) font: usize,
    pub(super) glyphs: Vec<Glyph>,
}

/// Lengths are parts of the size.
#[derive(Debug, Clone)]
pub(super) struct Glyph {
    /// Its number in the document.
    pub(super) id: u16,
    /// From here to the next glyph.
    pub(super) advance: f32,
    /// How wide the font says it is.
    pub(super) own_width: f32,
    /// Where it is drawn, relative to where it stands.
    pub(super) offset: (f32, f32),
    /// Which byte of the text it begins to show.
    at: usize,
}

impl<'a> Fonts<'a> {
    /// The bundled fonts, then these.
    pub(super) fn new(files: &'a [File]) -> Self {
        let bundled = BUNDLED.iter().map(|data| (*data, 0));
        let others = files.iter().map(|file| (file.data.as_slice(), file.index));
        let font = |(data, index)| {
            Some(Font {
                data,
                index,
                face: rustybuzz::Face::from_slice(data, index)?,
                used: GlyphRemapper::new(),
                says: BTreeMap::new(),
            })
        };
        Self {
            all: bundled.chain(others).filter_map(font).collect(),
            missing: BTreeSet::new(),
            kept: HashMap::new(),
        }
    }

    /// The text in lines of at most a width in points; a word that is wider is cut into pieces.
    pub(super) fn lines(&mut self, text: &str, style: Style, most: f32) -> Vec<Line> {
        let short = (text.len() <= MAX_KEPT_BYTES)
            .then(|| (text.to_owned(), style.bold, style.size.to_bits()));
        let kept = short.as_ref().and_then(|short| self.kept.get(short));
        if let Some(line) = kept.filter(|line| line.width <= most + TOLERANCE) {
            return vec![line.clone()];
        }
        let lines = self.broken(text, style, most);
        if let ([whole], Some(short), true) = (&*lines, short, self.kept.len() < MAX_KEPT) {
            self.kept.insert(short, whole.clone());
        }
        lines
    }

    fn broken(&mut self, text: &str, style: Style, most: f32) -> Vec<Line> {
        // Of the text itself: what is missing too has a direction.
        let bidi = BidiInfo::new(text, None);
        let mut lines = Vec::new();
        for paragraph in &bidi.paragraphs {
            let whole = self.line(&bidi, paragraph, paragraph.range.clone(), style);
            if whole.width <= most + TOLERANCE {
                lines.push(whole);
                continue;
            }
            let glyphs = whole.runs.iter().flat_map(|run| &run.glyphs);
            // At a line's end a letter no longer moves towards its neighbour.
            let widths = |g: &Glyph| (g.advance * style.size, g.own_width * style.size);
            let mut advances: Vec<_> = glyphs.map(|g| (g.at, widths(g))).collect();
            advances.sort_by_key(|(at, _)| *at);
            for range in breaks(text, paragraph.range.end, &advances, most + TOLERANCE) {
                lines.push(self.line(&bidi, paragraph, range, style));
            }
        }
        lines
    }

    /// How wide the text is on one line, in points.
    pub(super) fn width(&mut self, text: &str, style: Style) -> f32 {
        let lines = self.lines(text, style, f32::INFINITY);
        lines.iter().map(|line| line.width).fold(0.0, f32::max)
    }

    fn has(&self, font: usize, character: char) -> bool {
        let font = self.all.get(font);
        font.is_some_and(|font| font.face.glyph_index(character).is_some())
    }

    /// The character, or what stands for it where no font has it.
    fn shown(&self, character: char) -> char {
        let is_had = (0..self.all.len()).any(|font| self.has(font, character));
        if is_had || is_invisible(character) {
            character
        } else {
            MISSING
        }
    }

    fn line(
        &mut self,
        bidi: &BidiInfo<'_>,
        paragraph: &ParagraphInfo,
        range: Range<usize>,
        style: Style,
    ) -> Line {
        let mut line = Line {
            rtl: paragraph.level.is_rtl(),
            ..Line::default()
        };
        let (levels, visual) = bidi.visual_runs(paragraph, range);
        for part in visual {
            let rtl = levels.get(part.start).is_some_and(|level| level.is_rtl());
            let mut pieces = self.by_font(bidi.text, part, style.bold);
            if rtl {
                pieces.reverse();
            }
            for (range, font) in pieces {
                let glyphs = self.shaped(bidi.text, range, font, rtl);
                line.width += glyphs.iter().map(|g| g.advance).sum::<f32>() * style.size;
                line.runs.push(Run { font, glyphs });
            }
        }
        line
    }

    /// The pieces of the text that one font shows. Marks, digits and punctuation stay in the font of what is before them.
    fn by_font(&self, text: &str, range: Range<usize>, bold: bool) -> Vec<(Range<usize>, usize)> {
        let first = usize::from(bold);
        let mut pieces: Vec<(Range<usize>, usize)> = Vec::new();
        let start = range.start;
        for (at, character) in text.get(range).unwrap_or_default().char_indices() {
            let range = start + at..start + at + character.len_utf8();
            let character = self.shown(character);
            let before = pieces.last().map(|(_, font)| *font);
            let stays = |font: &usize| {
                is_invisible(character) || !character.is_alphabetic() && self.has(*font, character)
            };
            let font = before.filter(stays).unwrap_or_else(|| {
                let all = std::iter::once(first).chain(0..self.all.len());
                let mut having = all.filter(|font| self.has(*font, character));
                having.next().unwrap_or(first)
            });
            match pieces.last_mut() {
                Some((piece, last)) if *last == font => piece.end = range.end,
                _ => pieces.push((range, font)),
            }
        }
        pieces
    }

    fn shaped(&mut self, text: &str, range: Range<usize>, font: usize, rtl: bool) -> Vec<Glyph> {
        let piece = text.get(range.clone()).unwrap_or_default();
        let mut buffer = UnicodeBuffer::new();
        for (at, character) in piece.char_indices() {
            let shown = self.shown(character);
            if shown != character {
                self.missing.insert(character);
            }
            buffer.add(shown, u32::try_from(at).unwrap_or(u32::MAX));
        }
        let Some(font) = self.all.get_mut(font) else {
            return Vec::new();
        };
        // Marks keep places of their own, so that what a letter says is the letter.
        buffer.set_cluster_level(BufferClusterLevel::MonotoneCharacters);
        buffer.set_direction(if rtl {
            Direction::RightToLeft
        } else {
            Direction::LeftToRight
        });
        let shaped = rustybuzz::shape(&font.face, &[], buffer);
        #[expect(clippy::cast_precision_loss, reason = "font units are small")]
        let part = |units: i32| units as f32 / font.face.units_per_em() as f32;
        let starts: BTreeSet<_> = shaped.glyph_infos().iter().map(|i| i.cluster).collect();
        let mut said = None;
        let mut glyphs = Vec::with_capacity(shaped.len());
        for (info, position) in shaped.glyph_infos().iter().zip(shaped.glyph_positions()) {
            let old = u16::try_from(info.glyph_id).unwrap_or_default();
            let id = font.used.remap(old);
            let from = info.cluster as usize;
            // The first glyph of several speaks for all.
            if said.replace(from) != Some(from) {
                let next = starts.range(info.cluster + 1..).next();
                let end = next.map_or(piece.len(), |next| *next as usize);
                let says = piece.get(from..end).unwrap_or_default();
                let says = || says.replace(|c| self.missing.contains(&c), "\u{FFFD}");
                font.says.entry(id).or_insert_with(says);
            }
            let own_width = font.face.glyph_hor_advance(GlyphId(old));
            glyphs.push(Glyph {
                id,
                advance: part(position.x_advance),
                own_width: part(own_width.unwrap_or_default().into()),
                offset: (part(position.x_offset), part(position.y_offset)),
                at: range.start + from,
            });
        }
        glyphs
    }
}

/// Where lines begin and end, given how far each piece of the text goes, before another one and alone. Spaces at a line's
/// end are left out.
fn breaks(
    text: &str,
    end: usize,
    advances: &[(usize, (f32, f32))],
    most: f32,
) -> Vec<Range<usize>> {
    let character = |at: usize| text.get(at..).and_then(|rest| rest.chars().next());
    let mut ranges = Vec::new();
    let mut start = advances.first().map_or(0, |(at, _)| *at);
    let mut width = 0.0;
    // Where the line may end, and its width up to there.
    let mut chance: Option<(usize, f32)> = None;
    for &(at, (advance, alone)) in advances {
        let next = character(at).unwrap_or(' ');
        if is_ideograph(next) && at > start {
            chance = Some((at, width));
        }
        while width + advance.max(alone) > most && at > start && next != ' ' {
            let (cut, before) = chance.take().unwrap_or((at, width));
            ranges.push(start..cut);
            start = cut;
            width -= before;
        }
        width += advance;
        if next == ' ' || is_ideograph(next) {
            chance = Some((at + next.len_utf8(), width));
        }
    }
    ranges.push(start..end);
    for range in &mut ranges {
        let line = text.get(range.clone()).unwrap_or_default();
        range.end = range.start + line.trim_end().len();
    }
    ranges
}

/// Scripts that are written without spaces, and may be broken anywhere.
fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}' | '\u{20000}'..='\u{3FFFF}')
}

/// What tells neighbours how to join and which way to run, and shows nothing itself.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E0FFF}')
}
