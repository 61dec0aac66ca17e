//! Who sends a request: every route but those for health checks needs a principal, which the client's credential proves.
//!
//! Judges no credential itself; `amcp-access` does. Gives no permission; the node's permissions do.

use std::net::SocketAddr;
use std::sync::Arc;

use amcp_access::{Authentication, Refusal};
use amcp_protocol::{ErrorCode, Failure, Principal, Proof};
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// The role that sees the requests and files of all users.
pub(crate) const ADMIN: &str = "admin";
/// By these headers a proxy tells of its client.
const FORWARDED: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The client of a request, for handlers behind [`enter`].
#[derive(Debug, Clone)]
pub(crate) struct Asker(Arc<Principal>);

impl Asker {
    /// The user's name; none for a client without a credential.
    pub(crate) fn user(&self) -> Option<&str> {
        match self.0.by {
            Proof::Anonymous => None,
            Proof::Key(_) | Proof::Token { .. } | Proof::Peer | Proof::Local => Some(&self.0.user),
        }
    }

    pub(crate) const fn principal(&self) -> &Arc<Principal> {
        &self.0
    }

    pub(crate) fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// # Errors
    /// `not_permitted` unless the client is this user.
    pub(crate) fn check_is(&self, owner: Option<&str>) -> Result<(), Failure> {
        if self.user() == owner {
            return Ok(());
        }
        let message = "only the request's user may answer its flows";
        let hint = "an administrator can see and cancel the request";
        Err(Failure::new(ErrorCode::NotPermitted, message).hint(hint))
    }

    /// Whether the client may see what belongs to this user.
    pub(crate) fn sees(&self, owner: Option<&str>) -> bool {
        self.user() == owner || self.sees_all()
    }

    /// Whether the client may see what belongs to anybody.
    pub(crate) fn sees_all(&self) -> bool {
        self.0.roles.iter().any(|role| role == ADMIN)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let asker = parts.extensions.get::<Self>().cloned();
        asker.ok_or_else(|| refused(&Refusal::Missing))
    }
}

/// Finds the client's principal and passes the request on, or answers 401.
pub(crate) async fn enter(
    State(known): State<Arc<Authentication>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(peer)| peer.ip());
    let headers = request.headers();
    let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let judged = match credential(headers) {
        Ok(credential) => known.check(credential, peer, is_forwarded).await,
        Err(refusal) => Err(refusal),
    };
    match judged {
        Ok(principal) => {
            request.extensions_mut().insert(Asker(principal));
            next.run(request).await
        }
        Err(refusal) => {
            let mut response = refused(&refusal).into_response();
            let form = HeaderValue::from_static("Bearer realm=\"amcp\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, form);
            response
        }
    }
}

/// The text after `Bearer`, or the value of `x-api-key`.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut given = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .chain(headers.get_all("x-api-key"));
    let Some(value) = given.next() else {
        return Ok(None);
    };
    // Of two credentials none is the client's for certain.
    if given.next().is_some() {
        return Err(Refusal::Malformed);
    }
    let text = value.to_str().map_err(|_| Refusal::Malformed)?;
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(rest.trim())),
        None if headers.contains_key("x-api-key") => Ok(Some(text)),
        Some(_) | None => Err(Refusal::Malformed),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let hint = "send `Authorization: Bearer` and a key or a token; `amcp keys create USER` on the node's machine makes a key";
    Failure::new(ErrorCode::Unauthenticated, refusal.to_string())
        .hint(hint)
        .into()
}
