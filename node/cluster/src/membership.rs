//! Decides which nodes are members, which addresses to dial, and when to suspect, evict or supersede a member: pure.
//!
//! [`Membership`] takes an event with its time and returns the actions. It opens no sockets, reads no clock and draws no
//! randomness but from its seed; a time is a duration since an origin that the caller chooses.
//!
//! # One link to each peer, whichever side dials
//!
//! Both sides of a connection judge it twice: during the greeting ([`Membership::admit`], the dialler first; this changes no
//! state) and when it stands ([`Event::Connected`]). Between the two judgements another connection may be established, and one side may
//! learn of it before the other. These rules make both sides keep the same connection:
//!
//! - Of two connections with the same boot of a peer, dialled from both sides at once, the one that the lower name
//!   dialled is *preferred*. Each side keeps it or changes over to it, in whatever order it meets them.
//! - No node dials a peer to which it has a link. So a peer that dials us although its link stands here has lost that link: the
//!   new connection supersedes it. A link younger than [`SETTLE`] stays, because the dial may have begun before the link stood.
//! - One side may dial the same peer twice at once, because two addresses lead to it. The other side takes the first of the
//!   two connections (both arrive within [`SETTLE`]). The dialling side remembers such an address and does not dial it while that
//!   peer is linked.
//! - While we dial a peer by its name and our name is the lower one, we refuse the peer's own dial, but only while ours is
//!   young: a dial that hangs may never arrive, and then only the peer's dial will.
//! - A later boot of a name supersedes an earlier one at once: the earlier process is dead, or should not share the name. We
//!   refuse an earlier boot while a later one is linked, and for [`FENCE`] afterwards. A process that was frozen and wakes beside
//!   its successor thus stays out, and a node whose machine's clock was set back comes in again.
//!
//! Other members may be wrong about a member, or lie. Their reports make us dial and nothing more: a node's own description
//! decides about its admission.
//!
//! One case stays open: a connection breaks during these steps, and each side drops the connection that the other keeps. Then
//! no link is left, and both sides dial again after different random waits.

mod admission;
mod dials;
mod liveness;

use std::collections::BTreeMap;
use std::time::Duration;

use amcp_protocol::NodeName;

use crate::info::NodeInfo;
use crate::settings::Seed;

pub use admission::Veto;
use dials::{Dial, Retry, SeedState};
pub use liveness::{EVICT_AFTER, SUSPECT_AFTER};

/// Longest time that a dial takes, from its start to the end of its greeting: two lost SYNs (3 s) and a slow handshake.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// The peer of a link younger than this may have dialled before the link stood: the time of a dial, and the two seconds by
/// which the other side of a greeting may lag behind.
pub const SETTLE: Duration = Duration::from_secs(7);
/// How long a connection may take to become usable: its session exchanges four messages and a copy of the process groups.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after which we tell all members about the others although nothing changed, which repairs losses with a link.
const GOSSIP_EVERY: Duration = Duration::from_secs(10);
/// How long we remember a member that left or was lost, or that we heard of and never met.
const REMEMBER: Duration = Duration::from_secs(3600);
/// The most members that we remember, since others' reports add members.
const MAX_MEMBERS: usize = 1024;
/// How long an earlier boot stays out after the last link with a later one broke: six times the time in which we notice that a
/// link is dead, so that a successor that is merely cut off has several chances to come back.
const FENCE: Duration = Duration::from_secs(30);
/// A link that stood this long was good: after its loss we dial with short waits again.
const PROVEN: Duration = Duration::from_secs(10);

/// One connection: its `token_in`.
pub type LinkId = u64;

/// One attempt to connect.
pub type DialId = u64;

/// An event that membership decides about.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed; how long each connection has been silent.
    Tick(Vec<(LinkId, Duration)>),
    /// The lookup of a seed (its index) ended: the addresses behind it, or why there are none.
    Found(usize, Result<Vec<String>, String>),
    /// A dial made no connection.
    DialFailed(DialId, DialFailure),
    /// A connection stands, made by this dial or by the peer.
    Connected {
        /// The new connection.
        link: LinkId,
        /// The node at its other end, as it describes itself.
        peer: NodeInfo,
        /// Our dial, or none if the peer dialled.
        dial: Option<DialId>,
    },
    /// The connection can carry tasks.
    Ready(LinkId),
    /// The connection ended, for this reason.
    Closed(LinkId, String),
    /// A peer knows these members.
    Members(Vec<NodeInfo>),
    /// The peer of this link takes no new tasks.
    Draining(LinkId),
    /// The peer of this link leaves.
    Goodbye(LinkId),
    /// This process slept so long that every peer has given this node up.
    Overslept,
    /// We take no new tasks.
    Drain,
    /// We said good-bye: peers close their links with us now.
    Farewell,
    /// We leave.
    Leave,
}

/// Why a dial made no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialFailure {
    /// The reason, in words.
    pub text: String,
    /// Our refusal or the peer's, if one of us refused.
    pub veto: Option<Veto>,
}

/// An action for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look up the seed with this index; [`Event::Found`] has the result.
    Look(usize),
    /// Connect to this address; [`Event::Connected`] or [`Event::DialFailed`] has the result.
    Dial(DialId, String),
    /// Make this connection a link; [`Event::Ready`] follows when it is one.
    Open(LinkId),
    /// Close this connection. This action comes exactly once for each [`Event::Connected`].
    Close(LinkId, Cause),
    /// Tell every peer that these members are alive.
    Gossip(Vec<NodeInfo>),
    /// Write this to the log and publish it on the event bus.
    Announce(NodeInfo, News),
}

/// The cause for which we give a connection up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The rules refuse the connection.
    #[error("refused: {0}")]
    Refused(Veto),
    /// A better connection, or one with a later boot, took its place.
    #[error("another connection took its place")]
    Superseded,
    /// The connection did not become usable within [`READY_TIMEOUT`].
    #[error("not usable within {READY_TIMEOUT:?}")]
    NotReady,
    /// We heard nothing for [`EVICT_AFTER`].
    #[error("silent for {EVICT_AFTER:?}")]
    Silent,
    /// We slept, and the peer gave us up meanwhile.
    #[error("this node slept so long that its peers gave it up")]
    Overslept,
    /// The connection ended by itself, for this reason.
    #[error("ended: {0}")]
    Ended(String),
    /// The peer said good-bye.
    #[error("the peer left")]
    PeerLeft,
    /// We leave.
    #[error("this node leaves")]
    WeLeave,
}

/// A change in a member's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A link with the member stands.
    Joined,
    /// The member is silent.
    Suspected,
    /// The member is heard again.
    Recovered,
    /// The member drains.
    Draining,
    /// The link with the member ended.
    Lost(Cause),
    /// The member said good-bye.
    Left,
}

/// A member other than this node.
#[derive(Debug, Clone)]
pub struct Member {
    /// The member's last description of itself; before the first link, the description that others gave.
    pub info: NodeInfo,
    /// Whether there is a link.
    pub standing: Standing,
    /// The time of the last change of `standing`.
    pub since: Duration,
    /// Why there is no link.
    pub trouble: Option<String>,
    /// Whether a link with the member ever stood.
    met: bool,
    /// When the last link with the member ended.
    parted: Duration,
    /// The address at which a later boot of the member listens, by others' reports.
    elsewhere: Option<String>,
    retry: Retry,
    dial: Option<DialId>,
}

/// Whether we have a link with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no link; we dial the member.
    Apart,
    /// There is a connection.
    Linked(MemberLink),
    /// The member said good-bye.
    Left,
}

impl Standing {
    fn link_mut(&mut self) -> Option<&mut MemberLink> {
        match self {
            Self::Linked(link) => Some(link),
            Self::Apart | Self::Left => None,
        }
    }
}

/// The one connection with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberLink {
    /// Unique for the life of the process.
    pub id: LinkId,
    /// Whether the link can carry tasks, and the peer is heard.
    pub phase: LinkPhase,
    /// Whether the peer drains.
    pub draining: bool,
    dialled: bool,
    admitted: Duration,
    heard: Duration,
    forgiven: Duration,
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPhase {
    /// The link is not usable yet.
    Opening,
    /// The link is usable, and the peer is heard.
    Alive,
    /// The peer has been silent for [`SUSPECT_AFTER`].
    Suspect,
}

impl Member {
    /// The link, if there is one.
    #[must_use]
    pub const fn link(&self) -> Option<&MemberLink> {
        match &self.standing {
            Standing::Linked(link) => Some(link),
            Standing::Apart | Standing::Left => None,
        }
    }

    /// Whether gossip names it.
    fn is_news(&self) -> bool {
        self.link()
            .is_some_and(|link| link.phase != LinkPhase::Opening && !link.draining)
    }

    /// Every change of `standing` goes through here or through [`Self::parts`].
    fn stands(&mut self, standing: Standing, now: Duration) {
        self.standing = standing;
        self.since = now;
    }

    /// As [`Self::stands`], for a link that ends.
    fn parts(&mut self, standing: Standing, now: Duration) {
        self.stands(standing, now);
        self.parted = now;
    }

    /// Brings the next dial forward to `at`, never back: repeated hearsay must not put it off.
    fn dial_by(&mut self, at: Duration) {
        self.retry.begin(self.retry.at().min(at));
    }

    fn is_sought_at(&self, address: &str) -> bool {
        self.info.address == address || self.elsewhere.as_deref() == Some(address)
    }
}

/// The node's own part in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    In,
    /// The node still works for others, and others for it: it keeps and renews the links with members that it has met.
    Draining,
    /// The node said good-bye.
    Parting,
    Gone,
}

/// The members of the mesh, as this node sees them.
#[derive(Debug)]
pub struct Membership {
    name: NodeName,
    incarnation: u64,
    mode: Mode,
    members: BTreeMap<NodeName, Member>,
    seeds: Vec<SeedState>,
    /// The node that answered at each address.
    leads: BTreeMap<String, NodeName>,
    dials: BTreeMap<DialId, Dial>,
    next_dial: DialId,
    ticked: Option<Duration>,
    gossiped: Duration,
    changed: bool,
    rng: fastrand::Rng,
}

impl Membership {
    /// A membership without members; the first [`Event::Tick`] looks up the seeds.
    #[must_use]
    pub fn new(name: NodeName, incarnation: u64, seeds: &[Seed], randomness: u64) -> Self {
        Self {
            name,
            incarnation,
            mode: Mode::In,
            members: BTreeMap::new(),
            seeds: seeds.iter().cloned().map(SeedState::new).collect(),
            leads: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_dial: 0,
            ticked: None,
            gossiped: Duration::ZERO,
            changed: false,
            rng: fastrand::Rng::with_seed(randomness),
        }
    }

    /// All members but this node, by name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Seeds at which no node has answered yet, with the reason.
    pub fn strangers(&self) -> impl Iterator<Item = (&Seed, &str)> {
        let unmet = |seed: &&SeedState| {
            !seed
                .addresses
                .iter()
                .any(|address| self.leads.contains_key(address))
        };
        self.seeds
            .iter()
            .filter(unmet)
            .filter_map(|seed| Some((&seed.seed, seed.trouble.as_deref()?)))
    }

    /// Takes an event and returns the actions, in the order in which to carry them out.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Tick(silences) => self.tick(now, &silences, &mut todo),
            Event::Found(seed, addresses) => self.found(now, seed, addresses, &mut todo),
            Event::DialFailed(dial, failure) => self.dial_failed(dial, failure),
            Event::Connected { link, peer, dial } => todo = self.connected(now, link, peer, dial),
            Event::Ready(link) => self.ready(now, link, &mut todo),
            Event::Closed(link, why) => self.part(now, link, Cause::Ended(why), &mut todo),
            Event::Members(infos) => infos.into_iter().for_each(|info| self.heard_of(now, info)),
            Event::Draining(link) => self.peer_drains(now, link, &mut todo),
            Event::Goodbye(link) => self.peer_left(now, link, &mut todo),
            Event::Overslept => self.overslept(now, &mut todo),
            Event::Drain if self.mode == Mode::In => self.mode = Mode::Draining,
            Event::Farewell if self.mode != Mode::Gone => self.mode = Mode::Parting,
            Event::Drain | Event::Farewell => {}
            Event::Leave => self.leave(now, &mut todo),
        }
        self.gossip(now, &mut todo);
        todo
    }

    fn tick(&mut self, now: Duration, silences: &[(LinkId, Duration)], todo: &mut Vec<Action>) {
        self.listen(now, silences, todo);
        if self.mode == Mode::In {
            self.look(now, todo);
        }
        if matches!(self.mode, Mode::In | Mode::Draining) {
            self.dial_members(now, todo);
        }
        self.forget(now);
    }

    fn connected(
        &mut self,
        now: Duration,
        id: LinkId,
        peer: NodeInfo,
        dial: Option<DialId>,
    ) -> Vec<Action> {
        if let Some(dial) = dial {
            self.reached(now, dial, &peer.name);
        }
        let superseded = match self.judge(now, &peer, dial.is_some(), true) {
            Ok(superseded) => superseded,
            Err(veto) => return vec![Action::Close(id, Cause::Refused(veto))],
        };
        let mut todo = Vec::new();
        if let Some(old) = superseded {
            self.part(now, old, Cause::Superseded, &mut todo);
        }
        if self.members.len() >= MAX_MEMBERS && !self.members.contains_key(&peer.name) {
            self.forget_oldest();
        }
        let member = self
            .members
            .entry(peer.name.clone())
            .or_insert_with(|| Member::new(peer.clone(), now));
        member.info = peer;
        member.met = true;
        member.elsewhere = None;
        let link = MemberLink {
            id,
            phase: LinkPhase::Opening,
            draining: false,
            dialled: dial.is_some(),
            admitted: now,
            heard: now,
            forgiven: Duration::ZERO,
        };
        member.stands(Standing::Linked(link), now);
        todo.push(Action::Open(id));
        todo
    }

    fn ready(&mut self, now: Duration, id: LinkId, todo: &mut Vec<Action>) {
        let Some(member) = self.by_link(id) else {
            return;
        };
        if let Some(link) = member.standing.link_mut()
            && link.phase == LinkPhase::Opening
        {
            link.phase = LinkPhase::Alive;
            member.since = now;
            member.trouble = None;
            todo.push(Action::Announce(member.info.clone(), News::Joined));
            self.changed = true;
        }
    }

    /// Closes a member's link. A connection that is not a member's link was closed before.
    fn part(&mut self, now: Duration, id: LinkId, cause: Cause, todo: &mut Vec<Action>) {
        let (name, chance) = (self.name.clone(), self.rng.f64());
        let parting = self.mode == Mode::Parting;
        let Some(member) = self.by_link(id) else {
            return;
        };
        let Some(link) = member.link().cloned() else {
            return;
        };
        let opened = link.phase != LinkPhase::Opening;
        let proven = opened && now.saturating_sub(link.admitted) >= PROVEN;
        let first = name < member.info.name;
        member.retry.after_loss(now, proven, first, chance);
        member.parts(Standing::Apart, now);
        member.trouble = Some(cause.to_string());
        todo.push(Action::Close(id, cause.clone()));
        // Peers that heard our good-bye close their links: they are not lost.
        if opened && !parting {
            todo.push(Action::Announce(member.info.clone(), News::Lost(cause)));
            self.changed = true;
        }
    }

    /// Every peer has given us up, so links that still seem to stand are dead.
    fn overslept(&mut self, now: Duration, todo: &mut Vec<Action>) {
        let links = self.members.values().filter_map(Member::link);
        let links: Vec<_> = links.map(|link| link.id).collect();
        for link in links {
            self.part(now, link, Cause::Overslept, todo);
        }
    }

    /// Takes hearsay about a member, which makes us dial and nothing more.
    fn heard_of(&mut self, now: Duration, info: NodeInfo) {
        if info.name == self.name || self.mode != Mode::In {
            return;
        }
        // We would refuse a node with this description, so we do not dial it.
        let Ok(info) = info.checked() else {
            return;
        };
        // When two nodes hear of each other at once, only the lower name dials; the other follows if no link results.
        let first = if self.name < info.name {
            Duration::ZERO
        } else {
            dials::LET_THE_OTHER_DIAL
        };
        let room = self.members.len() < MAX_MEMBERS;
        match self.members.get_mut(&info.name) {
            None if room => {
                let mut member = Member::new(info, now);
                member.retry.begin(now + first);
                self.members.insert(member.info.name.clone(), member);
            }
            // The table is full.
            None => {}
            // The link is the better witness; it ends by itself when the process at its end is gone.
            Some(member) if member.link().is_some() => {}
            Some(member) if member.met => {
                let later = info.incarnation > member.info.incarnation;
                let anew = member.standing == Standing::Left || !member.is_sought_at(&info.address);
                if later && anew {
                    member.elsewhere = Some(info.address);
                    member.dial_by(now + first);
                    member.stands(Standing::Apart, now);
                }
            }
            Some(member) if member.info == info => {}
            Some(member) => {
                // No hearsay is better than another: later hearsay may be right where earlier was wrong.
                member.info = info;
                member.dial_by(now + first);
            }
        }
    }

    fn peer_drains(&mut self, now: Duration, id: LinkId, todo: &mut Vec<Action>) {
        if let Some(member) = self.by_link(id)
            && let Some(link) = member.standing.link_mut()
            && !std::mem::replace(&mut link.draining, true)
        {
            member.since = now;
            todo.push(Action::Announce(member.info.clone(), News::Draining));
            self.changed = true;
        }
    }

    fn peer_left(&mut self, now: Duration, id: LinkId, todo: &mut Vec<Action>) {
        // A good-bye over a closed link came late.
        let Some(member) = self.by_link(id) else {
            return;
        };
        member.parts(Standing::Left, now);
        member.trouble = None;
        todo.push(Action::Close(id, Cause::PeerLeft));
        todo.push(Action::Announce(member.info.clone(), News::Left));
        self.changed = true;
    }

    fn leave(&mut self, now: Duration, todo: &mut Vec<Action>) {
        self.mode = Mode::Gone;
        for member in self.members.values_mut() {
            if let Some(link) = member.link() {
                todo.push(Action::Close(link.id, Cause::WeLeave));
                member.parts(Standing::Apart, now);
            }
        }
    }

    fn gossip(&mut self, now: Duration, todo: &mut Vec<Action>) {
        let due = self.changed || now.saturating_sub(self.gossiped) >= GOSSIP_EVERY;
        if !due || matches!(self.mode, Mode::Parting | Mode::Gone) {
            return;
        }
        self.changed = false;
        self.gossiped = now;
        let alive = self.members.values().filter(|member| member.is_news());
        let alive: Vec<_> = alive.map(|member| member.info.clone()).collect();
        if !alive.is_empty() {
            todo.push(Action::Gossip(alive));
        }
    }

    fn by_link(&mut self, id: LinkId) -> Option<&mut Member> {
        let mut all = self.members.values_mut();
        all.find(|member| member.link().is_some_and(|link| link.id == id))
    }

    /// Forgets members that have had no link for [`REMEMBER`], unless a seed leads to them, and addresses that lead to no member.
    fn forget(&mut self, now: Duration) {
        let (leads, seeds) = (&self.leads, &self.seeds);
        let is_seed = |name: &NodeName| {
            let mut addresses = seeds.iter().flat_map(|seed| &seed.addresses);
            addresses.any(|at| leads.get(at) == Some(name))
        };
        self.members.retain(|name, member| {
            let recent = || now.saturating_sub(member.since) < REMEMBER;
            match member.standing {
                Standing::Linked(_) => true,
                Standing::Apart => member.dial.is_some() || recent() || is_seed(name),
                Standing::Left => recent(),
            }
        });
        let (members, seeds) = (&self.members, &self.seeds);
        self.leads.retain(|address, _| {
            members.values().any(|member| member.is_sought_at(address))
                || seeds.iter().any(|seed| seed.addresses.contains(address))
        });
    }

    /// Makes room for a member with a link: forgets the one that has had none for longest.
    fn forget_oldest(&mut self) {
        let apart = self.members.values().filter(|m| m.link().is_none());
        let oldest = apart.min_by_key(|member| member.since);
        if let Some(name) = oldest.map(|member| member.info.name.clone()) {
            self.members.remove(&name);
        }
    }
}

impl Member {
    fn new(info: NodeInfo, now: Duration) -> Self {
        Self {
            info,
            standing: Standing::Apart,
            since: now,
            trouble: None,
            met: false,
            parted: Duration::ZERO,
            elsewhere: None,
            retry: Retry::default(),
            dial: None,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
