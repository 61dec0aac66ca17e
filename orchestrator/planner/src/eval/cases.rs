//! Reads a file of cases: queries, and the plans that each may get.
//!
//! Judges no plan. Opens no file: the caller loads the cards that a file names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use amcp_plan::Catalogue;
use amcp_protocol::Contract;
use jiff::civil::Date;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::WantedAnswer;
use super::wanted::Wanted;
use crate::cards;

/// One query, and what may be planned for it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique in the file: `id`, or the case's place in it, from 1.
    pub id: String,
    /// The phenomenon that the case stands for; empty without one.
    pub class: String,
    /// The query.
    pub query: String,
    /// The user's date; the caller's without one.
    pub today: Option<Date>,
    /// What may be planned with.
    pub catalogue: Arc<Catalogue>,
    /// What the answer must say, if it matters.
    pub answer: Option<WantedAnswer>,
    /// The plans that are right; at least one. An empty one means that nothing may be planned.
    pub(super) plans: Vec<Vec<Expected>>,
    /// None: no part of the query may be left out. Otherwise words that must occur in what is said to be left out.
    pub(super) declines: Option<Vec<String>>,
}

/// A task that a plan should have.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) contract: Arc<Contract>,
    /// Alternatives: each param that must be right. No alternative: the params are not judged.
    pub(super) params: Vec<BTreeMap<String, Wanted>>,
    /// Params that may have any value.
    pub(super) free: Vec<String>,
    /// The tasks whose results it uses, as places in the same plan, ascending.
    pub(super) depends_on: Vec<usize>,
    /// Whether the plan is right without it, too.
    pub(super) optional: bool,
}

/// Why a file of cases is unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseError {
    /// Which case, such as `case 3 (w-003)`; empty when it is the file itself.
    pub case: String,
    /// Which field, such as `expect[0].params.city`; empty when it is the whole case.
    pub field: String,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.case, &self.field, &self.problem];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        f.write_str(&parts.map(String::as_str).collect::<Vec<_>>().join(": "))
    }
}

impl std::error::Error for CaseError {}

/// Reads a file of cases: a list of them, or an object with `cases` and, for all of them, `today` and `cards`.
///
/// `cards` is a list of capabilities, the path of a file with one, or an object that names several; a case's own `cards` is one
/// of these names, a path or a list. A case without any is planned over `default`. `load` gives the text of a file.
///
/// # Errors
/// [`CaseError`] names the first case and its field that is unusable.
pub fn read(
    text: &str,
    default: &Arc<Catalogue>,
    load: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<Case>, CaseError> {
    let file = serde_json::from_str(text).map_err(|error| CaseError {
        case: String::new(),
        field: String::new(),
        problem: format!("not JSON: {error}"),
    })?;
    let whole = match file {
        Value::Array(cases) => Map::from_iter([("cases".to_owned(), Value::Array(cases))]),
        Value::Object(whole) => whole,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Map::new(),
    };
    let mut whole = Fields::new(String::new(), String::new(), whole);
    whole.take::<String>("about")?;
    let today = whole.date("today")?;
    let mut catalogues = Catalogues {
        load,
        named: BTreeMap::new(),
        default: default.clone(),
    };
    if let Some(cards) = whole.take("cards")? {
        catalogues.of_file(cards, &whole)?;
    }
    let cases: Vec<Map<String, Value>> = whole.need("cases")?;
    whole.end()?;
    let mut read = Vec::<Case>::with_capacity(cases.len());
    for (at, case) in cases.into_iter().enumerate() {
        let mut case = Case::read(at + 1, case, &mut catalogues)?;
        case.today = case.today.or(today);
        if let Some(twin) = read.iter().position(|other| other.id == case.id) {
            return Err(CaseError {
                case: format!("case {}", at + 1),
                field: "id".to_owned(),
                problem: format!("'{}' is the id of case {}, too", case.id, twin + 1),
            });
        }
        read.push(case);
    }
    Ok(read)
}

struct Catalogues<'a> {
    load: &'a mut dyn FnMut(&str) -> Result<String, String>,
    /// By the name that the file gives it, or by the path that it was loaded from.
    named: BTreeMap<String, Arc<Catalogue>>,
    default: Arc<Catalogue>,
}

impl Catalogues<'_> {
    fn of_file(&mut self, cards: Value, at: &Fields) -> Result<(), CaseError> {
        let wrong = |problem| at.wrong("cards", problem);
        if let Value::Object(named) = cards {
            for (name, cards) in named {
                let catalogue = self.catalogue(&cards).map_err(wrong)?;
                self.named.insert(name, catalogue);
            }
        } else {
            self.default = self.catalogue(&cards).map_err(wrong)?;
        }
        Ok(())
    }

    fn catalogue(&mut self, cards: &Value) -> Result<Arc<Catalogue>, String> {
        let Value::String(name) = cards else {
            let catalogue = cards::catalogue(cards).map_err(|error| error.to_string())?;
            return Ok(Arc::new(catalogue));
        };
        if let Some(known) = self.named.get(name) {
            return Ok(known.clone());
        }
        let text = (self.load)(name)?;
        let catalogue = cards::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        let catalogue = Arc::new(catalogue);
        self.named.insert(name.clone(), catalogue.clone());
        Ok(catalogue)
    }
}

impl Case {
    /// Whether nothing may be planned for its query, or nothing but one of a few unusual plans.
    #[must_use]
    pub fn expects_nothing(&self) -> bool {
        self.plans.first().is_some_and(Vec::is_empty)
    }

    fn read(
        number: usize,
        case: Map<String, Value>,
        catalogues: &mut Catalogues<'_>,
    ) -> Result<Self, CaseError> {
        let id = case.get("id").and_then(Value::as_str);
        let named = id.map_or_else(
            || format!("case {number}"),
            |id| format!("case {number} ({id})"),
        );
        let mut fields = Fields::new(named, String::new(), case);
        let catalogue = match fields.take("cards")? {
            None => catalogues.default.clone(),
            Some(cards) => {
                let found = catalogues.catalogue(&cards);
                found.map_err(|problem| fields.wrong("cards", problem))?
            }
        };
        let id: Option<String> = fields.take("id")?;
        let class: Option<String> = fields.take("class")?;
        let query: String = fields.need("query")?;
        if query.trim().is_empty() {
            return Err(fields.wrong("query", "it is empty"));
        }
        let today = fields.date("today")?;
        let expect: Vec<Map<String, Value>> = fields.need("expect")?;
        let others: Option<Vec<Vec<Map<String, Value>>>> = fields.take("or")?;
        let declines: Option<Vec<String>> = fields.take("declines")?;
        let mut plans = vec![expected(expect, "expect", &fields, &catalogue)?];
        for (at, other) in others.into_iter().flatten().enumerate() {
            plans.push(expected(other, &format!("or[{at}]"), &fields, &catalogue)?);
        }
        let answer: Option<Value> = fields.take("answer")?;
        let answer = answer.as_ref().map(WantedAnswer::read).transpose();
        let answer = answer.map_err(|problem| fields.wrong("answer", problem))?;
        fields.end()?;
        Ok(Self {
            id: id.unwrap_or_else(|| number.to_string()),
            class: class.unwrap_or_default(),
            query,
            today,
            catalogue,
            answer,
            plans,
            declines,
        })
    }
}

/// One plan: its tasks are called `t1`, `t2` and so on by their places, unless they have an `id`.
fn expected(
    tasks: Vec<Map<String, Value>>,
    name: &str,
    case: &Fields,
    catalogue: &Catalogue,
) -> Result<Vec<Expected>, CaseError> {
    let own = |task: &Map<String, Value>| Some(task.get("id")?.as_str()?.to_owned());
    let ids = tasks.iter().enumerate();
    let ids: Vec<String> = ids
        .map(|(at, task)| own(task).unwrap_or_else(|| format!("t{}", at + 1)))
        .collect();
    let tasks = tasks.into_iter().enumerate();
    let tasks = tasks.map(|(at, task)| {
        let place = format!("{name}[{at}].");
        let fields = Fields::new(case.case.clone(), place, task);
        Expected::read(fields, &ids, catalogue)
    });
    tasks.collect()
}

impl Expected {
    fn read(mut fields: Fields, ids: &[String], catalogue: &Catalogue) -> Result<Self, CaseError> {
        fields.take::<String>("id")?;
        let name: String = fields.need("capability")?;
        let contract = catalogue.get(&name).cloned().ok_or_else(|| {
            let known: Vec<_> = catalogue
                .iter()
                .map(|c| c.capability.name.as_str())
                .collect();
            let known = known.join(", ");
            fields.wrong(
                "capability",
                format!("no card offers '{name}'; there are {known}"),
            )
        })?;
        let params = match fields.take("params")? {
            None => Vec::new(),
            Some(Value::Array(alternatives)) => alternatives,
            Some(params) => vec![params],
        };
        let known = |param: &str| contract.capability.param_schema(param).is_some();
        let unknown = |param: &str| format!("'{param}' is no param of {name}");
        let params = params.into_iter().map(|params| {
            let Value::Object(params) = params else {
                return Err(fields.wrong("params", "an object of values is expected"));
            };
            let params = params.into_iter().map(|(param, value)| {
                let field = format!("params.{param}");
                if !known(&param) {
                    return Err(fields.wrong(&field, unknown(&param)));
                }
                let wanted = Wanted::read(&value).map_err(|why| fields.wrong(&field, why))?;
                Ok((param, wanted))
            });
            params.collect()
        });
        let params = params.collect::<Result<_, _>>()?;
        let free: Vec<String> = fields.take("free")?.unwrap_or_default();
        if let Some(param) = free.iter().find(|param| !known(param)) {
            return Err(fields.wrong("free", unknown(param)));
        }
        let mut depends_on = Vec::new();
        for id in fields
            .take::<Vec<String>>("depends_on")?
            .unwrap_or_default()
        {
            let at = ids.iter().position(|known| *known == id);
            let at = at.ok_or_else(|| {
                let problem = format!("no task is called '{id}'; there are {}", ids.join(", "));
                fields.wrong("depends_on", problem)
            })?;
            depends_on.push(at);
        }
        let optional = fields.take("optional")?.unwrap_or(false);
        fields.end()?;
        Ok(Self {
            contract,
            params,
            free,
            depends_on,
            optional,
        })
    }
}

/// The fields of an object that are not read yet, and where it stands.
struct Fields {
    case: String,
    /// What its fields' names begin with.
    place: String,
    left: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    const fn new(case: String, place: String, left: Map<String, Value>) -> Self {
        Self {
            case,
            place,
            left,
            known: Vec::new(),
        }
    }

    fn wrong(&self, field: &str, problem: impl Into<String>) -> CaseError {
        CaseError {
            case: self.case.clone(),
            field: format!("{}{field}", self.place),
            problem: problem.into(),
        }
    }

    fn take<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<Option<T>, CaseError> {
        self.known.push(field);
        let Some(value) = self.left.shift_remove(field) else {
            return Ok(None);
        };
        let read = serde_json::from_value(value);
        read.map(Some)
            .map_err(|error| self.wrong(field, error.to_string()))
    }

    fn need<T: DeserializeOwned>(&mut self, field: &'static str) -> Result<T, CaseError> {
        let value = self.take(field)?;
        value.ok_or_else(|| self.wrong(field, "it is missing"))
    }

    fn date(&mut self, field: &'static str) -> Result<Option<Date>, CaseError> {
        let Some(text) = self.take::<String>(field)? else {
            return Ok(None);
        };
        let date = text.parse();
        date.map(Some)
            .map_err(|_| self.wrong(field, format!("'{text}' is no date such as 2025-03-31")))
    }

    fn end(self) -> Result<(), CaseError> {
        let Some(unknown) = self.left.keys().next() else {
            return Ok(());
        };
        let problem = format!("no such field; there are {}", self.known.join(", "));
        Err(self.wrong(unknown, problem))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LAMP: &str = r#"[{"name": "lamp.set", "description": "Switches a lamp.",
        "params": {"type": "object", "properties": {"room": {"type": "string"}}}}]"#;

    fn cases(file: &Value) -> Result<Vec<Case>, String> {
        let mut load = |path: &str| match path {
            "lamp.json" => Ok(LAMP.to_owned()),
            _ => Err(format!("{path}: no such file")),
        };
        read(&file.to_string(), &Arc::default(), &mut load).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_may_be_a_list_or_name_cards_and_a_day_for_all_cases() {
        let lamp = json!([{"capability": "lamp.set", "params": {"room": "hall"}}]);
        let inline: Value = serde_json::from_str(LAMP).unwrap();
        let listed = cases(&json!([{"query": "lamp", "cards": inline, "expect": lamp}])).unwrap();
        assert_eq!((listed[0].id.as_str(), listed[0].today), ("1", None));
        let file = json!({
            "about": "lamps", "today": "2025-11-20", "cards": {"a": "lamp.json"},
            "cases": [
                {"id": "x", "class": "write", "query": "lamp", "cards": "a", "expect": lamp, "or": [[]], "declines": ["why"]},
                {"query": "no lamp", "expect": [], "today": "2025-01-01"},
            ],
        });
        let read = cases(&file).unwrap();
        assert_eq!(read[0].plans.len(), 2);
        assert_eq!(read[0].catalogue.len(), 1);
        assert_eq!(read[0].today, Some(Date::constant(2025, 11, 20)));
        assert_eq!(read[1].today, Some(Date::constant(2025, 1, 1)));
        assert!(read[1].catalogue.is_empty());
    }

    #[test]
    fn an_unusable_file_names_the_case_and_the_field() {
        let with = |case: Value| json!({"cards": "lamp.json", "cases": [case]});
        let expecting = |task: Value| with(json!({"id": "a", "query": "q", "expect": [task]}));
        for (file, said) in [
            (json!(3), "cases: it is missing"),
            (
                json!({"cards": "dark.json", "cases": []}),
                "cards: dark.json: no such file",
            ),
            (
                with(json!({"id": "a", "expect": []})),
                "case 1 (a): query: it is missing",
            ),
            (with(json!({"query": "q"})), "case 1: expect: it is missing"),
            (
                with(json!({"query": "q", "expect": {}})),
                "case 1: expect: invalid type",
            ),
            (
                with(json!({"query": "q", "expect": [], "exepct": 1})),
                "case 1: exepct: no such field",
            ),
            (
                with(json!({"query": "q", "expect": [], "today": "soon"})),
                "case 1: today: 'soon'",
            ),
            (
                with(json!({"query": "q", "expect": [], "answer": {"contain": "x"}})),
                "case 1: answer: no such field: 'contain'",
            ),
            (
                expecting(json!({"capability": "lamp.get"})),
                "case 1 (a): expect[0].capability: no card offers 'lamp.get'",
            ),
            (
                expecting(json!({"capability": "lamp.set", "params": {"rom": 1}})),
                "expect[0].params.rom: 'rom' is no param of lamp.set",
            ),
            (
                expecting(json!({"capability": "lamp.set", "params": {"room": {"any_of": 1}}})),
                "expect[0].params.room: 'any_of' needs",
            ),
            (
                expecting(json!({"capability": "lamp.set", "free": ["x"]})),
                "expect[0].free: 'x'",
            ),
            (
                expecting(json!({"capability": "lamp.set", "depends_on": ["t2"]})),
                "expect[0].depends_on: no task is called 't2'",
            ),
            (
                json!([{"id": "a", "query": "q", "expect": []}, {"id": "a", "query": "r", "expect": []}]),
                "case 2: id: 'a' is the id of case 1, too",
            ),
        ] {
            let error = cases(&file).unwrap_err();
            assert!(error.contains(said), "{error} does not say {said}");
        }
    }
}
