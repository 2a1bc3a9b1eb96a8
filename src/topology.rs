// SPDX-License-Identifier: GPL-2.0-only
//! The machine's nodes, cores and hardware threads, as sysfs shows them
//! (Documentation/ABI/stable/sysfs-devices-system-cpu and -node).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where sysfs is mounted on a real machine.
pub const SYSFS: &str = "/sys";

/// How often a topology that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// The online part of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The nodes with at least one online CPU, ascending by id. A kernel
    /// without NUMA has one, node 0.
    pub nodes: Vec<Node>,
    /// The kernel's `nr_cpu_ids`: one more than the highest CPU number that
    /// can ever come online.
    pub possible: u32,
    /// The kernel's `nr_node_ids`: the same for nodes.
    pub possible_nodes: u32,
}

/// One NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kernel's number of the node; numbers may have gaps.
    pub id: u32,
    /// Its cores, ascending by leader; never empty.
    pub cores: Vec<Core>,
}

/// One physical core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its online hardware threads, ascending; never empty. The first is the
    /// leader, by which cores are counted.
    pub cpus: Vec<u32>,
}

impl Core {
    /// The lowest online thread.
    pub fn leader(&self) -> u32 {
        self.cpus[0]
    }
}

/// Why the topology could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of sysfs could not be read.
    #[error("cannot read {}: {cause}; is sysfs mounted?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file of sysfs does not hold what the kernel documents.
    #[error("{} holds {text:?}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
        /// What is wrong with that.
        reason: String,
    },
    /// CPUs kept coming and going.
    #[error("CPUs came online or went offline each of the {ATTEMPTS} times the topology was read")]
    Changing,
}

impl Topology {
    /// Reads the topology from the sysfs mounted at `sysfs`.
    ///
    /// # Errors
    ///
    /// A file is missing or does not hold what the kernel documents, or CPUs
    /// come and go faster than the files can be read.
    pub fn read(sysfs: &Path) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS {
            let before = online(sysfs)?;
            let read = Self::read_once(sysfs, &before);
            // A CPU that goes offline takes its files along: what was read, or
            // failed to be read, counts only if nothing moved.
            if online(sysfs)? == before {
                return read;
            }
        }
        Err(Error::Changing)
    }

    fn read_once(sysfs: &Path, online: &BTreeSet<u32>) -> Result<Self, Error> {
        let node_of = node_of_cpus(sysfs, online)?;
        let mut nodes = BTreeMap::<u32, Vec<Core>>::new();
        for cpu in online {
            let cpus = siblings(sysfs, *cpu, online)?;
            if cpus[0] == *cpu {
                nodes.entry(node_of[cpu]).or_default().push(Core { cpus });
            }
        }
        let nodes = nodes
            .into_iter()
            .map(|(id, cores)| Node { id, cores })
            .collect();
        let possible = cpulist(&sysfs.join("devices/system/cpu/possible"))?;
        let nodes_path = sysfs.join("devices/system/node/possible");
        let possible_nodes = if nodes_path.exists() {
            cpulist(&nodes_path)?
        } else {
            BTreeSet::from([0])
        };
        Ok(Self {
            nodes,
            possible: end(&possible),
            possible_nodes: end(&possible_nodes),
        })
    }

    /// This topology and the CPUs of `seen` that are offline now: with the siblings that they
    /// had, or as the cores that they were.
    #[must_use]
    pub fn and_offline_of(&self, seen: &Self) -> Self {
        let online: BTreeSet<u32> = self.cpus().collect();
        let mut nodes: BTreeMap<u32, Vec<Core>> = self
            .nodes
            .iter()
            .map(|node| (node.id, node.cores.clone()))
            .collect();
        for node in &seen.nodes {
            for core in &node.cores {
                let offline = core.cpus.iter().filter(|cpu| !online.contains(cpu));
                let mut now = nodes.values_mut().flatten();
                if let Some(now) =
                    now.find(|now| now.cpus.iter().any(|cpu| core.cpus.contains(cpu)))
                {
                    now.cpus.extend(offline);
                    now.cpus.sort_unstable();
                } else {
                    nodes.entry(node.id).or_default().push(core.clone());
                }
            }
        }
        for cores in nodes.values_mut() {
            cores.sort_unstable_by_key(Core::leader);
        }
        Self {
            nodes: nodes
                .into_iter()
                .map(|(id, cores)| Node { id, cores })
                .collect(),
            ..*self
        }
    }

    fn cpus(&self) -> impl Iterator<Item = u32> {
        let cores = self.nodes.iter().flat_map(|node| &node.cores);
        cores.flat_map(|core| &core.cpus).copied()
    }
}

/// How many there are of each.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores: usize = self.nodes.iter().map(|node| node.cores.len()).sum();
        let all = [
            (self.nodes.len(), "node"),
            (cores, "core"),
            (self.cpus().count(), "CPU"),
        ]
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
        f.write_str(&all.join(", "))
    }
}

/// One more than the highest number of a list.
fn end(numbers: &BTreeSet<u32>) -> u32 {
    numbers.last().map_or(0, |highest| highest + 1)
}

fn online(sysfs: &Path) -> Result<BTreeSet<u32>, Error> {
    let path = sysfs.join("devices/system/cpu/online");
    let online = cpulist(&path)?;
    if online.is_empty() {
        return Err(content(&path, "", "no CPU is online"));
    }
    Ok(online)
}

/// The online threads of `cpu`'s core, ascending.
fn siblings(sysfs: &Path, cpu: u32, online: &BTreeSet<u32>) -> Result<Vec<u32>, Error> {
    let topology = sysfs.join(format!("devices/system/cpu/cpu{cpu}/topology"));
    // The second is the name of the first before Linux 5.3.
    let path = ["core_cpus_list", "thread_siblings_list"]
        .map(|name| topology.join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| topology.join("core_cpus_list"));
    let cpus: Vec<u32> = cpulist(&path)?.intersection(online).copied().collect();
    if cpus.contains(&cpu) {
        return Ok(cpus);
    }
    Err(content(
        &path,
        &read(&path)?,
        &format!("CPU {cpu} itself is not among them"),
    ))
}

/// The node of each online CPU.
fn node_of_cpus(sysfs: &Path, online: &BTreeSet<u32>) -> Result<BTreeMap<u32, u32>, Error> {
    let folder = sysfs.join("devices/system/node");
    let nodes_path = folder.join("online");
    if !nodes_path.exists() {
        // A kernel without NUMA: everything is node 0.
        return Ok(online.iter().map(|cpu| (*cpu, 0)).collect());
    }
    let mut node_of = BTreeMap::new();
    for node in cpulist(&nodes_path)? {
        let cpus = cpulist(&folder.join(format!("node{node}/cpulist")))?;
        node_of.extend(cpus.into_iter().map(|cpu| (cpu, node)));
    }
    match online.iter().find(|cpu| !node_of.contains_key(cpu)) {
        None => Ok(node_of),
        Some(lost) => {
            let reason = format!("no node of these has the online CPU {lost}");
            Err(content(&nodes_path, &read(&nodes_path)?, &reason))
        }
    }
}

/// Reads a file in the kernel's list format, such as `0-3,8-11`.
fn cpulist(path: &Path) -> Result<BTreeSet<u32>, Error> {
    let text = read(path)?;
    parse_cpulist(&text).map_err(|reason| content(path, &text, &reason))
}

/// The most that a CPU or node number can be: `CONFIG_NR_CPUS` ends at 8192 on
/// the largest machines, so a larger one means a file that is none of ours.
const HIGHEST: u32 = 65_535;

fn parse_cpulist(text: &str) -> Result<BTreeSet<u32>, String> {
    let mut numbers = BTreeSet::new();
    let text = text.trim();
    if text.is_empty() {
        return Ok(numbers);
    }
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {range} goes backwards"));
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

fn number(text: &str) -> Result<u32, String> {
    let number = text
        .parse()
        .map_err(|_| format!("{text:?} is not a number"))?;
    if number > HIGHEST {
        return Err(format!("{number} is more than {HIGHEST}"));
    }
    Ok(number)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|cause| Error::Read {
        path: path.into(),
        cause,
    })
}

fn content(path: &Path, text: &str, reason: &str) -> Error {
    Error::Content {
        path: path.into(),
        text: text.trim_end().into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
