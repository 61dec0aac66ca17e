//! The rules of the embedded planner over cards of an office and a house, which have nothing in common.
//!
//! The single steps are tested where they are; how many everyday queries are right, is measured by `amcp eval`.

mod delegation;

use std::path::PathBuf;
use std::sync::LazyLock;

use amcp_protocol::Access;
use proptest::prelude::*;

use super::*;
use crate::Sink;

fn cards(name: &str) -> Arc<Catalogue> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/eval/cards");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    Arc::new(crate::cards::parse(&text).unwrap())
}

fn office() -> &'static Arc<Catalogue> {
    static OFFICE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| cards("office.json"));
    &OFFICE
}

fn home() -> &'static Arc<Catalogue> {
    static HOME: LazyLock<Arc<Catalogue>> = LazyLock::new(|| cards("home.json"));
    &HOME
}

/// The same capabilities, one of them changed.
fn with(catalogue: &Catalogue, name: &str, change: impl Fn(&mut Capability)) -> Arc<Catalogue> {
    let changed = catalogue.iter().map(|contract| {
        let mut capability = contract.capability.clone();
        if capability.name.as_str() == name {
            change(&mut capability);
        }
        Arc::new(Contract::new(capability).unwrap())
    });
    Arc::new(changed.collect())
}

fn input(catalogue: &Arc<Catalogue>, query: &str) -> PlanningInput {
    PlanningInput {
        query: query.to_owned(),
        catalogue: Arc::clone(catalogue),
        access: Access::default(),
        limits: amcp_plan::PlanLimits::default(),
        time: std::time::Duration::from_secs(1),
        llm_calls: 0,
        // A Friday, so that "next Monday" and "last quarter" cross a boundary.
        today: jiff::civil::date(2025, 2, 14),
        history: Vec::new(),
        feedback: None,
        early: Sink::default(),
        spent: Sink::default(),
    }
}

fn plan(catalogue: &Arc<Catalogue>, query: &str) -> Plan {
    let planned = EmbeddedPlanner::new().plan_now(&input(catalogue, query));
    planned.unwrap_or_else(|e| panic!("{query}: {e}")).0
}

/// A task in one line: `light.set room=kitchen`, a reference as `body<t1/text`.
fn line(task: &amcp_protocol::PlannedTaskView) -> String {
    let params = task.params.as_object().unwrap().iter();
    let mut parts: Vec<String> = params
        .map(|(name, value)| match (value.get("$ref"), value.as_str()) {
            (Some(from), _) => format!(
                "{name}<{}{}",
                from.as_str().unwrap(),
                value["path"].as_str().unwrap()
            ),
            (None, Some(text)) => format!("{name}={text}"),
            (None, None) => format!("{name}={value}"),
        })
        .collect();
    parts.sort();
    parts.insert(0, task.capability.to_string());
    parts.join(" ")
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.view().iter().map(line).collect()
}

/// The tasks of queries, and a part of the reason why the rest is not done.
fn check(catalogue: &Arc<Catalogue>, cases: &[(&str, &[&str], &str)]) {
    for (query, wanted, why) in cases {
        let plan = plan(catalogue, query);
        assert_eq!(lines(&plan), *wanted, "{query}: {:?}", plan.unplaced);
        let unplaced = plan.unplaced.join("; ");
        assert!(unplaced.contains(why), "{query}: {unplaced}");
        assert_eq!(why.is_empty(), unplaced.is_empty(), "{query}: {unplaced}");
    }
}

#[test]
fn courtesy_and_context_say_nothing_but_conditions_and_reports_do() {
    check(
        home(),
        &[
            (
                "Morning! Don't forget to lock the front door, cheers",
                &["door.lock.set action=lock door=front"],
                "",
            ),
            (
                "The front door needs locking",
                &["door.lock.set action=lock door=front"],
                "",
            ),
            ("Does the front door need locking?", &[], "front door"),
            ("The front door needs no locking", &[], "no locking"),
            (
                "I'm freezing in here - set the kitchen to nineteen and a half degrees",
                &["heating.set celsius=19.5 room=kitchen"],
                "",
            ),
            ("Anna wrote: lock the front door", &[], "front door"),
            (
                "Should the kitchen get cold, set the kitchen to 22 degrees",
                &[],
                "Should",
            ),
        ],
    );
    check(
        office(),
        &[
            (
                "Why not schedule a meeting with Anna on the 16th at quarter to nine",
                &["calendar.event.create attendee=Anna date=2025-02-16 time=08:45"],
                "",
            ),
            (
                "Email bob@example.com saying call me when you're done",
                &["mail.message.send body=call me when you're done to=bob@example.com"],
                "",
            ),
            (
                "Should the deal close, email bob@example.com saying thanks",
                &[],
                "Should",
            ),
        ],
    );
}

#[test]
fn the_capabilities_are_chosen_that_explain_all_words() {
    check(
        office(),
        &[
            (
                "find the slides about hiring",
                &["file.document.find words=hiring"],
                "",
            ),
            (
                "find the slides about hiring in purple",
                &[],
                "'purple' was not understood",
            ),
            (
                "Email Bob saying we are late",
                &[
                    "crm.contact.find name=Bob",
                    "mail.message.send body=we are late to<t1/email",
                ],
                "",
            ),
            (
                "Translate 'thank you' to German and French",
                &[
                    "text.translate target=German text=thank you",
                    "text.translate target=French text=thank you",
                ],
                "",
            ),
            (
                "Translate 'hello' into Polish and mail it to kim@example.com",
                &[
                    "text.translate target=Polish text=hello",
                    "mail.message.send body<t1/text to=kim@example.com",
                ],
                "",
            ),
            ("Translate it into German", &[], "also needs: text"),
            ("Paint the door", &[], "Paint the door"),
        ],
    );
    check(
        home(),
        &[
            (
                "bathroom 23 degrees",
                &["heating.set celsius=23 room=bathroom"],
                "",
            ),
            (
                "How warm is it in the kitchen? And in the garden?",
                &[
                    "room.climate.get room=kitchen",
                    "room.climate.get room=garden",
                ],
                "",
            ),
            (
                "dim the kitchen to 30 percent and order sushi",
                &["light.set brightness=30 room=kitchen"],
                "order sushi",
            ),
        ],
    );
}

#[test]
fn clauses_that_say_something_only_together_are_read_as_one() {
    check(
        home(),
        &[
            (
                "Add milk and 6 eggs to the shopping list",
                &[
                    "shopping.item.add item=milk",
                    "shopping.item.add item=eggs quantity=6",
                ],
                "",
            ),
            (
                "We're sitting in the garden. How warm is it there?",
                &["room.climate.get room=garden"],
                "",
            ),
            (
                "Dim the light in the kitchen, and nothing in the garden",
                &[],
                "nothing in the garden",
            ),
            ("Bake the light in the kitchen", &[], "Bake"),
        ],
    );
    // A restriction that is not understood leaves the write undone that it restricts.
    let plan = plan(home(), "close the blinds in the bedroom, xyzzy plugh");
    assert_eq!(lines(&plan), [""; 0], "{:?}", plan.unplaced);
}

#[test]
fn a_word_for_what_was_named_before_stands_for_it() {
    check(
        office(),
        &[(
            "Look up Anna in the contacts and email her saying we are late",
            &[
                "crm.contact.find name=Anna",
                "mail.message.send body=we are late to<t1/email",
            ],
            "",
        )],
    );
}

#[test]
fn nothing_is_changed_that_nobody_asked_to_change() {
    let one = |query: &str| plan(office(), query).tasks.len() == 1;
    for query in [
        "Could you email bob@example.com saying we are late?",
        "I need to email bob@example.com saying we are late",
        "I need the Globex deal marked as won",
    ] {
        assert!(one(query), "{query}");
    }
    for query in [
        "Cancel my meeting with Anna tomorrow at 3pm",
        "Don't email bob@example.com saying we are late",
        "Who marked the Globex deal as won?",
        "Did I email bob@example.com saying we are late?",
        "The Globex deal was marked as won",
        "Don't book a hotel in Porto",
        "Cancel the hotel in Porto",
    ] {
        assert_eq!(lines(&plan(office(), query)), [""; 0], "{query}");
    }
    for query in [
        "Is the front door locked?",
        "Don't unlock the garage",
        "stop the music in the kitchen",
        "set the temperature in the kitchen",
    ] {
        assert_eq!(lines(&plan(home(), query)), [""; 0], "{query}");
    }
}

#[test]
fn a_command_that_somebody_else_gives_is_not_carried_out() {
    let home_says = [
        "She told me: lock the front door.",
        "I was told: lock the front door.",
        "Anna: lock the front door",
        "The email from Bob reads: lock the front door.",
        "Anna's text: lock the front door.",
        "Text from Bob: lock the front door",
        "In the film: turn off the lights in the kitchen.",
        "Turn off the lights in the kitchen? Anna does that.",
        "Anna wrote:\n- lock the front door\n- turn off the lights in the kitchen",
        "Bob's note says: it is cold. Set the kitchen to 22 degrees.",
        "She told me - lock the front door",
        "They asked me, lock the front door",
        "Lock the front door, she told me",
    ];
    let office_says = ["The poster reads: send an email to bob@example.com saying hello"];
    for (catalogue, queries) in [(home(), &home_says[..]), (office(), &office_says[..])] {
        for query in queries {
            assert_eq!(lines(&plan(catalogue, query)), [""; 0], "{query}");
        }
    }
    for query in [
        "Please: lock the front door",
        "One more thing: lock the front door",
        "Could you do this for me: lock the front door",
        "Here's what I need: lock the front door",
        "As I said, lock the front door",
        "Anna wrote: it is cold.\n\nLock the front door",
        "It is 15:30, lock the front door",
        "Lock the front door please?",
    ] {
        let locked = ["door.lock.set action=lock door=front"];
        assert_eq!(lines(&plan(home(), query)), locked, "{query}");
    }
}

#[test]
fn words_of_the_capability_itself_are_no_value() {
    let query = "contacts ".repeat(50) + "weat";
    assert_eq!(lines(&plan(office(), &query)), [""; 0]);
}

#[test]
fn what_was_done_is_hypothetical_or_open_is_not_done() {
    let office_says = [
        "We marked the Globex deal as won",
        "I booked a hotel in Porto",
        "Put off my meeting with Anna tomorrow at 3pm",
        "Take edit access to \"budget\" from carol@example.com",
        "My meeting with Anna tomorrow at 3pm",
        "A meeting with Anna tomorrow at 3pm?",
        "When the Globex deal is won, email bob@example.com saying thanks",
        "mark the Globex deal as won or lost",
        "Email bob@example.com saying we are late. Actually, don't.",
        "Email bob@example.com saying we are late only if Anna agrees",
        "I wish I had emailed bob@example.com saying we are late",
        "Bob wants me to share \"budget\" with carol@example.com",
        "Anna should mark the Globex deal as won",
        "The Globex deal, won?",
    ];
    let home_says = [
        "I locked the front door",
        "I like the kitchen light off",
        "Skip the song",
        "Unlocking the garage",
        "If the kitchen is cold, set the kitchen to 22 degrees",
        "set the kitchen and the bathroom to 22 and 18 degrees",
        "Set the kitchen to 20 minutes",
        "make it warmer in the bedroom",
        "Start a timer for ninety-ninety minutes",
    ];
    for (catalogue, queries) in [(office(), &office_says[..]), (home(), &home_says[..])] {
        for query in queries {
            assert_eq!(lines(&plan(catalogue, query)), [""; 0], "{query}");
        }
    }
}

#[test]
fn what_is_told_is_not_even_read() {
    for query in [
        "I already know how warm it is in the kitchen",
        "The kitchen is warm",
    ] {
        assert_eq!(lines(&plan(home(), query)), [""; 0], "{query}");
    }
    assert_eq!(lines(&plan(office(), "The Globex deal was lost")), [""; 0]);
}

#[test]
fn no_name_is_made_of_a_word_for_the_work_of_another_agent() {
    let cards = with(office(), "file.document.find", |card| {
        card.params["properties"]["words"]["x-kind"] = "name".into();
    });
    check(
        &cards,
        &[
            (
                "find files about hiring",
                &["file.document.find words=hiring"],
                "",
            ),
            ("find files about pipeline", &[], "pipeline"),
        ],
    );
}

#[test]
fn words_are_read_as_thumbs_type_them() {
    check(
        home(),
        &[
            (
                "can u plz lock the front door",
                &["door.lock.set action=lock door=front"],
                "",
            ),
            ("pls dont lock the front door", &[], "dont lock the"),
        ],
    );
}

#[test]
fn days_lie_where_the_card_looks() {
    assert_eq!(
        lines(&plan(home(), "energy of the car on the 16th")),
        ["energy.usage.get device=car from=2025-01-16 to=2025-01-16"]
    );
}

#[test]
fn an_amount_is_no_year_and_a_clause_has_one_span() {
    let amount = with(office(), "crm.deal.list", |card| {
        card.params["properties"]["value"] =
            serde_json::json!({"type": "number", "x-role": "least"});
    });
    assert_eq!(
        lines(&plan(&amount, "won deals over 2000")),
        ["crm.deal.list stage=won value=2000"]
    );
    let two = plan(office(), "deals won in Q3 2024 compared to Q2 2024");
    assert_eq!(lines(&two), [""; 0], "{:?}", two.unplaced);
}

#[test]
fn what_no_param_expresses_is_said() {
    let except = with(office(), "crm.deal.list", |card| {
        card.params["properties"]["not_owner"] =
            serde_json::json!({"type": "string", "x-role": "except"});
        card.params["properties"]["value"] =
            serde_json::json!({"type": "number", "x-role": "least"});
    });
    let query = "open deals except Priya";
    assert_eq!(
        lines(&plan(&except, query)),
        ["crm.deal.list not_owner=Priya stage=open"]
    );
    assert_eq!(
        lines(&plan(&except, "won deals over 5,000")),
        ["crm.deal.list stage=won value=5000"]
    );
    check(
        office(),
        &[
            (query, &[], "'except Priya'"),
            ("open deals witout Priya", &[], "witout Priya"),
            ("won deals over 5,000", &[], "'over 5,000'"),
            (
                "All my meetings next week except the ones with Marek",
                &[],
                "'except",
            ),
        ],
    );
}

#[test]
fn an_assumption_is_a_note() {
    let planned = EmbeddedPlanner::new().plan_now(&input(home(), "energy of the car in march"));
    let (plan, notes) = planned.unwrap();
    assert_eq!(
        lines(&plan),
        ["energy.usage.get device=car from=2024-03-01 to=2024-03-31"]
    );
    assert_eq!(notes, ["'march' is taken as March 2024"]);
}

#[test]
fn an_adjunct_that_changes_nothing_is_noted() {
    let planned = EmbeddedPlanner::new().plan_now(&input(
        home(),
        "how warm is it in the kitchen, for my boss, please, quickly",
    ));
    let (plan, notes) = planned.unwrap();
    assert_eq!(lines(&plan), ["room.climate.get room=kitchen"]);
    assert_eq!(plan.unplaced, [""; 0]);
    assert_eq!(notes, ["'for my boss' changed nothing"]);
}

#[test]
fn the_plan_says_which_words_stand_for_what() {
    let plan = plan(home(), "Is the light on in the hallway, and play some jazz");
    let reasoning = plan.reasoning.unwrap();
    assert!(
        reasoning.contains("light.state.get for 'light"),
        "{reasoning}"
    );
}

#[test]
fn what_a_user_may_not_use_is_not_planned() {
    let guarded = with(home(), "music.play", |card| {
        card.required_roles = vec!["dj".into()]
    });
    let query = "play some jazz, and close the blinds in the bedroom";
    let refused = plan(&guarded, query);
    assert_eq!(
        lines(&refused),
        ["blinds.move position=closed room=bedroom"]
    );
    assert_eq!(refused.unplaced, ["play some jazz"]);
    let mut input = input(&guarded, query);
    input.access = Access::new(["dj".to_owned()], Arc::default());
    assert_eq!(
        EmbeddedPlanner::new()
            .plan_now(&input)
            .unwrap()
            .0
            .tasks
            .len(),
        2
    );
}

#[test]
fn a_task_that_the_compiler_refuses_costs_only_its_clause() {
    let picky = with(home(), "music.play", |card| {
        card.params["maxProperties"] = 0.into()
    });
    let plan = plan(
        &picky,
        "play some jazz, and close the blinds in the bedroom",
    );
    assert_eq!(lines(&plan), ["blinds.move position=closed room=bedroom"]);
    assert!(
        plan.unplaced[0].starts_with("play some jazz – "),
        "{:?}",
        plan.unplaced
    );
}

#[test]
fn one_index_serves_all_queries_of_a_catalogue() {
    let planner = EmbeddedPlanner::new();
    let first = planner.index(home());
    // Another catalogue of the same contracts, as the registry makes one for each request.
    let same: Catalogue = home().iter().cloned().collect();
    assert!(Arc::ptr_eq(&first, &planner.index(&same)));
    assert!(!Arc::ptr_eq(&first, &planner.index(office())));
    for _ in 0..10 {
        planner.index(&with(office(), "none", |_| ()));
    }
    assert!(planner.indices.lock().unwrap().len() <= KEPT);
}

#[test]
fn an_index_is_built_once_and_nobody_waits_for_another_one_to_be_built() {
    let planner = EmbeddedPlanner::new();
    let built = planner.index_by(home(), |catalogue| {
        assert!(planner.indices.try_lock().is_ok(), "the lock is held");
        planner.index(office());
        Index::new(catalogue)
    });
    for (catalogue, index) in [(home(), &built), (office(), &planner.index(office()))] {
        let again = planner.index_by(catalogue, |_| panic!("it is known"));
        assert!(Arc::ptr_eq(&again, index));
    }
}

#[test]
fn a_filler_for_other_planners_says_what_is_unmistakable() {
    let today = jiff::civil::date(2025, 2, 14);
    let params = |query: &str, name: &str| {
        let fill = QueryFill::new(query, today);
        Value::Object(fill.fill(&office().get(name).unwrap().capability))
    };
    let query = "Which deals did we win in Q4 2024?";
    let wanted =
        serde_json::json!({"stage": "won", "closed_from": "2024-10-01", "closed_to": "2024-12-31"});
    assert_eq!(params(query, "crm.deal.list"), wanted);
    assert_eq!(params(query, "text.translate"), serde_json::json!({}));
    assert_eq!(
        params("deals except the won ones", "crm.deal.list"),
        serde_json::json!({})
    );
}

#[test]
fn ranking_puts_what_is_meant_first() {
    let ranked = ranked("how humid is the garden", home());
    assert_eq!(ranked[0].as_str(), "room.climate.get");
}

#[test]
fn a_greeting_is_answered_with_what_there_is() {
    for query in ["hello", "Help!", "what can you do?"] {
        let plan = plan(home(), query);
        let text = plan.answer_directly.expect(query);
        assert!(
            text.contains("light.set") && text.contains("Ask for example"),
            "{text}"
        );
        assert_eq!((plan.tasks.len(), plan.unplaced.len()), (0, 0));
    }
    let asked = plan(home(), "help me with the light in the kitchen");
    assert_eq!(asked.answer_directly, None);
}

#[test]
fn hostile_queries_are_planned_or_unplaced() {
    let long = |part: &str| part.repeat(16 * 1024 / part.len());
    let queries = [
        String::new(),
        " \n\t ".into(),
        "?".into(),
        "the of and".into(),
        long("and "),
        long("light in the kitchen and "),
        long("a"),
        long("'"),
        long("\"x\" "),
        long("\" "),
        long("("),
        long("1 + "),
        long("1,"),
        long("Q4 2024 and "),
        long("kitchen "),
        long("xyzzy1 plugh2 "),
        long("deals of Anna and "),
        long("translate the mail of the deal. "),
        long("é̂🦀 "),
        long("SELECT "),
        "say \"unclosed and 'also unclosed and the light in the kitchen".into(),
        "\u{202e}light in\u{0} kitchen\u{feff}".into(),
    ];
    for catalogue in [home(), office()] {
        for query in &queries {
            let plan = plan(catalogue, query);
            let head: String = query.chars().take(40).collect();
            assert!(
                !(plan.tasks.is_empty() && plan.unplaced.is_empty()),
                "{head}"
            );
            assert!(plan.tasks.len() <= 32, "{head}");
            assert!(
                plan.unplaced.iter().map(String::len).sum::<usize>() < 16 * 1024,
                "{head}"
            );
        }
    }
}

/// Words that steer the planner, among others.
fn any_words() -> impl Strategy<Value = String> {
    let words = "light in kitchen and then , . about deal for Q4 2024 last quarter translate : \"a b\" ' it won 12 * ( to \n 1. - tomorrow \
                 at 3pm SELECT from of What's the mail Anna not except over between since on";
    let word = prop_oneof![
        prop::sample::select(words.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned),
        "\\PC{1,8}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn invariant_every_text_is_planned_or_unplaced(query in prop_oneof![any_words(), ".{0,200}"]) {
        for catalogue in [home(), office()] {
            let plan = plan(catalogue, &query);
            prop_assert!(!(plan.tasks.is_empty() && plan.unplaced.is_empty()) || plan.answer_directly.is_some());
            for task in &plan.tasks {
                let unknown: Vec<String> = task.references.iter().map(|r| r.place.clone()).collect();
                let contract = catalogue.get(task.capability.as_str()).unwrap();
                prop_assert!(contract.params.violations_outside(&task.params, &unknown).is_empty());
            }
        }
    }
}
