//! GET /openapi.json: the description of the routes in OpenAPI 3.1, made from the table of routes, the types and the table of codes.
//!
//! Describes; decides nothing.

use std::collections::BTreeMap;

use amcp_orchestrator::Account;
use amcp_protocol::request::MAX_QUERY_BYTES;
use amcp_protocol::{ErrorCode, Failure, NodeName, TaskReport};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::codes;
use crate::problem::Body;
use crate::requests::Question;
use crate::routes::{HEALTH, ROUTES, Route};

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";
/// The reports have several media types.
pub(crate) const BYTES: &str = "*/*";

pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Name, meaning, pattern of the values (empty: any).
pub(crate) type Header = (&'static str, &'static str, &'static str);

/// What the description of a route says beside its method and path.
pub(crate) struct Doc {
    pub(crate) summary: &'static str,
    /// The headers that the route reads.
    pub(crate) headers: &'static [Header],
    /// The query of the URL.
    pub(crate) query: Option<SchemaOf>,
    /// The media types of the body.
    pub(crate) asks: &'static [(&'static str, SchemaOf)],
    /// Status, media type (none: no body) and body of the answers.
    pub(crate) gives: &'static [(u16, &'static str, SchemaOf)],
    /// The codes of refusals, under the statuses of their table.
    pub(crate) codes: &'static [ErrorCode],
    /// Codes under further statuses.
    pub(crate) beside: &'static [(u16, ErrorCode)],
    /// The body that stands for a refusal's once a request was accepted.
    pub(crate) failed: Option<SchemaOf>,
}

impl Doc {
    pub(crate) const NONE: Self = Self {
        summary: "",
        headers: &[],
        query: None,
        asks: &[],
        gives: &[],
        codes: &[],
        beside: &[],
        failed: None,
    };
}

/// The schema of a type, by reference.
pub(crate) fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// A body that no schema describes: text, bytes, another crate's JSON.
pub(crate) fn any(_: &mut SchemaGenerator) -> Schema {
    true.into()
}

/// A query as plain text.
pub(crate) fn words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": r"\S", "maxLength": MAX_QUERY_BYTES})
}

/// The body of GET /requests/{id}, which has the fields of several types.
pub(crate) fn request(schemas: &mut SchemaGenerator) -> Schema {
    let account = of::<Account>(schemas);
    let (tasks, error) = (of::<Vec<TaskReport>>(schemas), of::<Failure>(schemas));
    let (flows, owner) = (of::<Vec<Question<'_>>>(schemas), of::<NodeName>(schemas));
    let text = json!({"type": "string"});
    json_schema!({
        "allOf": [account],
        "properties": {"owner": owner, "flows": flows, "answer": text, "tasks": tasks, "error": error,
            "notes": {"type": "array", "items": text}},
    })
}

/// The document of a node that allows this longest deadline.
pub(crate) fn document(max_deadline_ms: u64) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    // What clients may leave out, the node always writes.
    let mut taken = settings.clone().for_deserialize().into_generator();
    let mut given = settings.for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (route, is_open) in routes() {
        let operation = operation(route, is_open, &mut taken, &mut given);
        let path = paths.entry(route.path).or_default();
        path.insert(route.method.to_ascii_lowercase(), operation);
    }
    let mut schemas = taken.take_definitions(true);
    schemas.extend(given.take_definitions(true));
    for body in schemas.values_mut() {
        if let Some(Value::Object(deadline)) = body.pointer_mut("/properties/deadline_ms") {
            deadline.insert("maximum".to_owned(), json!(max_deadline_ms));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "AMCP", "version": env!("CARGO_PKG_VERSION"),
            "description": "Ask in plain language; supervised agents do the work and one answer comes back."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        // The last one: a client on the node's own machine needs no key.
        "security": [{"bearer": []}, {"key": []}, {}],
    })
}

/// All routes, and whether they need no credential.
fn routes() -> impl Iterator<Item = (&'static Route, bool)> {
    let health = HEALTH.iter().map(|route| (route, true));
    ROUTES.iter().map(|route| (route, false)).chain(health)
}

fn operation(
    route: &Route,
    is_open: bool,
    taken: &mut SchemaGenerator,
    given: &mut SchemaGenerator,
) -> Value {
    let doc = &route.doc;
    let mut operation = Map::new();
    let mut say = |field: &str, value| operation.insert(field.to_owned(), value);
    say("summary", json!(doc.summary));
    say("operationId", json!(id(route)));
    say("parameters", json!(parameters(route, taken)));
    let media =
        |(media, schema): &(&'static str, SchemaOf)| (*media, json!({"schema": schema(taken)}));
    let bodies: BTreeMap<_, _> = doc.asks.iter().map(media).collect();
    if !bodies.is_empty() {
        say("requestBody", json!({"required": true, "content": bodies}));
    }
    say("responses", json!(responses(doc, is_open, given)));
    if is_open {
        say("security", json!([]));
    }
    operation.into()
}

/// Such as `get_requests_id_events`.
fn id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let method = route.method.to_ascii_lowercase();
    std::iter::once(method.as_str())
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

fn parameters(route: &Route, schemas: &mut SchemaGenerator) -> Vec<Value> {
    let variable = |part: &str| Some(part.strip_prefix('{')?.strip_suffix('}')?.to_owned());
    let path = route.path.split('/').filter_map(variable);
    let text = json!({"type": "string"});
    let mut parameters: Vec<Value> = path
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}))
        .collect();
    for (name, says, pattern) in route.doc.headers {
        let text = json!({"type": "string", "pattern": pattern});
        parameters.push(json!({"name": name, "in": "header", "description": says, "schema": text}));
    }
    let Some(query) = route.doc.query else {
        return parameters;
    };
    // The parameters of a query have no name as a whole: its type leaves the definitions.
    let reference = query(schemas);
    let name = reference.get("$ref").and_then(Value::as_str);
    let name = name
        .and_then(|name| name.rsplit('/').next())
        .unwrap_or_default();
    let filter = schemas
        .definitions_mut()
        .shift_remove(name)
        .unwrap_or_default();
    for (name, schema) in filter
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        parameters.push(json!({"name": name, "in": "query", "schema": schema}));
    }
    parameters
}

/// A body of each media type, by status.
type Responses = BTreeMap<u16, (Vec<ErrorCode>, Map<String, Value>)>;

fn responses(doc: &Doc, is_open: bool, schemas: &mut SchemaGenerator) -> BTreeMap<String, Value> {
    use ErrorCode as E;
    let mut responses = Responses::new();
    for (status, media, schema) in doc.gives {
        let content = &mut responses.entry(*status).or_default().1;
        if !media.is_empty() {
            content.insert((*media).to_owned(), json!({"schema": schema(schemas)}));
        }
    }
    // The entrance refuses for every route, and the check of credentials for all but the open ones.
    let entrance = [
        (414, E::TooLarge),
        (431, E::TooLarge),
        (400, E::BadRequest),
        (403, E::NotPermitted),
    ];
    let credential = (!is_open).then_some((401, E::Unauthenticated));
    let by_table = doc
        .codes
        .iter()
        .map(|code| (codes::outcome(*code).0.as_u16(), *code));
    let refusals = entrance.into_iter().chain(credential);
    for (status, code) in refusals.chain(doc.beside.iter().copied()).chain(by_table) {
        let (named, content) = responses.entry(status).or_default();
        if !named.contains(&code) {
            named.push(code);
        }
        let refusal = of::<Body>(schemas);
        let body = match doc.failed {
            Some(failed) => json_schema!({"anyOf": [refusal, failed(schemas)]}),
            None => refusal,
        };
        content.insert(JSON.to_owned(), json!({"schema": body}));
        content.insert(TEXT.to_owned(), json!({"schema": {"type": "string"}}));
    }
    let described = |(status, (codes, content)): (u16, (Vec<E>, Map<String, Value>))| {
        let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        let description = match codes.as_slice() {
            [] => "As asked".to_owned(),
            codes => codes.join(", "),
        };
        let response = match content.is_empty() {
            true => json!({"description": description}),
            false => json!({"description": description, "content": content}),
        };
        (status.to_string(), response)
    };
    responses.into_iter().map(described).collect()
}
