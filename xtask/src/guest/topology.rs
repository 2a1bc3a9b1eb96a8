// SPDX-License-Identifier: GPL-2.0-only
//! The processors and memory nodes of a guest.

use std::fmt;
use std::str::FromStr;

/// Processors and memory nodes of a guest. CPU numbers run through the threads
/// of a core, then the cores of a socket; each node has an equal share of them
/// in that order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Topology {
    name: String,
    sockets: u32,
    cores: u32,
    threads: u32,
    nodes: u32,
}

/// The guest with Debian's systemd; its processors are those of `numa`.
const SYSTEMD: &str = "systemd";

/// The guest whose clock counts instructions, so that what takes microseconds does so in it too;
/// its processors are those of `numa`.
const ICOUNT: &str = "icount";

/// Name, sockets, cores of a socket, threads of a core, nodes.
const NAMED: &[(&str, [u32; 4])] = &[
    ("numa", [2, 2, 2, 2]),
    ("one-node", [1, 4, 2, 1]),
    ("smt-off", [2, 4, 1, 2]),
    ("smt4", [2, 2, 4, 2]),
    ("smt8", [1, 2, 8, 1]),
    ("big", [4, 8, 2, 4]),
    (SYSTEMD, [2, 2, 2, 2]),
    (ICOUNT, [2, 2, 2, 2]),
];

impl Topology {
    /// Such as `numa`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the guest boots Debian's systemd, not busybox.
    pub(crate) fn has_systemd(&self) -> bool {
        self.name == SYSTEMD
    }

    /// Whether the guest's clock counts instructions.
    pub(crate) fn counts_instructions(&self) -> bool {
        self.name == ICOUNT
    }

    /// QEMU's arguments for this topology, with `memory` MiB in all.
    pub(crate) fn qemu_args(&self, memory: u32) -> Vec<String> {
        let cpus = self.cpus();
        let share = memory / self.nodes;
        let mut args = vec![
            "-m".to_owned(),
            format!("{}M", share * self.nodes),
            "-smp".to_owned(),
            format!(
                "{cpus},sockets={},cores={},threads={}",
                self.sockets, self.cores, self.threads
            ),
        ];
        for node in 0..self.nodes {
            let first = node * cpus / self.nodes;
            let last = (node + 1) * cpus / self.nodes - 1;
            args.extend([
                "-object".to_owned(),
                format!("memory-backend-ram,id=m{node},size={share}M"),
                "-numa".to_owned(),
                format!("node,nodeid={node},cpus={first}-{last},memdev=m{node}"),
            ]);
        }
        args
    }

    fn cpus(&self) -> u32 {
        self.sockets * self.cores * self.threads
    }

    fn new(name: &str, [sockets, cores, threads, nodes]: [u32; 4]) -> Self {
        Self {
            name: name.to_owned(),
            sockets,
            cores,
            threads,
            nodes,
        }
    }
}

impl Default for Topology {
    /// Two nodes, threads of a core in pairs: what the gate is about.
    fn default() -> Self {
        Self::new("numa", [2, 2, 2, 2])
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Topology {
    type Err = String;

    /// Reads a known name, or `SOCKETSxCORESxTHREADSxNODES` such as `2x4x2x2`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((name, sizes)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Self::new(name, *sizes));
        }
        let sizes: Vec<u32> = text
            .split('x')
            .map_while(|part| part.parse().ok())
            .filter(|size| *size > 0)
            .collect();
        let known: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
        let usage = format!(
            "use one of {}, or SOCKETSxCORESxTHREADSxNODES such as 2x4x2x2",
            known.join(", ")
        );
        let Ok(sizes) = <[u32; 4]>::try_from(sizes) else {
            return Err(usage);
        };
        let topology = Self::new(text, sizes);
        if topology.cpus() % topology.nodes != 0 {
            return Err(format!(
                "{} CPUs cannot be shared evenly by {} nodes; {usage}",
                topology.cpus(),
                topology.nodes
            ));
        }
        Ok(topology)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numa_splits_cpus_and_memory() {
        let args = Topology::default().qemu_args(1024);
        let text = args.join(" ");
        assert!(
            text.contains("-smp 8,sockets=2,cores=2,threads=2"),
            "{text}"
        );
        assert!(text.contains("nodeid=0,cpus=0-3,memdev=m0"), "{text}");
        assert!(text.contains("nodeid=1,cpus=4-7,memdev=m1"), "{text}");
        assert!(text.contains("id=m1,size=512M"), "{text}");
    }

    #[test]
    fn sizes_can_be_given() {
        let topology = "1x3x2x1".parse::<Topology>();
        assert_eq!(topology, Ok(Topology::new("1x3x2x1", [1, 3, 2, 1])));
        assert_eq!("numa".parse(), Ok(Topology::default()));
        for bad in ["", "2x2", "2x2x2x2x2", "0x2x2x1", "1x3x1x2", "numb"] {
            assert!(bad.parse::<Topology>().is_err(), "{bad}");
        }
    }
}
