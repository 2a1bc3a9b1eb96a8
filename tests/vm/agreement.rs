// SPDX-License-Identifier: GPL-2.0-only
//! Random launches under random policies: the gate finds the rule that the reference evaluator
//! finds, in the policy that holds and in the one that is rehearsed.

pub(crate) mod launcher;
mod recorded;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use coregate::gate::Gate;
use coregate::policy::{Found, Hook, Launch, NoHost, Policy, Source, evaluate, parse};
use coregate::topology::{SYSFS, Topology};
use fastrand::Rng;
use nix::libc::ENOEXEC;

use crate::servant::Servant;
use crate::{NUMA, Needs, Test};
use launcher::{Order, Place, What};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "the_gate_finds_the_rule_that_the_evaluator_finds",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: agree,
    },
    Test {
        name: "events_say_what_replay_and_explain_need",
        needs: Needs::OneKernel,
        on: NUMA,
        run: recorded::recorded,
    },
];

/// How many launches there are under each policy, and in all.
const LAUNCHES: u64 = 50;
const IN_ALL: u64 = 3000;

/// Files that are executed; none has a format that the kernel knows.
const FILES: &[&str] = &[
    "/opt/x",
    "/opt/x-1",
    "/opt/xy",
    "/opt/dir/x",
    "/opt/dir/x-1",
    "/opt/dir/x-12",
    "/opt/dir/sub/x-1",
    "/opt/dir/sub/deep/matcher-eu.bin",
    "/opt/dir/sub/deep/matcher-.bin",
    "/opt/dirx/x",
    "/opt/dirx/matcher-us.bin",
    "/a",
    "/abcdefg",
    "/opt/12345678901",
];

/// Where launchers are, and their own programs.
const PROGRAMS: &[&str] = &["/opt/dir/launcher", "/srv/launchers/launcher-1"];

const CGROUPS: &[&str] = &[
    "/",
    "/system.slice",
    "/system.slice/matcher@1.service",
    "/system.slice/matcher@22.service/inner",
    "/system.slice/matcher.service",
    "/user.slice/user-1000.slice/matcher@1.service",
    "/user.slice/x",
    "/user.slicex/x",
];

/// What rules name: what there is, and what is near it.
const EXES: &[&str] = &[
    "/opt/x",
    "/opt/x-1",
    "/opt/dir/x",
    "/opt/dir/launcher",
    "/opt/dirx/matcher-us.bin",
    "/a",
    "/abcdefg",
    "/opt/12345678901",
    "/opt/",
    "/opt/dir/",
    "/opt/dir/sub/",
    "/opt/dir/x/",
    "/opt/x*",
    "/opt/*",
    "/opt/dir/x-*",
    "/opt/dir/x*1",
    "/opt/dir/x-1*1",
    "/opt/dir/sub/deep/matcher-*.bin",
    "/opt/dir/sub/deep/*-.bin",
    "/opt/*x",
    "/opt/dir/l*r",
    "/srv/launchers/",
    "/srv/launchers/launcher-*",
    "/*",
];
const UNITS: &[&str] = &[
    "matcher@1.service",
    "matcher@*.service",
    "matcher*",
    "*.service",
    "*.slice",
    "inner",
    "user-1000.slice",
    "x",
    "system.slice",
];
const TOPS: &[&str] = &[
    "/system.slice",
    "/system.slice/matcher@22.service",
    "/system.slice/matcher@22.service/inner",
    "/user.slice",
    "/user.slice/x",
    "/user.slice/user-1000.slice",
];
const IDS: &[u32] = &[0, 1, 1000, 1001, 65534, 4_294_967_294];
const COMMS: &[&str] = &["x", "matcher", "fifteen-bytes-0", "a b"];
const ARGS: &[&str] = &[
    "-x",
    "x",
    "--role=matcher",
    "a somewhat longer argument",
    "12345678",
];

/// A machine of which nothing is known.
/// Some of these, each once.
fn some<'a, T>(rng: &mut Rng, all: &'a [T], most: usize) -> Vec<&'a T> {
    let count = rng.usize(1..=most);
    let mut chosen = rng.choose_multiple(all.iter(), count);
    rng.shuffle(&mut chosen);
    chosen
}

/// A policy of rules that only count.
fn policy(rng: &mut Rng) -> String {
    let mut text = String::from("[gate]\nevent_rate = 0\n");
    for number in 0..rng.usize(1..=12) {
        let _ = write!(
            text,
            "[[rule]]\nname = \"r{number}\"\naction = \"exempt\"\n"
        );
        let exec_only = rng.u8(..) < 100;
        if !exec_only {
            let on = ["\"exec\"", "\"fork\"", "\"thread\""];
            let on: Vec<_> = some(rng, &on, 3).into_iter().copied().collect();
            let _ = writeln!(text, "on = [{}]", on.join(", "));
        }
        let mut given = false;
        let mut key = |rng: &mut Rng, text: &mut String, name: &str, all: &[&str], chance: f64| {
            if rng.f64() < chance {
                given = true;
                let _ = writeln!(text, "{name} = {:?}", some(rng, all, 3));
            }
        };
        key(rng, &mut text, "exe", EXES, 0.6);
        key(rng, &mut text, "unit", UNITS, 0.25);
        key(rng, &mut text, "cgroup", TOPS, 0.2);
        key(rng, &mut text, "comm", COMMS, 0.15);
        if exec_only {
            key(rng, &mut text, "argv", ARGS, 0.3);
            key(rng, &mut text, "parent", EXES, 0.2);
        }
        for name in ["user", "group"] {
            if rng.f64() < 0.25 {
                given = true;
                let _ = writeln!(text, "{name} = {:?}", some(rng, IDS, 3));
            }
        }
        if !given {
            let _ = writeln!(text, "user = {:?}", some(rng, IDS, 3));
        }
        if rng.bool() {
            let container = rng.choice(["host", "any", "only"]).unwrap_or("any");
            let _ = writeln!(text, "container = {container:?}");
        }
    }
    text
}

fn order(rng: &mut Rng) -> Order {
    let one = |rng: &mut Rng, of: &[&str]| of[rng.usize(..of.len())].to_owned();
    let id = |rng: &mut Rng| IDS[rng.usize(..IDS.len())];
    let what = match rng.u8(..10) {
        0 => What::Fork,
        1 => What::Thread,
        _ => What::Exec {
            path: one(rng, FILES),
            argv: (0..rng.usize(1..11)).map(|_| one(rng, ARGS)).collect(),
        },
    };
    Order {
        comm: one(rng, COMMS),
        uid: id(rng),
        gid: id(rng),
        groups: (0..rng.usize(..5)).map(|_| id(rng)).collect(),
        what,
    }
}

/// A launcher, and what is known of it.
struct Launcher {
    servant: Servant,
    program: &'static str,
    place: Place,
    cgroup: &'static str,
}

impl Launcher {
    fn start(program: &'static str, place: Place) -> Result<Self> {
        let path = if place == Place::Jail {
            format!("{}{program}", Place::ROOT)
        } else {
            program.into()
        };
        let mut servant = Servant::start_as(&path, &[launcher::WORD, place.word()])?;
        let mut answer = servant.answer()?;
        if answer.trim() == launcher::MAPS {
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{map}", servant.pid()), "0 0 4294967295")?;
            }
            answer = servant.ask("")?;
        }
        ensure!(answer.trim() == "ready", "{program} in {place:?}: {answer}");
        Ok(Self {
            servant,
            // A jail's program was executed from outside; what it is then called is asked for.
            program,
            place,
            cgroup: "/",
        })
    }

    fn enter(&mut self, cgroup: &'static str) -> Result<()> {
        let procs = format!("/sys/fs/cgroup{cgroup}/cgroup.procs");
        fs::write(&procs, self.servant.pid().to_string()).context(procs)?;
        self.cgroup = cgroup;
        Ok(())
    }

    /// Lets it launch what it is told to.
    fn obey(&mut self, order: &Order) -> Result<()> {
        let answer = self.servant.ask(&serde_json::to_string(order)?)?;
        let errno: i32 = answer
            .trim()
            .parse()
            .with_context(|| format!("{order:?}"))?;
        let started = if matches!(order.what, What::Exec { .. }) {
            ENOEXEC
        } else {
            0
        };
        ensure!(errno == started, "{order:?}: errno {errno}");
        Ok(())
    }

    /// What the evaluator is told of it.
    fn launch<'a>(&'a self, order: &'a Order) -> Launch<'a> {
        let (hook, exe, argv) = match &order.what {
            What::Exec { path, argv } => (Hook::Exec, path.as_str(), Some(argv)),
            What::Fork => (Hook::Fork, self.program, None),
            What::Thread => (Hook::Thread, self.program, None),
        };
        Launch {
            hook,
            exe: Some(exe.as_bytes()),
            cgroup: Some(self.cgroup.as_bytes()),
            units: None,
            uid: Some(order.uid),
            gid: Some(order.gid),
            groups: Some(&order.groups),
            comm: Some(order.comm.as_bytes()),
            argv: argv.map(|argv| argv.iter().map(|arg| arg.as_bytes()).collect()),
            parent: Some(self.program.as_bytes()),
            container: Some(matches!(self.place, Place::Namespace | Place::Jail)),
        }
    }
}

/// One for each program in each place, and what they can launch.
fn launchers() -> Result<Vec<Launcher>> {
    set_up()?;
    let mut launchers = Vec::new();
    for place in Place::ALL {
        for program in PROGRAMS {
            launchers.push(Launcher::start(program, place)?);
        }
    }
    Ok(launchers)
}

fn agree() -> Result<()> {
    let mut launchers = launchers()?;
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    let mut storage = MaybeUninit::uninit();
    let topology = Topology::read(Path::new(SYSFS))?;
    let mut gate = Gate::load(&mut storage, &Policy::default(), &topology)?;
    gate.attach(false)?;
    let (mut compared, mut matched) = (0, 0);
    let read = |text: &String| {
        parse(&[Source::new("p.toml", text)], &NoHost).with_context(|| text.clone())
    };
    let mut text = policy(&mut rng);
    let mut held = read(&text)?;
    gate.replace(&held)?;
    while compared < crate::soak().unwrap_or(IN_ALL) {
        let new_text = policy(&mut rng);
        let new = read(&new_text)?;
        gate.rehearse(&new)?;
        let mut expected = counts(&gate, &held)?;
        ensure!(expected.iter().all(|count| *count == 0), "{expected:?}");
        let mut differences = BTreeMap::new();
        let mover = rng.usize(..launchers.len());
        launchers[mover].enter(CGROUPS[rng.usize(..CGROUPS.len())])?;
        for _ in 0..LAUNCHES {
            let at = rng.usize(..launchers.len());
            let order = order(&mut rng);
            launchers[at].obey(&order)?;
            let launch = launchers[at].launch(&order);
            let found = evaluate(&held, &launch);
            if let Found::Rule(rule) = found {
                expected[rule] += 1;
                matched += 1;
            }
            let found = (found, evaluate(&new, &launch));
            if name(&held, found.0) != name(&new, found.1) {
                *differences.entry(change(found)).or_default() += 1;
            }
            compared += 1;
            let counted = counts(&gate, &held)?;
            ensure!(
                counted == expected,
                "seed {seed}, after {compared}: the gate counted {counted:?}, and should \
                 {expected:?}, with {launch:?} under\n{text}"
            );
        }
        let rehearsal = gate.rehearsal()?.context("nothing is rehearsed")?;
        let changes = rehearsal.changes.iter().map(|(change, count)| {
            let numbers = [change.rule, change.new_rule].map(|rule| rule as i32);
            (numbers, *count)
        });
        ensure!(
            changes.clone().collect::<BTreeMap<_, _>>() == differences,
            "seed {seed}, after {compared}: the rehearsal found {:?}, and should {differences:?}, \
             with\n{text}\nand\n{new_text}",
            changes.collect::<Vec<_>>()
        );
        // By turns, the rehearsed policy comes in force, and a new one does.
        if rng.bool() {
            gate.promote()?.context("nothing was rehearsed")?;
            (text, held) = (new_text, new);
        } else {
            text = policy(&mut rng);
            held = read(&text)?;
            gate.replace(&held)?;
        }
    }
    let (failures, _) = gate.failures()?;
    ensure!(
        failures.paths_unread + failures.args_unread + failures.cgroups_unread == 0,
        "{failures:?}"
    );
    println!("{compared} launches compared, {matched} matched a rule, 0 differences");
    ensure!(
        matched * 5 > compared && matched * 5 < compared * 4,
        "too few of a kind"
    );
    Ok(())
}

/// How many launches the gate counted, by rule.
fn counts(gate: &Gate<'_>, policy: &Policy) -> Result<Vec<u64>> {
    let rules = 0..policy.rules.len() as u32;
    rules
        .map(|rule| Ok(gate.counters(rule)?.launches))
        .collect()
}

/// Of rules of the same name, a rehearsal tells no difference.
fn name(policy: &Policy, found: Found) -> Option<&str> {
    match found {
        Found::Rule(rule) => Some(&policy.rules[rule].name),
        _ => None,
    }
}

/// The numbers of both rules, as the gate has them.
fn change(found: (Found, Found)) -> [i32; 2] {
    [found.0, found.1].map(|found| match found {
        Found::Rule(rule) => rule as i32,
        _ => -1,
    })
}

/// Files, programs and cgroups.
fn set_up() -> Result<()> {
    for root in ["", Place::ROOT] {
        for file in FILES {
            let path = format!("{root}{file}");
            make_folder(&path)?;
            fs::write(&path, "no program")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        for program in PROGRAMS {
            let path = format!("{root}{program}");
            make_folder(&path)?;
            let _ = fs::remove_file(&path);
            fs::copy("/bin/coregate-vm", &path).context(path)?;
        }
    }
    for cgroup in CGROUPS {
        fs::create_dir_all(format!("/sys/fs/cgroup{cgroup}"))?;
    }
    Ok(())
}

fn make_folder(path: &str) -> Result<()> {
    let folder = Path::new(path).parent().context("no folder")?;
    Ok(fs::create_dir_all(folder)?)
}
