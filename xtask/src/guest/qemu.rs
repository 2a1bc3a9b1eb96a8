// SPDX-License-Identifier: GPL-2.0-only
//! Boots one guest in QEMU, passes on what its command writes, and tells a
//! command that ended from a guest that hung, panicked or never got there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::{Image, Topology};
use crate::cache;
use crate::kernels::Kernel;
use crate::userland::Root;

/// What init writes before the exit status of the command.
const MARKER: &str = "@@guest-exit ";

/// How long a guest may take to power off after its command ended.
const POWER_OFF: Duration = Duration::from_secs(20);

/// How many lines of the console a failure shows.
const TAIL: usize = 40;

/// Words of the kernel's console after which nothing it says counts.
const BROKEN: &[&str] = &["Kernel panic", "Oops", "BUG:", "general protection fault"];

/// How long a guest is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From boot to the end of the command.
    pub(crate) total: Duration,
    /// Without a line of output.
    pub(crate) silent: Duration,
}

/// A guest that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Where QEMU is.
    pub(crate) qemu: Root,
    /// What it boots.
    pub(crate) kernel: Kernel,
    /// Its processors and nodes.
    pub(crate) topology: Topology,
    /// Memory of all nodes together, in MiB.
    pub(crate) memory: u32,
    /// Whether its clock counts instructions: slower, but numbers repeat.
    pub(crate) icount: bool,
    /// More parameters for the kernel command line.
    pub(crate) append: Vec<String>,
    /// How long it is waited for.
    pub(crate) limits: Limits,
    /// Folder for its image and its logs; what it holds is replaced.
    pub(crate) dir: PathBuf,
}

impl Guest {
    /// Boots the guest with `image` and passes each line that its command
    /// writes to `on_line`. Returns the exit status of the command.
    ///
    /// # Errors
    /// When the guest cannot be started, hangs, panics, or ends before its
    /// command; the message holds the end of the kernel's console.
    pub(crate) fn run(&self, image: &Image, on_line: &mut dyn FnMut(&str)) -> Result<i32> {
        cache::make_dir(&self.dir)?;
        // An old console must not be taken for this guest's.
        let _ = fs::remove_file(self.console());
        image.write(&self.initrd())?;
        let ended = self.start(image).and_then(|mut qemu| {
            let ended = self.follow(&mut qemu, on_line);
            qemu.stop();
            // A line that was not complete may name what hung.
            qemu.lines.iter().for_each(|line| on_line(&line));
            ended
        });
        let _ = fs::remove_file(self.initrd());
        let code = ended.map_err(|why| self.with_console(&why))?;
        match self.broken_line() {
            None => Ok(code),
            Some(line) => {
                Err(self.with_console(&anyhow!("the kernel broke during the command: {line}")))
            }
        }
    }

    /// Where the kernel's console is kept.
    pub(crate) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    fn start(&self, image: &Image) -> Result<Qemu> {
        // The kernel kills QEMU when the thread that started it goes, however
        // that happens.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(self.qemu.command_line("usr/bin/qemu-system-x86_64")?)
            .args(self.qemu_args())
            .args(image.disk().map(disk_args).into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(self.dir.join("qemu.log"))?);
        let mut child = command
            .spawn()
            .context("cannot start QEMU through setpriv")?;
        let output = child.stdout.take().context("QEMU has no output")?;
        Ok(Qemu {
            child,
            lines: read_lines(output),
        })
    }

    /// The vendor: kernels up to 6.6 see no siblings on QEMU's own, AMD. Where instructions are not
    /// counted, guests are as fast as can be: the kernel uses no string instructions to copy and to
    /// clear, which TCG takes a byte at a time.
    fn qemu_args(&self) -> Vec<String> {
        let mut args: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-monitor",
            "none",
        ]
        .map(str::to_owned)
        .to_vec();
        // Static keys make guests oops under multi-threaded TCG when
        // schedulers come and go.
        let (without, accel): (_, &[&str]) = if self.icount {
            ("", &["-accel", "tcg", "-icount", "shift=1,sleep=off"])
        } else {
            (",-erms,-fsrm,-fsrs", &["-accel", "tcg,thread=single"])
        };
        args.extend([
            "-cpu".to_owned(),
            format!("max,vendor=GenuineIntel{without}"),
        ]);
        args.extend(accel.iter().map(|&arg| arg.to_owned()));
        args.extend(self.topology.qemu_args(self.memory));
        for (name, path) in [
            ("-L", self.qemu.path("usr/share/qemu")),
            ("-L", self.qemu.path("usr/share/seabios")),
            ("-kernel", self.kernel.image.clone()),
            ("-initrd", self.initrd()),
        ] {
            args.extend([name.to_owned(), path.display().to_string()]);
        }
        // A comma in a file name would end it. The first serial port is the
        // kernel's; on the second, "stdio" would drop all output at the end of
        // its input.
        let console = self.console().display().to_string().replace(',', ",,");
        for (name, path) in [("console", console), ("output", "/dev/stdout".to_owned())] {
            args.extend([
                "-chardev".to_owned(),
                format!("file,id={name},path={path}"),
                "-serial".to_owned(),
                format!("chardev:{name}"),
            ]);
        }
        args.extend(["-append".to_owned(), self.command_line()]);
        args
    }

    fn command_line(&self) -> String {
        let mut words = vec!["console=ttyS0 quiet panic=-1 oops=panic"];
        if self.topology.counts_instructions() {
            // Else the ticks of all CPUs come at one instant, and wait for each other.
            words.push("skew_tick=1");
        }
        if !self.icount {
            // They cost a quarter of all time, and there is nothing to mitigate.
            words.push("mitigations=off");
        }
        words.extend(self.append.iter().map(String::as_str));
        words.join(" ")
    }

    /// Passes on the output until the guest is off.
    fn follow(&self, qemu: &mut Qemu, on_line: &mut dyn FnMut(&str)) -> Result<i32> {
        let end = Instant::now() + self.limits.total;
        let code = loop {
            let left = end.saturating_duration_since(Instant::now());
            match qemu.lines.recv_timeout(self.limits.silent.min(left)) {
                Ok(line) => match line.strip_prefix(MARKER) {
                    Some(code) => break code.trim().parse().context("no exit status")?,
                    None => on_line(&line),
                },
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    bail!("stopped: not done within {:?}", self.limits.total);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("stopped: no output for {:?}", self.limits.silent);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = qemu.child.wait().context("cannot wait for QEMU")?;
                    bail!("the guest ended before its command did{}", self.why(status));
                }
            }
        };
        while let Ok(line) = qemu.lines.recv_timeout(POWER_OFF) {
            on_line(&line);
        }
        Ok(code)
    }

    /// What QEMU itself said, if it failed.
    fn why(&self, status: ExitStatus) -> String {
        if status.success() {
            return String::new();
        }
        let said = fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        format!(" (QEMU: {status}) {}", said.trim())
    }

    fn broken_line(&self) -> Option<String> {
        read_lossy(&self.console())
            .lines()
            .find(|line| BROKEN.iter().any(|word| line.contains(word)))
            .map(str::to_owned)
    }

    fn with_console(&self, why: &anyhow::Error) -> anyhow::Error {
        let text = read_lossy(&self.console());
        let lines: Vec<_> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL)..];
        anyhow!(
            "guest {} {} failed: {why:#}\n\
             The end of its console ({} has all of it):\n{}",
            self.kernel.series,
            self.topology,
            self.console().display(),
            tail.join("\n")
        )
    }
}

/// What is written to the disk goes with the guest.
fn disk_args(disk: &Path) -> [String; 4] {
    let file = disk.display().to_string().replace(',', ",,");
    [
        "-drive".to_owned(),
        format!("file={file},if=none,id=disk,format=raw,snapshot=on"),
        "-device".to_owned(),
        "nvme,serial=disk,drive=disk".to_owned(),
    ]
}

/// A running QEMU; it ends when this is dropped.
struct Qemu {
    child: Child,
    lines: Receiver<String>,
}

impl Qemu {
    fn stop(&mut self) {
        // Neither can fail but for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Reads lines in a thread of its own, so that waiting for one can time out.
fn read_lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn read_lossy(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
