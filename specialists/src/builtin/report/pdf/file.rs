//! Pages and their fonts as the objects of a PDF, compressed.
//!
//! Does not lay anything out.

use jiff::civil::Date;
use miniz_oxide::deflate::compress_to_vec_zlib;
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};
use rustybuzz::ttf_parser::{GlyphId, RawFace, Tag, name_id};
use subsetter::subset;

use super::PAGE;
use super::text::{Font, Line};

/// zlib's default: the best for little time.
const COMPRESSION: u8 = 6;
const IDENTITY: SystemInfo<'_> = SystemInfo {
    registry: Str(b"Adobe"),
    ordering: Str(b"Identity"),
    supplement: 0,
};

/// Draws the line with its left end at a place, in points from the lower left corner.
pub(super) fn draw(page: &mut Content, line: &Line, size: f32, (x, y): (f32, f32)) {
    page.begin_text().next_line(x, y);
    for run in &line.runs {
        page.set_font(Name(format!("F{}", run.font).as_bytes()), size);
        for level in run.glyphs.chunk_by(|a, b| a.offset.1 == b.offset.1) {
            page.set_rise(level.first().map_or(0.0, |glyph| glyph.offset.1 * size));
            let mut show = page.show_positioned();
            let mut items = show.items();
            let mut plain = Vec::new();
            // Thousandths by which the next glyph is moved to the left.
            let mut back = 0.0;
            for glyph in level {
                back -= glyph.offset.0 * 1000.0;
                if back.abs() > 0.01 {
                    items.show(Str(&std::mem::take(&mut plain))).adjust(back);
                }
                plain.extend(glyph.id.to_be_bytes());
                back = (glyph.own_width + glyph.offset.0 - glyph.advance) * 1000.0;
            }
            items.show(Str(&plain)).adjust(back);
        }
    }
    page.end_text();
}

/// The finished file. Fails when a font of the machine cannot be embedded.
pub(super) fn assemble(
    title: &str,
    pages: Vec<Content>,
    fonts: &[Font<'_>],
    today: Date,
) -> Result<Vec<u8>, subsetter::Error> {
    let mut last = 0;
    let mut id = || {
        last += 1;
        Ref::new(last)
    };
    let (catalog, tree, info) = (id(), id(), id());
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree).lang(TextStr("en"));
    let mut embedded = Vec::new();
    for (at, font) in fonts.iter().enumerate() {
        // Glyph 0 is always there.
        if font.used.num_gids() > 1 {
            let ids = [id(), id(), id(), id(), id()];
            embed(&mut pdf, font, at, ids)?;
            embedded.push((format!("F{at}"), ids[0]));
        }
    }
    let ids: Vec<_> = pages.iter().map(|_| (id(), id())).collect();
    pdf.pages(tree)
        .kids(ids.iter().map(|(page, _)| *page))
        .count(i32::try_from(pages.len()).unwrap_or(i32::MAX));
    for (content, (page_id, content_id)) in pages.into_iter().zip(ids) {
        let mut page = pdf.page(page_id);
        page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1))
            .parent(tree)
            .contents(content_id);
        let mut resources = page.resources();
        let mut names = resources.fonts();
        for (name, font) in &embedded {
            names.pair(Name(name.as_bytes()), font);
        }
        names.finish();
        resources.finish();
        page.finish();
        stream(&mut pdf, content_id, &content.finish());
    }
    let date = pdf_writer::Date::new(today.year().unsigned_abs())
        .month(today.month().unsigned_abs())
        .day(today.day().unsigned_abs());
    pdf.document_info(info)
        .title(TextStr(title))
        .creator(TextStr("AMCP"))
        .producer(TextStr("AMCP"))
        .creation_date(date);
    Ok(pdf.finish())
}

fn stream(pdf: &mut Pdf, id: Ref, bytes: &[u8]) {
    pdf.stream(id, &compress_to_vec_zlib(bytes, COMPRESSION))
        .filter(Filter::FlateDecode);
}

/// The glyphs in use of a font, their widths and what they say.
fn embed(
    pdf: &mut Pdf,
    font: &Font<'_>,
    number: usize,
    [id, descendant, descriptor, says, file]: [Ref; 5],
) -> Result<(), subsetter::Error> {
    let face = &font.face;
    let part = subset(font.data, font.index, &font.used)?;
    // Of CFF outlines a reader wants the table alone.
    let cff = RawFace::parse(&part, 0)
        .ok()
        .and_then(|raw| raw.table(Tag::from_bytes(b"CFF ")));
    #[expect(clippy::cast_precision_loss, reason = "font units are small")]
    let thousandths = |units: i32| units as f32 * 1000.0 / face.units_per_em() as f32;
    let own_name = face
        .names()
        .into_iter()
        .find_map(|name| (name.name_id == name_id::POST_SCRIPT_NAME).then(|| name.to_string())?);
    // Six letters mark a part of a font.
    let tag = char::from(b'A' + u8::try_from(number % 26).unwrap_or_default());
    let name = format!("AMCPF{tag}+{}", own_name.as_deref().unwrap_or("Font"));
    let name = Name(name.as_bytes());
    pdf.type0_font(id)
        .base_font(name)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(descendant)
        .to_unicode(says);
    let mut cid = pdf.cid_font(descendant);
    cid.subtype(if cff.is_some() {
        CidFontType::Type0
    } else {
        CidFontType::Type2
    });
    cid.base_font(name).system_info(IDENTITY);
    cid.font_descriptor(descriptor).default_width(0.0);
    if cff.is_none() {
        cid.cid_to_gid_map_predefined(Name(b"Identity"));
    }
    let width = |glyph| face.glyph_hor_advance(GlyphId(glyph)).unwrap_or_default();
    let widths = font.used.remapped_gids().map(width);
    cid.widths()
        .consecutive(0, widths.map(|width| thousandths(width.into())));
    cid.finish();
    let bounds = face.global_bounding_box();
    let [left, bottom, right, top] = [bounds.x_min, bounds.y_min, bounds.x_max, bounds.y_max]
        .map(|edge| thousandths(edge.into()));
    let ascent = thousandths(face.ascender().into());
    let mut about = pdf.font_descriptor(descriptor);
    about
        .name(name)
        .flags(FontFlags::SYMBOLIC)
        .bbox(Rect::new(left, bottom, right, top))
        .italic_angle(face.italic_angle())
        .ascent(ascent)
        .descent(thousandths(face.descender().into()))
        .cap_height(
            face.capital_height()
                .map_or(ascent, |height| thousandths(height.into())),
        )
        // No font says it; readers use it only where the font's own outlines fail.
        .stem_v(95.0);
    if cff.is_some() {
        about.font_file3(file);
    } else {
        about.font_file2(file);
    }
    about.finish();
    let mut map = UnicodeCmap::new(Name(b"Says"), IDENTITY);
    for (glyph, text) in &font.says {
        map.pair_with_multiple(*glyph, text.chars());
    }
    stream(pdf, says, &map.finish());
    let bytes = compress_to_vec_zlib(cff.unwrap_or(&part), COMPRESSION);
    let mut written = pdf.stream(file, &bytes);
    written.filter(Filter::FlateDecode);
    if cff.is_some() {
        written.pair(Name(b"Subtype"), Name(b"CIDFontType0C"));
    }
    Ok(())
}
