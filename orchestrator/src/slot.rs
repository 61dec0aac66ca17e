//! Finds an actor that may be restarted.
//!
//! Does not restart the actor; its supervisor does.

use parking_lot::RwLock;
use ractor::{ActorRef, Message};

/// The latest actor; none before the first.
#[derive(Debug)]
pub(crate) struct ActorSlot<M>(RwLock<Option<ActorRef<M>>>);

impl<M> Default for ActorSlot<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: Message> ActorSlot<M> {
    pub(crate) fn set(&self, actor: ActorRef<M>) {
        *self.0.write() = Some(actor);
    }

    /// Sends a message. Returns false while there is no actor.
    pub(crate) fn send(&self, message: M) -> bool {
        let slot = self.0.read();
        slot.as_ref()
            .is_some_and(|actor| actor.send_message(message).is_ok())
    }
}
