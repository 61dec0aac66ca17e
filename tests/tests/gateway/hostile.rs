//! Tokens that somebody bent, and users without the role at each place that judges: nothing is executed, nothing leaks.

use amcp_access::{JwksSource, TokenRules};
use amcp_outbound::Url;
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{ErrorCode, Grant, Lineage, RequestId, TaskRequest};
use amcp_registry::AnswerPort;
use amcp_specialists::FlowKind;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::error_code;
use super::mesh::{Setup, TestMesh};

const ISSUER: &str = "https://issuer.example";

/// An issuer whose keys lie in a file: the last one, the current one, and none that was withdrawn.
struct Issuer {
    folder: TempDir,
    current: EncodingKey,
    last: EncodingKey,
    withdrawn: EncodingKey,
    public: Value,
}

fn key_of(id: &str) -> (EncodingKey, Value) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    (key, serde_json::to_value(jwk).unwrap())
}

fn claims(changes: &Value) -> Value {
    let now = Timestamp::now().as_second();
    let mut claims =
        json!({"iss": ISSUER, "aud": "amcp", "sub": "ann", "exp": now + 300, "roles": ["analyst"]});
    let all = claims.as_object_mut().unwrap();
    all.extend(changes.as_object().unwrap().clone());
    claims
}

fn signed(algorithm: Algorithm, id: Option<&str>, key: &EncodingKey, changes: &Value) -> String {
    let header = Header {
        kid: id.map(str::to_owned),
        ..Header::new(algorithm)
    };
    encode(&header, &claims(changes), key).unwrap()
}

impl Issuer {
    fn new() -> Self {
        let ((last, first), (current, public), (withdrawn, _)) =
            (key_of("k1"), key_of("k2"), key_of("k0"));
        let folder = tempfile::tempdir().unwrap();
        let set = json!({"keys": [first, public]}).to_string();
        std::fs::write(folder.path().join("jwks.json"), set).unwrap();
        Self {
            folder,
            current,
            last,
            withdrawn,
            public,
        }
    }

    fn rules(&self) -> TokenRules {
        TokenRules {
            issuer: ISSUER.to_owned(),
            audience: vec!["amcp".to_owned()],
            algorithms: vec![Algorithm::ES256],
            jwks: JwksSource::File(self.folder.path().join("jwks.json")),
            user_claim: "sub".to_owned(),
            roles_claim: Some("roles".to_owned()),
            leeway: std::time::Duration::from_secs(30),
        }
    }

    fn token(&self, changes: &Value) -> String {
        signed(Algorithm::ES256, Some("k2"), &self.current, changes)
    }
}

/// Analysts may echo, and nobody else may use anything.
fn setup(issuers: Vec<TokenRules>) -> Setup {
    let rules = json!({"roles": {"analyst": {"allow": ["test.echo"]}}});
    Setup {
        users: &[("ann", &["analyst"]), ("bob", &[])],
        issuers,
        permissions: serde_json::from_value(rules).unwrap(),
        ..Setup::default()
    }
}

async fn send(mesh: &TestMesh, credential: &str, method: &Method, path: &str) -> Response {
    let request = mesh.http.request(method.clone(), mesh.url(path));
    let request = request.bearer_auth(credential);
    request.body(r#"{"query":"echo x"}"#).send().await.unwrap()
}

#[tokio::test]
async fn a_token_is_as_good_as_a_key_of_the_same_user() {
    let issuer = Issuer::new();
    let mesh = TestMesh::start(setup(vec![issuer.rules()])).await;
    let last = signed(Algorithm::ES256, Some("k1"), &issuer.last, &json!({}));
    for token in [issuer.token(&json!({})), last] {
        let asked = send(&mesh, &token, &Method::POST, "/ask").await;
        assert_eq!(asked.status(), StatusCode::OK);
        let asked: Value = asked.json().await.unwrap();
        let path = format!("/requests/{}", asked["request_id"].as_str().unwrap());
        let shown = send(&mesh, &mesh.keys["ann"], &Method::GET, &path).await;
        assert_eq!(shown.json::<Value>().await.unwrap()["user"], "ann");
        let other = issuer.token(&json!({"sub": "cid", "roles": ["analyst"]}));
        for (method, path) in [
            (Method::GET, path.clone()),
            (Method::DELETE, path.clone()),
            (Method::POST, format!("{path}/cancel")),
            (Method::GET, format!("{path}/events")),
        ] {
            let refused = send(&mesh, &other, &method, &path).await;
            assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{method} {path}");
            assert!(!refused.text().await.unwrap().contains("echo x"));
        }
    }
    assert_eq!(mesh.executions(), 2);
}

/// Tokens that prove nobody, each with its name.
fn bent(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let now = Timestamp::now().as_second();
    let good = issuer.token(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let headed = |header: Value, signature: &str| {
        let header = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        format!("{header}.{}.{signature}", parts[1])
    };
    // What everybody knows, as the secret of a symmetric algorithm.
    let public = EncodingKey::from_secret(issuer.public.to_string().as_bytes());
    let named = |id| signed(Algorithm::ES256, id, &issuer.current, &json!({}));
    let mut bent = vec![
        ("expired", issuer.token(&json!({"exp": now - 31}))),
        (
            "other key",
            signed(Algorithm::ES256, Some("k2"), &issuer.withdrawn, &json!({})),
        ),
        (
            "withdrawn key",
            signed(Algorithm::ES256, Some("k0"), &issuer.withdrawn, &json!({})),
        ),
        ("alg none", headed(json!({"alg": "none", "kid": "k2"}), "")),
        (
            "alg swapped",
            signed(Algorithm::HS256, Some("k2"), &public, &json!({})),
        ),
        (
            "key inside",
            headed(
                json!({"alg": "ES256", "kid": "x", "jwk": issuer.public}),
                parts[2],
            ),
        ),
        ("other audience", issuer.token(&json!({"aud": "other"}))),
        (
            "other issuer",
            issuer.token(&json!({"iss": "https://issuer.example.evil"})),
        ),
        ("nobody's name", issuer.token(&json!({"sub": "anonymous"}))),
        ("no key", named(None)),
    ];
    for id in [
        "../../../../dev/null",
        "http://169.254.169.254/",
        "k2' OR '1'='1",
    ] {
        bent.push(("kid traversal", named(Some(id))));
    }
    bent
}

#[tokio::test]
async fn a_bent_token_executes_nothing_and_learns_nothing() {
    let issuer = Issuer::new();
    let mesh = TestMesh::start(setup(vec![issuer.rules()])).await;
    std::fs::write(mesh.reports.path().join("q4.txt"), "top-secret").unwrap();
    std::fs::write(mesh.reports.path().join(".q4.txt.owner"), "ann").unwrap();
    let asked = send(&mesh, &mesh.keys["ann"], &Method::POST, "/ask").await;
    let asked: Value = asked.json().await.unwrap();
    let request = format!("/requests/{}", asked["request_id"].as_str().unwrap());
    assert_eq!(mesh.executions(), 1);

    for (what, token) in &bent(&issuer) {
        for (method, path) in [
            (Method::POST, "/ask"),
            (Method::POST, "/plan"),
            (Method::GET, "/agents"),
            (Method::GET, "/files/q4.txt"),
            (Method::GET, request.as_str()),
            (Method::DELETE, request.as_str()),
            (Method::GET, &format!("{request}/events")),
            (Method::POST, &format!("{request}/flows/f1")),
        ] {
            let refused = send(&mesh, token, &method, path).await;
            assert_eq!(
                refused.status(),
                StatusCode::UNAUTHORIZED,
                "{what}: {method} {path}"
            );
            let body = refused.text().await.unwrap();
            for leak in ["top-secret", "tester-1", "echo x", "ann"] {
                assert!(!body.contains(leak), "{what}: {method} {path}: {body}");
            }
        }
    }
    assert_eq!(mesh.executions(), 1, "only what ann asked");
}

#[tokio::test]
async fn an_issuer_that_is_away_costs_its_users_alone() {
    let issuer = Issuer::new();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", gone.local_addr().unwrap());
    drop(gone);
    let rules = TokenRules {
        jwks: JwksSource::Url(Url::parse(&url).unwrap()),
        ..issuer.rules()
    };
    let mesh = TestMesh::start(setup(vec![rules])).await;
    let refused = send(&mesh, &issuer.token(&json!({})), &Method::POST, "/ask").await;
    assert_eq!(error_code(refused).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(mesh.executions(), 0);
    let key = send(&mesh, &mesh.keys["ann"], &Method::POST, "/ask").await;
    assert_eq!(key.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_the_role_each_place_refuses() {
    let issuer = Issuer::new();
    let mesh = TestMesh::start(setup(vec![issuer.rules()])).await;
    let without = issuer.token(&json!({"sub": "cid", "roles": ["clerk"]}));
    let ask = async |credential: &str, query: &str| {
        let post = mesh.post("/ask").bearer_auth(credential);
        let answer = post.json(&json!({"query": query})).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    for credential in [&without, &mesh.keys["bob"]] {
        let unplanned = ask(credential, "echo x").await;
        assert_eq!(unplanned["error"]["code"], "nothing_planned", "the planner");
        let undone = ask(credential, "echo! x").await;
        assert_eq!(
            undone["tasks"][0]["error"]["code"], "not_permitted",
            "the dispatch: {undone}"
        );
    }
    // The agent, which another node's orchestrator may reach past its own rules.
    let directory = mesh.registry.directory();
    let agent = directory.agent(&"tester-1".parse().unwrap()).unwrap();
    let task = TaskRequest {
        version: WIRE_VERSION,
        request_id: RequestId::from_uuid(uuid::Uuid::new_v4()),
        task_id: "t1".parse().unwrap(),
        attempt: 1,
        deadline_ms: 10_000,
        traceparent: None,
        grant: Grant {
            user: Some("cid".to_owned()),
            roles: vec!["clerk".to_owned()],
            flows: FlowKind::ALL.to_vec(),
        }
        .into(),
        lineage: Lineage::default().into(),
        capability: "test.echo".parse().unwrap(),
        flows: Vec::new(),
        params: json!({"text": "x"}).into(),
    };
    let (answer, answered) = AnswerPort::channel();
    let outcome = match agent.port.execute(task, answer) {
        Ok(()) => answered.await.unwrap().outcome,
        Err(failure) => TaskOutcome::Refused(failure),
    };
    let (TaskOutcome::Refused(failure) | TaskOutcome::Failed(failure)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(failure.code, ErrorCode::NotPermitted, "the agent");
    assert_eq!(mesh.executions(), 0);
    let done = ask(&mesh.keys["ann"], "echo x").await;
    assert_eq!(done["state"], "completed");
}

#[tokio::test]
async fn a_node_may_want_a_credential_of_everybody() {
    let mesh = TestMesh::start(Setup {
        anonymous: false,
        ..setup(Vec::new())
    })
    .await;
    let refused = mesh.ask("echo x").await;
    assert_eq!(error_code(refused).await.1, "unauthenticated");
    assert_eq!(mesh.get("/livez").await.status(), StatusCode::OK);
    let key = send(&mesh, &mesh.keys["ann"], &Method::POST, "/ask").await;
    assert_eq!((key.status(), mesh.executions()), (StatusCode::OK, 1));
}
