//! The names of users and roles, and the principals that no credential proves.
//!
//! Checks no credential.

use std::net::IpAddr;

pub use amcp_protocol::principal::ANONYMOUS;
use amcp_protocol::{Principal, Proof};

use crate::Refusal;

/// In bytes: issuers use e-mail addresses and ids of about 40 bytes, and groups of directories as roles.
const MAX_NAME: usize = 128;
/// A directory's groups can be many; each travels with every task.
const MAX_ROLES: usize = 64;

/// A user or role with an unusable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The user's name.
    #[error(
        "the user's name must have 1 to {MAX_NAME} bytes, without spaces at its ends and control characters, and not be '{ANONYMOUS}'"
    )]
    User,
    /// The name of a role, or their number.
    #[error(
        "a user has at most {MAX_ROLES} roles, each of 1 to {MAX_NAME} bytes without spaces at its ends and control characters"
    )]
    Roles,
}

pub(crate) fn check(user: &str, roles: &[String]) -> Result<(), NameError> {
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.trim() == name
            && !name.contains(char::is_control)
    };
    if !is_name(user) || user == ANONYMOUS {
        return Err(NameError::User);
    }
    if roles.len() > MAX_ROLES || !roles.iter().all(|role| is_name(role)) {
        return Err(NameError::Roles);
    }
    Ok(())
}

/// A client without a credential. `is_forwarded` says whether the request has a header that a proxy sets (`Forwarded`, `Via`, `X-Real-IP`,
/// `X-Forwarded-For`, `-Host`, `-Proto`): behind a proxy on this machine everybody has its address.
///
/// # Errors
/// [`Refusal::Missing`] unless the client is on this machine and comes directly.
pub fn anonymous(peer: IpAddr, is_forwarded: bool) -> Result<Principal, Refusal> {
    if !peer.to_canonical().is_loopback() || is_forwarded {
        return Err(Refusal::Missing);
    }
    Ok(Principal {
        user: ANONYMOUS.to_owned(),
        roles: Vec::new(),
        by: Proof::Anonymous,
    })
}

/// The user of a command line that runs a node of its own, with the roles that the user claims: the whole node is theirs.
#[must_use]
pub fn local(user: Option<String>, roles: Vec<String>) -> Principal {
    Principal {
        user: user.unwrap_or_else(|| ANONYMOUS.to_owned()),
        roles,
        by: Proof::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_roles_have_bounded_printable_names() {
        let of = |user: &str, roles: &[&str]| {
            let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
            check(user, &roles)
        };
        for user in ["ana", "ana@example.org", "auth0|5f7c", "Ana Müller"] {
            assert_eq!(of(user, &["analyst", "Domain Users"]), Ok(()), "{user}");
        }
        let long = "x".repeat(MAX_NAME + 1);
        for user in ["", " ana", "ana\n", "a\u{1b}[2J", ANONYMOUS, &long] {
            assert_eq!(of(user, &[]), Err(NameError::User), "{user}");
        }
        for role in ["", " a", "a\0", &long] {
            assert_eq!(of("ana", &[role]), Err(NameError::Roles), "{role}");
        }
        assert_eq!(of("ana", &["r"; MAX_ROLES]), Ok(()));
        assert_eq!(of("ana", &["r"; MAX_ROLES + 1]), Err(NameError::Roles));
    }

    #[test]
    fn only_a_direct_client_on_this_machine_needs_no_credential() {
        for (peer, is_forwarded, is_served) in [
            ("127.0.0.1", false, true),
            ("127.9.9.9", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("127.0.0.1", true, false),
            ("10.0.0.1", false, false),
            ("::ffff:10.0.0.1", false, false),
            ("2001:db8::1", false, false),
        ] {
            let made = anonymous(peer.parse().unwrap(), is_forwarded);
            assert_eq!(made.is_ok(), is_served, "{peer} {is_forwarded}");
        }
    }
}
