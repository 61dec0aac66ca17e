//! Decides whether a connection may stand, beside the existing links or in place of one.

use std::time::Duration;

use super::{DialId, FENCE, LinkId, Member, Membership, Mode, SETTLE};
use crate::info::NodeInfo;

/// How long our dial keeps the peer's dial out: longer than a greeting across the globe. A dial that takes longer may hang.
const YOUNG: Duration = Duration::from_secs(1);

/// The reason for which a connection may not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Veto {
    /// Both ends are the same node.
    #[error("the address leads to this node itself")]
    Itself,
    /// The refusing node is about to leave.
    #[error("the node leaves")]
    Leaving,
    /// A later boot of the name is linked, or was a moment ago; or the refusing node has the name.
    #[error(
        "a node that started later has this name; give each node its own name (--name), or wait half a minute if a machine's clock was set back"
    )]
    NameTaken,
    /// A connection with the peer stands already, or is about to.
    #[error("there is a link already")]
    Duplicate,
}

impl Membership {
    /// Judges a connection with this peer during the greeting. Changes no link, but notes the node that our dial reached.
    ///
    /// # Errors
    /// [`Veto`] is the reason for which the connection may not stand.
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

    /// Whether a connection may stand, and the link that it supersedes. `stands`: the other side has accepted it already.
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
        // A draining node still needs the members that it works with.
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
            // If we dialled both, the peer that accepted the second connection has lost the first.
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

    /// Whether we have the lower name and have just begun to dial the peer, without a link.
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
