//! Tells operators and subscribers of each change, by a line in the log and an event on the bus.

use std::collections::HashMap;

use amcp_protocol::CloudEvent;
use amcp_registry::bus::{EventBus, unix_ms};
use serde_json::json;

use crate::info::NodeInfo;
use crate::membership::News;

/// The source of the cluster's events.
const SOURCE: &str = "/cluster";
/// Most addresses whose last trouble we remember; past this number we log troubles again rather than remember more.
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
            tracing::warn!(node, address, %cause, "the link with a node is lost; this node dials it again and again");
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

/// Logs the reason why a node is not linked, once for each address until the reason changes.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<String, String>);

impl Troubles {
    /// `settled`: nodes settle such troubles between themselves, so that no operator need know.
    pub(super) fn tell(&mut self, address: &str, text: &str, settled: bool) {
        if settled || self.0.get(address).is_some_and(|last| last == text) {
            tracing::debug!(address, reason = text, "a dial made no connection");
            return;
        }
        tracing::warn!(
            address,
            reason = text,
            "a node is not linked; this node dials it again and again"
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
