// SPDX-License-Identifier: GPL-2.0-only
//! Who may ask the daemon, and that nobody keeps others from being answered.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::libc::EAGAIN;
use nix::unistd::{Gid, setgroups};

use crate::admission::gate_on_node_0;
use crate::evasion::before;
use crate::gate::{COREGATE, Gate};
use crate::launch::{USER, command, launch, program};
use crate::machine::{Load, node_cpus, pin};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i10_root_changes_the_group_reads_nobody_else_asks",
        needs: Needs::OneKernel,
        on: NUMA,
        run: rights,
    },
    Test {
        name: "a_flood_of_clients_keeps_nobody_from_being_answered",
        needs: Needs::OneKernel,
        on: NUMA,
        run: flood,
    },
];

const SERVER: &str = "/opt/server";
const SOCKET: &str = "/run/coregate/control.sock";
/// The number of the group coregate in guests.
pub(crate) const READERS: u32 = 112;

/// What this program does when its first argument is this: floods the socket until it is ended.
pub(crate) const FLOOD: &str = "flood-the-socket";

/// How many connections each of the users who flood has at a time, and how many users they are: more
/// than the room for users has places for, so that it is full.
const CONNECTIONS: usize = 100;
const USERS: u32 = 6;

/// A user.
#[derive(Clone, Copy, Debug)]
struct Who {
    uid: u32,
    gid: u32,
    more: Option<u32>,
}

const ROOT: Who = Who {
    uid: 0,
    gid: 0,
    more: None,
};

fn coregate(who: Who, words: &[&str]) -> Command {
    let mut command = Command::new(COREGATE);
    command.args(words);
    as_user(&mut command, who);
    command
}

fn as_user(command: &mut Command, who: Who) {
    let more: Vec<_> = who.more.into_iter().map(Gid::from_raw).collect();
    // The groups go on in the order of the calls: the rights to set them go with the user.
    let (uid, gid) = (who.uid, who.gid);
    before(command, move || {
        setgroups(&more)?;
        nix::unistd::setgid(Gid::from_raw(gid))?;
        nix::unistd::setuid(uid.into())?;
        Ok(())
    });
}

/// Whether it was done, and what was said.
fn told(who: Who, words: &[&str]) -> Result<(bool, String)> {
    let output = coregate(who, words).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() != output.stdout.is_empty(),
        "{who:?} {words:?}: {output:?}"
    );
    Ok((output.status.success(), said))
}

fn rights() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::policy("observe", SERVER, ""))?;
    let user = |gid, more| Who {
        uid: USER,
        gid,
        more,
    };
    let stranger = user(USER, None);
    fails_to_stay_a_secret()?;
    for open in [false, true] {
        // Were the file open to all, the daemon would look at who comes all the same.
        if open {
            fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666))?;
        }
        for (words, reads) in [
            (&["status"][..], true),
            (&["top", "--json"], true),
            (&["events"], true),
            (&["metrics"], true),
            (&["reload"], false),
            (&["mode", "promote"], false),
        ] {
            for reader in [user(READERS, None), user(USER, Some(READERS))] {
                let (done, said) = told(reader, words)?;
                let expected = reads || said.contains("only root may change what holds");
                ensure!(done == reads && expected, "{reader:?} {words:?}: {said}");
            }
            let (done, said) = told(stranger, words)?;
            let expected = "only root and members of the group coregate may ask the daemon";
            ensure!(!done && said.contains(expected), "{words:?}: {said}");
        }
    }
    ensure!(gate.status()?["generation"] == 1);
    ensure!(told(ROOT, &["reload"])?.0 && gate.status()?["generation"] == 2);
    let refused = gate.status()?["failures"]["clients_refused"].as_u64();
    ensure!(refused >= Some(9), "{refused:?}");
    gate.stop()
}

/// The events have something to show, so that nothing on stdout means a refusal.
fn fails_to_stay_a_secret() -> Result<()> {
    let _load = Load::fill(0)?;
    crate::launch::starts(SERVER)
}

/// Every kind of client that is a burden, over and over.
pub(crate) fn serve() -> Result<()> {
    let endless = vec![b'x'; 1 << 16];
    let follow = b"{\"ask\":\"events\",\"follow\":true}\n".as_slice();
    let all = b"{\"ask\":\"events\"}\n".as_slice();
    let kinds: &[&[u8]] = &[
        b"",
        b"{\"ask\":",
        &endless,
        b"\0\xff garbage\n\n\n",
        follow,
        all,
    ];
    let mut open = std::collections::VecDeque::new();
    println!("ready");
    for number in 0.. {
        let Ok(mut stream) = UnixStream::connect(SOCKET) else {
            continue;
        };
        stream.set_nonblocking(true)?;
        // What is not taken at once is not waited for, and nothing is ever read.
        let _ = stream.write(kinds[number % kinds.len()]);
        open.push_back(stream);
        if open.len() > CONNECTIONS {
            open.pop_front();
            // All others of the guest share one CPU of the host with it.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

struct Flood(Child);

impl Flood {
    fn start(uid: u32) -> Result<Self> {
        let mut command = Command::new("/bin/coregate-vm");
        command.arg(FLOOD).stdout(Stdio::piped());
        let (gid, more) = (READERS, None);
        as_user(&mut command, Who { uid, gid, more });
        let mut child = command.spawn()?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready)?;
        Ok(Self(child))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// So much memory the daemon has, in KiB.
fn resident(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

fn flood() -> Result<()> {
    program(SERVER)?;
    let gate = gate_on_node_0(&Gate::strict(&Gate::policy("enforce", SERVER, "")))?;
    let _load = Load::fill(0)?;
    let before = resident(gate.pid())?;
    let (stop, denied, passed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| -> Result<()> {
            pin(&node_cpus(0)?)?;
            while !stop.load(Ordering::Relaxed) {
                let ended = match launch(&mut command(SERVER))? {
                    Some(EAGAIN) => &denied,
                    None => &passed,
                    Some(errno) => bail!("errno {errno}"),
                };
                ended.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let answered = || -> Result<()> {
            let floods = (0..USERS).map(|number| Flood::start(USER + 10 + number));
            let _floods: Vec<_> = floods.collect::<Result<_>>()?;
            for turn in 0..20 {
                let status = gate.status().with_context(|| format!("turn {turn}"))?;
                ensure!(status["mode"] == "enforce");
            }
            let (done, said) = told(ROOT, &["reload"])?;
            ensure!(done, "{said}");
            let dropped = gate.status()?["failures"]["clients_dropped"].as_u64();
            ensure!(
                dropped > Some(u64::from(USERS) * CONNECTIONS as u64 / 2),
                "{dropped:?}"
            );
            ensure!(resident(gate.pid())? < before + (96 << 10), "it has grown");
            Ok(())
        };
        let answered = answered();
        stop.store(true, Ordering::Relaxed);
        storm
            .join()
            .map_err(|_| anyhow::anyhow!("the storm died"))??;
        answered
    })?;
    let [denied, passed] = [denied, passed].map(AtomicU64::into_inner);
    let status = gate.status()?;
    let rule = &status["rules"][0];
    // The kernel may have no memory at hand to note what a launch is; then it passes, and is counted.
    ensure!(
        denied > 0
            && rule["denied"] == denied
            && rule["launches"] == denied
            && status["failures"]["rules_unread"] == passed,
        "{denied} denied, {passed} passed: {status}"
    );
    // Those who are left are answered again.
    let reader = Who {
        uid: USER,
        gid: READERS,
        more: None,
    };
    ensure!(told(reader, &["status"])?.0);
    gate.stop()
}
