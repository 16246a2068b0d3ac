//! The files of a shard in its data directory: opening them, making segments ready, throwing out rubbish.
//!
//! A file that the manifest does not name is rubbish, unless it holds a group of this log: then the manifest has lost
//! an edit that was durable, and the shard does not start.

use super::damage::Damage;
use super::log::format::LOG_FORMAT;
use super::log::group::{self, LogId, NoGroup};
use super::log::segment::{self, Segment};
use super::manifest::{self, Manifest, State as ManifestState, TableRow};
use super::manifest_codec::Edit;
use super::outcome::OpenError;
use super::quarantine;
use super::recovery;
use super::runs::{Run, Runs};
use super::shell::Shell;
use super::state::State;
use super::table::{self, Table, TableId};
use super::{Engine, Options, Recovery};
use crate::base::limits::{PAGE_BYTES, SHARDS_MAX};
use crate::base::planted::planted;
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, DiskCause, DiskError, File, Open};
use std::collections::BTreeMap;
use std::rc::Rc;

pub(super) async fn open(
    runtime: &Runtime,
    disk: &Disk,
    options: Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Engine, Recovery), OpenError> {
    assert!(options.shard < options.shards && usize::from(options.shards) <= SHARDS_MAX);
    disk.create_dir(segment::DIRECTORY).await?;
    disk.create_dir(table::DIRECTORY).await?;
    let loaded = manifest::load(disk, options.shard).await?;
    let generation = loaded.as_ref().map_or(0, |(generation, _)| *generation);
    let mut state = match loaded {
        Some((_, state)) => state,
        None => ManifestState::new(runtime.random_u64(), options.shard, options.shards),
    };
    if state.shards != options.shards {
        return Err(OpenError::Damaged {
            name: segment::DIRECTORY.to_string(),
            what: "it was made for another number of shards",
        });
    }
    let files = own_segments(disk, &options).await?;
    let highest_named = state.highest_segment;
    for &number in &files {
        let named = state.all_segments().any(|one| one.number == number);
        if !named {
            check_rubbish(disk, &state, number, highest_named, generation).await?;
        }
        state.apply(&Edit::HighestSegment(number));
    }
    let tables = own_tables(disk, &options).await?;
    for &number in &tables {
        state.apply(&Edit::HighestTable(number));
    }
    let runs = open_runs(disk, &state).await?;
    let mut replayed = recovery::replay(runtime, disk, state, progress).await?;
    let report = std::mem::take(&mut replayed.report);
    let manifest = Manifest::create_next(disk, generation, &replayed.state).await?;
    for number in files {
        if !replayed.files.contains_key(&number) {
            disk.remove(&segment::name(number)).await?;
        }
    }
    for number in tables {
        let named = |row: &TableRow| row.number == number;
        if !manifest.state().tables.iter().any(named) {
            disk.remove(&table::name(number)).await?;
        }
    }
    manifest.remove_older().await?;
    let noted = quarantine::load(disk, manifest.state()).await?;
    let damage = Damage::of_earlier_lives(noted);
    let state = State::new(options, replayed, runs, damage);
    let shell = Rc::new(Shell::new(runtime, disk, state, manifest));
    shell.prepare_one().await;
    if let Some(poisoned) = shell.poisoned() {
        return Err(poisoned.cause.into());
    }
    shell.start_background();
    Ok((Engine { shell }, report))
}

/// The numbers of the segment files of this shard, named or not.
async fn own_segments(disk: &Disk, options: &Options) -> Result<Vec<u32>, DiskError> {
    let names = disk.list(segment::DIRECTORY).await?;
    let numbers = names.iter().filter_map(|name| segment::parse_name(name));
    let own = numbers.filter(|&number| segment::belongs(number, options.shard, options.shards));
    Ok(own.collect())
}

/// The numbers of the table files of this shard, named or not.
async fn own_tables(disk: &Disk, options: &Options) -> Result<Vec<u32>, DiskError> {
    let names = disk.list(table::DIRECTORY).await?;
    let numbers = names.iter().filter_map(|name| table::parse_name(name));
    let own = numbers.filter(|&number| segment::belongs(number, options.shard, options.shards));
    Ok(own.collect())
}

/// Opens every table that the manifest names.
async fn open_runs(disk: &Disk, state: &ManifestState) -> Result<Runs, OpenError> {
    let mut runs: BTreeMap<u64, Vec<Rc<Table>>> = BTreeMap::new();
    for row in &state.tables {
        let id = TableId {
            identity: state.identity,
            shard: state.shard,
            number: row.number,
        };
        let table = Table::open(disk, id, row.bytes, row.footer_crc).await;
        let table = table.map_err(|error| match error {
            OpenError::Disk(error) if error.cause == DiskCause::NotFound => OpenError::Damaged {
                name: error.name,
                what: "the manifest names it and it is missing",
            },
            other => other,
        })?;
        runs.entry(row.run).or_default().push(Rc::new(table));
    }
    let run = |(number, mut tables): (u64, Vec<Rc<Table>>)| {
        tables.sort_by_key(|table| (table.summary().first, table.summary().last));
        Run { number, tables }
    };
    Ok(Runs::new(runs.into_iter().map(run).collect()))
}

/// Refuses to go on if a file that the manifest does not name holds what was once acked.
async fn check_rubbish(
    disk: &Disk,
    state: &ManifestState,
    number: u32,
    highest_named: Option<u32>,
    generation: u64,
) -> Result<(), OpenError> {
    let name = segment::name(number);
    let lost = |what| OpenError::Damaged {
        name: name.clone(),
        what,
    };
    if generation == 0 {
        return Err(lost("there are segments of this shard, and no manifest"));
    }
    let file = disk.open(&name, Open::Existing).await?;
    if file.len() < PAGE_BYTES as u64 {
        return Ok(());
    }
    let page = file.read_bulk_at(0, PAGE_BYTES).await?;
    let log = LogId {
        identity: state.identity,
        shard: state.shard,
    };
    match group::read_header(&page, log, number, 0) {
        // Nobody writes to a segment that is not named.
        Ok(_) if Some(number) > highest_named => Err(lost(
            "it holds groups, and the manifest does not know its number",
        )),
        // Of a life that ended before the newest cut, or cold: its removal was not durable. Perhaps never whole, never
        // acked.
        Ok(header) if header.number < state.first_number_needed() => Ok(()),
        Ok(_) => Err(lost("it holds groups, and the manifest does not name it")),
        Err(NoGroup::OtherFormat(found)) => Err(OpenError::other_format(name, found, LOG_FORMAT)),
        Err(NoGroup::Foreign) => Ok(()),
    }
}

/// Makes a new segment: file, name and manifest durable, in this order; `edits` name it there. `None`: there is no
/// space for it now, no descriptor, or no number: only damage uses them up, and what is there can still be read.
pub(super) async fn prepare_segment(
    manifest: &mut Manifest,
    bytes: u64,
    edits: impl FnOnce(Segment) -> Vec<Edit>,
) -> Result<Option<(Segment, File)>, DiskError> {
    manifest.is_sound()?;
    let state = manifest.state();
    let next = segment::next_number(state.highest_segment, state.shard, state.shards);
    let Some(number) = next else {
        return Ok(None);
    };
    let name = segment::name(number);
    let disk = manifest.disk().clone();
    let file = match disk.open(&name, Open::Create { len: bytes }).await {
        Ok(file) => file,
        Err(error) => {
            match disk.remove(&name).await {
                Ok(()) => {}
                Err(error) if error.cause == DiskCause::NotFound => {}
                Err(error) => return Err(error),
            }
            return match error.cause.passes() {
                true => Ok(None),
                false => Err(error),
            };
        }
    };
    file.sync().await?;
    if !planted!(SkippedDirectorySync) {
        match disk.sync_dir(segment::DIRECTORY).await {
            Ok(()) => {}
            Err(error) if error.cause == DiskCause::TooManyOpen => {
                // The directory could not even be opened: nothing that was written has failed.
                disk.remove(&name).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    let segment = Segment { number, bytes };
    match manifest.append(edits(segment)).await {
        Ok(()) => Ok(Some((segment, file))),
        Err(error) if error.cause.passes() => {
            disk.remove(&name).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
