//! `amcp cluster`: the nodes as one node sees them; certificates and a cookie for new nodes.
//!
//! Changes nothing on a running node.

use amcp_cluster::certs::{self, CertError};
use amcp_cluster::{ClusterView, MemberView};
use amcp_protocol::NodeName;
use jiff::Timestamp;

use crate::cli;
use crate::commands::requests::client;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::show;

/// # Errors
/// The node cannot be reached or is alone; a file cannot be written.
pub(crate) async fn run(loaded: &Loaded, args: cli::Cluster) -> Result<u8, Trouble> {
    match args.what {
        None => show(loaded, args.node.as_deref(), args.json).await,
        Some(cli::ClusterTool::Certs { what }) => certs(what),
        Some(cli::ClusterTool::Cookie) => {
            // Each UUID has 122 random bits.
            let half = || uuid::Uuid::new_v4().simple();
            output::print(format_args!("{}{}", half(), half()))?;
            Ok(0)
        }
    }
}

fn certs(what: cli::Certs) -> Result<u8, Trouble> {
    let trouble = |error: CertError| Trouble::failed(error.to_string()).hint(error.hint());
    match what {
        cli::Certs::Init { out } => {
            let made = certs::init(&out).map_err(trouble)?;
            let (cert, key) = (made.cert.display(), made.key.display());
            output::print(format_args!("{cert}  every node needs it"))?;
            output::print(format_args!(
                "{key}  signs certificates: keep it off the nodes"
            ))?;
        }
        cli::Certs::Issue { name, out, hosts } => {
            let name = NodeName::new(&name).map_err(|error| {
                Trouble::usage(error.to_string()).hint("it is what `amcp node --name` is given")
            })?;
            let made = certs::issue(&out, &name, &hosts).map_err(trouble)?;
            let (cert, key) = (made.cert.display(), made.key.display());
            output::print(format_args!("{cert}  {key}  for node {name}, with ca.pem"))?;
        }
    }
    Ok(0)
}

async fn show(loaded: &Loaded, node: Option<&str>, json: bool) -> Result<u8, Trouble> {
    let client = client(loaded, node)?;
    let view: ClusterView = client.get("cluster").await?;
    if json {
        output::print_json(&view)?;
        return Ok(0);
    }
    let style = Style::for_stdout();
    output::print(show::table(&rows(&view.members), style))?;
    for member in &view.members {
        if let Some(trouble) = &member.trouble {
            let name = style.yellow(&format!("{}:", member.name));
            output::print(format_args!("{name} {}", printable(trouble)))?;
        }
    }
    output::print(style.dim(&counts(&view)))?;
    Ok(0)
}

fn rows(members: &[MemberView]) -> Vec<Vec<String>> {
    let heading = "NODE, STATE, SINCE, BOOTED, HEARD, PARTS, AGENTS, IN FLIGHT, QUEUED, LINK";
    std::iter::once(show::heading(heading))
        .chain(members.iter().map(row))
        .collect()
}

fn row(member: &MemberView) -> Vec<String> {
    let none = || "–".to_owned();
    let roles: Vec<String> = member.roles.iter().map(ToString::to_string).collect();
    let roles = match &member.domain {
        Some(domain) => format!("{} ({})", roles.join(","), printable(domain)),
        None => roles.join(","),
    };
    vec![
        member.name.to_string(),
        show::word(&member.state),
        ago(member.since_ms),
        member.incarnation.and_then(booted).unwrap_or_else(none),
        member
            .heartbeat_age_ms
            .map_or_else(none, |ms| format!("{} ago", ago(ms))),
        if roles.is_empty() { none() } else { roles },
        member.agents.to_string(),
        // Our tasks there, and its tasks here.
        format!("{}→ {}←", member.in_flight, member.serving),
        bytes(member.queued_bytes),
        member.security.as_deref().map_or_else(none, printable),
    ]
}

/// The time of the boot, which is the incarnation.
fn booted(incarnation: u64) -> Option<String> {
    let time = Timestamp::from_millisecond(i64::try_from(incarnation).ok()?).ok()?;
    Some(time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn ago(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} KB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

fn counts(view: &ClusterView) -> String {
    let c = &view.counts;
    format!(
        "seen from {}: {} links made, {} peers evicted, {} connections refused; tasks: {} sent, {} taken, {} deduplicated, {} late dropped; \
         {} unknown frames, {} agents not allowed",
        view.node,
        c.links,
        c.evicted,
        c.refused,
        c.tasks_out,
        c.tasks_in,
        c.deduplicated,
        c.dropped_late,
        c.unknown,
        c.not_allowed
    )
}

#[cfg(test)]
mod tests {
    use amcp_cluster::{MemberState, Role};

    use super::*;

    #[test]
    fn a_member_is_one_line_and_what_is_not_known_is_a_dash() {
        let mut member = MemberView {
            name: "b".parse().unwrap(),
            state: MemberState::Alive,
            incarnation: Some(1_700_000_000_000),
            since_ms: 90_000,
            heartbeat_age_ms: Some(400),
            address: "10.0.0.2:7000".into(),
            http: None,
            roles: vec![Role::Orchestrator, Role::Specialists],
            domain: Some("finance".into()),
            build: Some("0.1.0".into()),
            agents: 3,
            in_flight: 2,
            serving: 1,
            queued_bytes: 12_345,
            security: Some("mtls".into()),
            trouble: None,
        };
        assert_eq!(
            row(&member),
            [
                "b",
                "alive",
                "90 s",
                "2023-11-14 22:13:20Z",
                "400 ms ago",
                "orchestrator,specialists (finance)",
                "3",
                "2→ 1←",
                "12 KB",
                "mtls"
            ]
        );
        member.state = MemberState::Lost;
        member.incarnation = None;
        member.heartbeat_age_ms = None;
        member.security = None;
        member.roles.clear();
        member.domain = None;
        member.since_ms = 200_000;
        assert_eq!(
            row(&member),
            [
                "b",
                "lost",
                "3 min",
                "–",
                "–",
                "–",
                "3",
                "2→ 1←",
                "12 KB",
                "–"
            ]
        );
        assert_eq!(rows(&[]).len(), 1);
    }
}
