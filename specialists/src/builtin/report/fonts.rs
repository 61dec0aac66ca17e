//! The fonts of a PDF: those that are compiled in, and the machine's own for characters that they lack (ADR-0016).
//!
//! Does not set text; the only part of a report that looks around on the machine.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use fontdb::{Database, FaceInfo, Style};
use rustybuzz::ttf_parser::{Face, Permissions};

/// Noto Sans for Latin, Greek and Cyrillic, regular and bold, then its arrows and operators, then its symbols.
pub(super) const BUNDLED: [&[u8]; 4] = [
    include_bytes!("../../../fonts/NotoSans-Regular.ttf"),
    include_bytes!("../../../fonts/NotoSans-Bold.ttf"),
    include_bytes!("../../../fonts/NotoSansMath-Regular.ttf"),
    include_bytes!("../../../fonts/NotoSansSymbols2-Regular.ttf"),
];

/// Most fonts of the machine in one report: large ones have 20 MB, which are in memory meanwhile.
const MAX_FILES: usize = 4;
/// Most characters that are looked for in all fonts: a font that has those has the rest of their script.
const MAX_LOOKED_FOR: usize = 500;

/// Listed once, when a report first needs it.
static SYSTEM: LazyLock<Database> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    fonts
});

/// A font of the machine.
#[derive(Debug)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    /// Which font of a collection.
    pub(super) index: u32,
}

/// The machine's fonts that together have the most of the characters. Reads files, unless there are no characters.
pub(super) fn covering(characters: &BTreeSet<char>) -> Vec<File> {
    if characters.is_empty() {
        return Vec::new();
    }
    choose(&SYSTEM, characters)
}

pub(super) fn choose(fonts: &Database, characters: &BTreeSet<char>) -> Vec<File> {
    let mut open: Vec<char> = characters.iter().copied().take(MAX_LOOKED_FOR).collect();
    let mut faces: Vec<&FaceInfo> = fonts
        .faces()
        .filter(|face| face.style == Style::Normal)
        .collect();
    faces.sort_by_key(|face| (face.weight.0.abs_diff(400), face.monospaced));
    let mut files = Vec::new();
    while files.len() < MAX_FILES {
        let lacking = |face: &FaceInfo| fonts.with_face_data(face.id, |d, i| lacking(d, i, &open));
        let best = faces
            .iter()
            .filter_map(|face| Some((face.id, lacking(face)?)))
            .min_by_key(|(_, lacking)| lacking.len());
        let Some((id, still)) = best.filter(|(_, lacking)| lacking.len() < open.len()) else {
            break;
        };
        let read = fonts.with_face_data(id, |data, index| File {
            data: data.to_vec(),
            index,
        });
        files.extend(read);
        open = still;
    }
    files
}

/// Those of the characters that the font has no outlines for; a font that may not be embedded in parts has none.
fn lacking(data: &[u8], index: u32, characters: &[char]) -> Vec<char> {
    let usable = |face: &Face<'_>| {
        let tables = face.tables();
        (tables.glyf.is_some() || tables.cff.is_some())
            && face.is_subsetting_allowed()
            && face.permissions() != Some(Permissions::Restricted)
    };
    let face = Face::parse(data, index).ok().filter(usable);
    let has = |character: char| {
        let face = face.as_ref()?;
        let glyph = face.glyph_index(character)?;
        (character.is_whitespace() || face.glyph_bounding_box(glyph).is_some()).then_some(())
    };
    let all = characters.iter().copied();
    all.filter(|character| has(*character).is_none()).collect()
}
