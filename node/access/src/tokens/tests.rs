use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use amcp_outbound::Guard;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::issuer::{AGAIN, REFRESH};
use super::*;

const ISSUER: &str = "https://issuer.example";

fn rules(jwks: JwksSource) -> TokenRules {
    TokenRules {
        issuer: ISSUER.to_owned(),
        audience: vec!["amcp".to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::RS256],
        jwks,
        user_claim: "email".to_owned(),
        roles_claim: Some("realm_access.roles".to_owned()),
        leeway: Duration::from_secs(30),
    }
}

fn unread() -> TokenRules {
    rules(JwksSource::File(PathBuf::new()))
}

/// A key of an issuer, and its JWK.
fn key_of(id: &str) -> (EncodingKey, Value) {
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    jwk(
        EncodingKey::from_ec_der(pkcs8.unwrap().as_ref()),
        Algorithm::ES256,
        id,
    )
}

fn jwk(key: EncodingKey, algorithm: Algorithm, id: &str) -> (EncodingKey, Value) {
    let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    (key, serde_json::to_value(jwk).unwrap())
}

fn set(keys: &[&Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

fn claims(changes: &Value) -> Value {
    let now = Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "aud": ["other", "amcp"], "sub": "5f7c", "exp": now + 300, "nbf": now - 5,
        "email": "ana@example.org", "realm_access": {"roles": ["analyst", "Domain Users"]},
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

fn header(algorithm: Algorithm, id: Option<&str>) -> Header {
    Header {
        kid: id.map(str::to_owned),
        ..Header::new(algorithm)
    }
}

fn signed(key: &EncodingKey, id: &str, changes: &Value) -> String {
    encode(&header(Algorithm::ES256, Some(id)), &claims(changes), key).unwrap()
}

#[test]
fn a_good_token_proves_its_user_and_roles() {
    let (key, public) = key_of("k1");
    let keys = IssuerKeys::parse(&set(&[&public]), &unread()).unwrap();
    let proved = keys.check(&signed(&key, "k1", &json!({})), &unread());
    let expected = Principal {
        user: "ana@example.org".to_owned(),
        roles: vec!["analyst".to_owned(), "Domain Users".to_owned()],
        by: Proof::Token {
            issuer: ISSUER.to_owned(),
            subject: "5f7c".to_owned(),
        },
    };
    assert_eq!(proved.unwrap(), expected);
    let now = Timestamp::now().as_second();
    for change in [
        json!({"aud": "amcp"}),
        json!({"nbf": null}),
        json!({"exp": now - 20}),
        json!({"nbf": now + 20}),
    ] {
        assert!(
            keys.check(&signed(&key, "k1", &change), &unread()).is_ok(),
            "{change}"
        );
    }
}

#[test]
fn a_token_of_rsa_is_taken_under_its_own_algorithm_only() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    // The library wants PKCS #1, which PKCS #8 has after a head of 26 bytes for keys of this size.
    let private = &private.as_ref()[26..];
    let (key, public) = jwk(EncodingKey::from_rsa_der(private), Algorithm::RS256, "r");
    let keys = IssuerKeys::parse(&set(&[&public]), &unread()).unwrap();
    for (algorithm, is_taken) in [
        (Algorithm::RS256, true),
        (Algorithm::RS512, false),
        (Algorithm::PS256, false),
    ] {
        let token = encode(&header(algorithm, Some("r")), &claims(&json!({})), &key).unwrap();
        assert_eq!(
            keys.check(&token, &unread()).is_ok(),
            is_taken,
            "{algorithm:?}"
        );
    }
}

/// A key, a set of keys with it, and a good token.
fn good() -> (EncodingKey, Value, IssuerKeys, String) {
    let (key, public) = key_of("k1");
    let keys = IssuerKeys::parse(&set(&[&public]), &unread()).unwrap();
    let token = signed(&key, "k1", &json!({}));
    (key, public, keys, token)
}

fn part(token: &str, index: usize) -> &str {
    token.split('.').nth(index).unwrap()
}

#[track_caller]
fn refused(keys: &IssuerKeys, token: &str, reason: &str) {
    let fault = keys.check(token, &unread()).expect_err(reason).to_string();
    assert!(fault.contains(reason), "{reason}: {fault}");
}

#[test]
fn a_header_chooses_neither_algorithm_nor_key() {
    let (key, public, keys, good) = good();
    let headed = |header: Value| {
        let header = BASE64URL_NOPAD.encode(header.to_string().as_bytes());
        format!("{header}.{}.{}", part(&good, 1), part(&good, 2))
    };
    for (header, reason) in [
        (json!({"alg": "none", "kid": "k1"}), "not valid"),
        (json!({"alg": "ES384", "kid": "k1"}), "InvalidAlgorithm"),
        (json!({"alg": "ES256", "kid": "x", "jwk": public}), "no key"),
        (
            json!({"alg": "ES256", "kid": "k1", "crit": ["x"]}),
            "critical",
        ),
    ] {
        refused(&keys, &headed(header), reason);
    }
    let unsigned = headed(json!({"alg": "none", "kid": "k1"}));
    let unsigned = format!("{}.{}.", part(&unsigned, 0), part(&unsigned, 1));
    refused(&keys, &unsigned, "not valid");
    // What everybody knows, as the secret of a symmetric algorithm.
    let x = public["x"].as_str().unwrap().as_bytes();
    let x = BASE64URL_NOPAD.decode(x).unwrap();
    for secret in [x.as_slice(), public.to_string().as_bytes()] {
        let secret = EncodingKey::from_secret(secret);
        let header = header(Algorithm::HS256, Some("k1"));
        let swapped = encode(&header, &claims(&json!({})), &secret).unwrap();
        refused(&keys, &swapped, "InvalidAlgorithm");
    }
    let names = [
        "../../dev/null",
        "http://169.254.169.254/",
        "k1' OR '1'='1",
        "",
    ];
    for id in names.map(Some).into_iter().chain([None]) {
        let header = header(Algorithm::ES256, id);
        let named = encode(&header, &claims(&json!({})), &key).unwrap();
        refused(&keys, &named, "no key");
    }
}

#[test]
fn only_the_issuers_signature_of_these_very_claims_counts() {
    let (_, _, keys, good) = good();
    let (stranger, _) = key_of("k1");
    refused(
        &keys,
        &signed(&stranger, "k1", &json!({})),
        "InvalidSignature",
    );
    let forged = claims(&json!({"email": "root@example.org"})).to_string();
    let forged = BASE64URL_NOPAD.encode(forged.as_bytes());
    let forged = format!("{}.{forged}.{}", part(&good, 0), part(&good, 2));
    refused(&keys, &forged, "InvalidSignature");
    let unsigned = format!("{}.{}.", part(&good, 0), part(&good, 1));
    refused(&keys, &unsigned, "InvalidSignature");
    for text in ["", "a.b.c", "a.b"] {
        refused(&keys, text, "not valid");
    }
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let (key, _, keys, _) = good();
    let now = Timestamp::now().as_second();
    let many = vec!["r"; 65];
    let long = "x".repeat(MAX_TOKEN);
    for (change, reason) in [
        (json!({"exp": now - 31}), "ExpiredSignature"),
        (json!({"exp": null}), "exp"),
        (json!({"exp": "never"}), "exp"),
        (json!({"exp": -1}), "exp"),
        (json!({"nbf": now + 60}), "ImmatureSignature"),
        (json!({"aud": ["other"]}), "InvalidAudience"),
        (json!({"aud": null}), "aud"),
        (
            json!({"iss": "https://issuer.example.evil"}),
            "InvalidIssuer",
        ),
        (json!({"iss": null}), "iss"),
        (json!({"email": null}), "claim email"),
        (json!({"email": 7}), "claim email"),
        (json!({"email": "anonymous"}), "user's name"),
        (json!({"email": "a\u{1b}[2J"}), "user's name"),
        (
            json!({"realm_access": {"roles": {"admin": true}}}),
            "realm_access.roles",
        ),
        (json!({"realm_access": {"roles": many}}), "64 roles"),
        (json!({"x": long}), "more than"),
    ] {
        refused(&keys, &signed(&key, "k1", &change), reason);
    }
}

#[test]
fn claims_are_found_by_name_or_path_and_roles_in_list_or_text() {
    let claims =
        json!({"https://a.example/roles": ["x"], "a": {"b": {"c": "p q"}}, "n": 1, "l": ["x", 1]});
    let of = |path: &str| roles(claim(&claims, path), path);
    assert_eq!(of("https://a.example/roles").unwrap(), ["x"]);
    assert_eq!(of("a.b.c").unwrap(), ["p", "q"]);
    assert_eq!(of("a.x.c").unwrap(), [""; 0]);
    assert!(of("n").is_err() && of("l").is_err() && of("a.b").is_err());
}

#[test]
fn keys_that_are_not_for_these_tokens_are_passed_over() {
    let (_, good) = key_of("k1");
    let changed = |name: &str, value: Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let secret = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": "AAAA"});
    let others = [
        changed("use", json!("enc")),
        changed("kid", Value::Null),
        changed("alg", json!("ES384")),
        changed("kty", json!("future")),
        changed("x", json!("?")),
        secret,
        json!("x"),
    ];
    for other in &others {
        assert!(
            IssuerKeys::parse(&set(&[other]), &unread()).is_err(),
            "{other}"
        );
        let keys = IssuerKeys::parse(&set(&[other, &good]), &unread()).unwrap();
        assert_eq!(keys.0.len(), 1, "{other}");
    }
    for text in ["", "{", "{}", "[]", r#"{"keys":{}}"#] {
        assert!(
            IssuerKeys::parse(text.as_bytes(), &unread()).is_err(),
            "{text}"
        );
    }
    let many = vec![&good; MAX_ISSUER_KEYS + 1];
    assert!(IssuerKeys::parse(&set(&many), &unread()).is_err());
}

#[test]
fn rules_that_would_take_anybody_are_refused() {
    let url = |text: &str| rules(JwksSource::Url(Url::parse(text).unwrap()));
    let symmetric = TokenRules {
        algorithms: vec![Algorithm::ES256, Algorithm::HS256],
        ..unread()
    };
    let lenient = TokenRules {
        leeway: Duration::from_secs(301),
        ..unread()
    };
    let everybodys = TokenRules {
        audience: Vec::new(),
        ..unread()
    };
    for (rules, fault) in [
        (symmetric, Some(RulesError::Symmetric(Algorithm::HS256))),
        (lenient, Some(RulesError::Leeway)),
        (everybodys, Some(RulesError::Missing)),
        (url("http://issuer.example/jwks"), Some(RulesError::Plain)),
        (url("http://127.0.0.1:1/jwks"), None),
        (url("https://issuer.example/jwks"), None),
    ] {
        assert_eq!(rules.check().err(), fault);
    }
}

/// An issuer that serves the set that it is given, or status 503 without one, and counts.
async fn issuer(served: Arc<Mutex<Option<Vec<u8>>>>) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let read = socket.read(&mut [0; 4_096]).await.unwrap();
            assert!(read > 0);
            asked.fetch_add(1, Ordering::SeqCst);
            let body = served.lock().unwrap().clone();
            let status = if body.is_some() { "200 OK" } else { "503 Down" };
            let body = body.unwrap_or_default();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(&body).await.unwrap();
        }
    });
    (Url::parse(&url).unwrap(), count)
}

async fn soon<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

#[tokio::test]
async fn a_rotated_key_is_fetched_once_and_a_dead_issuer_keeps_its_keys() {
    let ((old, first), (new, second), (unknown, _)) = (key_of("k1"), key_of("k2"), key_of("k3"));
    let served = Arc::new(Mutex::new(Some(set(&[&first]))));
    let (url, asked) = issuer(Arc::clone(&served)).await;
    let guard = Guard::allowing(["127.0.0.1/32".parse().unwrap()]);
    let tokens = Tokens::start(rules(JwksSource::Url(url)), guard).unwrap();
    let old = signed(&old, "k1", &json!({}));
    // Only the first fetch is under way here, so that a token of a known key asks for none.
    soon("the keys are there", async || {
        tokens.issuer.keys.load().0.len() == 1
    })
    .await;
    assert!(tokens.check(&old).await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    *served.lock().unwrap() = Some(set(&[&first, &second]));
    let new = signed(&new, "k2", &json!({}));
    let (one, two) = tokio::join!(tokens.check(&new), tokens.check(&new));
    assert!(one.is_ok() && two.is_ok());
    *served.lock().unwrap() = None;
    let unknown = signed(&unknown, "k3", &json!({}));
    for _ in 0..100 {
        assert_eq!(tokens.check(&unknown).await, Err(TokenFault::UnknownKey));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once in 30 s");
    tokens.issuer.refresh().await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(tokens.check(&old).await.is_ok() && tokens.check(&new).await.is_ok());
}

#[tokio::test]
async fn an_issuer_inside_the_network_needs_permission() {
    let (key, public) = key_of("k1");
    let (url, asked) = issuer(Arc::new(Mutex::new(Some(set(&[&public]))))).await;
    let tokens = Tokens::start(rules(JwksSource::Url(url)), Guard::default()).unwrap();
    let fault = tokens.check(&signed(&key, "k1", &json!({}))).await;
    assert_eq!(fault, Err(TokenFault::UnknownKey));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn keys_are_read_again_after_ten_minutes_and_for_an_unknown_one_after_half_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let ((first, one), (second, two)) = (key_of("k1"), key_of("k2"));
    let put = |keys: &[&Value]| std::fs::write(&path, set(keys)).unwrap();
    put(&[&one]);
    let tokens = Tokens::start(rules(JwksSource::File(path.clone())), Guard::default()).unwrap();
    let first = signed(&first, "k1", &json!({}));
    let second = signed(&second, "k2", &json!({}));
    assert!(tokens.check(&first).await.is_ok());
    assert!(
        tokens.check(&second).await.is_err(),
        "the file was read for k2"
    );
    put(&[&one, &two]);
    tokio::time::advance(AGAIN - Duration::from_secs(1)).await;
    assert!(tokens.check(&second).await.is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(tokens.check(&second).await.is_ok());
    put(&[&two]);
    tokio::time::sleep(REFRESH).await;
    soon("a withdrawn key is refused", async || {
        tokens.check(&first).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_no_fetch() {
    let (key, public) = key_of("k1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let guard = Guard::allowing(["127.0.0.1/32".parse().unwrap()]);
    let source = JwksSource::Url(Url::parse(&url).unwrap());
    let tokens = Tokens::start(rules(source), guard).unwrap();
    let answer = async |body: &[u8]| {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 4_096]).await.unwrap() > 0);
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        // The client may be gone.
        let _ = socket.write_all(body).await;
    };
    answer(&set(&[])).await;
    let token = signed(&key, "k1", &json!({}));
    // The issuer has the question, and the client goes before the answer.
    let asking = async { tokens.check(&token).await.unwrap_err() };
    let asked = async {
        let (socket, _) = listener.accept().await.unwrap();
        socket.readable().await.unwrap();
        socket
    };
    let mut socket = tokio::select! {
        fault = asking => panic!("{fault}"),
        socket = asked => socket,
    };
    let body = set(&[&public]);
    let later = tokens.check(&token);
    let answered = async {
        assert!(socket.read(&mut [0; 4_096]).await.unwrap() > 0);
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let sent = socket.write_all(head.as_bytes()).await;
        let sent = sent.and(socket.write_all(&body).await);
        drop(socket);
        sent
    };
    let (proved, sent) = tokio::join!(later, answered);
    assert!(sent.is_ok() && proved.is_ok(), "{proved:?}");
}
