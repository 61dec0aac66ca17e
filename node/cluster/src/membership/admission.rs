//! Whether a connection may stand beside, or instead of, what there is already.

use std::time::Duration;

use super::{DialId, FENCE, LinkId, Member, Membership, Mode, SETTLE};
use crate::info::NodeInfo;

/// How long a dial of ours keeps the peer's out: longer than a greeting across the globe. A dial that takes longer may
/// hang.
const YOUNG: Duration = Duration::from_secs(1);

/// Why a connection may not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Veto {
    /// Both ends are the same node.
    Itself,
    /// The node that was met is about to leave.
    Leaving,
    /// A later boot of that name is linked, or was a moment ago; or another node has it.
    NameTaken,
    /// There is, or is about to be, a connection already.
    Duplicate,
}

impl std::fmt::Display for Veto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Itself => "it is this node itself",
            Self::Leaving => "the node leaves",
            Self::NameTaken => {
                "the name is taken by a node that started later; give each node a name of its own (--name), or wait half \
                 a minute where a machine's clock was set back"
            }
            Self::Duplicate => "there is a link already",
        })
    }
}

impl Membership {
    /// Whether a connection with this peer may come to stand: asked while greeting. Decides nothing yet, but an attempt of
    /// ours has found out whom its address leads to.
    ///
    /// # Errors
    /// [`Veto`] says why not.
    pub fn admit(
        &mut self,
        now: Duration,
        peer: &NodeInfo,
        dial: Option<DialId>,
    ) -> Result<(), Veto> {
        if let Some(dial) = dial {
            self.learn(dial, &peer.name);
        }
        if dial.is_none() && self.is_dialling(now, peer) {
            return Err(Veto::Duplicate);
        }
        self.judge(now, peer, dial.is_some(), false).map(drop)
    }

    /// Whether a connection may stand, and which it supersedes. `stands` says that the other side has said yes already.
    pub(super) fn judge(
        &self,
        now: Duration,
        peer: &NodeInfo,
        dialled: bool,
        stands: bool,
    ) -> Result<Option<LinkId>, Veto> {
        if peer.name == self.name {
            let same = peer.incarnation == self.incarnation;
            return Err(if same { Veto::Itself } else { Veto::NameTaken });
        }
        let member = self.members.get(&peer.name).filter(|member| member.met);
        // Who drains still needs whom it works with.
        let welcome = match self.mode {
            Mode::In => true,
            Mode::Draining => member.is_some(),
            Mode::Parting | Mode::Gone => false,
        };
        if !welcome {
            return Err(Veto::Leaving);
        }
        let Some(member) = member else {
            return Ok(None);
        };
        let fenced = member.link().is_some() || now.saturating_sub(member.parted) < FENCE;
        if peer.incarnation < member.info.incarnation && fenced {
            return Err(Veto::NameTaken);
        }
        let Some(link) = member.link() else {
            return Ok(None);
        };
        if peer.incarnation > member.info.incarnation {
            return Ok(Some(link.id));
        }
        let preferred = |dialled: bool| dialled == (self.name < peer.name);
        let old = now.saturating_sub(link.admitted) >= SETTLE;
        let takes_over = if dialled {
            // Where both are ours: who said yes to the second knows no more of the first.
            (preferred(true) && !link.dialled) || (stands && link.dialled)
        } else {
            old || (preferred(false) && link.dialled)
        };
        if takes_over {
            Ok(Some(link.id))
        } else {
            Err(Veto::Duplicate)
        }
    }

    /// Whether we, the lower name, have just begun to dial it without a link.
    fn is_dialling(&self, now: Duration, peer: &NodeInfo) -> bool {
        let of = |member: &Member| member.link().is_none().then_some(member.dial).flatten();
        self.name < peer.name
            && self
                .members
                .get(&peer.name)
                .filter(|member| member.info.incarnation == peer.incarnation)
                .and_then(of)
                .and_then(|dial| self.dials.get(&dial))
                .is_some_and(|dial| now.saturating_sub(dial.began) < YOUNG)
    }
}
