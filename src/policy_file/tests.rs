// SPDX-License-Identifier: GPL-2.0-only
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::policy::Source;

struct AnyHost(&'static [HostNode]);

const ANY_HOST: AnyHost = AnyHost(&[node(1, 4)]);

const fn node(number: u32, cores: u32) -> HostNode {
    HostNode { number, cores }
}

impl Host for AnyHost {
    fn uid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(Some(1))
    }

    fn gid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(Some(1))
    }

    fn resolve(&self, path: &str) -> Option<String> {
        ThisHost::new().resolve(path)
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        Some(self.0)
    }
}

fn file(bytes: &[u8], mode: u32) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

/// Who is warned of what, but that the rules are for anybody.
fn told(text: &str) -> Vec<String> {
    let policy = parse(&[Source::new("p.toml", text)], &ANY_HOST).unwrap();
    let warnings = warnings(&policy, &ANY_HOST).into_iter();
    let others = warnings.filter(|warning| !warning.message.contains("any user"));
    others.map(|warning| warning.to_string()).collect()
}

#[test]
fn oddities_of_paths() {
    let (folder, program) = file(b"", 0o755);
    let folder = folder.path().canonicalize().unwrap();
    let program = program.canonicalize().unwrap();
    let (link, alias) = (folder.join("link"), folder.join("alias"));
    symlink(&program, &link).unwrap();
    symlink(&folder, &alias).unwrap();
    let missing = folder.join("missing");
    let [folder, program, link, alias, missing] =
        [&folder, &program, &link, &alias, &missing].map(|path| path.display().to_string());
    let not_found = "cannot be found: No such file or directory (os error 2); correct the path, \
                     unless it is installed later";
    let leads = |from: &str, to: &str| {
        format!(
            "{from:?} leads to {to:?}, and that is what the rule watches, by whichever name it is \
             launched; write that path if this is meant"
        )
    };
    for (exe, expected) in [
        (program.clone(), None),
        (format!("{folder}/"), None),
        (format!("{folder}/*.toml"), None),
        (link.clone(), Some(leads(&link, &program))),
        (
            format!("{alias}/"),
            Some(leads(&format!("{alias}/"), &format!("{folder}/"))),
        ),
        (
            format!("{alias}/a*"),
            Some(leads(&format!("{alias}/a*"), &format!("{folder}/a*"))),
        ),
        (missing.clone(), Some(format!("{missing:?} {not_found}"))),
        (
            format!("{missing}/"),
            Some(format!("\"{missing}/\" {not_found}")),
        ),
        (
            format!("{missing}/*"),
            Some(format!("\"{missing}/*\" {not_found}")),
        ),
        (
            format!("{program}/"),
            Some(format!(
                "\"{program}/\" cannot be found: Not a directory (os error 20); correct the path, \
                 unless it is installed later"
            )),
        ),
        (
            folder.clone(),
            Some(format!(
                "{folder:?} is not a file; name the program itself, or write `/` at its end for \
                 all that is below a folder"
            )),
        ),
    ] {
        for key in ["exe", "parent"] {
            let text = format!("[[rule]]\nname = \"r\"\n{key} = {exe:?}\n");
            let expected = expected.iter();
            let expected: Vec<_> = expected
                .map(|warning| format!("p.toml:1: rule \"r\": {warning}"))
                .collect();
            assert_eq!(told(&text), expected, "{key} = {exe:?}");
        }
    }
}

/// The rules that never match, each with the one that is named for it.
fn shadows(rules: &[&str]) -> Vec<(String, String)> {
    let rule = |(i, keys): (usize, &&str)| format!("[[rule]]\nname = \"r{i}\"\n{keys}\n");
    let text: String = rules.iter().enumerate().map(rule).collect();
    let policy = parse(&[Source::new("p.toml", &text)], &ANY_HOST).unwrap();
    let warnings = warnings(&policy, &ANY_HOST).into_iter();
    let shadows = warnings.filter(|warning| warning.message.contains("it never matches"));
    let told = |warning: Warning| {
        let by = warning.message.split('"').nth(1).unwrap().to_owned();
        (warning.rule.unwrap(), by)
    };
    shadows.map(told).collect()
}

fn shadow(rule: &str, by: &str) -> Vec<(String, String)> {
    vec![(rule.to_owned(), by.to_owned())]
}

#[test]
fn rules_that_never_match() {
    let (a, b) = ("exe = \"/a\"", "exe = \"/b\"");
    assert_eq!(shadows(&[a, b]), []);
    assert_eq!(shadows(&[a, a]), shadow("r1", "r0"));
    assert_eq!(shadows(&[a, "exe = \"/a\"\nuser = 7"]), shadow("r1", "r0"));
    assert_eq!(shadows(&["exe = \"/a\"\nuser = 7", a]), []);
    assert_eq!(shadows(&[a, "exe = \"/a\"\non = [\"fork\"]"]), []);
    assert_eq!(shadows(&[a, "exe = [\"/a\", \"/b\"]"]), []);
    // Only both together leave nothing.
    assert_eq!(
        shadows(&[b, a, "exe = [\"/a\", \"/b\"]"]),
        shadow("r2", "r0")
    );
    let users = ["exe = \"/a\"\nuser = 7", "exe = \"/a\"\nuser = 8"];
    assert_eq!(
        shadows(&[users[0], users[1], "exe = \"/a\"\nuser = [7, 8]"]),
        shadow("r2", "r1")
    );
    assert_eq!(shadows(&[users[0], "exe = \"/a\"\nuser = [7, 8]"]), []);
    let hooks = ["fork", "thread"].map(|hook| format!("exe = \"/a\"\non = [{hook:?}]"));
    assert_eq!(
        shadows(&[
            &hooks[0],
            &hooks[1],
            "exe = \"/a\"\non = [\"thread\", \"fork\"]"
        ]),
        shadow("r2", "r1")
    );
}

#[test]
fn selectors_that_take_in_others() {
    for (wide, narrow) in [
        ("exe = \"/opt/\"", "exe = \"/opt/a\""),
        ("exe = \"/opt/\"", "exe = \"/opt/a/\""),
        ("exe = \"/opt/\"", "exe = [\"/opt/a*b\", \"/opt/c\"]"),
        ("exe = \"/opt/a*b\"", "exe = \"/opt/a-b\""),
        ("exe = \"/opt/a*b\"", "exe = \"/opt/aa*bb\""),
        ("parent = \"/opt/\"", "parent = \"/opt/a/b\""),
        (
            "unit = \"a@*.service\"",
            "unit = [\"a@1.service\", \"a@b*.service\"]",
        ),
        ("cgroup = \"/a\"", "cgroup = \"/a/b\""),
        ("user = [7, 8]", "user = 8"),
        ("group = [7, 8]", "group = 8"),
        ("comm = [\"a\", \"b\"]", "comm = \"b\""),
        ("argv = \"b\"", "argv = [\"a\", \"b\"]"),
        ("user = 7\ncontainer = \"any\"", "user = 7"),
        (
            "user = 7\ncontainer = \"any\"",
            "user = 7\ncontainer = \"only\"",
        ),
        (
            "user = 7\non = [\"exec\", \"fork\"]",
            "user = 7\non = [\"fork\"]",
        ),
        (
            "user = 7",
            "user = 7\nunit = \"a.service\"\ncgroup = \"/a\"",
        ),
    ] {
        assert_eq!(
            shadows(&[wide, narrow]),
            shadow("r1", "r0"),
            "{wide} and {narrow}"
        );
        assert_eq!(shadows(&[narrow, wide]), [], "{narrow} and {wide}");
    }
    for (a, b) in [
        ("exe = \"/opt/a/\"", "exe = \"/opt/a\""),
        ("exe = \"/opt/a/\"", "exe = \"/opt/a*\""),
        ("exe = \"/opt/a*\"", "exe = \"/opt/a/\""),
        ("exe = \"/opt/*\"", "exe = \"/opt/a/*\""),
        ("exe = \"/opt/a*ab\"", "exe = \"/opt/ab\""),
        ("exe = \"/opt/\"", "parent = \"/opt/a\""),
        ("cgroup = \"/a\"", "cgroup = \"/ab\""),
        ("cgroup = \"/a\"", "unit = \"a\""),
        ("user = 7", "group = 7"),
        ("user = 7", "user = 7\ncontainer = \"only\""),
        ("argv = [\"a\", \"b\"]", "argv = [\"a\", \"c\"]"),
    ] {
        assert_eq!(shadows(&[a, b]), [], "{a} and {b}");
        assert_eq!(shadows(&[b, a]), [], "{b} and {a}");
    }
}

#[test]
fn lists_without_end_are_not_compared_for_ever() {
    let units = |units: &mut dyn Iterator<Item = u32>| {
        let units: Vec<_> = units.map(|unit| format!("{unit}.service")).collect();
        format!("unit = {units:?}")
    };
    let last_first = units(&mut (0..8_001).rev());
    let warnings = |first| {
        let rules = [units(&mut (0..first)), last_first.clone()];
        told(&format!(
            "[[rule]]\nname = \"a\"\n{}\n[[rule]]\nname = \"b\"\n{}\n",
            rules[0], rules[1]
        ))
    };
    let gave_up = "there are too many entries to find every rule that never matches; shorten the \
                   longest lists, with a folder or a `*` for several entries";
    assert_eq!(warnings(8_001), [gave_up]);
    assert_eq!(warnings(1_000), [""; 0]);
}

#[test]
fn enforcing_without_a_word_on_what_is_unknown() {
    let odd = "`mode` is \"enforce\" and `on_unknown` is not given: a launch starts when it \
               cannot be known which cores are free; write on_unknown = \"admit\" if this is \
               meant, or on_unknown = \"deny\"";
    assert_eq!(told("[gate]\nmode = \"enforce\""), [odd]);
    for gate in [
        "",
        "mode = \"observe\"",
        "mode = \"enforce\"\non_unknown = \"admit\"",
        "mode = \"enforce\"\non_unknown = \"deny\"",
    ] {
        assert_eq!(told(&format!("[gate]\n{gate}")), [""; 0], "{gate}");
    }
}

#[test]
fn metrics_for_everybody() {
    for (listen, is_odd) in [
        ("0.0.0.0:9842", true),
        ("[::]:9842", true),
        ("192.0.2.1:9842", true),
        ("127.0.0.1:9842", false),
        ("[::1]:9842", false),
        ("[::ffff:127.0.0.1]:9842", false),
        ("unix:/run/coregate/metrics.sock", false),
    ] {
        let told = told(&format!("[metrics]\nlisten = \"{listen}\""));
        let odd = format!("`listen` is {listen}: whoever reaches that address can read");
        assert_eq!(
            told.iter().any(|line| line.starts_with(&odd)),
            is_odd,
            "{told:?}"
        );
        assert_eq!(told.len(), usize::from(is_odd), "{told:?}");
    }
}

#[test]
fn odd_errors() {
    let rule = |keys: &str| told(&format!("[[rule]]\nname = \"r\"\nuser = 7\n{keys}\n"));
    let odd = |what: &str| [format!("p.toml:1: rule \"r\": {what}")];
    assert_eq!(
        rule("errno = \"EPERM\"\non = [\"exec\", \"fork\"]"),
        odd(
            "errno = \"EPERM\" for a fork: programs try it again after EAGAIN, and take another \
             error for one that stays; write errno = \"EAGAIN\", or leave it out"
        )
    );
    assert_eq!(
        rule("errno = \"EAGAIN\"\naction = \"log\""),
        odd(
            "`errno` has no effect, as action = \"log\" denies nothing; take `errno` out, or write \
             action = \"deny\""
        )
    );
    assert_eq!(rule("errno = \"EBUSY\"\non = [\"thread\"]").len(), 1);
    assert_eq!(rule("errno = \"EPERM\"\naction = \"exempt\"").len(), 1);
    assert_eq!(rule("errno = \"EAGAIN\"\non = [\"fork\"]"), [""; 0]);
    assert_eq!(rule("errno = \"EPERM\""), [""; 0]);
    assert_eq!(rule("action = \"log\"\non = [\"fork\"]"), [""; 0]);
}

#[test]
fn units_without_a_suffix() {
    let unit = |unit: &str| told(&format!("[[rule]]\nname = \"r\"\nunit = {unit}\n"));
    assert_eq!(
        unit("[\"redis.service\", \"redis\"]"),
        [
            "p.toml:1: rule \"r\": no unit of systemd is named \"redis\": their names have a \
             suffix; write unit = \"redis.service\", or give another cgroup's path with `cgroup`"
        ]
    );
    assert_eq!(unit("\"docker-*\""), [""; 0]);
}

#[test]
fn rules_that_anybody_can_hold_cores_by() {
    let warned = |keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        let policy = parse(&[Source::new("p.toml", &text)], &ANY_HOST).unwrap();
        let warnings = warnings(&policy, &ANY_HOST).into_iter();
        let mut messages = warnings.map(|warning| warning.message);
        messages.find(|message| message.contains("any user"))
    };
    let odd = "any user can start it, and so hold cores that others then do not get";
    assert_eq!(warned("").as_deref(), Some(odd));
    for keys in [
        "hold = \"settle\"",
        "comm = \"sh\"",
        "argv = \"-v\"",
        "parent = \"/b\"",
    ] {
        assert_eq!(warned(keys).as_deref(), Some(odd), "{keys}");
    }
    let odd = "any user can start it, as anybody can give a unit of their own that name, and so \
               hold cores that others then do not get";
    assert_eq!(warned("unit = \"a.service\"").as_deref(), Some(odd));
    for keys in [
        "hold = \"none\"",
        "user = 7",
        "group = 7",
        "unit = \"a.service\"\ncgroup = \"/system.slice\"",
        "action = \"exempt\"",
    ] {
        assert_eq!(warned(keys), None, "{keys}");
    }
}

#[test]
fn forks_that_are_not_the_scripts() {
    let (_folder, script) = file(b"#!/bin/sh\n", 0o755);
    let (_folder, program) = file(b"#", 0o755);
    let warned = |exe: &Path, on: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = {exe:?}\non = [{on}]\n");
        let policy = parse(&[Source::new("p.toml", &text)], &ANY_HOST).unwrap();
        let warnings = warnings(&policy, &ANY_HOST);
        warnings
            .iter()
            .any(|warning| warning.message.contains("never matches"))
    };
    assert!(warned(&script, "\"fork\""));
    assert!(warned(&script, "\"exec\", \"thread\""));
    assert!(!warned(&script, "\"exec\""));
    assert!(!warned(&program, "\"fork\""));
    assert!(!warned(Path::new("/dev/zero"), "\"fork\""));
}

#[test]
fn cores_that_are_never_all_free() {
    const TWO: AnyHost = AnyHost(&[node(0, 4), node(1, 4)]);
    let warned = |host: &dyn Host, keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        let policy = parse(&[Source::new("p.toml", &text)], host).unwrap();
        let warnings = warnings(&policy, host);
        warnings
            .iter()
            .any(|warning| warning.message.contains("ever be admitted"))
    };
    let fork = |keys: &str| format!("on = [\"fork\"]\n{keys}");
    assert!(!warned(&ANY_HOST, "cores = 4"));
    assert!(warned(&ANY_HOST, "cores = 4\nown_core = false"));
    for scope in ["\"node\"", "\"any\"", "\"spread\"", "[1]"] {
        let keys = fork(&format!("scope = {scope}\n"));
        assert!(warned(&ANY_HOST, &format!("{keys}cores = 4")), "{scope}");
        assert!(!warned(&ANY_HOST, &format!("{keys}cores = 3")), "{scope}");
        assert!(
            !warned(&ANY_HOST, &format!("{keys}cores = 4\nown_core = true")),
            "{scope}"
        );
    }
    // The launcher may be on the other node.
    assert!(!warned(&TWO, &fork("scope = \"any\"\ncores = 4")));
    assert!(!warned(&TWO, &fork("scope = [1]\ncores = 4")));
    assert!(warned(&TWO, &fork("scope = [0, 1]\ncores = 8")));
}

#[test]
fn this_host_knows_root() {
    let host = ThisHost::new();
    assert_eq!(host.uid("root"), Ok(Some(0)));
    assert_eq!(host.uid("no-such-user-here"), Ok(None));
    assert_eq!(host.uid("ro\0ot"), Ok(None));
    assert_eq!(host.gid("root"), Ok(Some(0)));
    assert_eq!(host.gid("no-such-group-here"), Ok(None));
    let nodes = host.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.cores >= 1));
    assert!(nodes.is_sorted_by_key(|node| node.number) && !nodes.is_empty());
}

#[test]
fn what_could_not_be_checked_is_said() {
    let folder = TempDir::new().unwrap();
    let failure = Topology::read(folder.path()).unwrap_err();
    let host = ThisHost {
        nodes: Err(failure),
        ..ThisHost::new()
    };
    let warning = host.warning().unwrap();
    assert_eq!((&warning.origin, &warning.rule), (&None, &None));
    let text = warning.to_string();
    assert!(
        text.starts_with("`cores` and `scope` were not held against this machine: cannot read ")
    );
}

#[test]
fn paths_are_resolved_as_the_kernel_does() {
    let dir = tempfile::tempdir().unwrap();
    let top = fs::canonicalize(dir.path()).unwrap();
    fs::create_dir_all(top.join("real/sub")).unwrap();
    fs::write(top.join("real/sub/file"), "").unwrap();
    for (link, to) in [
        ("link", "real"),
        ("real/chain", "../link/sub/file"),
        ("loop", "loop"),
        ("lost", "nowhere"),
    ] {
        std::os::unix::fs::symlink(to, top.join(link)).unwrap();
    }
    let host = ThisHost::new();
    for path in [
        "real/sub/file",
        "link/sub/file",
        "link/chain",
        "real/chain",
        "link/sub/",
        "link",
        "loop",
        "loop/x",
        "lost",
        "real/nothing",
        "nothing/below",
        "real/sub/file/below",
    ] {
        let path = top.join(path);
        let expected = fs::canonicalize(&path).ok();
        let expected = expected.map(|path| path.to_str().unwrap().to_owned());
        // The second time by what is known.
        for _ in 0..2 {
            assert_eq!(host.resolve(path.to_str().unwrap()), expected, "{path:?}");
        }
    }
    assert_eq!(host.resolve("/").as_deref(), Some("/"));
}
