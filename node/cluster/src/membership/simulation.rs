//! Several memberships over a network that delays, stalls, breaks and lies still, with nodes that freeze, die and come back.
//!
//! A connection delivers in order or not at all, as TCP does; everything else happens at random.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const NODES: usize = 4;
/// One step of the simulation.
const STEP: Duration = Duration::from_millis(50);
/// Time in which all nodes must be linked with each other once failures end: eviction, the time in which a link counts as
/// young, and three rounds of dials.
const SETTLED: Duration = Duration::from_secs(45);
/// Time in which no link may then change: longer than any wait of the machine.
const STABLE: Duration = Duration::from_secs(35);

#[derive(Debug, Clone)]
enum Packet {
    Hello,
    HelloBack,
    Proof,
    Refuse(Veto),
    Accept,
    Port,
    Beat,
    Members(Vec<NodeInfo>),
    Goodbye,
    Fin,
}

/// One side of a connection.
#[derive(Debug, Default)]
struct End {
    node: usize,
    boot: u64,
    link: LinkId,
    linked: bool,
    open: bool,
    heard: Duration,
    to_read: VecDeque<(Duration, Packet)>,
}

#[derive(Debug)]
struct Wire {
    dial: Option<DialId>,
    began: Duration,
    /// The dialler's end, then the acceptor's.
    ends: [End; 2],
}

#[derive(Debug)]
struct Node {
    machine: Membership,
    info: NodeInfo,
    frozen: bool,
    /// Links that were connected and not closed, with their peers.
    links: BTreeMap<LinkId, NodeInfo>,
    /// The last boot of each peer that was linked, and when it was.
    last: BTreeMap<NodeName, (u64, Duration)>,
}

#[derive(Debug)]
struct Simulation {
    now: Duration,
    nodes: Vec<Node>,
    wires: Vec<Wire>,
    blocked: BTreeSet<(usize, usize)>,
    next_link: LinkId,
    rng: fastrand::Rng,
    closes: usize,
}

#[derive(Debug, Clone)]
enum Fault {
    Pass(u64),
    Block(usize, usize),
    Heal,
    Freeze(usize),
    Thaw(usize),
    /// A node dies and comes back; the flag says whether its kernel lives to close the sockets.
    Reboot(usize, bool),
    LeaveAndReboot(usize),
    Break(usize),
}

fn fault() -> impl Strategy<Value = Fault> {
    let node = || 0..NODES;
    prop_oneof![
        6 => (50_u64..8_000).prop_map(Fault::Pass),
        2 => (node(), node()).prop_map(|(a, b)| Fault::Block(a, b)),
        1 => Just(Fault::Heal),
        1 => node().prop_map(Fault::Freeze),
        1 => node().prop_map(Fault::Thaw),
        1 => (node(), any::<bool>()).prop_map(|(n, told)| Fault::Reboot(n, told)),
        1 => node().prop_map(Fault::LeaveAndReboot),
        2 => (0_usize..64).prop_map(Fault::Break),
    ]
}

/// Each node has two addresses of the first node as seeds; the first node thus looks for itself.
fn boot(index: usize, incarnation: u64, randomness: u64) -> Node {
    let name = NodeName::new(["b", "a", "d", "c"][index]).unwrap();
    let seeds = [Seed::Dns("first".into()), Seed::Host("0:1".into())];
    Node {
        machine: Membership::new(name.clone(), incarnation, &seeds, randomness),
        info: NodeInfo {
            name,
            incarnation,
            build: "0.1.0".into(),
            address: format!("{index}:3"),
            http: None,
            roles: vec![],
            domain: None,
        },
        frozen: false,
        links: BTreeMap::new(),
        last: BTreeMap::new(),
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: (0..NODES).map(|i| boot(i, 1, seed ^ i as u64)).collect(),
            wires: Vec::new(),
            blocked: BTreeSet::new(),
            next_link: 0,
            rng: fastrand::Rng::with_seed(seed),
            closes: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            let ms = self.now.as_millis();
            for node in 0..NODES {
                // Not all at the same time.
                if ms % 200 == node as u128 * 50 && !self.nodes[node].frozen {
                    self.tick(node);
                }
                if ms % 1000 == node as u128 * 250 && !self.nodes[node].frozen {
                    self.broadcast(node, &Packet::Beat);
                }
            }
            for wire in 0..self.wires.len() {
                self.deliver(wire);
            }
            let now = self.now;
            let over = |end: &End| end.to_read.is_empty() && !end.linked;
            self.wires
                .retain(|wire| !wire.ends.iter().all(over) || now < wire.began + DIAL_TIMEOUT * 2);
        }
    }

    fn tick(&mut self, node: usize) {
        let now = self.now;
        let late = |wire: &&mut Wire| {
            wire.dial.is_some() && wire.ends[0].node == node && now >= wire.began + DIAL_TIMEOUT
        };
        let late: Vec<_> = self
            .wires
            .iter_mut()
            .filter(late)
            .filter_map(|w| w.dial.take())
            .collect();
        for dial in late {
            self.failed(node, dial, None);
        }
        let mine = |end: &&End| end.linked && end.node == node;
        let ends = self.wires.iter().flat_map(|wire| &wire.ends).filter(mine);
        let silences = ends.map(|end| (end.link, now - end.heard)).collect();
        self.step(node, Event::Tick(silences));
    }

    fn failed(&mut self, node: usize, dial: DialId, veto: Option<Veto>) {
        let text = "failed".into();
        let failure = DialFailure { text, veto };
        self.step(node, Event::DialFailed(dial, failure));
    }

    fn send(&mut self, wire: usize, from: usize, packet: Packet) {
        let delay = Duration::from_millis(self.rng.u64(1..150));
        let queue = &mut self.wires[wire].ends[1 - from].to_read;
        let after = queue.back().map_or(Duration::ZERO, |(at, _)| *at);
        queue.push_back((after.max(self.now + delay), packet));
    }

    fn broadcast(&mut self, node: usize, packet: &Packet) {
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                let end = &self.wires[wire].ends[side];
                if end.linked && end.open && end.node == node {
                    self.send(wire, side, packet.clone());
                }
            }
        }
    }

    /// Lets both ends read what has arrived.
    fn deliver(&mut self, wire: usize) {
        for side in 0..2 {
            loop {
                let [from, to] = [1 - side, side].map(|side| self.wires[wire].ends[side].node);
                let end = &mut self.wires[wire].ends[side];
                let arrived = end.to_read.front().is_some_and(|(at, _)| *at <= self.now);
                if !arrived || self.blocked.contains(&(from, to)) || self.nodes[to].frozen {
                    break;
                }
                let (_, packet) = end.to_read.pop_front().unwrap();
                end.heard = self.now;
                let greeting = matches!(packet, Packet::Hello);
                if greeting {
                    end.boot = self.nodes[to].info.incarnation;
                }
                if end.boot == self.nodes[to].info.incarnation {
                    self.read(wire, side, packet);
                } else if !matches!(packet, Packet::Fin) {
                    self.send(wire, side, Packet::Fin);
                }
            }
        }
    }

    fn read(&mut self, wire: usize, side: usize, packet: Packet) {
        let now = self.now;
        let Wire { dial, ends, .. } = &self.wires[wire];
        let (dial, node, link) = (*dial, ends[side].node, ends[side].link);
        let linked = ends[side].linked;
        let peer = self.nodes[ends[1 - side].node].info.clone();
        let peer = NodeInfo {
            incarnation: ends[1 - side].boot,
            ..peer
        };
        let machine = &mut self.nodes[node].machine;
        match packet {
            Packet::Hello => self.send(wire, side, Packet::HelloBack),
            Packet::HelloBack if dial.is_some() => match machine.admit(now, &peer, dial) {
                Ok(()) => self.send(wire, side, Packet::Proof),
                Err(veto) => {
                    self.wires[wire].dial = None;
                    self.failed(node, dial.unwrap(), Some(veto));
                    self.send(wire, side, Packet::Fin);
                }
            },
            Packet::Proof => match machine.admit(now, &peer, None) {
                Ok(()) => {
                    self.send(wire, side, Packet::Accept);
                    self.connected(wire, side, peer, None);
                }
                Err(veto) => self.send(wire, side, Packet::Refuse(veto)),
            },
            Packet::Refuse(veto) => {
                if let Some(dial) = self.wires[wire].dial.take() {
                    self.failed(node, dial, Some(veto));
                }
            }
            Packet::Accept => match self.wires[wire].dial.take() {
                Some(dial) => self.connected(wire, side, peer, Some(dial)),
                None => self.send(wire, side, Packet::Fin),
            },
            Packet::Port if linked => self.step(node, Event::Ready(link)),
            Packet::Members(members) if linked => self.step(node, Event::Members(members)),
            Packet::Goodbye if linked => self.step(node, Event::Goodbye(link)),
            Packet::Fin => {
                if let Some(dial) = self.wires[wire].dial.take_if(|_| side == 0) {
                    self.failed(node, dial, None);
                }
                if linked {
                    self.step(node, Event::Closed(link, "fin".into()));
                }
            }
            Packet::HelloBack
            | Packet::Port
            | Packet::Beat
            | Packet::Members(_)
            | Packet::Goodbye => {}
        }
    }

    fn connected(&mut self, wire: usize, side: usize, peer: NodeInfo, dial: Option<DialId>) {
        self.next_link += 1;
        let link = self.next_link;
        let end = &mut self.wires[wire].ends[side];
        end.link = link;
        end.linked = true;
        end.heard = self.now;
        let node = end.node;
        self.nodes[node].links.insert(link, peer.clone());
        self.step(node, Event::Connected { link, peer, dial });
    }

    fn step(&mut self, node: usize, event: Event) {
        let actions = self.nodes[node].machine.step(self.now, event);
        for action in actions {
            self.act(node, action);
        }
        let Node {
            machine,
            links,
            info,
            last,
            ..
        } = &mut self.nodes[node];
        let mut peers = BTreeSet::new();
        for peer in links.values() {
            assert!(peers.insert(&peer.name), "two links with {}", peer.name);
            assert_ne!(peer.name, info.name, "a link with itself");
            let (boot, at) = last.entry(peer.name.clone()).or_default();
            assert!(
                *boot <= peer.incarnation || self.now >= *at + FENCE,
                "an earlier boot is alive again"
            );
            *boot = peer.incarnation;
        }
        for (name, (_, at)) in last {
            if links.values().any(|peer| peer.name == *name) {
                *at = self.now;
            }
        }
        let known: BTreeSet<_> = machine
            .members()
            .filter_map(Member::link)
            .map(|l| l.id)
            .collect();
        let held: BTreeSet<_> = links.keys().copied().collect();
        assert_eq!(
            known, held,
            "what was connected and not closed is what is known"
        );
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Look(0) => {
                let both = Ok(vec!["0:3".into(), "0:2".into()]);
                self.step(node, Event::Found(0, both));
            }
            Action::Look(seed) => self.step(node, Event::Found(seed, Ok(vec!["0:1".into()]))),
            Action::Dial(dial, address) => {
                let there: usize = address.split(':').next().unwrap().parse().unwrap();
                let end = |node: usize, boot| End {
                    node,
                    boot,
                    ..End::default()
                };
                let boot = self.nodes[node].info.incarnation;
                self.wires.push(Wire {
                    dial: Some(dial),
                    began: self.now,
                    ends: [end(node, boot), end(there, 0)],
                });
                self.send(self.wires.len() - 1, 0, Packet::Hello);
            }
            Action::Open(link) => {
                let (wire, side) = self.find(link);
                self.wires[wire].ends[side].open = true;
                self.send(wire, side, Packet::Port);
            }
            Action::Close(link, _) => {
                let there = self.nodes[node].links.remove(&link);
                assert!(there.is_some(), "closed twice");
                self.closes += 1;
                let (wire, side) = self.find(link);
                self.wires[wire].ends[side].linked = false;
                self.send(wire, side, Packet::Fin);
            }
            Action::Gossip(members) => self.broadcast(node, &Packet::Members(members)),
            Action::Announce(..) => {}
        }
    }

    fn find(&self, link: LinkId) -> (usize, usize) {
        let is = |wire: &Wire| wire.ends.iter().position(|e| e.linked && e.link == link);
        let mut wires = self.wires.iter().enumerate();
        wires.find_map(|(i, wire)| Some((i, is(wire)?))).unwrap()
    }

    fn reboot(&mut self, index: usize, told: bool) {
        let boot_before = self.nodes[index].info.incarnation;
        for wire in 0..self.wires.len() {
            for side in 0..2 {
                let end = &mut self.wires[wire].ends[side];
                if end.node != index || end.boot != boot_before {
                    continue;
                }
                end.linked = false;
                if side == 0 {
                    self.wires[wire].dial = None;
                }
                if told {
                    self.send(wire, side, Packet::Fin);
                }
            }
        }
        self.nodes[index] = boot(index, boot_before + 1, self.rng.u64(..));
    }

    fn apply(&mut self, fault: &Fault) {
        match *fault {
            Fault::Pass(ms) => self.run(Duration::from_millis(ms)),
            Fault::Block(a, b) => drop(self.blocked.insert((a, b))),
            Fault::Heal => self.blocked.clear(),
            Fault::Freeze(node) => self.nodes[node].frozen = true,
            Fault::Thaw(node) => self.nodes[node].frozen = false,
            Fault::Reboot(node, told) => self.reboot(node, told),
            Fault::LeaveAndReboot(node) => {
                self.broadcast(node, &Packet::Goodbye);
                self.step(node, Event::Drain);
                self.step(node, Event::Farewell);
                self.step(node, Event::Leave);
                self.reboot(node, true);
            }
            Fault::Break(wire) => {
                if let Some(wire) = wire.checked_rem(self.wires.len()) {
                    self.send(wire, 0, Packet::Fin);
                    self.send(wire, 1, Packet::Fin);
                }
            }
        }
    }

    /// Pairs of nodes that are not linked over one and the same connection.
    fn apart(&self) -> Vec<(usize, usize)> {
        let mut apart = Vec::new();
        for a in 0..NODES {
            for b in 0..NODES {
                let both = |wire: &&Wire| {
                    let ends = &wire.ends;
                    let nodes = [ends[0].node, ends[1].node];
                    ends.iter()
                        .all(|end| end.linked && end.boot == self.nodes[end.node].info.incarnation)
                        && (nodes == [a, b] || nodes == [b, a])
                };
                let usable = self.nodes[a].machine.members().any(|member| {
                    member.info.name == self.nodes[b].info.name
                        && member
                            .link()
                            .is_some_and(|link| link.phase == LinkPhase::Alive)
                });
                if a != b && (self.wires.iter().filter(both).count() != 1 || !usable) {
                    apart.push((a, b));
                }
            }
        }
        apart
    }
}

proptest! {
    #[test]
    fn invariant_whatever_fails_all_are_linked_soon_after(
        faults in prop::collection::vec(fault(), 0..40),
        seed in any::<u64>(),
    ) {
        let mut simulation = Simulation::new(seed);
        for fault in &faults {
            simulation.apply(fault);
        }
        simulation.blocked.clear();
        for node in &mut simulation.nodes {
            node.frozen = false;
        }
        simulation.run(SETTLED);
        prop_assert_eq!(simulation.apart(), vec![]);
        let closes = simulation.closes;
        simulation.run(STABLE);
        prop_assert_eq!(simulation.apart(), vec![]);
        prop_assert_eq!(simulation.closes, closes, "links are shaken although nothing fails");
    }
}

#[test]
fn nodes_that_start_together_are_linked_at_once() {
    let mut simulation = Simulation::new(1);
    simulation.run(Duration::from_secs(5));
    assert_eq!(simulation.apart(), []);
}
