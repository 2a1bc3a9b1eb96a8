// SPDX-License-Identifier: GPL-2.0-only
//! The domains of live claims, as they are in the gate's maps.

use anyhow::{Context, Result, ensure};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// Of each live claim: how many cores its program may use, or `None` if that is every one.
pub(super) fn of_live_claims() -> Result<Vec<Option<u32>>> {
    let (claims, domains) = (map("claims")?, map("domains")?);
    let (id, domain) = offsets()?;
    let mut found = Vec::new();
    for slot in 0..claims.max_entries() {
        let claim = value(&claims, slot)?;
        if claim[id..id + 8].iter().all(|byte| *byte == 0) {
            continue;
        }
        let number = claim.get(domain..).and_then(|rest| rest.first_chunk());
        let number = u32::from_ne_bytes(*number.context("a claim is too short")?);
        found.push(match number.checked_sub(1) {
            Some(place) => {
                let cores = value(&domains, place)?;
                Some(cores.iter().map(|byte| byte.count_ones()).sum())
            }
            None => None,
        });
    }
    Ok(found)
}

fn map(name: &str) -> Result<MapHandle> {
    // That of a gate before may not be gone yet.
    let info = MapInfoIter::default().filter(|map| map.name == name).last();
    let info = info.with_context(|| format!("no map {name}"))?;
    Ok(MapHandle::from_map_id(info.id)?)
}

fn value(map: &MapHandle, key: u32) -> Result<Vec<u8>> {
    let value = map.lookup(&key.to_ne_bytes(), MapFlags::ANY)?;
    value.with_context(|| format!("no entry {key}"))
}

/// Where `id` and `domain` are in struct claim, in bytes, as the gate that is loaded says.
fn offsets() -> Result<(usize, usize)> {
    let program = ProgInfoIter::default()
        .filter(|program| program.name == "on_exec")
        .last();
    let btf = Btf::from_prog_id(program.context("no gate")?.id)?;
    let claim: Struct<'_> = btf.type_by_name("claim").context("no struct claim")?;
    let offset = |name: &str| {
        let member = claim
            .iter()
            .find(|member| member.name.is_some_and(|own| own == name));
        let member = member.with_context(|| format!("no {name} in struct claim"))?;
        let MemberAttr::Normal { offset } = member.attr else {
            anyhow::bail!("{name} is a bit field");
        };
        ensure!(offset % 8 == 0, "{name} is not at a byte");
        Ok((offset / 8) as usize)
    };
    Ok((offset("id")?, offset("domain")?))
}
