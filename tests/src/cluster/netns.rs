//! A private network on this machine: a bridge and a network namespace for each node, with links that a test can cut one way
//! or both ways, and slow down.
//!
//! Needs root, iproute2 and nftables; without them a test is skipped and says so.

use std::net::Ipv4Addr;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The beginning of all names that we make, followed by the process id, by which we find leftovers of killed tests.
const PREFIX: &str = "am";

/// The network; dropping it removes it.
#[derive(Debug)]
pub struct Network {
    pid: u32,
    number: u8,
    nodes: u8,
}

impl Network {
    /// Makes a network of `nodes` nodes.
    ///
    /// # Errors
    /// The reason why this machine allows no network.
    pub fn new(nodes: u8) -> Result<Self, String> {
        for tool in ["ip", "nft", "tc"] {
            let found = Command::new(tool).arg("-V").output();
            found.map_err(|error| format!("`{tool}` cannot be run: {error}"))?;
        }
        remove_leftovers();
        // From here on dropping removes even an unfinished network.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let network = Self {
            pid: std::process::id(),
            number: NEXT.fetch_add(1, Relaxed),
            nodes,
        };
        let bridge = network.bridge();
        run("ip", &format!("link add {bridge} type bridge"))?;
        let host = network.host();
        run("ip", &format!("addr add {host}/24 dev {bridge}"))?;
        run("ip", &format!("link set {bridge} up"))?;
        for node in 0..nodes {
            network.add(node)?;
        }
        Ok(network)
    }

    /// Makes a network for a test; none on a machine without namespaces, so that the test can skip. In CI it panics instead,
    /// because a skipped test proves nothing; setting `AMCP_SKIP_PARTITIONS` allows skipping there too.
    ///
    /// # Panics
    /// In CI, without namespaces.
    #[must_use]
    pub fn or_skip(nodes: u8) -> Option<Self> {
        match Self::new(nodes) {
            Ok(network) => Some(network),
            Err(why) => {
                let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                assert!(
                    !is_set("CI") || is_set("AMCP_SKIP_PARTITIONS"),
                    "CI gives no network namespaces ({why}); AMCP_SKIP_PARTITIONS=1 lets these tests be skipped"
                );
                skipped(&why);
                None
            }
        }
    }

    fn add(&self, node: u8) -> Result<(), String> {
        let (namespace, bridge) = (self.namespace(node), self.bridge());
        let outer = self.outer(node);
        let address = self.address(node);
        run("ip", &format!("netns add {namespace}"))?;
        let pair = format!("link add {outer} type veth peer name eth0 netns {namespace}");
        run("ip", &pair)?;
        run("ip", &format!("link set {outer} master {bridge} up"))?;
        self.within(node, &format!("ip addr add {address}/24 dev eth0"))?;
        self.within(node, "ip link set eth0 up")?;
        self.within(node, "ip link set lo up")
    }

    /// A node's namespace.
    #[must_use]
    pub fn namespace(&self, node: u8) -> String {
        format!("{PREFIX}-{}-{}-{node}", self.pid, self.number)
    }

    /// This machine's end of a node's cable. Such a name has at most 15 letters.
    fn outer(&self, node: u8) -> String {
        format!("{PREFIX}{}{}v{node}", self.pid, self.letter())
    }

    fn letter(&self) -> char {
        char::from(b'a' + self.number % 26)
    }

    /// A node's address.
    #[must_use]
    pub const fn address(&self, node: u8) -> Ipv4Addr {
        let [_, high, low, _] = self.host().octets();
        Ipv4Addr::new(10, high, low, node + 10)
    }

    /// This machine's address in the network; tests that run at the same time have different ones.
    const fn host(&self) -> Ipv4Addr {
        let unique = self.pid.wrapping_add(self.number as u32 * 0x1_01);
        let [_, _, high, low] = unique.to_be_bytes();
        Ipv4Addr::new(10, 100 + high % 100, low, 1)
    }

    fn bridge(&self) -> String {
        format!("{PREFIX}{}{}", self.pid, self.letter())
    }

    /// Drops all packets between two nodes from now on, silently.
    ///
    /// # Errors
    /// The rules cannot be set.
    pub fn cut(&self, node: u8, other: u8) -> Result<(), String> {
        self.drops(node, &[("input", "saddr"), ("output", "daddr")], other)
    }

    /// Drops all packets from `other` to `node` from now on, but none in the other direction.
    ///
    /// # Errors
    /// The rules cannot be set.
    pub fn deafen(&self, node: u8, other: u8) -> Result<(), String> {
        self.drops(node, &[("input", "saddr")], other)
    }

    fn drops(&self, node: u8, hooks: &[(&str, &str)], other: u8) -> Result<(), String> {
        let address = self.address(other);
        self.within(node, "nft add table ip cut")?;
        for (hook, end) in hooks {
            let chain = format!("type filter hook {hook} priority 0 ;");
            self.within(node, &format!("nft add chain ip cut {hook} {{ {chain} }}"))?;
            self.within(
                node,
                &format!("nft add rule ip cut {hook} ip {end} {address} drop"),
            )?;
        }
        Ok(())
    }

    /// Lets all packets pass again.
    ///
    /// # Errors
    /// The node has no cut.
    pub fn heal(&self, node: u8) -> Result<(), String> {
        self.within(node, "nft delete table ip cut")
    }

    /// Limits the rate at which a node sends, such as `256kbit`.
    ///
    /// # Errors
    /// The limit cannot be set.
    pub fn slow(&self, node: u8, rate: &str) -> Result<(), String> {
        // As long a queue as a home router's: seconds at these rates.
        let limit = format!("rate {rate} burst 16kb limit 128kb");
        self.within(node, &format!("tc qdisc add dev eth0 root tbf {limit}"))
    }

    fn within(&self, node: u8, command: &str) -> Result<(), String> {
        run(
            "ip",
            &format!("netns exec {} {command}", self.namespace(node)),
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // A namespace removes its end of the cable some time later; this end goes now.
            let _ = run("ip", &format!("link del {}", self.outer(node)));
            remove_namespace(&self.namespace(node));
        }
        // Fails if the network has no bridge yet.
        let _ = run("ip", &format!("link del {}", self.bridge()));
    }
}

/// Says why a test does not run here.
#[expect(clippy::print_stderr, reason = "a test that does not run says so")]
fn skipped(why: &str) {
    eprintln!("skipped: this machine gives no network namespaces ({why})");
}

/// Kills the processes in a namespace first, since they keep it.
fn remove_namespace(name: &str) {
    if let Ok(pids) = output("ip", &format!("netns pids {name}")) {
        for pid in pids.split_whitespace() {
            let _ = run("kill", &format!("-9 {pid}"));
        }
    }
    let _ = run("ip", &format!("netns del {name}"));
}

/// Removes the leftovers of killed tests.
fn remove_leftovers() {
    let gone =
        |pid: &str| pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists();
    for line in output("ip", "netns list").unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let mut words = name.split('-');
        if words.next() == Some(PREFIX) && words.next().is_some_and(gone) {
            remove_namespace(name);
        }
    }
    let bridges = output("ip", "-brief link show type bridge").unwrap_or_default();
    for line in bridges.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|name| name.strip_suffix("br"));
        if pid.is_some_and(gone) {
            let _ = run("ip", &format!("link del {name}"));
        }
    }
}

fn run(program: &str, args: &str) -> Result<(), String> {
    output(program, args).map(drop)
}

fn output(program: &str, args: &str) -> Result<String, String> {
    let output = Command::new(program).args(args.split_whitespace()).output();
    let failed = |why: &str| format!("`{program} {args}`: {}", why.trim());
    let Output {
        status,
        stdout,
        stderr,
    } = output.map_err(|error| failed(&error.to_string()))?;
    if !status.success() {
        return Err(failed(&String::from_utf8_lossy(&stderr)));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
