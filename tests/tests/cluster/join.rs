//! Nodes that find each other.

use amcp_cluster::MemberState;
use amcp_cluster::certs;
use amcp_protocol::NodeName;
use amcp_tests::cluster::{Member, Spec, all_met, mesh};
use amcp_tests::process::{PATIENCE, Sandbox};

#[tokio::test]
async fn a_node_finds_its_seed_and_by_gossip_the_others() {
    let a = Member::start(Spec::new("a")).await;
    let b = Member::start(Spec::new("b").joins(a.cluster)).await;
    // Nobody is told of a and c both.
    let c = Member::start(Spec::new("c").joins(b.cluster)).await;
    let members = [a, b, c];
    all_met(&members).await;
    for member in &members {
        let view = member.view().await;
        assert_eq!(view.node.as_str(), member.name());
        assert_eq!(view.members.len(), 3, "{view:?}");
        assert_eq!(view.members[0].state, MemberState::Here);
        for other in &view.members[1..] {
            assert!(other.incarnation.is_some() && other.http.is_some());
            assert_eq!(other.security.as_deref(), Some("plain"));
        }
    }
}

#[tokio::test]
async fn a_name_in_dns_stands_for_all_its_addresses() {
    let a = Member::start(Spec::new("a")).await;
    let seed = format!("dns:localhost:{}", a.cluster.port());
    let b = Member::start(Spec::new("b").joins(seed)).await;
    all_met(&[a, b]).await;
}

#[tokio::test]
async fn a_node_started_again_is_met_under_its_name() {
    let specs = vec![Spec::new("a"), Spec::new("b")];
    let mut members = mesh(specs).await;
    let mut b = members.pop().unwrap();
    let [a] = members.as_slice() else {
        unreachable!()
    };
    let before = a.member("b").await.unwrap().incarnation;
    b.kill().await;
    let _b = b.start_again().await;
    a.sees("b", MemberState::Alive, PATIENCE).await;
    let after = a.member("b").await.unwrap().incarnation;
    assert!(after > before, "{after:?} follows {before:?}");
    assert_eq!(a.view().await.members.len(), 2);
}

#[tokio::test]
async fn with_a_folder_of_certificates_from_the_command_line_links_are_encrypted() {
    let issuer = Sandbox::new();
    let folder = issuer.path().join("keys");
    let keys = folder.to_string_lossy().into_owned();
    for args in [vec!["init"], vec!["issue", "a"], vec!["issue", "b"]] {
        let args = [&["cluster", "certs"], &args[..], &["--out", &keys]].concat();
        let ran = issuer.run(args).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let secured = |name| Spec::new(name).with(&["--cluster-certs", &keys]);
    let specs = vec![
        secured("a").orchestrates(),
        secured("b").specialises(&["math"]),
    ];
    let members = mesh(specs).await;
    assert!(members.iter().all(|member| member.security == "mtls"));
    let other = members[0].member("b").await.unwrap();
    assert_eq!(other.security.as_deref(), Some("mtls"));
    members[0].has_agents(1).await;
    super::tasks::ask(&members[0], "What is 17 * 23?").await;
}

#[tokio::test]
async fn with_certificates_links_are_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    certs::init(folder.path()).unwrap();
    let secured = |name: &str| {
        let node = NodeName::new(name).unwrap();
        let files = certs::issue(folder.path(), &node, &[]).unwrap();
        let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        let (ca, cert, key) = (path(files.ca), path(files.cert), path(files.key));
        Spec::new(name).with(&[
            "--cluster-ca",
            &ca,
            "--cluster-cert",
            &cert,
            "--cluster-key",
            &key,
        ])
    };
    let members = mesh(vec![secured("a"), secured("b")]).await;
    for (member, other) in [(&members[0], "b"), (&members[1], "a")] {
        assert_eq!(member.security, "mtls");
        let other = member.member(other).await.unwrap();
        assert_eq!(other.security.as_deref(), Some("mtls"));
    }
    // One without a certificate, and one whose certificate is of another authority.
    let elsewhere = tempfile::tempdir().unwrap();
    certs::init(elsewhere.path()).unwrap();
    let c = NodeName::new("c").unwrap();
    let files = certs::issue(elsewhere.path(), &c, &[]).unwrap();
    let [ca, cert, key] =
        [files.ca, files.cert, files.key].map(|p| p.to_string_lossy().into_owned());
    let forged = [
        "--cluster-ca",
        &ca,
        "--cluster-cert",
        &cert,
        "--cluster-key",
        &key,
    ];
    let plain = Member::start(Spec::new("plain").joins(members[0].cluster)).await;
    let forged = Member::start(Spec::new("c").with(&forged).joins(members[0].cluster)).await;
    super::hostile::refuses(&members[0], &[&plain, &forged]).await;
}
