use amcp_protocol::{AgentCard, Capability};

use super::*;
use crate::directory::GRACE;

const NOW: Duration = Duration::ZERO;

fn id(agent: &str) -> AgentId {
    AgentId::new(agent).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// An agent that offers `a.x` in a version; its port is its incarnation.
fn agent(name: &str, version: u64, incarnation: u64) -> Registration<u64> {
    let capability = Capability {
        version: version.to_string(),
        ..Capability::new("a.x", "It does.")
    };
    let card = AgentCard::new(name, "An agent.", vec![capability]);
    Registration::new(card, incarnation, incarnation)
}

/// A directory that prints its changes and agents.
#[derive(Default)]
struct Said(Directory<u64>);

impl Said {
    fn here(&mut self, joins: Registration<u64>) -> bool {
        self.0.register(joins, NOW).is_ok()
    }

    fn there(&mut self, of: &str, joins: Registration<u64>) -> bool {
        let joins = (joins, AgentState::Ready);
        self.0.join_from(&node(of), joins, NOW).is_ok()
    }

    /// The agents that joined and left since the last call.
    fn changes(&mut self) -> Vec<String> {
        let said = |change| match change {
            Change::Joined(entry) => format!("+{}", named(&entry)),
            Change::Left(entry) => format!("-{}", named(&entry)),
        };
        let changes = self.0.settle(|_| true, NOW);
        changes.into_iter().map(said).collect()
    }

    fn present(&self) -> Vec<String> {
        let present = self.0.entries().filter(|entry| entry.is_present());
        present.map(|entry| named(entry)).collect()
    }
}

fn named(entry: &Entry<u64>) -> String {
    let of = entry.node.as_ref().map_or("", NodeName::as_str);
    format!("{}@{of}:{}", entry.id(), entry.incarnation)
}

#[test]
fn a_refused_agent_joins_when_whoever_was_in_its_way_is_gone() {
    type End = fn(&mut Directory<u64>);
    let ends: [End; 3] = [
        |d| d.leave_from(&node("c"), &id("old"), 1, NOW),
        |d| d.lose(&node("c"), NOW),
        |d| {
            d.begin_whole(&node("c"));
            d.end_whole(&node("c"), NOW);
        },
    ];
    for newcomer in [agent("new", 2, 2), agent("old", 1, 2)] {
        for end in ends {
            let mut directory = Said::default();
            assert!(directory.there("c", agent("old", 1, 1)));
            assert!(!directory.there("b", newcomer.clone()));
            assert_eq!(directory.changes(), ["+old@c:1"]);
            end(&mut directory.0);
            let joined = format!("+{}@b:2", newcomer.card.id);
            assert_eq!(directory.changes(), ["-old@c:1".to_owned(), joined]);
            assert_eq!(directory.0.waiting(), 0);
            assert!(directory.there("b", newcomer.clone()), "it is there");
        }
    }
}

#[test]
fn a_refused_agent_that_is_gone_meanwhile_does_not_join() {
    type End = fn(&mut Directory<u64>);
    let ends: [(End, &[&str]); 6] = [
        (|d| d.leave_from(&node("b"), &id("new"), 2, NOW), &[]),
        (|d| d.lose(&node("b"), NOW), &[]),
        (
            |d| {
                d.begin_whole(&node("b"));
                d.end_whole(&node("b"), NOW);
            },
            &[],
        ),
        // News of other agents does not end its wait.
        (
            |d| d.leave_from(&node("b"), &id("new"), 7, NOW),
            &["new@b:2"],
        ),
        (
            |d| d.leave_from(&node("c"), &id("new"), 2, NOW),
            &["new@b:2"],
        ),
        (|d| d.lose(&node("d"), NOW), &["new@b:2"]),
    ];
    for (end, there) in ends {
        let mut directory = Said::default();
        directory.there("c", agent("old", 1, 1));
        directory.there("b", agent("new", 2, 2));
        end(&mut directory.0);
        directory.0.lose(&node("c"), NOW);
        directory.changes();
        assert_eq!(directory.present(), there);
        assert_eq!(directory.0.waiting(), 0);
    }
    let mut directory = Said::default();
    directory.there("c", agent("old", 1, 1));
    directory.there("b", agent("new", 2, 2));
    directory.0.lose(&node("c"), NOW);
    let changes = directory.0.settle(|&port| port != 2, NOW);
    assert_eq!(
        changes.len(),
        2,
        "an unusable agent must not join: {changes:?}"
    );
    assert_eq!(directory.0.waiting(), 0);
}

#[test]
fn agents_of_other_nodes_give_way_to_one_of_this_node_and_come_back() {
    for (mine, theirs) in [("mine", agent("one", 1, 1)), ("one", agent("one", 1, 1))] {
        let mut directory = Said::default();
        directory.there("b", theirs);
        directory.there("c", agent("two", 1, 2));
        directory.changes();
        let clashes = agent(mine, 2, 9);
        assert!(directory.here(clashes.clone()));
        assert_eq!(directory.present(), [format!("{mine}@:9")]);
        assert_eq!(directory.0.waiting(), 2);
        assert!(
            !directory.there("b", agent("three", 1, 3)),
            "nor do new ones come"
        );
        assert!(directory.here(clashes), "it asks twice");

        directory.changes();
        assert_eq!(directory.present(), [format!("{mine}@:9")]);
        directory.0.leave(&id(mine), 9, NOW);
        directory.changes();
        assert_eq!(directory.present(), ["one@b:1", "three@b:3", "two@c:2"]);
    }
}

#[test]
fn agents_of_this_node_do_not_give_way() {
    let mut directory = Said::default();
    assert!(directory.here(agent("one", 1, 1)));
    assert!(directory.there("b", agent("two", 1, 2)));
    directory.changes();
    assert!(
        !directory.here(agent("three", 2, 3)),
        "one shares the contract"
    );
    assert!(!directory.here(agent("one", 1, 4)));
    assert!(!directory.there("b", agent("one", 1, 5)));
    assert_eq!(directory.changes(), [""; 0]);
    assert_eq!(directory.present(), ["one@:1", "two@b:2"]);
    assert_eq!(directory.0.waiting(), 1, "only the other node's waits");
}

#[test]
fn an_unsound_agent_does_not_wait() {
    let mut directory = Said::default();
    let card = AgentCard::new("empty", "An agent.", Vec::new());
    assert!(!directory.there("b", Registration::new(card, 1, 1_u64)));
    assert_eq!(directory.0.waiting(), 0);
}

#[test]
fn a_full_account_touches_only_what_changed() {
    let mut directory = Said::default();
    directory.here(agent("mine", 1, 1));
    for (of, name) in [
        ("b", "stays"),
        ("b", "again"),
        ("b", "goes"),
        ("c", "other"),
    ] {
        assert!(directory.there(of, agent(name, 1, 1)));
    }
    directory.there("b", agent("mine", 1, 7));
    directory.there("b", agent("other", 1, 7));
    directory.changes();
    let stays = Arc::clone(directory.0.agent(&id("stays")).unwrap());
    let _task = stays.begin();

    directory.0.begin_whole(&node("b"));
    assert_eq!(
        directory.present().len(),
        5,
        "no agent leaves before the account is complete"
    );
    let relinked = Registration {
        port: 8,
        ..agent("stays", 1, 1)
    };
    assert!(directory.there("b", relinked));
    assert!(directory.there("b", agent("again", 1, 2)));
    directory.there("b", agent("other", 1, 7));
    directory.0.end_whole(&node("b"), NOW);
    assert_eq!(
        directory.changes(),
        ["-again@b:1", "+again@b:2", "-goes@b:1"]
    );
    let now = directory.0.agent(&id("stays")).unwrap();
    assert_eq!((now.port, now.status().in_flight), (8, 1));
    let mut ports = super::super::tests::ready(&directory.0, &"a.x".parse().unwrap());
    ports.sort_unstable();
    assert_eq!(ports, [1, 1, 2, 8], "mine, other, again, stays");
    assert_eq!(directory.0.waiting(), 1, "b's 'other', and 'mine' no more");
}

#[test]
fn a_node_that_is_lost_during_its_account_may_begin_another() {
    let mut directory = Said::default();
    directory.there("b", agent("one", 1, 1));
    directory.0.begin_whole(&node("b"));
    directory.0.lose(&node("b"), NOW);
    directory.there("b", agent("one", 1, 1));
    directory.0.end_whole(&node("b"), NOW);
    assert_eq!(directory.present(), ["one@b:1"]);
}

#[test]
fn a_node_says_how_its_own_agents_fare() {
    let mut directory = Said::default();
    directory.here(agent("mine", 1, 1));
    directory.there("c", agent("cs", 1, 1));
    directory.there("b", agent("bs", 1, 1));
    directory.there("b", agent("mine", 1, 2));
    for name in ["mine", "cs", "bs", "nobody"] {
        let told = AgentState::Quarantined;
        directory.0.report_from(&node("b"), &id(name), told, NOW);
    }
    let states = |d: &Directory<u64>| -> Vec<_> {
        let agents = d.agents().into_iter();
        agents.map(|a| (a.agent.to_string(), a.state)).collect()
    };
    let of = |name: &str, state| (name.to_owned(), state);
    let expected = [
        of("bs", AgentState::Quarantined),
        of("cs", AgentState::Ready),
        of("mine", AgentState::Ready),
    ];
    assert_eq!(states(&directory.0), expected);

    directory.0.leave(&id("mine"), 1, NOW);
    directory.changes();
    assert_eq!(
        directory.0.state(&id("mine")),
        Some(AgentState::Quarantined),
        "what was said while it waited"
    );
}

#[test]
fn who_was_given_up_is_remembered_only_by_its_own_node() {
    let mut directory = Said::default();
    directory.there("b", agent("theirs", 1, 1));
    directory
        .0
        .report_from(&node("b"), &id("theirs"), AgentState::GivenUp, NOW);
    directory.there("b", agent("both", 1, 1));
    directory.0.lose(&node("b"), NOW);
    assert!(directory.0.report(&id("both"), AgentState::GivenUp, NOW));
    directory.0.forget(GRACE * 2);
    let known: Vec<_> = directory.0.agents().into_iter().map(|a| a.agent).collect();
    assert_eq!(known, [id("both")]);
}
