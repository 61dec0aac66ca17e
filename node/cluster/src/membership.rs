//! Who is a member, who is dialled, who is suspected, evicted, superseded: pure.
//!
//! [`Membership`] takes what happened with the time at which it happened, and says what to do. It opens no sockets, reads no
//! clock and draws no randomness but from its seed; time is what has passed since an origin of the caller's choice.
//!
//! # One link to each peer, whoever dials
//!
//! Both sides of a connection judge it twice: while they greet ([`Membership::admit`], the dialler first, which changes
//! nothing) and when it stands ([`Event::Connected`]). In between another connection may have come to stand, and one side may know of it
//! before the other. So that both always keep the same one:
//!
//! - Of two connections with the same boot of a peer, dialled from both sides at once, the one that the lower name
//!   dialled is *preferred*. Each side keeps it or changes over to it, in whatever order it meets them.
//! - Nobody dials a peer that it has a link with. So when a peer dials us whose link stands here, it has lost the link, and
//!   the new one supersedes it, unless the link is younger than [`SETTLE`]: then the dial may have begun before the link
//!   stood, and the link stays.
//! - Of two connections that one side dialled at once, because two addresses lead to the same peer, the other side takes
//!   the first (they meet there within [`SETTLE`]). Such an address is remembered, and not dialled while that peer is linked.
//! - While we dial a peer by its name, and ours is the lower, we refuse it; but only while the dial is young, because a
//!   dial that hangs may never arrive, and then the peer's is the only one that will.
//! - A later boot of a name supersedes an earlier one at once: the earlier process is dead, or should not share a name. An
//!   earlier boot is refused while a later one is linked, and for [`FENCE`] after it was: a process that was frozen and
//!   wakes beside its successor stays out, and one whose machine's clock was set back comes in again.
//!
//! What others say about a member, who may be wrong or lie, makes us dial and nothing more: whom to let in is judged by what
//! members said about themselves.
//!
//! What these rules leave open (both sides dropping the one that the other keeps, because a connection broke in the middle
//! of it) ends with no link, and both sides dialling again after different random waits.

mod admission;
mod dials;
mod liveness;

use std::collections::BTreeMap;
use std::time::Duration;

use amcp_protocol::NodeName;

use crate::info::NodeInfo;
use crate::settings::Seed;

pub use admission::Veto;
use dials::{Dial, Leads, Retry, SeedState};
pub use liveness::{EVICT_AFTER, SUSPECT_AFTER};

/// Longest time that a dial takes, from its start to the end of its greeting: two lost SYNs (3 s) and a slow handshake.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How young a link is whose peer may have dialled before it stood: a dial, and the two seconds that the other side of a
/// greeting may lag behind.
pub const SETTLE: Duration = Duration::from_secs(7);
/// How long a connection may take to become usable: its session needs four messages and a copy of the process groups.
pub const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often members are told although nothing changed: repairs what was lost with a link.
const GOSSIP_EVERY: Duration = Duration::from_secs(10);
/// How long a member is remembered that left or was lost, or that was heard of and never met.
const REMEMBER: Duration = Duration::from_secs(3600);
/// Most members that are remembered: bounds what others can make us remember.
const MAX_MEMBERS: usize = 1024;
/// How long an earlier boot stays out after the last link with a later one broke: six times what it takes to find out that a
/// link is dead, so that a successor that is merely cut off has had its chances to come back.
const FENCE: Duration = Duration::from_secs(30);
/// A link that stood this long was a good one: after its loss dialling begins with short waits again.
const PROVEN: Duration = Duration::from_secs(10);

/// One connection: its `token_in`.
pub type LinkId = u64;

/// One attempt to connect.
pub type DialId = u64;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed; how long each connection has been silent.
    Tick(Vec<(LinkId, Duration)>),
    /// A seed was looked up: the addresses that it stands for, or why there are none.
    Found(usize, Result<Vec<String>, String>),
    /// An attempt came to nothing.
    DialFailed(DialId, DialFailure),
    /// A connection stands, made by this attempt or by the peer.
    Connected {
        /// The new connection.
        link: LinkId,
        /// With whom.
        peer: NodeInfo,
        /// Our attempt, if it was ours.
        dial: Option<DialId>,
    },
    /// The connection can carry tasks.
    Ready(LinkId),
    /// The connection ended, for this reason.
    Closed(LinkId, String),
    /// A peer knows these members.
    Members(Vec<NodeInfo>),
    /// The peer of this link takes nothing new.
    Draining(LinkId),
    /// The peer of this link goes.
    Goodbye(LinkId),
    /// We slept so long that every peer has given us up.
    Overslept,
    /// We take nothing new.
    Drain,
    /// We said good-bye: peers close their links with us now.
    Farewell,
    /// We go.
    Leave,
}

/// Why an attempt came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialFailure {
    /// For people.
    pub text: String,
    /// What the peer, or we, had against it.
    pub veto: Option<Veto>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look a seed up; [`Event::Found`] says what came of it.
    Look(usize),
    /// Connect to this address; [`Event::Connected`] or [`Event::DialFailed`] says what came of it.
    Dial(DialId, String),
    /// Make this connection a link; [`Event::Ready`] says when it is one.
    Open(LinkId),
    /// Give this connection up. Comes exactly once for each [`Event::Connected`].
    Close(LinkId, Cause),
    /// Tell every peer that these members are alive.
    Gossip(Vec<NodeInfo>),
    /// Tell people and events.
    Announce(NodeInfo, News),
}

/// Why a connection is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It is one too many, or may not be.
    Refused(Veto),
    /// A better one, or one to a later boot, took its place.
    Superseded,
    /// It did not become usable in time.
    NotReady,
    /// Nothing was heard for [`EVICT_AFTER`].
    Silent,
    /// We slept, and the peer gave us up meanwhile.
    Overslept,
    /// It ended by itself.
    Ended(String),
    /// The peer said good-bye.
    PeerLeft,
    /// We leave.
    WeLeave,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(veto) => write!(f, "refused: {veto}"),
            Self::Superseded => f.write_str("another connection took its place"),
            Self::NotReady => write!(f, "not usable within {READY_TIMEOUT:?}"),
            Self::Silent => write!(f, "silent for {EVICT_AFTER:?}"),
            Self::Overslept => f.write_str("this node slept so long that its peers gave it up"),
            Self::Ended(why) => write!(f, "ended: {why}"),
            Self::PeerLeft => f.write_str("the peer left"),
            Self::WeLeave => f.write_str("this node leaves"),
        }
    }
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A link with it stands.
    Joined,
    /// It is silent.
    Suspected,
    /// It is heard again.
    Recovered,
    /// It drains.
    Draining,
    /// The link is gone.
    Lost(Cause),
    /// It said good-bye.
    Left,
}

/// One member, itself not among them.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it last said about itself; of one that was never met, what others said.
    pub info: NodeInfo,
    /// How we stand with it.
    pub standing: Standing,
    /// Since when.
    pub since: Duration,
    /// Why there is no link.
    pub trouble: Option<String>,
    /// Whether a link with it ever stood.
    met: bool,
    /// When the last link with it ended.
    parted: Duration,
    /// Where others say that a later boot of it is.
    elsewhere: Option<String>,
    retry: Retry,
    dial: Option<DialId>,
}

/// How we stand with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no link; it is dialled.
    Apart,
    /// There is a connection.
    Linked(Link),
    /// It said good-bye.
    Left,
}

impl Standing {
    fn link_mut(&mut self) -> Option<&mut Link> {
        match self {
            Self::Linked(link) => Some(link),
            Self::Apart | Self::Left => None,
        }
    }
}

/// The one connection with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Unique for the life of the process.
    pub id: LinkId,
    /// Whether it can carry tasks, and is heard.
    pub phase: LinkPhase,
    /// Whether the peer drains.
    pub draining: bool,
    dialled: bool,
    admitted: Duration,
    heard: Duration,
    forgiven: Duration,
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPhase {
    /// It is not usable yet.
    Opening,
    /// It is usable, and heard.
    Alive,
    /// It has been silent for [`SUSPECT_AFTER`].
    Suspect,
}

impl Member {
    /// The link, if there is one.
    #[must_use]
    pub const fn link(&self) -> Option<&Link> {
        match &self.standing {
            Standing::Linked(link) => Some(link),
            Standing::Apart | Standing::Left => None,
        }
    }

    /// Whether others should be told that it is there.
    fn is_news(&self) -> bool {
        self.link()
            .is_some_and(|link| link.phase != LinkPhase::Opening && !link.draining)
    }

    fn stands(&mut self, standing: Standing, now: Duration) {
        self.standing = standing;
        self.since = now;
    }

    /// The same, of a link that ends.
    fn parts(&mut self, standing: Standing, now: Duration) {
        self.stands(standing, now);
        self.parted = now;
    }

    /// What is said again and again must not put the dial off.
    fn dial_by(&mut self, at: Duration) {
        self.retry.begin(self.retry.at().min(at));
    }

    fn is_sought_at(&self, address: &str) -> bool {
        self.info.address == address || self.elsewhere.as_deref() == Some(address)
    }
}

/// Whether we take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    In,
    /// It still works for others, and others for it: whom it has met stays linked, and is linked again.
    Draining,
    /// It said good-bye.
    Parting,
    Gone,
}

/// Who is in the mesh, as this node sees it.
#[derive(Debug)]
pub struct Membership {
    name: NodeName,
    incarnation: u64,
    mode: Mode,
    members: BTreeMap<NodeName, Member>,
    seeds: Vec<SeedState>,
    /// Who was met at which address.
    leads: BTreeMap<String, Leads>,
    dials: BTreeMap<DialId, Dial>,
    next_dial: DialId,
    ticked: Option<Duration>,
    gossiped: Duration,
    changed: bool,
    rng: fastrand::Rng,
}

impl Membership {
    /// Knows nobody; the first [`Event::Tick`] begins to look the seeds up.
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

    /// Seeds behind which nobody was met yet, with why.
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

    /// What to do about what happened.
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
        let link = Link {
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

    /// Gives a member's link up. Nothing happens for a connection that is nobody's link: it was given up before.
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
        // Peers to whom we said good-bye close: they are not lost.
        if opened && !parting {
            todo.push(Action::Announce(member.info.clone(), News::Lost(cause)));
            self.changed = true;
        }
    }

    /// Every peer has given us up: what still seems to stand does not.
    fn overslept(&mut self, now: Duration, todo: &mut Vec<Action>) {
        let links = self.members.values().filter_map(Member::link);
        let links: Vec<_> = links.map(|link| link.id).collect();
        for link in links {
            self.part(now, link, Cause::Overslept, todo);
        }
    }

    /// Somebody else knows a member. That is hearsay: it makes us dial, and no more.
    fn heard_of(&mut self, now: Duration, info: NodeInfo) {
        if info.name == self.name || self.mode != Mode::In {
            return;
        }
        // What could not be met like this is not dialled either.
        let Ok(info) = info.checked() else {
            return;
        };
        // When both hear of each other at once, only the lower name dials; the other follows when that came to nothing.
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
            // Full, or nothing new.
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
                // One hearsay is as good as another: the last may be right where the first was not.
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
        // A good-bye over a link that is no more came late.
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

    /// Members without a link are not remembered for ever, unless a seed is to lead to them; nor is where they were met.
    fn forget(&mut self, now: Duration) {
        let (leads, seeds) = (&self.leads, &self.seeds);
        let is_seed = |name: &NodeName| {
            let mut addresses = seeds.iter().flat_map(|seed| &seed.addresses);
            addresses.any(|at| matches!(leads.get(at), Some(Leads::To(there)) if there == name))
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

    /// Makes room for a member that has a link, by the one that has had none for longest.
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
mod mesh;
#[cfg(test)]
mod tests;
