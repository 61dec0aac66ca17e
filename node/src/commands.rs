//! The commands, one module each.
//!
//! Does not parse the command line; that is [`crate::cli`].

pub(crate) mod agents;
pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod demo_cluster;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod faults;
pub(crate) mod help;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod node;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod replay;
pub(crate) mod requests;
pub(crate) mod run;
