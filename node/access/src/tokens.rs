//! Tokens of an issuer (JWT, RFC 7519): which are taken, and for whom.
//!
//! Pure but for the clock that the library reads: [`issuer`] fetches the issuer's keys.

mod issuer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use amcp_outbound::Url;
use amcp_protocol::{Principal, Proof};
use data_encoding::BASE64URL_NOPAD;
pub use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

pub use issuer::Tokens;

use crate::names::{self, NameError};

/// Tokens with hundreds of groups have about 10 KB; HTTP servers take headers of 8 to 16 KB.
const MAX_TOKEN: usize = 16 * 1_024;
/// Issuers have two to five: the last, the current and the next, for one or two algorithms.
const MAX_ISSUER_KEYS: usize = 100;
/// Clocks of machines that keep time differ by less.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Which tokens a node takes.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// The claim `iss`.
    pub issuer: String,
    /// One of them must be in the claim `aud`.
    pub audience: Vec<String>,
    /// The algorithms of signatures, whatever a token says. Only asymmetric ones.
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's keys are.
    pub jwks: JwksSource,
    /// The claim that names the user, such as `sub` or `email`. A path is dotted.
    pub user_claim: String,
    /// The claim that lists the user's roles, such as `realm_access.roles`: texts in a list, or in one text with spaces between them.
    pub roles_claim: Option<String>,
    /// How much the issuer's clock may differ.
    pub leeway: Duration,
}

/// Where an issuer's keys are (RFC 7517).
#[derive(Debug, Clone)]
pub enum JwksSource {
    /// In a file, read again like a URL.
    File(PathBuf),
    /// At the issuer: https, or http on this machine.
    Url(Url),
}

/// Rules that no node can follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// A text or a list is empty.
    #[error(
        "the rules of tokens need an issuer, an audience, an algorithm and the claim of the user"
    )]
    Missing,
    /// Whoever can check such a signature can also make one.
    #[error("the algorithm {0:?} is symmetric: take RS256, ES256, EdDSA or their like")]
    Symmetric(Algorithm),
    /// Over http anybody on the way can replace the keys.
    #[error("the keys of an issuer come over https, except from this machine")]
    Plain,
    /// The TLS library cannot be set up.
    #[error("no HTTP client can be made")]
    Client,
    /// Tokens would live for much longer than their issuer says.
    #[error("clocks differ by 300 s at most")]
    Leeway,
}

impl TokenRules {
    /// # Errors
    /// The [`RulesError`].
    pub fn check(&self) -> Result<(), RulesError> {
        let texts = [&self.issuer, &self.user_claim];
        let is_missing = texts.iter().any(|text| text.is_empty())
            || self.audience.is_empty()
            || self.algorithms.is_empty();
        if is_missing {
            return Err(RulesError::Missing);
        }
        let is_symmetric = |algorithm: &&Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
        if let Some(symmetric) = self.algorithms.iter().find(is_symmetric) {
            return Err(RulesError::Symmetric(*symmetric));
        }
        let is_plain = |url: &Url| url.scheme() != "https" && !amcp_outbound::is_loopback(url);
        if matches!(&self.jwks, JwksSource::Url(url) if is_plain(url)) {
            return Err(RulesError::Plain);
        }
        if self.leeway > MAX_LEEWAY {
            return Err(RulesError::Leeway);
        }
        Ok(())
    }

    fn validation(&self, algorithms: Vec<Algorithm>) -> Validation {
        let mut validation = Validation {
            algorithms,
            validate_nbf: true,
            leeway: self.leeway.as_secs(),
            ..Validation::default()
        };
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }
}

/// Why a token proves no user. The text may go to clients: it tells them nothing that the token does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// It is too long to be one.
    #[error("the token has more than {MAX_TOKEN} bytes")]
    TooLong,
    /// It names no key of its issuer.
    #[error("the token is signed by no key of the issuer")]
    UnknownKey,
    /// It says that its reader must understand something more.
    #[error("the token has a critical extension")]
    Critical,
    /// The library's reason: form, signature, time, issuer or audience.
    #[error("the token is not valid: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// It lacks a claim that the rules need, or has it in another form.
    #[error("the token's claim {0} does not hold what it should")]
    Claim(String),
    /// The user or a role has an unusable name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The issuer that a token names, before anything is proved.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let claims = token.split('.').nth(1)?;
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get("iss")?.as_str()?.to_owned())
}

/// An issuer's keys, by their ids: nothing else in a token can name a key.
#[derive(Debug, Default)]
pub(crate) struct IssuerKeys(HashMap<String, (DecodingKey, Validation)>);

impl IssuerKeys {
    /// Reads a JWK set. Passes over keys without an id, for encryption, and of algorithms that the rules do not name.
    pub(crate) fn parse(text: &[u8], rules: &TokenRules) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("it is no JWK set: it has no list `keys`")?;
        if keys.len() > MAX_ISSUER_KEYS {
            return Err(format!("it has more than {MAX_ISSUER_KEYS} keys"));
        }
        // One key that this build cannot read must not cost the others.
        let read = keys.iter().filter_map(|key| Self::key(key, rules));
        let keys = Self(read.collect());
        if keys.0.is_empty() {
            return Err("none of its keys has an id and an algorithm of the rules".to_owned());
        }
        Ok(keys)
    }

    fn key(key: &Value, rules: &TokenRules) -> Option<(String, (DecodingKey, Validation))> {
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        let usage = jwk.common.public_key_use.as_ref();
        if usage.is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let named = jwk.common.key_algorithm;
        let fits = |algorithm: &Algorithm| {
            algorithm.family() == key.family()
                && named.is_none_or(|named| named == KeyAlgorithm::from(*algorithm))
        };
        let algorithms: Vec<_> = rules.algorithms.iter().copied().filter(fits).collect();
        let validation = rules.validation(algorithms);
        (!validation.algorithms.is_empty()).then_some((jwk.common.key_id?, (key, validation)))
    }

    /// Finds the user whom a token proves.
    pub(crate) fn check(&self, token: &str, rules: &TokenRules) -> Result<Principal, TokenFault> {
        if token.len() > MAX_TOKEN {
            return Err(TokenFault::TooLong);
        }
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenFault::Critical);
        }
        let named = header.kid.and_then(|id| self.0.get(&id));
        let (key, validation) = named.ok_or(TokenFault::UnknownKey)?;
        let claims = decode::<Value>(token, key, validation)?.claims;
        let text = |path: &str| {
            let found = claim(&claims, path).and_then(Value::as_str);
            found.ok_or_else(|| TokenFault::Claim(path.to_owned()))
        };
        let user = text(&rules.user_claim)?.to_owned();
        let roles = match &rules.roles_claim {
            Some(path) => roles(claim(&claims, path), path)?,
            None => Vec::new(),
        };
        names::check(&user, &roles)?;
        Ok(Principal {
            user,
            roles,
            by: Proof::Token {
                issuer: rules.issuer.clone(),
                subject: text("sub").unwrap_or_default().to_owned(),
            },
        })
    }
}

/// The claim of this name, or at this dotted path: names of claims may be URLs.
fn claim<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    let at_path = || {
        let mut names = path.split('.');
        names.try_fold(claims, |value, name| value.get(name))
    };
    claims.get(path).or_else(at_path)
}

/// A user without the claim has no roles.
fn roles(claim: Option<&Value>, path: &str) -> Result<Vec<String>, TokenFault> {
    let of_list = |role: &Value| role.as_str().map(str::to_owned);
    let roles = match claim {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(text.split_whitespace().map(str::to_owned).collect()),
        Some(Value::Array(list)) => list.iter().map(of_list).collect(),
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => None,
    };
    roles.ok_or_else(|| TokenFault::Claim(path.to_owned()))
}
