//! Tables of the membership's actions after given events.

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn info(text: &str, incarnation: u64) -> NodeInfo {
    NodeInfo {
        name: name(text),
        incarnation,
        build: "0.1.0".into(),
        address: format!("{text}:7000"),
        http: None,
        roles: vec![],
        domain: None,
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A node `m` and its clock.
struct Case {
    machine: Membership,
    now: Duration,
}

impl Case {
    fn new(seeds: &[&str]) -> Self {
        let seeds: Vec<_> = seeds.iter().map(|s| Seed::Host((*s).into())).collect();
        Self {
            machine: Membership::new(name("m"), 100, &seeds, 7),
            now: ms(0),
        }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.machine.step(self.now, event)
    }

    /// Lets time pass with ticks every 200 ms, on which each link is as silent as told.
    fn pass(&mut self, time: Duration, silence: impl Fn(Duration) -> Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut all = Vec::new();
        while self.now < end {
            self.now += ms(200);
            let links = self.machine.members().filter_map(Member::link);
            let silences = links.map(|l| (l.id, silence(self.now))).collect();
            all.extend(self.step(Event::Tick(silences)));
        }
        all
    }

    fn quiet(&mut self, time: Duration) -> Vec<Action> {
        self.pass(time, |_| ms(0))
    }

    fn connect(&mut self, link: LinkId, peer: NodeInfo, dial: Option<DialId>) -> Vec<Action> {
        self.step(Event::Connected { link, peer, dial })
    }

    /// A link that the peer dialled and that is usable.
    fn linked(&mut self, link: LinkId, peer: &NodeInfo) {
        assert_eq!(self.connect(link, peer.clone(), None), [Action::Open(link)]);
        let joined = Action::Announce(peer.clone(), News::Joined);
        assert!(self.step(Event::Ready(link)).contains(&joined));
    }

    fn standing(&self, of: &str) -> &Standing {
        &self.machine.members[&name(of)].standing
    }
}

fn dials(actions: &[Action]) -> Vec<(DialId, &str)> {
    let mut dials = Vec::new();
    for action in actions {
        if let Action::Dial(id, address) = action {
            dials.push((*id, address.as_str()));
        }
    }
    dials
}

fn closes(actions: &[Action]) -> Vec<(LinkId, Cause)> {
    let mut closes = Vec::new();
    for action in actions {
        if let Action::Close(id, cause) = action {
            closes.push((*id, cause.clone()));
        }
    }
    closes
}

fn failure(veto: Option<Veto>) -> DialFailure {
    DialFailure {
        text: "refused".into(),
        veto,
    }
}

#[test]
fn seeds_are_looked_up_and_dialled_for_ever_with_growing_waits() {
    let mut case = Case::new(&["s:7000"]);
    let mut looked = Vec::new();
    for _ in 0..300 {
        let actions = case.quiet(ms(200));
        if actions.is_empty() {
            continue;
        }
        assert_eq!(actions, [Action::Look(0)]);
        looked.push(case.now);
        let found = case.step(Event::Found(0, Ok(vec!["10.0.0.1:7000".into()])));
        let [(dial, "10.0.0.1:7000")] = dials(&found)[..] else {
            panic!("dialled {found:?}");
        };
        case.step(Event::DialFailed(dial, failure(None)));
    }
    let waits: Vec<_> = looked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] <= ms(400), "the first wait is short: {waits:?}");
    assert!(waits.iter().all(|wait| *wait <= ms(5200)), "{waits:?}");
    assert!(waits.last().unwrap() >= &ms(2500), "{waits:?}");
    let (_, why) = case.machine.strangers().next().expect("no node was met");
    assert_eq!(why, "refused");
}

#[test]
fn an_address_that_leads_to_itself_is_not_dialled_again() {
    let mut case = Case::new(&["m:7000"]);
    case.quiet(ms(200));
    let found = case.step(Event::Found(0, Ok(vec!["10.0.0.9:7000".into()])));
    let (dial, _) = dials(&found)[0];
    assert_eq!(
        case.machine.admit(case.now, &info("m", 100), Some(dial)),
        Err(Veto::Itself)
    );
    case.step(Event::DialFailed(dial, failure(Some(Veto::Itself))));
    assert_eq!(case.quiet(ms(60_000)), []);
}

#[test]
fn greetings_are_judged() {
    let mut case = Case::new(&[]);
    let now = case.now;
    assert_eq!(
        case.machine.admit(now, &info("m", 99), None),
        Err(Veto::NameTaken)
    );
    assert_eq!(
        case.machine.admit(now, &info("m", 100), None),
        Err(Veto::Itself)
    );
    assert_eq!(case.machine.admit(now, &info("p", 5), None), Ok(()));
    case.linked(1, &info("p", 5));
    let mut judged = |incarnation, now| case.machine.admit(now, &info("p", incarnation), None);
    assert_eq!(judged(4, now), Err(Veto::NameTaken), "an earlier boot");
    assert_eq!(judged(6, now), Ok(()), "a later boot");
    assert_eq!(
        judged(5, now),
        Err(Veto::Duplicate),
        "may have begun before"
    );
    assert_eq!(
        judged(5, now + SETTLE),
        Ok(()),
        "the dialler has lost its link"
    );
    case.step(Event::Leave);
    assert_eq!(
        case.machine.admit(now, &info("q", 1), None),
        Err(Veto::Leaving)
    );
}

#[test]
fn a_later_boot_supersedes_and_an_earlier_one_stays_out_until_the_later_is_surely_gone() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    let actions = case.connect(2, info("p", 6), None);
    assert_eq!(closes(&actions), [(1, Cause::Superseded)]);
    assert_eq!(actions.last(), Some(&Action::Open(2)));
    case.step(Event::Ready(2));
    assert_eq!(case.step(Event::Ready(1)), [], "a link that is no more");
    let mut judged = |after: Duration| case.machine.admit(after, &info("p", 5), None);
    assert_eq!(
        judged(FENCE * 2),
        Err(Veto::NameTaken),
        "the later is linked"
    );
    case.step(Event::Closed(2, "eof".into()));
    let late = case.connect(3, info("p", 5), None);
    assert_eq!(closes(&late), [(3, Cause::Refused(Veto::NameTaken))]);
    case.now += FENCE;
    assert_eq!(
        case.connect(4, info("p", 5), None),
        [Action::Open(4)],
        "a clock that was set back"
    );
    assert_eq!(case.machine.members[&name("p")].info.incarnation, 5);
}

#[test]
fn hearsay_makes_us_dial_and_keeps_nobody_out() {
    let mut lie = info("p", u64::MAX);
    lie.address = "liar:7000".into();
    // Hearsay about a member that was never met, one that is linked, and one that is lost.
    let mut unmet = Case::new(&[]);
    unmet.step(Event::Members(vec![lie.clone()]));
    assert_eq!(dials(&unmet.quiet(ms(200))), [(1, "liar:7000")]);
    unmet.step(Event::DialFailed(1, failure(None)));
    unmet.step(Event::Members(vec![info("p", 5)]));
    assert_eq!(dials(&unmet.quiet(ms(200))), [(2, "p:7000")]);
    unmet.step(Event::DialFailed(2, failure(None)));
    unmet.linked(1, &info("p", 5));
    unmet.step(Event::Members(vec![lie.clone()]));
    assert_eq!(unmet.machine.members[&name("p")].info, info("p", 5));
    unmet.step(Event::Closed(1, "eof".into()));
    unmet.step(Event::Members(vec![lie]));
    let said = unmet.quiet(ms(2_000));
    assert_eq!(dials(&said)[0].1, "liar:7000");
    unmet.linked(2, &info("p", 5));
}

#[test]
fn what_others_say_of_a_member_that_could_not_be_met_like_that_is_dropped() {
    let mut nowhere = info("p", 1);
    nowhere.address = ":7000".into();
    let mut rude = info("q", 1);
    rude.build = "\u{1b}[2J".into();
    let mut endless = info("r", 1);
    endless.domain = Some("x".repeat(100_000));
    let mut case = Case::new(&[]);
    case.step(Event::Members(vec![nowhere, rude, endless]));
    assert_eq!(case.machine.members().count(), 0);
}

#[test]
fn dials_are_few_at_a_time_whatever_others_say_and_all_have_their_turn() {
    let mut case = Case::new(&[]);
    let crowd = (0..100).map(|i| info(&format!("n{i}"), 1));
    case.step(Event::Members(crowd.collect()));
    let mut dialled = std::collections::BTreeSet::new();
    for _ in 0..13 {
        let tick = case.quiet(ms(200));
        let now = dials(&tick);
        assert!(now.len() <= 8, "{now:?}");
        dialled.extend(now.into_iter().map(|(_, address)| address.to_owned()));
    }
    assert_eq!(dialled.len(), 100);
}

#[test]
fn both_sides_of_simultaneous_dials_keep_the_lower_names() {
    // `m` is the higher of a and m, the lower of m and z. In any order, the link that the lower name dialled stays.
    for (peer, ours_first, stays) in [
        ("a", true, 2),
        ("a", false, 2),
        ("z", true, 1),
        ("z", false, 1),
    ] {
        let mut case = Case::new(&["x:1"]);
        case.quiet(ms(200));
        let found = case.step(Event::Found(0, Ok(vec!["10.0.0.1:7000".into()])));
        let (dial, _) = dials(&found)[0];
        let connect = [(1, Some(dial)), (2, None)];
        let order = if ours_first { [0, 1] } else { [1, 0] };
        for at in order {
            let (link, dial) = connect[at];
            case.connect(link, info(peer, 5), dial);
        }
        let link = case.machine.members[&name(peer)].link().unwrap();
        assert_eq!(link.id, stays, "{peer}, ours first: {ours_first}");
    }
}

#[test]
fn a_young_dial_of_the_lower_name_keeps_the_peers_out_but_not_one_that_hangs() {
    let mut case = Case::new(&[]);
    case.step(Event::Members(vec![info("p", 5)]));
    let tick = case.quiet(ms(200));
    assert_eq!(dials(&tick), [(1, "p:7000")]);
    let now = case.now;
    assert_eq!(
        case.machine.admit(now, &info("p", 5), None),
        Err(Veto::Duplicate)
    );
    assert_eq!(
        case.machine.admit(now + ms(1000), &info("p", 5), None),
        Ok(())
    );
    assert_eq!(
        case.machine.admit(now, &info("p", 6), None),
        Ok(()),
        "our dial is for the earlier boot"
    );
}

#[test]
fn only_the_lower_name_dials_at_first() {
    let mut case = Case::new(&[]);
    case.step(Event::Members(vec![info("a", 1), info("z", 1)]));
    assert_eq!(dials(&case.quiet(ms(800))), [(1, "z:7000")]);
    assert_eq!(dials(&case.quiet(ms(400))), [(2, "a:7000")]);
}

#[test]
fn a_second_address_of_a_linked_peer_is_found_out_and_left_alone() {
    let mut case = Case::new(&["x:1", "y:1"]);
    case.quiet(ms(200));
    let first = case.step(Event::Found(0, Ok(vec!["10.0.0.1:7000".into()])));
    let second = case.step(Event::Found(1, Ok(vec!["10.0.0.2:7000".into()])));
    let (first, second) = (dials(&first)[0].0, dials(&second)[0].0);
    case.connect(1, info("p", 5), Some(first));
    case.step(Event::Ready(1));
    let refused = case
        .machine
        .admit(case.now, &info("p", 5), Some(second))
        .unwrap_err();
    case.step(Event::DialFailed(second, failure(Some(refused))));
    assert_eq!(dials(&case.quiet(ms(9_000))), []);
    assert!(case.machine.strangers().next().is_none());
}

#[test]
fn an_address_that_changed_hands_does_not_shake_its_new_owners_link() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    case.step(Event::Closed(1, "eof".into()));
    let mut heir = info("q", 6);
    heir.address = "p:7000".into();
    case.linked(2, &heir);
    assert_eq!(dials(&case.quiet(ms(10_000))), []);
    let trouble = case.machine.members[&name("p")].trouble.as_deref();
    assert_eq!(trouble, Some("q answers at p's address p:7000"));
}

#[test]
fn the_silent_are_suspected_then_evicted_and_dialled_again() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    case.quiet(ms(1000));
    let began = case.now;
    let news =
        |actions: &[Action]| actions.contains(&Action::Announce(info("p", 5), News::Suspected));
    let early = case.pass(ms(2800), |now| now - began);
    assert!(!news(&early));
    let late = case.pass(ms(1600), |now| now - began);
    assert!(news(&late));
    assert_eq!(closes(&late), []);
    let end = case.pass(ms(400), |now| now - began);
    assert_eq!(closes(&end), [(1, Cause::Silent)]);
    assert!(end.contains(&Action::Announce(info("p", 5), News::Lost(Cause::Silent))));
    assert_eq!(case.standing("p"), &Standing::Apart);
    let again = [end, case.quiet(ms(1000))].concat();
    assert_eq!(dials(&again)[0].1, "p:7000");
    assert_eq!(case.step(Event::Closed(1, "eof".into())), [], "closed once");
}

#[test]
fn a_pause_of_three_seconds_and_a_beats_phase_does_not_evict() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    case.quiet(ms(1000));
    let began = case.now;
    let mut actions = case.pass(ms(4000), |now| now - began);
    actions.extend(case.quiet(ms(200)));
    assert_eq!(closes(&actions), []);
    assert!(actions.contains(&Action::Announce(info("p", 5), News::Recovered)));
}

#[test]
fn what_was_slept_through_is_forgiven_what_was_silent_before_is_not() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    case.quiet(ms(1000));
    let began = case.now;
    case.pass(ms(2000), |now| now - began);
    case.now += ms(4_000);
    let silence = case.now - began;
    let woke = case.step(Event::Tick(vec![(1, silence)]));
    assert_eq!(closes(&woke), []);
    // 2 s before the sleep and 2.6 s after it.
    let dead = case.pass(ms(2600), |now| now - began);
    assert_eq!(closes(&dead), [(1, Cause::Silent)]);
}

#[test]
fn who_slept_until_its_peers_gave_it_up_gives_them_up_too() {
    for (slept, parted) in [(ms(4_400), false), (EVICT_AFTER, true)] {
        let mut case = Case::new(&[]);
        case.linked(1, &info("p", 5));
        case.connect(2, info("q", 5), None);
        case.quiet(ms(1000));
        case.now += slept;
        // The node has just read the bytes that came while it slept.
        let woke = case.step(Event::Tick(vec![(1, ms(0)), (2, ms(0))]));
        let both = vec![(1, Cause::Overslept), (2, Cause::Overslept)];
        assert_eq!(
            closes(&woke),
            if parted { both } else { vec![] },
            "{slept:?}"
        );
        assert_eq!(
            dials(&case.quiet(ms(2_000))).len(),
            if parted { 2 } else { 0 }
        );
    }
}

#[test]
fn the_links_may_find_out_first_that_this_node_slept() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    assert_eq!(
        closes(&case.step(Event::Overslept)),
        [(1, Cause::Overslept)]
    );
}

#[test]
fn a_connection_that_does_not_become_usable_is_cut() {
    let mut case = Case::new(&[]);
    case.connect(1, info("p", 5), None);
    assert_eq!(closes(&case.quiet(ms(4800))), []);
    assert_eq!(closes(&case.quiet(ms(400))), [(1, Cause::NotReady)]);
}

#[test]
fn who_said_goodbye_is_not_dialled_but_a_later_boot_is() {
    let mut case = Case::new(&[]);
    case.linked(1, &info("p", 5));
    let actions = case.step(Event::Goodbye(1));
    assert_eq!(closes(&actions), [(1, Cause::PeerLeft)]);
    assert!(actions.contains(&Action::Announce(info("p", 5), News::Left)));
    assert_eq!(case.standing("p"), &Standing::Left);
    case.step(Event::Members(vec![info("p", 5)]));
    assert_eq!(
        dials(&case.quiet(ms(20_000))),
        [],
        "hearsay about the same boot"
    );
    case.step(Event::Members(vec![info("p", 6)]));
    assert_eq!(dials(&case.quiet(ms(2_000)))[0].1, "p:7000");
}

#[test]
fn a_seed_that_said_goodbye_is_dialled() {
    let mut case = Case::new(&["p:7000"]);
    case.quiet(ms(200));
    let found = Event::Found(0, Ok(vec!["10.0.0.1:7000".into()]));
    let (dial, _) = dials(&case.step(found.clone()))[0];
    case.connect(1, info("p", 5), Some(dial));
    case.step(Event::Ready(1));
    assert_eq!(case.quiet(ms(5_000)), [], "a linked seed is left alone");
    case.step(Event::Goodbye(1));
    let looked = case.quiet(ms(6_000));
    assert!(looked.contains(&Action::Look(0)), "{looked:?}");
    assert_eq!(dials(&case.step(found))[0].1, "10.0.0.1:7000");
}

#[test]
fn who_is_gone_is_forgotten_after_an_hour_unless_a_seed_leads_to_it() {
    let mut case = Case::new(&["s:7000"]);
    case.quiet(ms(200));
    let found = Event::Found(0, Ok(vec!["10.0.0.1:7000".into()]));
    let (dial, _) = dials(&case.step(found.clone()))[0];
    case.connect(1, info("s", 5), Some(dial));
    case.step(Event::Ready(1));
    case.linked(2, &info("p", 5));
    case.step(Event::Closed(1, "eof".into()));
    case.step(Event::Closed(2, "eof".into()));
    case.step(Event::Members(vec![info("q", 1)]));
    let names = |case: &Case| -> Vec<_> {
        let members = case.machine.members();
        members.map(|m| m.info.name.to_string()).collect()
    };
    for second in 0..3605 {
        if second == 3590 {
            assert_eq!(names(&case), ["p", "q", "s"]);
        }
        let actions = case.quiet(ms(1000));
        if actions.contains(&Action::Look(0)) {
            let more = case.step(found.clone());
            assert_eq!(dials(&more), [], "it is redialled as a member");
        }
        for (dial, _) in dials(&actions) {
            case.step(Event::DialFailed(dial, failure(None)));
        }
    }
    assert_eq!(names(&case), ["s"]);
}

#[test]
fn members_are_told_when_they_change_and_every_ten_seconds() {
    let mut case = Case::new(&[]);
    case.connect(1, info("p", 5), None);
    let told = |members: &[NodeInfo]| Action::Gossip(members.to_vec());
    assert!(case.step(Event::Ready(1)).contains(&told(&[info("p", 5)])));
    assert_eq!(case.quiet(ms(9_800)), []);
    assert_eq!(case.quiet(ms(200)), [told(&[info("p", 5)])]);
    case.linked(2, &info("q", 5));
    let drains = case.step(Event::Draining(1));
    assert!(drains.contains(&told(&[info("q", 5)])), "{drains:?}");
    assert!(case.step(Event::Draining(1)).is_empty());
}

#[test]
fn what_others_make_us_remember_is_bounded() {
    let mut case = Case::new(&[]);
    let crowd = (0..2 * MAX_MEMBERS).map(|i| info(&format!("n{i}"), 1));
    case.step(Event::Members(crowd.collect()));
    assert_eq!(case.machine.members().count(), MAX_MEMBERS);
    case.linked(1, &info("p", 5));
    assert_eq!(case.machine.members().count(), MAX_MEMBERS);
}

#[test]
fn who_drains_keeps_and_regains_whom_it_has_met_and_meets_nobody_new() {
    let mut case = Case::new(&["s:1"]);
    case.linked(1, &info("p", 5));
    case.step(Event::Drain);
    assert_eq!(
        case.machine.admit(case.now, &info("r", 1), None),
        Err(Veto::Leaving)
    );
    case.step(Event::Members(vec![info("q", 1)]));
    assert_eq!(case.quiet(ms(1000)), []);
    let lost = case.step(Event::Closed(1, "eof".into()));
    assert_eq!(lost.len(), 2, "closed and announced: {lost:?}");
    assert_eq!(dials(&case.quiet(ms(2000)))[0].1, "p:7000");
    case.step(Event::DialFailed(1, failure(None)));
    case.linked(2, &info("p", 5));
}

#[test]
fn peers_that_close_after_our_good_bye_are_not_lost() {
    let mut case = Case::new(&["s:1"]);
    case.linked(1, &info("p", 5));
    case.linked(2, &info("q", 5));
    case.step(Event::Drain);
    case.step(Event::Farewell);
    let ended = Cause::Ended("eof".into());
    assert_eq!(
        case.step(Event::Closed(1, "eof".into())),
        [Action::Close(1, ended)]
    );
    assert_eq!(
        case.machine.admit(case.now, &info("p", 5), None),
        Err(Veto::Leaving)
    );
    assert_eq!(case.quiet(ms(20_000)), []);
    assert_eq!(closes(&case.step(Event::Leave)), [(2, Cause::WeLeave)]);
}

#[test]
fn leaving_closes_every_link_and_dials_nobody() {
    let mut case = Case::new(&["s:1"]);
    case.linked(1, &info("p", 5));
    case.linked(2, &info("q", 5));
    case.step(Event::Drain);
    assert_eq!(
        case.machine.admit(case.now, &info("r", 1), None),
        Err(Veto::Leaving)
    );
    assert_eq!(
        closes(&case.quiet(ms(1000))),
        [],
        "what they were given is answered first"
    );
    let left = case.step(Event::Leave);
    assert_eq!(closes(&left), [(1, Cause::WeLeave), (2, Cause::WeLeave)]);
    assert_eq!(case.quiet(ms(20_000)), []);
}
