//! Orchestrators of domains: what each does itself, and which words it hands to whom.
//!
//! Two catalogues of capabilities that have nothing in common, divided in different ways: no domain is known by name.

use super::*;
use crate::domain::{self, Domain};

/// What the orchestrator of `own` plans with beside those of the `others`; each holds its part of all capabilities.
fn seen_by(own: Option<&str>, others: &[&str], all: &Catalogue) -> Arc<Catalogue> {
    let part = |domain: Option<&Domain>| -> Catalogue {
        let holds = |name: &str| domain::holds(domain, name);
        let part = all
            .iter()
            .filter(|c| holds(c.capability.name.as_str()))
            .cloned();
        part.collect()
    };
    let offer = |domain: Option<&Domain>| {
        let card = domain::capability(domain, &part(domain)).expect("it has something of its own");
        Arc::new(Contract::new(card).expect("a sound card"))
    };
    let others = others.iter().map(|other| match *other {
        "any" => offer(None),
        other => offer(Some(&other.parse().unwrap())),
    });
    let domain: Option<Domain> = own.map(|own| own.parse().unwrap());
    let all: Catalogue = all.iter().cloned().chain(others).collect();
    let seen = all
        .iter()
        .filter(|c| domain::holds(domain.as_ref(), c.capability.name.as_str()));
    Arc::new(seen.cloned().collect())
}

const FINANCE: &str = "finance=finance.*,document.*,text.*";

#[test]
fn each_domain_does_its_own_and_hands_on_the_rest_in_its_own_words() {
    let query = "How much did I spend in May and what's the weather in Paris?";
    let weather = seen_by(Some("weather"), &[FINANCE], mesh());
    let made = plan(&weather, query);
    assert_eq!(
        lines(&made),
        [
            "orchestrate.finance query=How much did I spend in May",
            "weather.get city=Paris"
        ]
    );
    assert!(made.unplaced.is_empty(), "{:?}", made.unplaced);
    let finance = seen_by(Some(FINANCE), &["weather"], mesh());
    assert_eq!(
        lines(&plan(&finance, query)),
        [
            "finance.db.query month=2024-05",
            "orchestrate.weather query=what's the weather in Paris"
        ]
    );
}

#[test]
fn what_belongs_together_goes_in_one_piece() {
    let weather = seen_by(Some("weather"), &[FINANCE, "fun=joke.*"], mesh());
    for (query, wanted) in [
        (
            "Produce an expense summary report for Q4 2024",
            &["orchestrate.finance query=Produce an expense summary report for Q4 2024"][..],
        ),
        (
            "Show my expenses for May. Then analyze them, and tell me a joke",
            &[
                "orchestrate.finance query=Show my expenses for May. Then analyze them",
                "orchestrate.fun query=tell me a joke",
            ],
        ),
        (
            "What did I spend in May? And in June? Will it rain in Rome?",
            &[
                "orchestrate.finance query=What did I spend in May? And in June",
                "weather.get city=Rome",
            ],
        ),
        (
            "Tell me a joke; what's the weather in Rome; list all expenses of 2024",
            &[
                "orchestrate.fun query=Tell me a joke",
                "weather.get city=Rome",
                "orchestrate.finance query=list all expenses of 2024",
            ],
        ),
    ] {
        let made = plan(&weather, query);
        assert_eq!(lines(&made), wanted, "{query}");
        assert!(made.unplaced.is_empty(), "{query}: {:?}", made.unplaced);
    }
}

#[test]
fn what_nobody_can_do_is_said_and_not_handed_on() {
    let weather = seen_by(Some("weather"), &[FINANCE], mesh());
    let made = plan(
        &weather,
        "The weather in Rome, and book me a flight to Mars",
    );
    assert_eq!(lines(&made), ["weather.get city=Rome"]);
    assert_eq!(made.unplaced, ["book me a flight to Mars"]);
}

#[test]
fn without_a_domain_nothing_is_handed_on() {
    let all = seen_by(None, &["finance", "weather"], mesh());
    assert_eq!(all.len(), mesh().len(), "no other orchestrator");
    let made = lines(&plan(&all, "The weather in Paris and a programming joke"));
    assert_eq!(
        made,
        ["weather.get city=Paris", "joke.get topic=programming"]
    );
}

#[test]
fn of_several_that_could_the_one_that_is_there_for_the_least_else_is_asked() {
    let weather = seen_by(Some("weather"), &["any", "fun=joke.*"], mesh());
    assert_eq!(
        lines(&plan(&weather, "Tell me a joke")),
        ["orchestrate.fun query=Tell me a joke"]
    );
    assert_eq!(
        lines(&plan(&weather, "List all expenses of 2024")),
        ["orchestrate.any query=List all expenses of 2024"]
    );
}

#[test]
fn another_mesh_is_divided_as_well() {
    let home = seen_by(
        Some("home=device.*,kitchen.*"),
        &["desk=calendar.*,mail.*,ticket.*", "travel"],
        office(),
    );
    let made = plan(
        &home,
        "Turn on the light in the kitchen, find me a train from Bonn to Berlin, and search for tickets about the printer",
    );
    let capabilities: Vec<_> = made.tasks.iter().map(|t| t.capability.as_str()).collect();
    assert_eq!(
        capabilities,
        ["device.light.set", "orchestrate.travel", "orchestrate.desk"]
    );
    let query = |at: usize| made.tasks[at].params["query"].as_str().unwrap();
    assert_eq!(query(1), "find me a train from Bonn to Berlin");
    assert_eq!(query(2), "search for tickets about the printer");
}
