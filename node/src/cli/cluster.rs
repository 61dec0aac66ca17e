//! The command line of `amcp node` and `amcp cluster`: flags and help texts.
//!
//! Does not judge the values of settings.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `amcp node`: the settings of a node among others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Node {
    /// The node's name, unique among the nodes [default: the machine's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// An address of its own for health checks, such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The address on which the node listens for other nodes; without it the node stays alone
    #[arg(long, value_name = "ADDRESS")]
    cluster: Option<String>,
    /// An address of another node: host:port, or dns:host:port for every address of the host; may be repeated
    #[arg(long, value_name = "WHERE")]
    join: Vec<String>,
    /// The address at which other nodes reach this one [default: the one that its connections come from]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The parts that the node runs [default: orchestrator,gateway,specialists]
    #[arg(long, value_name = "LIST")]
    roles: Vec<String>,
    /// The built-in specialists that run here, by agent, capability or first word [default: all]
    #[arg(long, value_name = "LIST")]
    specialists: Vec<String>,
    /// The capabilities that its orchestrator plans with, such as finance, or finance=finance.*,document.*; it delegates the rest
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// A file that holds the cookie of the cluster
    #[arg(long, value_name = "FILE")]
    cookie_file: Option<String>,
    /// The folder that `amcp cluster certs` filled
    #[arg(long, value_name = "DIR")]
    cluster_certs: Option<String>,
    /// Certificate of the authority that all nodes trust, in place of --cluster-certs
    #[arg(long, value_name = "FILE")]
    cluster_ca: Option<String>,
    /// This node's certificate, in place of --cluster-certs
    #[arg(long, value_name = "FILE")]
    cluster_cert: Option<String>,
    /// The key of this node's certificate, in place of --cluster-certs
    #[arg(long, value_name = "FILE")]
    cluster_key: Option<String>,
    /// Allow links without encryption beyond loopback addresses
    #[arg(long)]
    insecure: bool,
    /// The capabilities that the agents of a node may offer here, such as b=finance.*,report.*;c=weather.get
    #[arg(long, value_name = "LIST")]
    cluster_allow: Vec<String>,
}

impl Node {
    /// The text of each setting by key; `None` without the flag.
    pub(super) fn given(&self) -> Vec<(&'static str, Option<String>)> {
        let joined =
            |items: &[String], separator| (!items.is_empty()).then(|| items.join(separator));
        vec![
            ("name", self.name.clone()),
            ("admin", self.admin.clone()),
            ("cluster", self.cluster.clone()),
            ("join", joined(&self.join, ",")),
            ("advertise", self.advertise.clone()),
            ("roles", joined(&self.roles, ",")),
            ("specialists", joined(&self.specialists, ",")),
            ("domain", self.domain.clone()),
            ("cookie_file", self.cookie_file.clone()),
            ("cluster_certs", self.cluster_certs.clone()),
            ("cluster_ca", self.cluster_ca.clone()),
            ("cluster_cert", self.cluster_cert.clone()),
            ("cluster_key", self.cluster_key.clone()),
            ("insecure", self.insecure.then(|| "true".to_owned())),
            ("cluster_allow", joined(&self.cluster_allow, ";")),
        ]
    }
}

/// `amcp cluster`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cluster {
    /// The running node to ask [default: the one that `http` in the settings names]
    #[arg(long, visible_alias = "url", value_name = "URL")]
    pub(crate) node: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) what: Option<ClusterTool>,
}

/// Makes what a cluster needs before it runs.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterTool {
    /// Make a private authority and the certificates of nodes, for mutual TLS
    Certs {
        #[command(subcommand)]
        what: Certs,
    },
    /// Print a new cookie: 64 random hexadecimal digits
    Cookie,
}

/// `amcp cluster certs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Make an authority: ca.pem, which every node needs, and ca.key, which signs and belongs on no node
    Init {
        /// The folder for both files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make NAME.pem and NAME.key with the authority in the folder
    Issue {
        /// The node's name
        #[arg(value_name = "NAME")]
        name: String,
        /// The folder of the authority
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A further name or address of the node's machine; may be repeated
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
    },
}
