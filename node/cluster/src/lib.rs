//! The links between nodes: membership, connections, and the tasks and answers that cross them.
//!
//! [`membership`] decides (pure); [`actor`] carries its decisions out; [`transport`] makes and secures connections;
//! [`link`] carries tasks, answers and cards over an established connection. Does not choose agents (the directory does) and
//! does not retry (requests do).

pub mod actor;
pub mod certs;
pub mod info;
pub mod link;
pub mod membership;
pub mod settings;
pub mod transport;
pub mod view;
pub mod wire;

pub use actor::{Cluster, ClusterError};
pub use info::{NodeInfo, Role};
pub use link::{Desk, Links};
pub use settings::{AllowList, ClusterSettings, Issue, Seed, Trust};
pub use view::{ClusterView, MemberState, MemberView};
