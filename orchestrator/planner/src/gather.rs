//! Gives a task that takes any results, such as a report, those that the query means for it: all of them where they are several.
//!
//! Adds no task; the plan compiler does.

use amcp_plan::Catalogue;
use amcp_protocol::{Consumes, Contract, ProposedPlan};
use serde_json::json;

/// Words that mean more than what was said last.
const ALL: &str = "both them these those everything together results";

/// Writes references into a plan whose tasks have no ids; `clauses` has for each task the part of the query that it
/// stands for. Of equal tasks of one part that take any results one stays.
pub(crate) fn gather(
    plan: &mut ProposedPlan,
    clauses: &mut Vec<usize>,
    query: &str,
    catalogue: &Catalogue,
) {
    let takes_any = |name: &str| {
        catalogue
            .get(name)
            .is_some_and(|c| c.capability.takes_any())
    };
    let mut at = 0;
    while let Some(task) = plan.tasks.get(at) {
        let mut before = plan.tasks.iter().zip(&*clauses).take(at);
        let twin = before.any(|(other, clause)| other == task && clauses.get(at) == Some(clause));
        if twin && takes_any(&task.capability) {
            plan.tasks.remove(at);
            clauses.remove(at);
        } else {
            at += 1;
        }
    }
    let mut words = query.split(|c: char| !c.is_alphanumeric());
    let all = words.any(|word| ALL.split(' ').any(|all| all.eq_ignore_ascii_case(word)));
    let names: Vec<String> = plan.tasks.iter().map(|t| t.capability.clone()).collect();
    let card = |at: usize| catalogue.get(names.get(at)?);
    let together = |a: usize, b: usize| clauses.get(a) == clauses.get(b);
    // The rows of an analysis are in it already.
    let is_used = |from: &Contract, at: usize| {
        let users = (0..names.len()).filter(|&user| user != at && together(user, at));
        let users = users.filter_map(card).map(|user| &user.capability);
        let mut users = users.filter(|user| !user.takes_any());
        users.any(|user| user.consumes.iter().any(|c| c.takes(&from.capability)))
    };
    for (at, task) in plan.tasks.iter_mut().enumerate() {
        let param = card(at).and_then(|card| list_of_any(card));
        let Some(param) = param.filter(|param| !task.params.contains_key(*param)) else {
            continue;
        };
        let means = |from: &usize| {
            let contract = card(*from).filter(|card| !card.capability.takes_any());
            contract.is_some_and(|contract| match together(*from, at) {
                true => !is_used(contract, *from),
                false => all && *from < at,
            })
        };
        let reference = |from: usize| json!({"$ref": format!("t{}", from + 1)});
        let meant: Vec<usize> = (0..names.len()).filter(means).collect();
        let value = match meant.as_slice() {
            [] => continue,
            // What the taker asks for by name, or what it is made into, is the compiler's choice.
            [only]
                if card(at)
                    .zip(card(*only))
                    .is_some_and(|(to, from)| asks_for(to, from)) =>
            {
                continue;
            }
            [only] => reference(*only),
            several => several.iter().map(|from| reference(*from)).collect(),
        };
        task.params.insert(param.to_owned(), value);
    }
}

/// Whether a task takes a value type of another one by its name.
fn asks_for(to: &Contract, from: &Contract) -> bool {
    let mut types = to.capability.consumes.iter().flat_map(|c| &c.types);
    types.any(|asked| {
        from.capability
            .produces
            .iter()
            .any(|p| p.value_type == *asked)
    })
}

/// The param that takes any results, if it takes a list.
fn list_of_any(contract: &Contract) -> Option<&str> {
    let consumes = contract.capability.consumes.iter();
    let mut any = consumes.filter(|c| c.types.iter().any(|t| t == Consumes::ANY));
    let param = any.next()?.param.as_str();
    let list = json!({param: []});
    (!contract.params.breaks_at(&list, &format!("/{param}"))).then_some(param)
}
