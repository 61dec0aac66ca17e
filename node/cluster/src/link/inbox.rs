//! Other nodes' tasks on this node: each is executed once, however often peers send it. Pure.
//!
//! Keyed by request, task, capability and the text of the params (a call that an agent makes anew may differ under the same
//! name). A second attempt at a running task waits with the first; an attempt at a task that was done gets the kept answer. A
//! result is kept until the peer confirms it, or for a while after its link was lost. So is a failure if the capability is not
//! idempotent; otherwise another attempt may end differently. A refusal is never kept: the task had not begun.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{RequestId, TaskId, TaskRequest};
use amcp_registry::{AgentPort, TaskKey};
use tokio::time::Instant;

/// How long an unconfirmed result is kept: longer than it takes to notice a lost peer and to make all attempts at its tasks.
const KEPT: Duration = Duration::from_secs(120);
/// Most results kept: the whole credit of sixty-four peers that were lost together.
const MOST: usize = 16_384;
/// Most bytes of results kept.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A fast hasher, because each task hashes its keys several times.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

type Key = (RequestId, TaskId, u64);

/// A link that waits for a task's end, and the id of the entry that it answers.
#[derive(Debug)]
pub(crate) struct Waiter<L> {
    pub(crate) link: Arc<L>,
    pub(crate) token: u64,
    pub(crate) id: u64,
}

#[derive(Debug)]
enum Seen<L> {
    Running(Running<L>),
    /// The response, and the links and entries whose confirmation we await.
    Done(Arc<Vec<u8>>, Vec<(u64, u64)>),
}

#[derive(Debug)]
struct Running<L> {
    generation: u64,
    /// The attempt that the agent behind `port` executes.
    executed: TaskKey,
    port: Option<AgentPort>,
    waiters: Vec<Waiter<L>>,
}

/// The next step for a task that arrives.
#[derive(Debug)]
pub(crate) enum Admitted<L> {
    /// Execute the task; its end goes to [`Inbox::ended`] under this name.
    Execute(Name),
    /// The task is under way; its end is also this attempt's.
    Joined,
    /// The task was done before: answer with this.
    Known(Waiter<L>, Arc<Vec<u8>>),
}

/// An attempt that is no longer wanted.
#[derive(Debug)]
pub(crate) struct Cancelled<L> {
    /// The link that waited for it.
    pub(crate) waiter: Waiter<L>,
    /// The agent to tell, with its attempt; none while other links wait.
    pub(crate) executed: Option<(AgentPort, TaskKey)>,
}

/// Names a task in an [`Inbox`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    key: Key,
    /// Distinguishes an execution from a later one after the first was cancelled.
    generation: u64,
}

/// The tasks of all peers. `L` is a link.
#[derive(Debug)]
pub(crate) struct Inbox<L> {
    tasks: HashMap<Key, Seen<L>>,
    /// By token and entry id.
    waiters: HashMap<(u64, u64), Key>,
    /// Results that their links have not confirmed, by token and entry id.
    unsettled: HashMap<(u64, u64), Key>,
    kept: VecDeque<(Instant, Key)>,
    bytes: usize,
    generation: u64,
    /// Random for each process; a digest never leaves it.
    digests: foldhash::quality::RandomState,
}

impl<L> Default for Inbox<L> {
    fn default() -> Self {
        Self {
            tasks: HashMap::default(),
            waiters: HashMap::default(),
            unsettled: HashMap::default(),
            kept: VecDeque::new(),
            bytes: 0,
            generation: 0,
            digests: foldhash::quality::RandomState::default(),
        }
    }
}

impl<L> Inbox<L> {
    /// Takes a task that arrived.
    pub(crate) fn admit(
        &mut self,
        task: &TaskRequest,
        waiter: Waiter<L>,
        now: Instant,
    ) -> Admitted<L> {
        self.forget_old(now);
        let what = (&task.capability, task.params.text());
        let digest = self.digests.hash_one(what);
        let key = (task.request_id, task.task_id.clone(), digest);
        match self.tasks.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                self.generation += 1;
                let generation = self.generation;
                let name = Name {
                    key: key.clone(),
                    generation,
                };
                self.waiters.insert((waiter.token, waiter.id), key);
                vacant.insert(Seen::Running(Running {
                    generation,
                    executed: TaskKey::of(task),
                    port: None,
                    waiters: vec![waiter],
                }));
                Admitted::Execute(name)
            }
            Entry::Occupied(mut seen) => match seen.get_mut() {
                Seen::Running(running) => {
                    self.waiters.insert((waiter.token, waiter.id), key);
                    running.waiters.push(waiter);
                    Admitted::Joined
                }
                Seen::Done(response, _) => Admitted::Known(waiter, Arc::clone(response)),
            },
        }
    }

    /// Notes the agent that executes a task, to tell it when the task is cancelled.
    pub(crate) fn placed(&mut self, name: &Name, port: AgentPort) {
        if let Some(Seen::Running(running)) = self.tasks.get_mut(&name.key)
            && running.generation == name.generation
        {
            running.port = Some(port);
        }
    }

    /// The links that take signs of life of a task under way, and the ids of the entries that asked for it.
    pub(crate) fn hearing(&self, name: &Name) -> Vec<(Arc<L>, u64)> {
        let Some(Seen::Running(running)) = self.tasks.get(&name.key) else {
            return Vec::new();
        };
        let waiters = running.waiters.iter();
        waiters
            .filter(|_| running.generation == name.generation)
            .map(|waiter| (Arc::clone(&waiter.link), waiter.id))
            .collect()
    }

    /// Ends a task. Returns the links that wait for it. `response` is the answer to later attempts; none if these shall execute
    /// the task again.
    pub(crate) fn ended(
        &mut self,
        name: Name,
        response: Option<Arc<Vec<u8>>>,
        now: Instant,
    ) -> Vec<Waiter<L>> {
        let Entry::Occupied(seen) = self.tasks.entry(name.key.clone()) else {
            return Vec::new();
        };
        if !matches!(seen.get(), Seen::Running(r) if r.generation == name.generation) {
            return Vec::new();
        }
        let Seen::Running(running) = seen.remove() else {
            return Vec::new();
        };
        let told: Vec<_> = running.waiters.iter().map(|w| (w.token, w.id)).collect();
        for waiter in &told {
            self.waiters.remove(waiter);
        }
        if let Some(response) = response {
            let keys = told.iter().map(|waiter| (*waiter, name.key.clone()));
            self.unsettled.extend(keys);
            self.bytes += response.len();
            self.kept.push_back((now, name.key.clone()));
            self.tasks.insert(name.key, Seen::Done(response, told));
            self.forget_old(now);
        }
        running.waiters
    }

    /// Drops a result that the peer has confirmed.
    pub(crate) fn settled(&mut self, token: u64, id: u64) {
        let Some(key) = self.unsettled.remove(&(token, id)) else {
            return;
        };
        self.forget(&key);
        // Peers confirm results roughly in the order of their ends.
        while let Some((_, key)) = self.kept.front()
            && !matches!(self.tasks.get(key), Some(Seen::Done(..)))
        {
            self.kept.pop_front();
        }
    }

    /// Cancels an attempt. Returns the link that waited and, when no other waits, the agent to tell.
    pub(crate) fn cancel(&mut self, token: u64, id: u64) -> Option<Cancelled<L>> {
        let key = self.waiters.remove(&(token, id))?;
        let Some(Seen::Running(running)) = self.tasks.get_mut(&key) else {
            return None;
        };
        let at = running
            .waiters
            .iter()
            .position(|w| (w.token, w.id) == (token, id))?;
        let waiter = running.waiters.swap_remove(at);
        if !running.waiters.is_empty() {
            let executed = None;
            return Some(Cancelled { waiter, executed });
        }
        let port = running.port.clone();
        let executed = port.map(|port| (port, running.executed.clone()));
        // The next attempt begins anew, and does not share the fate of this one.
        self.tasks.remove(&key);
        Some(Cancelled { waiter, executed })
    }

    /// Number of tasks, counted for each link that waits for them.
    pub(crate) fn serving(&self) -> usize {
        self.waiters.len()
    }

    /// Drops the waiters of a closed link. Their tasks go on, so that the next attempts find them.
    pub(crate) fn closed(&mut self, token: u64) {
        self.unsettled.retain(|(of, _), _| *of != token);
        let waiters = &mut self.waiters;
        let tasks = &mut self.tasks;
        waiters.retain(|(of, id), key| {
            if *of != token {
                return true;
            }
            if let Some(Seen::Running(running)) = tasks.get_mut(key) {
                running.waiters.retain(|w| (w.token, w.id) != (token, *id));
            }
            false
        });
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, _)) = self.kept.front() {
            let old = now.saturating_duration_since(*at) > KEPT;
            if !old && self.kept.len() <= MOST && self.bytes <= MOST_BYTES {
                return;
            }
            if let Some((_, key)) = self.kept.pop_front() {
                self.forget(&key);
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(Seen::Done(response, told)) = self.tasks.get(key) {
            self.bytes -= response.len();
            for waiter in told {
                self.unsettled.remove(waiter);
            }
            self.tasks.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::CapabilityName;
    use serde_json::json;

    use super::*;

    fn task(name: &str, attempt: u32) -> TaskRequest {
        TaskRequest {
            version: 1,
            request_id: "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            task_id: TaskId::new(name).unwrap(),
            attempt,
            deadline_ms: 1_000,
            traceparent: None,
            grant: Arc::default(),
            lineage: Arc::default(),
            capability: CapabilityName::new("a.x").unwrap(),
            flows: Vec::new(),
            params: json!({}).into(),
        }
    }

    fn waiter(token: u64, id: u64) -> Waiter<()> {
        Waiter {
            link: Arc::new(()),
            token,
            id,
        }
    }

    fn ids(waiters: &[Waiter<()>]) -> Vec<(u64, u64)> {
        waiters.iter().map(|w| (w.token, w.id)).collect()
    }

    fn executes(inbox: &mut Inbox<()>, task: &TaskRequest, waiter: Waiter<()>) -> Name {
        match inbox.admit(task, waiter, Instant::now()) {
            Admitted::Execute(name) => name,
            other @ (Admitted::Joined | Admitted::Known(..)) => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_executed_once_and_answered_again() {
        let mut inbox = Inbox::default();
        let now = Instant::now();
        let (first, again) = (task("t1", 1), task("t1", 2));
        let name = executes(&mut inbox, &first, waiter(1, 1));
        assert!(matches!(
            inbox.admit(&again, waiter(2, 1), now),
            Admitted::Joined
        ));
        assert_eq!(inbox.serving(), 2);
        let body = Arc::new(b"done".to_vec());
        let told = inbox.ended(name, Some(body), now);
        assert_eq!(ids(&told), [(1, 1), (2, 1)]);
        assert_eq!(inbox.serving(), 0);
        match inbox.admit(&task("t1", 3), waiter(2, 2), now) {
            Admitted::Known(waiter, response) => {
                assert_eq!((waiter.id, response.as_slice()), (2, &b"done"[..]));
            }
            other @ (Admitted::Execute(_) | Admitted::Joined) => panic!("{other:?}"),
        }
        tokio::time::advance(KEPT + Duration::from_secs(1)).await;
        executes(&mut inbox, &task("t1", 4), waiter(2, 3));
    }

    #[test]
    fn a_failed_task_is_executed_again_and_another_of_the_same_name_is_no_repetition() {
        let mut inbox = Inbox::default();
        let first = task("t1", 1);
        let name = executes(&mut inbox, &first, waiter(1, 1));
        let other = TaskRequest {
            params: json!({"x": 1}).into(),
            ..task("t1", 2)
        };
        executes(&mut inbox, &other, waiter(1, 2));
        assert_eq!(inbox.ended(name, None, Instant::now()).len(), 1);
        executes(&mut inbox, &task("t1", 2), waiter(1, 3));
    }

    #[test]
    fn only_the_last_who_waits_cancels() {
        let mut inbox = Inbox::default();
        let first = executes(&mut inbox, &task("t1", 1), waiter(1, 1));
        let joined = inbox.admit(&task("t1", 2), waiter(2, 1), Instant::now());
        assert!(matches!(joined, Admitted::Joined));
        let cancelled = inbox.cancel(1, 1).unwrap();
        assert_eq!(
            (cancelled.waiter.id, cancelled.executed.is_none()),
            (1, true)
        );
        assert!(inbox.cancel(1, 1).is_none());
        assert_eq!(inbox.serving(), 1);
        inbox.closed(2);
        assert_eq!(inbox.serving(), 0);
        // The task goes on, and the next attempt joins it.
        let third = inbox.admit(&task("t1", 3), waiter(3, 1), Instant::now());
        assert!(matches!(third, Admitted::Joined));
        assert!(inbox.cancel(3, 1).is_some());
        let fourth = executes(&mut inbox, &task("t1", 4), waiter(3, 2));
        assert!(inbox.ended(first, None, Instant::now()).is_empty());
        assert_eq!(ids(&inbox.ended(fourth, None, Instant::now())), [(3, 2)]);
    }

    #[test]
    fn what_has_come_is_not_kept_and_what_may_not_have_come_is() {
        let mut inbox = Inbox::default();
        let body = Arc::new(b"done".to_vec());
        for (n, token) in [(1, 1), (2, 1), (3, 2)] {
            let task = task(&format!("t{n}"), 1);
            let name = executes(&mut inbox, &task, waiter(token, n));
            inbox.ended(name, Some(Arc::clone(&body)), Instant::now());
        }
        inbox.settled(1, 2);
        inbox.settled(1, 2);
        inbox.settled(9, 1);
        executes(&mut inbox, &task("t2", 2), waiter(1, 4));
        let known = |inbox: &mut Inbox<()>, task: &TaskRequest| {
            let admitted = inbox.admit(task, waiter(5, u64::from(task.attempt)), Instant::now());
            matches!(admitted, Admitted::Known(..))
        };
        assert!(known(&mut inbox, &task("t1", 2)));
        inbox.closed(2);
        inbox.settled(2, 3);
        assert!(known(&mut inbox, &task("t3", 2)), "its link was lost");
        inbox.settled(1, 1);
        assert!(!known(&mut inbox, &task("t1", 3)));
        assert_eq!((inbox.bytes, inbox.kept.len()), (4, 1));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut inbox = Inbox::default();
        for n in 0..10 {
            let task = task(&format!("t{n}"), 1);
            let name = executes(&mut inbox, &task, waiter(1, n));
            let body = Arc::new(vec![0; MOST_BYTES / 4]);
            inbox.ended(name, Some(body), Instant::now());
        }
        assert!(inbox.bytes <= MOST_BYTES);
        assert_eq!(inbox.kept.len(), 4);
        assert_eq!(inbox.unsettled.len(), 4, "a peer that confirms nothing");
        assert_eq!(inbox.tasks.len(), 4);
    }
}
