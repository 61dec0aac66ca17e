//! What people and subscribers are told: one line of the log and one event for each change.

use std::collections::HashMap;

use amcp_protocol::CloudEvent;
use amcp_registry::bus::{EventBus, unix_ms};
use serde_json::json;

use crate::info::NodeInfo;
use crate::membership::News;

/// What events of the cluster say as their source.
const SOURCE: &str = "/cluster";
/// Addresses whose last trouble is remembered: more are told again rather than remembered.
const MAX_TROUBLES: usize = 1024;

/// Logs a change and publishes it.
pub(super) fn announce(bus: &EventBus, peer: &NodeInfo, news: &News) {
    let (node, address) = (peer.name.as_str(), peer.address.as_str());
    let event_type = match news {
        News::Joined => {
            tracing::info!(node, address, "a node joined");
            "node.joined"
        }
        News::Suspected => {
            tracing::warn!(node, address, "a node is silent");
            "node.suspected"
        }
        News::Recovered => {
            tracing::info!(node, "a silent node is heard again");
            return;
        }
        News::Draining => {
            tracing::info!(node, "a node drains");
            return;
        }
        News::Lost(cause) => {
            tracing::warn!(node, address, %cause, "the link with a node is lost; it is dialled again and again");
            "node.lost"
        }
        News::Left => {
            tracing::info!(node, "a node left");
            "node.left"
        }
    };
    bus.publish(event_type, || {
        let mut data = json!({
            "node": peer.name, "incarnation": peer.incarnation, "address": peer.address, "roles": peer.roles,
        });
        if let (News::Lost(cause), Some(data)) = (news, data.as_object_mut()) {
            data.insert("reason".to_owned(), cause.to_string().into());
        }
        let now = unix_ms();
        let id = format!("{node}-{:x}-{event_type}-{now}", peer.incarnation);
        CloudEvent::new(event_type, SOURCE, id, data)
            .about(node)
            .at_unix_ms(now)
    });
}

/// Logs what keeps nodes apart, once for each address until it changes.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<String, String>);

impl Troubles {
    /// `settled` says that it is settled between nodes all the time and needs nobody.
    pub(super) fn tell(&mut self, address: &str, text: &str, settled: bool) {
        if settled || self.0.get(address).is_some_and(|last| last == text) {
            tracing::debug!(address, reason = text, "a dial came to nothing");
            return;
        }
        tracing::warn!(
            address,
            reason = text,
            "a node is not linked; it is dialled again and again"
        );
        if self.0.len() >= MAX_TROUBLES {
            self.0.clear();
        }
        self.0.insert(address.to_owned(), text.to_owned());
    }

    pub(super) fn over(&mut self, address: &str) {
        self.0.remove(address);
    }
}
