//! Finds members that have been silent for too long.

use std::time::Duration;

use super::{Action, Cause, LinkId, LinkPhase, Membership, News, READY_TIMEOUT};

/// Three missed heartbeats of 1 s.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// A pause of 3 s must not evict, even if the last heartbeat was a second old when it began (4 s), and we must notice a dead
/// node within 5 s, including a tick.
pub const EVICT_AFTER: Duration = Duration::from_millis(4500);
/// Ticks come every 200 ms; a tick this late shows that we were frozen or starved.
const LATE: Duration = Duration::from_secs(1);

impl Membership {
    /// Suspects and evicts silent members, and gives up connections that do not become usable.
    ///
    /// After a late tick we forgive the silence that we slept through, since the bytes of that time still wait to be read. If the
    /// tick is so late that every peer has given us up and has our work done elsewhere, we give up all links.
    pub(super) fn listen(
        &mut self,
        now: Duration,
        silences: &[(LinkId, Duration)],
        todo: &mut Vec<Action>,
    ) {
        let gap = now.saturating_sub(self.ticked.unwrap_or(now));
        let slept = if gap > LATE { gap } else { Duration::ZERO };
        self.ticked = Some(now);
        if gap >= EVICT_AFTER {
            self.overslept(now, todo);
            return;
        }
        let mut given_up = Vec::new();
        for member in self.members.values_mut() {
            let info = &member.info;
            let Some(link) = member.standing.link_mut() else {
                continue;
            };
            link.forgiven += slept;
            if link.phase == LinkPhase::Opening {
                let waited = now.saturating_sub(link.admitted + link.forgiven);
                if waited >= READY_TIMEOUT {
                    given_up.push((link.id, Cause::NotReady));
                }
                continue;
            }
            let Some((_, silence)) = silences.iter().find(|(id, _)| *id == link.id) else {
                continue;
            };
            let heard = now.saturating_sub(*silence);
            if heard > link.heard + PRECISION {
                link.heard = heard;
                // Bytes after the sleep begin a new silence.
                link.forgiven = slept.min(*silence);
            }
            let silence = silence.saturating_sub(link.forgiven);
            let news = match link.phase {
                LinkPhase::Suspect if silence < SUSPECT_AFTER => {
                    (LinkPhase::Alive, News::Recovered)
                }
                LinkPhase::Alive if silence >= SUSPECT_AFTER => {
                    (LinkPhase::Suspect, News::Suspected)
                }
                phase @ (LinkPhase::Opening | LinkPhase::Alive | LinkPhase::Suspect) => {
                    if silence >= EVICT_AFTER {
                        given_up.push((link.id, Cause::Silent));
                    }
                    link.phase = phase;
                    continue;
                }
            };
            link.phase = news.0;
            member.since = now;
            todo.push(Action::Announce(info.clone(), news.1));
        }
        for (id, cause) in given_up {
            self.part(now, id, cause, todo);
        }
    }
}

/// Silences are counted in whole milliseconds: times that differ by less are those of the same byte.
const PRECISION: Duration = Duration::from_millis(5);
