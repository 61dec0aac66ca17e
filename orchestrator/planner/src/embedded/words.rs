//! English words that carry grammar rather than meaning, and the few generic synonyms.
//!
//! Holds nothing about any domain: what a capability is about is said by its card alone.

use std::collections::HashSet;
use std::sync::LazyLock;

type Set = LazyLock<HashSet<&'static str>>;

fn set(words: &'static str) -> HashSet<&'static str> {
    words.split_whitespace().collect()
}

/// Never indexed, never matched, never the end of a name.
static STOP: Set = LazyLock::new(|| {
    set(
        "a an the this that these those some any each every all both it its it's itself they them their there here \
         i i'd i'll i'm me my mine we us our you your he she his her him one ones who's \
         is are was were be been being am do does did done doing have has had having can could will would shall should \
         may might must let lets let's \
         of in on at to for from by with about into onto over under between among during until till since per via as \
         against regarding concerning near within without than out off up down \
         and or but nor so yet if then else also plus too either neither while because \
         what which who whom whose when where why how what's how's where's when's \
         not no yes ok okay please kindly thanks thank hi hello hey dear just only very really quite more most much \
         many few lot lots bit other another same such own again now well like want need would like d ll m re s t ve \
         today tomorrow yesterday tonight next last previous current following vs versus etc maybe possible possibly \
         first second third finally afterwards afterward additionally",
    )
});

/// Verbs that say that something is wanted, hardly what.
static GENERIC: Set = LazyLock::new(|| {
    set(
        "get give show tell find fetch list display retrieve look see check know say ask bring provide present return \
         produce generate create make build prepare write draw put do run use take set turn switch open close start \
         stop add send search help work go come book order buy plan change update modify adjust delete remove cancel \
         read query eval process handle compare play call let schedule print save edit try explain describe \
         information info data detail details thing things stuff something anything good best new",
    )
});

/// What a clause of its own may start with: verbs that are used as commands.
static COMMANDS: Set = LazyLock::new(|| {
    set(
        "get give show tell find fetch list display retrieve look check say ask bring provide produce generate create \
         make build prepare write draw put run use take set turn switch open close start stop add send search help \
         book order buy plan change update modify adjust delete remove cancel read query play call schedule share print \
         save edit try explain describe compare calculate compute evaluate solve multiply divide subtract sum convert \
         translate summarize summarise shorten condense analyze analyse email mail message text remind notify post \
         publish upload download install invite reserve rent pay transfer move copy rename sort filter count measure \
         track monitor log record report review approve reject sign file draft compose dim brighten mute enable disable \
         lock unlock start restart deploy fix repair clean cook sing recommend suggest predict forecast plot chart",
    )
});

/// Question words and auxiliaries that open a question.
static QUESTIONS: Set = LazyLock::new(|| {
    set(
        "what which who whom whose when where why how is are was were do does did can could will would should has have \
         may what's how's where's when's who's",
    )
});

/// Said before a clause without meaning anything in it.
static PREFACES: Set = LazyLock::new(|| {
    set(
        "please kindly also then next finally first second third lastly additionally afterwards and but so ok okay \
         hi hello hey thanks plus i i'd we we'd you want need would like to could can will just now maybe",
    )
});

/// Verbs that say that something is to be changed: what only reads cannot do them.
static CHANGES: Set = LazyLock::new(|| {
    set(
        "delete remove cancel drop erase clear undo reject decline revoke dismiss update change modify edit adjust rename \
         move pay buy order book send email mail post publish upload install transfer reserve rent invite approve sign \
         share lock unlock enable disable restart deploy dim mute mark assign",
    )
});

/// Verbs that take something back: a capability that makes something does not do them unless its card says so.
static TAKES_BACK: Set = LazyLock::new(|| {
    set(
        "delete remove cancel drop erase clear undo reject decline revoke dismiss stop disable close unlock mute",
    )
});

/// Words that change nothing of what is asked: they ask for haste or care, or name what any result holds.
static FILLERS: Set = LazyLock::new(|| {
    set(
        "quickly quick fast asap urgently immediately briefly short shortly simply exactly roughly approximately actually \
         right away soon currently nicely carefully kind sort favor favour curious wondering wonder hurry thx pls hear listen love \
         row entry record item figure number value result status",
    )
});

/// Groups of words that mean the same in any domain.
const SYNONYMS: &[&[&str]] = &[
    &[
        "create", "make", "produce", "generate", "build", "prepare", "write", "compose", "draft",
    ],
    &["show", "list", "display", "get", "fetch", "retrieve"],
    &["search", "find", "look", "lookup"],
    &[
        "analyze",
        "analyse",
        "examine",
        "evaluate",
        "breakdown",
        "analysis",
        "study",
    ],
    &[
        "calculate",
        "compute",
        "solve",
        "math",
        "arithmetic",
        "calculation",
    ],
    &[
        "summarize",
        "summarise",
        "summary",
        "condense",
        "shorten",
        "abridge",
    ],
    &["delete", "remove", "cancel", "drop"],
    &["change", "update", "modify", "adjust", "edit"],
    &["mail", "email", "e-mail"],
    &["meeting", "appointment"],
    &["picture", "image", "photo"],
    &["price", "quote", "quotation", "cost"],
    &["share", "stock"],
    &[
        "expense",
        "expenditure",
        "spending",
        "cost",
        "spend",
        "spent",
    ],
    &["lamp", "light", "lights"],
    &["buy", "purchase", "order"],
    &["translate", "translation"],
    &["funny", "joke", "humor", "humour"],
    &["ticket", "issue"],
    &["temperature", "warm", "cold", "hot"],
];

pub(super) fn is_stop(lower: &str) -> bool {
    STOP.contains(lower)
}

pub(super) fn is_generic(lower: &str) -> bool {
    GENERIC.contains(lower)
}

pub(super) fn is_command(lower: &str) -> bool {
    COMMANDS.contains(lower)
}

pub(super) fn is_question(lower: &str) -> bool {
    QUESTIONS.contains(lower)
}

pub(super) fn changes(lower: &str) -> bool {
    CHANGES.contains(lower)
}

pub(super) fn takes_back(lower: &str) -> bool {
    TAKES_BACK.contains(lower)
}

pub(super) fn is_filler(lower: &str) -> bool {
    FILLERS.contains(lower)
}

/// Takes something back or away: "don't", "without", "other than".
pub(super) fn is_negation(lower: &str, next: &str) -> bool {
    matches!(
        lower,
        "not"
            | "never"
            | "nor"
            | "neither"
            | "without"
            | "excluding"
            | "exclude"
            | "excludes"
            | "except"
            | "no"
            | "cannot"
            | "unless"
            | "minus"
    ) || lower.ends_with("n't")
        || lower.ends_with("n’t")
        || matches!(
            (lower, next),
            ("other" | "rather", "than") | ("instead", "of") | ("apart" | "aside", "from")
        )
}

/// Compares with a number that follows: "more than 500".
pub(super) fn is_comparison(lower: &str, next: &str) -> bool {
    matches!(
        (lower, next),
        (
            "more"
                | "less"
                | "fewer"
                | "greater"
                | "larger"
                | "bigger"
                | "smaller"
                | "higher"
                | "lower"
                | "cheaper",
            "than"
        ) | ("at", "least" | "most")
    ) || matches!(lower, "over" | "above" | "below" | "under" | "exceeding")
}

pub(super) fn is_preface(lower: &str) -> bool {
    PREFACES.contains(lower)
}

/// The other words of the groups that a word is in.
pub(super) fn synonyms(lower: &str) -> impl Iterator<Item = &'static str> {
    SYNONYMS
        .iter()
        .filter(move |group| group.contains(&lower))
        .flat_map(|group| group.iter().copied())
        .filter(move |&word| word != lower)
}

/// Joins values of one list, or the parts of a query.
pub(super) fn is_joint(lower: &str) -> bool {
    matches!(
        lower,
        "and" | "or" | "&" | "," | "plus" | "vs" | "versus" | "+"
    )
}

pub(super) fn is_article(lower: &str) -> bool {
    matches!(
        lower,
        "the" | "a" | "an" | "my" | "our" | "your" | "this" | "that" | "these" | "city" | "town"
    )
}
