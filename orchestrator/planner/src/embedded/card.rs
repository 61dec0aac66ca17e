//! A capability's card as the planner reads it: the words that it is known by, and of each param its kind, role and known
//! values, and the words that examples show around its values.
//!
//! Does not read queries; see [`super::fill`].

use std::collections::BTreeSet;
use std::sync::Arc;

use amcp_protocol::{Capability, Contract, Effect, Schema, terms};
use serde_json::Value;

use super::kind::{Kind, kind_of, type_of, variant};
use super::lexicon::unit_seconds;
use super::span::Way;
use super::text::{Token, TokenKind, stem, tokens};
use super::words::{STOP, aliases, base, is, is_article, role_word};

/// Most params of a card that are filled, and most known values of each: bounds the work for a hostile card.
const MAX_PARAMS: usize = 32;
const MAX_KNOWN: usize = 1_000;
/// The cue of a value in the genitive.
pub(super) const GENITIVE: &str = "'s";

/// How a query marks a param's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    From,
    To,
    Except,
    Least,
    Most,
    Count,
}

/// A value that is known by the words for it.
#[derive(Debug)]
pub(super) struct Known {
    /// In lower case, each with its stem.
    pub(super) words: Vec<(String, String)>,
    pub(super) value: Value,
}

/// One param.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) role: Option<Role>,
    /// It is the first or the last day of something, so that one day is not both.
    pub(super) edge: bool,
    pub(super) required: bool,
    /// Takes an array of such values.
    pub(super) list: bool,
    /// Another task's result can fill it.
    pub(super) consumed: bool,
    pub(super) default: Option<Value>,
    pub(super) known: Vec<Known>,
    /// Lower-case words that stand before a value, as the examples show.
    pub(super) cues: BTreeSet<String>,
    /// Stems of the words of its name.
    pub(super) words: Vec<String>,
    /// Stems of the words that stand beside a number.
    pub(super) units: BTreeSet<String>,
    /// The unit of time that a number counts, in seconds.
    pub(super) unit_seconds: Option<f64>,
    /// Takes the name of what something is divided by.
    pub(super) grouped: bool,
    /// The schema tells its values from plain words.
    pub(super) patterned: bool,
    /// Judges one value; none when the schema needs its surroundings.
    schema: Option<Schema>,
}

impl Param {
    pub(super) fn accepts(&self, value: &Value) -> bool {
        self.schema
            .as_ref()
            .is_none_or(|schema| schema.is_valid(value))
    }

    /// The first of some texts that the schema accepts.
    pub(super) fn accepted(&self, texts: &[&str]) -> Option<Value> {
        let mut values = texts.iter().map(|&text| Value::from(text));
        values.find(|value| self.accepts(value))
    }

    /// Whether a value of the other param may be meant for this one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let named = matches!(
            self.kind,
            Kind::Name | Kind::Date | Kind::Ticker | Kind::Choice
        );
        let shared = self.words.iter().any(|word| other.words.contains(word));
        let day = self.kind == Kind::Date && self.role != Some(Role::To);
        named && self.kind == other.kind && (shared || day)
    }

    pub(super) fn has_word(&self, words: &[&str]) -> bool {
        self.words.iter().any(|word| words.contains(&word.as_str()))
    }
}

/// A capability, its params, and the words that it is known by.
#[derive(Debug)]
pub(super) struct Card {
    /// Held so that its address stays its own.
    pub(super) contract: Arc<Contract>,
    /// Required ones first: the order in which people name things.
    pub(super) params: Vec<Param>,
    /// Stems of its name, keywords and description.
    pub(super) own: BTreeSet<String>,
    /// Stems of all that it says: its own words, those of its examples, names of results.
    pub(super) words: BTreeSet<String>,
    /// It takes requests and plans them itself.
    pub(super) plans: bool,
    /// The stems of each example, without its values.
    pub(super) examples: Vec<BTreeSet<String>>,
    /// Where days lie whose year the words leave open.
    pub(super) way: Way,
}

impl Card {
    pub(super) fn new(contract: &Arc<Contract>) -> Self {
        let capability = &contract.capability;
        let declared = capability
            .params
            .get("properties")
            .and_then(Value::as_object);
        let declared = declared.into_iter().flatten();
        let mut params: Vec<Param> = declared
            .map(|(name, schema)| param(capability, name, schema))
            .collect();
        pair(&mut params);
        params.sort_by_key(|p| !p.required);
        params.truncate(MAX_PARAMS);
        let own = own_words(capability).map(|word| stem(&word)).collect();
        learn(capability, &own, &mut params);
        let examples: Vec<BTreeSet<String>> = capability
            .examples
            .iter()
            .map(|e| example_stems(&e.query, &e.params))
            .collect();
        let mut words = BTreeSet::clone(&own);
        words.extend(examples.iter().flatten().cloned());
        Self {
            plans: params.iter().any(|p| p.kind == Kind::Request),
            contract: Arc::clone(contract),
            params,
            own,
            words,
            examples,
            way: way(capability),
        }
    }

    pub(super) fn capability(&self) -> &Capability {
        &self.contract.capability
    }

    pub(super) fn name(&self) -> &str {
        self.capability().name.as_str()
    }

    pub(super) fn reads(&self) -> bool {
        self.capability().effect == Effect::Read
    }
}

/// Gives two days without roles those of a stay or a way and back: `check_in` and `check_out`.
fn pair(params: &mut [Param]) {
    let find = |params: &[Param], edge: &str| {
        let said = |word: &String| role_word(word) == Some(edge);
        let fits = |p: &Param| p.kind == Kind::Date && p.role.is_none() && p.words.iter().any(said);
        params.iter().position(fits)
    };
    if let (Some(first), Some(last)) = (find(params, "first"), find(params, "last")) {
        for (at, role) in [(first, Role::From), (last, Role::To)] {
            if let Some(param) = params.get_mut(at) {
                (param.role, param.edge) = (Some(role), true);
            }
        }
    }
}

/// What changes something looks ahead; what is asked in the past tense looks back.
fn way(capability: &Capability) -> Way {
    let past =
        |word: String| matches!(word.as_str(), "did" | "was" | "were") || base(&word) != word;
    let mut words = capability.examples.iter().flat_map(|e| words_of(&e.query));
    if capability.effect != Effect::Read {
        Way::Future
    } else if words.any(past) {
        Way::Past
    } else {
        Way::Open
    }
}

/// The words of name, keywords and description, in lower case.
fn own_words(capability: &Capability) -> impl Iterator<Item = String> + '_ {
    let name = capability.name.as_str().split(['.', '_', '-']);
    let (single, several): (Vec<&str>, Vec<&str>) = capability
        .keywords
        .iter()
        .map(String::as_str)
        .partition(|k| !k.contains(' '));
    let several = several.into_iter().flat_map(str::split_whitespace);
    let description = capability.description.split(|c: char| !c.is_alphanumeric());
    let words = name
        .chain(several)
        .chain(description)
        .map(str::to_lowercase);
    let words = words.filter(|word| !word.is_empty() && !is(word, STOP));
    // A keyword counts whatever it is: "up" says something of a service.
    words.chain(single.into_iter().map(str::to_lowercase))
}

/// The stems of an example, without the words that are its values.
fn example_stems(query: &str, params: &Value) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    collect_stems(params, &mut values);
    let words = tokens(query).into_iter();
    let words = words.filter(|t| t.is_word() && !is(&t.lower, STOP) && !values.contains(&t.stem));
    words.map(|t| t.stem).collect()
}

fn collect_stems(value: &Value, stems: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => stems.extend(words_of(text).map(|word| stem(&word))),
        Value::Array(values) => values.iter().for_each(|v| collect_stems(v, stems)),
        Value::Object(map) => map.values().for_each(|v| collect_stems(v, stems)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The words of a text, in lower case.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn param(capability: &Capability, name: &str, declared: &Value) -> Param {
    let schema = variant(declared);
    let list = type_of(schema) == Some("array");
    let item = if list {
        schema.get("items").map_or(schema, variant)
    } else {
        schema
    };
    let at = |key: &str| item.get(key).or_else(|| declared.get(key));
    let judge = Schema::compile(item).ok();
    let shown: Vec<&str> = texts(at("examples"));
    let samples = samples(capability, name, &shown);
    let words = name_words(name);
    let kind = kind_of(
        (item, at(terms::KIND).and_then(Value::as_str)),
        &words,
        judge.as_ref(),
    );
    let stems: Vec<String> = words.iter().map(|word| stem(word)).collect();
    // "for Anna" announces a person, whatever the param is called.
    let sort = at(terms::KIND)
        .and_then(Value::as_str)
        .filter(|_| kind == Kind::Name);
    let sort = sort.map(stem);
    let description = at("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // A single letter in a description is no unit.
    let timed = words
        .iter()
        .cloned()
        .chain(words_of(description))
        .filter(|w| w.len() > 2);
    Param {
        name: name.to_owned(),
        kind,
        role: role(at(terms::ROLE).and_then(Value::as_str), &words, kind),
        edge: false,
        required: capability
            .required_params()
            .any(|required| required == name),
        list,
        consumed: capability
            .consumes
            .iter()
            .any(|consumes| consumes.param == name),
        default: declared.get("default").cloned(),
        known: known_values(item, kind, &shown, &samples),
        cues: BTreeSet::new(),
        units: stems.iter().cloned().collect(),
        words: stems.into_iter().chain(sort).collect(),
        unit_seconds: timed.into_iter().find_map(|word| unit_seconds(&word)),
        grouped: at(terms::KIND).and_then(Value::as_str) == Some("group"),
        patterned: item.get("pattern").is_some()
            && judge.as_ref().is_some_and(|s| {
                ["some", "words", "Words"]
                    .iter()
                    .all(|w| !s.is_valid(&Value::from(*w)))
            }),
        schema: judge,
    }
}

/// The role that the schema declares, else the one that the name says.
fn role(declared: Option<&str>, words: &[String], kind: Kind) -> Option<Role> {
    let dated = matches!(kind, Kind::Date | Kind::DateTime);
    let said = || words.iter().find_map(|word| role_word(word));
    let role = match declared.or_else(said)? {
        terms::FROM => Role::From,
        terms::TO => Role::To,
        terms::EXCEPT => Role::Except,
        terms::LEAST => Role::Least,
        terms::MOST => Role::Most,
        terms::COUNT => Role::Count,
        _ => return None,
    };
    let fits = match role {
        Role::From | Role::To => dated,
        Role::Least | Role::Most | Role::Count => kind == Kind::Number,
        Role::Except => true,
    };
    (declared.is_some() || fits).then_some(role)
}

fn texts(list: Option<&Value>) -> Vec<&str> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// All values that the card shows for a param.
fn samples<'a>(capability: &'a Capability, name: &str, shown: &[&'a str]) -> Vec<&'a str> {
    let used = capability
        .examples
        .iter()
        .filter_map(|e| e.params.get(name));
    let used = used.flat_map(|v| v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice));
    let mut samples: Vec<&str> = used
        .filter_map(Value::as_str)
        .chain(shown.iter().copied())
        .collect();
    samples.sort_unstable();
    samples.dedup();
    samples
}

/// The values that are recognised by their words, wherever they stand.
fn known_values(item: &Value, kind: Kind, shown: &[&str], samples: &[&str]) -> Vec<Known> {
    let values = if kind == Kind::Choice {
        texts(item.get("enum"))
    } else if kind == Kind::Ticker {
        samples.to_vec()
    } else if matches!(kind, Kind::Name | Kind::Topic) {
        shown.to_vec()
    } else {
        Vec::new()
    };
    // Longer ones are phrases, not names.
    let short = values
        .into_iter()
        .filter(|v| v.split_whitespace().count() <= 3);
    let known = short.flat_map(|value| {
        let others = aliases(value).iter().filter(|_| kind == Kind::Choice);
        let parted = value.replace(['-', '_'], " ");
        let names = [value, &parted].into_iter().chain(others.copied());
        let mut known: Vec<Known> = names.map(|name| known(name, Value::from(value))).collect();
        known.dedup_by(|a, b| a.words == b.words);
        known
    });
    known
        .filter(|known| !known.words.is_empty())
        .take(MAX_KNOWN)
        .collect()
}

fn known(text: &str, value: Value) -> Known {
    // "Signal & Co"
    let words = tokens(text).into_iter();
    let words = words
        .filter(|t| t.kind != TokenKind::Mark || t.is("&"))
        .map(|t| t.text.to_lowercase());
    Known {
        words: words.map(|word| (word.clone(), stem(&word))).collect(),
        value,
    }
}

/// The words of a param's name: `due_date`, `dueDate`.
fn name_words(name: &str) -> Vec<String> {
    let mut parted = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            parted.push(' ');
        }
        parted.push(c);
    }
    words_of(&parted).collect()
}

/// Learns from the examples which words stand around a param's value, and which other names a value has.
fn learn(capability: &Capability, own: &BTreeSet<String>, params: &mut [Param]) {
    for example in &capability.examples {
        let words = tokens(&example.query);
        let mut values = BTreeSet::new();
        collect_stems(&example.params, &mut values);
        for param in &mut *params {
            let Some(value) = example.params.get(&param.name) else {
                continue;
            };
            for value in value
                .as_array()
                .map_or(std::slice::from_ref(value), Vec::as_slice)
            {
                if let Some((at, length)) = place_of(value, &words) {
                    learn_around(param, &words, (at, at + length), (own, &values));
                }
            }
        }
    }
}

fn learn_around(
    param: &mut Param,
    words: &[Token<'_>],
    (at, end): (usize, usize),
    (own, values): (&BTreeSet<String>, &BTreeSet<String>),
) {
    let unit = words
        .get(end)
        .filter(|t| t.is_word() && !is(&t.lower, STOP));
    if param.kind == Kind::Number
        && let Some(unit) = unit.filter(|unit| !values.contains(&unit.stem))
    {
        param.units.insert(unit.stem.clone());
    }
    let last = words.get(end.wrapping_sub(1));
    if last.is_some_and(|t| t.name().len() < t.text.len()) {
        param.cues.insert(GENITIVE.to_owned());
    } else if !unit.is_some_and(|t| own.contains(&t.stem)) {
        // "a programming joke": the article announces nothing.
        learn_before(param, words, at);
    }
}

fn learn_before(param: &mut Param, words: &[Token<'_>], at: usize) {
    let before = words.get(..at).unwrap_or_default();
    let announces = |t: &&Token<'_>| t.is("that") || !is_article(&t.lower);
    let cue = before.iter().rev().find(announces);
    let cue = cue.filter(|t| t.is_word() || t.is(":"));
    param.cues.extend(cue.map(|t| t.lower.clone()));
}

/// Where an example's query has a value, word for word, and how many tokens it has there.
fn place_of(value: &Value, words: &[Token<'_>]) -> Option<(usize, usize)> {
    if let Some(number) = value.as_f64() {
        return Some((words.iter().position(|t| t.number() == Some(number))?, 1));
    }
    let text = value.as_str()?;
    if let Some(at) = words.iter().position(|t| t.text.eq_ignore_ascii_case(text)) {
        return Some((at, 1));
    }
    let wanted = tokens(text);
    let same = |w: &[Token<'_>]| w.iter().zip(&wanted).all(|(a, b)| a.lower == b.lower);
    let at = (!wanted.is_empty()).then(|| words.windows(wanted.len()).position(same));
    Some((at.flatten()?, wanted.len()))
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Example;
    use serde_json::json;

    use super::*;

    fn card(capability: Capability) -> Card {
        Card::new(&Arc::new(Contract::new(capability).unwrap()))
    }

    fn kind(name: &str, schema: Value) -> Kind {
        let mut capability = Capability::new("a.b", "Does.");
        capability.params = json!({"type": "object", "properties": {name: schema}});
        card(capability).params[0].kind
    }

    #[test]
    fn kinds_come_from_annotation_format_pattern_and_name() {
        for (name, schema, wanted) in [
            (
                "where",
                json!({"type": "string", "x-kind": "city"}),
                Kind::Name,
            ),
            ("x", json!({"type": "string", "format": "date"}), Kind::Date),
            (
                "x",
                json!({"type": "string", "pattern": "^Q[1-4] [0-9]{4}$"}),
                Kind::Quarter,
            ),
            (
                "x",
                json!({"type": "string", "pattern": "^[A-Z]{1,5}$"}),
                Kind::Ticker,
            ),
            ("due_date", json!({"type": "string"}), Kind::Date),
            ("dueDate", json!({"type": "string"}), Kind::Date),
            (
                "content",
                json!({"anyOf": [{"type": "array"}, {"type": "string"}]}),
                Kind::Content,
            ),
            ("rows", json!({"type": "array"}), Kind::Opaque),
            ("fiscal_year", json!({"type": "integer"}), Kind::Year),
            ("thing", json!({"type": "string"}), Kind::Name),
        ] {
            assert_eq!(kind(name, schema), wanted, "{name}");
        }
    }

    #[test]
    fn examples_teach_cues_and_units() {
        let mut capability = Capability::new("a.b", "Does.");
        capability.params = json!({"type": "object", "properties": {
            "ticker": {"type": "string"}, "days": {"type": "integer"}, "title": {"type": "string"}}});
        capability.examples = vec![Example {
            query: "Chart the shares of AAPL over 5 sessions under \"My chart\"".into(),
            params: json!({"ticker": "AAPL", "days": 5, "title": "My chart"}),
        }];
        let card = card(capability);
        let param = |name: &str| card.params.iter().find(|p| p.name == name).unwrap();
        assert!(param("ticker").cues.contains("of"));
        assert!(param("days").units.contains("session"));
        assert!(param("title").cues.contains("under"));
    }

    #[test]
    fn a_role_is_declared_or_said_by_the_name() {
        let role = |name: &str, schema: Value| {
            let mut capability = Capability::new("a.b", "Does.");
            capability.params = json!({"type": "object", "properties": {name: schema}});
            card(capability).params[0].role
        };
        assert_eq!(
            role("max_price", json!({"type": "number"})),
            Some(Role::Most)
        );
        assert_eq!(
            role("x", json!({"type": "number", "x-role": "least"})),
            Some(Role::Least)
        );
        assert_eq!(
            role("closed_from", json!({"type": "string", "format": "date"})),
            Some(Role::From)
        );
        assert_eq!(
            role("to", json!({"type": "string", "format": "email"})),
            None
        );
        assert_eq!(
            role("exclude_brand", json!({"type": "string"})),
            Some(Role::Except)
        );
    }
}
