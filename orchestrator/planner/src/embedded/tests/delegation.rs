//! Orchestrators of domains: what each does itself, and which words it hands to whom.

use super::*;
use crate::domain::{self, Domain};

/// What the orchestrator of `own` plans with beside those of the `others`; each holds its part of all capabilities.
fn seen_by(own: &str, others: &[&str]) -> Arc<Catalogue> {
    let all = office().iter().chain(home().iter());
    let all: Catalogue = all
        .filter(|c| !c.capability.name.as_str().starts_with("orchestrate."))
        .cloned()
        .collect();
    let part = |domain: Option<&Domain>| -> Catalogue {
        let holds = |name: &str| domain::holds(domain, name);
        all.iter()
            .filter(|c| holds(c.capability.name.as_str()))
            .cloned()
            .collect()
    };
    let offer = |other: &&str| {
        let domain: Option<Domain> = (*other != "any").then(|| other.parse().unwrap());
        let card = domain::capability(domain.as_ref(), &part(domain.as_ref()))
            .expect("it has something of its own");
        Arc::new(Contract::new(card).expect("a sound card"))
    };
    let own: Domain = own.parse().unwrap();
    Arc::new(
        part(Some(&own))
            .iter()
            .cloned()
            .chain(others.iter().map(offer))
            .collect(),
    )
}

const DESK: &str = "desk=mail.*,crm.*,calendar.*,text.*";

#[test]
fn each_domain_does_its_own_and_hands_on_the_rest_in_its_own_words() {
    let query = "Which deals did we win in May and how warm is it in the kitchen?";
    let house = seen_by("house=light.*,heating.*,room.*", &[DESK]);
    assert_eq!(
        lines(&plan(&house, query)),
        [
            "orchestrate.desk query=Which deals did we win in May",
            "room.climate.get room=kitchen"
        ]
    );
    let desk = seen_by(DESK, &["house=light.*,heating.*,room.*"]);
    assert_eq!(
        lines(&plan(&desk, query)),
        [
            "crm.deal.list closed_from=2024-05-01 closed_to=2024-05-31 stage=won",
            "orchestrate.house query=how warm is it in the kitchen"
        ]
    );
}

#[test]
fn what_belongs_together_goes_in_one_piece() {
    let house = seen_by("house=light.*,room.*", &[DESK, "fun=music.*"]);
    for (query, wanted) in [
        (
            "Show the won deals of May. Then translate them into German, and play some jazz",
            &[
                "orchestrate.desk query=Show the won deals of May. Then translate them into German",
                "orchestrate.fun query=play some jazz",
            ][..],
        ),
        (
            "Which deals did we win in May? And in June? Is the light on in the garden?",
            &[
                "orchestrate.desk query=Which deals did we win in May? And in June",
                "light.state.get room=garden",
            ],
        ),
        (
            "Play some jazz; is the light on in the garden; list the open deals",
            &[
                "orchestrate.fun query=Play some jazz",
                "light.state.get room=garden",
                "orchestrate.desk query=list the open deals",
            ],
        ),
    ] {
        let made = plan(&house, query);
        assert_eq!(lines(&made), wanted, "{query}: {:?}", made.unplaced);
        assert!(made.unplaced.is_empty(), "{query}: {:?}", made.unplaced);
    }
}

#[test]
fn what_nobody_can_do_is_said_and_not_handed_on() {
    let house = seen_by("house=light.*", &[DESK]);
    let made = plan(
        &house,
        "Is the light on in the garden, and book me a flight to Mars",
    );
    assert_eq!(lines(&made), ["light.state.get room=garden"]);
    assert_eq!(made.unplaced, ["book me a flight to Mars"]);
    let made = plan(&house, "Don't translate 'hello' into German");
    assert_eq!(lines(&made), [""; 0]);
}

#[test]
fn of_several_that_could_the_one_that_is_there_for_the_least_else_is_asked() {
    let house = seen_by("house=light.*", &["any", "fun=music.*"]);
    assert_eq!(
        lines(&plan(&house, "Play some jazz")),
        ["orchestrate.fun query=Play some jazz"]
    );
    assert_eq!(
        lines(&plan(&house, "list the open deals")),
        ["orchestrate.any query=list the open deals"]
    );
}
