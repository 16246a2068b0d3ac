//! Loads and runs: YCSB's operations as gets and puts.
//!
//! | operation | requests |
//! |---|---|
//! | READ | a get |
//! | INSERT, and UPDATE of all fields (or of the only one) | a put that overwrites |
//! | UPDATE of one field | a get, then a put by its context: what was written in between stays beside it |
//! | READ-MODIFY-WRITE | the same, told as READ, UPDATE and the whole |

use crate::acked::{self, Log, Put};
use crate::floors::{Floors, Outcome};
use crate::plan::{After, Choice, Ending, Plan, Stage, Task, Times};
use crate::record::{Found, Sequence};
use crate::session::{Answer, Ask};
use crate::spec::Spec;
use crate::stats::Recorder;
use crate::ycsb::chooser::Chooser;
use crate::ycsb::draws::{Draws, mix};
use crate::ycsb::inserts::Inserts;
use crate::ycsb::mix::Kind;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use xxhash_rust::xxh3::xxh3_64;

/// Draws for a key that is wanted: with the keys of one shard of a hundred wanted, one in 10^4 choices finds none.
const DRAWS_MAX: u32 = 1_000;

/// What the threads of a load or run share.
pub struct Shared {
    sequences: AtomicU64,
    floors: Floors,
    inserts: Inserts,
    /// How many records a load has begun.
    loaded: AtomicU64,
    log: Option<Log>,
}

impl Shared {
    pub fn new(spec: &Spec, first: Sequence, log: Option<Log>) -> Shared {
        let keys = spec.records.count + 2 * spec.records.inserts;
        Shared {
            sequences: AtomicU64::new(first.0),
            floors: Floors::new(keys as usize, first),
            inserts: Inserts::new(spec.records.count),
            loaded: AtomicU64::new(0),
            log,
        }
    }
}

/// Operations of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Every record once, in their order, with the other threads.
    Load,
    /// So many operations, or without end.
    Run(Option<u64>),
}

/// What is to be put, and by which context.
#[derive(Default)]
struct Draft {
    value: Vec<u8>,
    context: Vec<u8>,
}

pub struct Traffic {
    spec: Spec,
    shared: Arc<Shared>,
    work: Work,
    chooser: Chooser,
    draws: Draws,
    /// Lengths and fields: apart, so that the same seed asks for the same keys whatever the answers are.
    shapes: Draws,
    operations: Draws,
    drafts: Vec<Draft>,
    free: Vec<u32>,
    key: Vec<u8>,
    value: Vec<u8>,
    lines: String,
}

impl Traffic {
    /// `operations` is the seed of operation ids: unlike any other thread's, of any run.
    pub fn new(
        spec: &Spec,
        shared: Arc<Shared>,
        work: Work,
        (thread, threads): (u16, u16),
        (seed, operations): (u64, u64),
    ) -> Traffic {
        let of = (u64::from(thread), u64::from(threads));
        let seed = mix(seed) ^ of.0;
        Traffic {
            chooser: Chooser::new(spec.distribution, spec.records, of),
            spec: spec.clone(),
            shared,
            work,
            draws: Draws::new(seed),
            shapes: Draws::new(mix(!seed)),
            operations: Draws::new(operations),
            drafts: Vec::new(),
            free: Vec::new(),
            key: Vec::new(),
            value: Vec::new(),
            lines: String::new(),
        }
    }

    fn begin(&mut self, kind: Kind, number: u64) -> Task {
        let whole = self.spec.write_all_fields || self.spec.shape.fields == 1;
        let puts_at_once = kind == Kind::Insert || (kind == Kind::Update && whole);
        let mut task = Task {
            kind,
            stage: if puts_at_once { Stage::Put } else { Stage::Get },
            number,
            sequence: Sequence::default(),
            at_least: self.shared.floors.of(number),
            draft: None,
            bytes: 0,
            checksum: 0,
        };
        if kind != Kind::Read {
            self.shared.floors.begin(number);
            task.sequence = Sequence(self.shared.sequences.fetch_add(1, SeqCst));
        }
        task
    }

    fn draw(&mut self, wanted: &dyn Fn(u64) -> bool) -> u64 {
        let mut number = self.chooser.draw(&mut self.draws, &self.shared.inserts);
        for _ in 0..DRAWS_MAX {
            if wanted(number) {
                break;
            }
            number = self.chooser.draw(&mut self.draws, &self.shared.inserts);
        }
        number
    }

    /// Judges what a get showed against what its key was known to hold when it was sent; returns the newest value.
    fn check<'a>(
        &self,
        task: &Task,
        values: &[&'a [u8]],
        recorder: &mut Recorder,
    ) -> Option<&'a [u8]> {
        let (mut newest, mut silent) = (None, false);
        let mut chosen = values.first().copied();
        for value in values {
            match self.spec.shape.check(task.number, value) {
                Found::Newest(sequence) if Some(sequence) > newest => {
                    newest = Some(sequence);
                    chosen = Some(value);
                }
                Found::Newest(_) => {}
                Found::Silent => silent = true,
                Found::Foreign => recorder.foreign_values += 1,
            }
        }
        if !silent && newest < task.at_least {
            recorder.stale_gets += 1;
        }
        chosen
    }

    /// Prepares the put that follows from what a get showed.
    fn draft(&mut self, task: &Task, value: &[u8], context: &[u8]) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.drafts.push(Draft::default());
            self.drafts.len() as u32 - 1
        });
        let draft = &mut self.drafts[index as usize];
        draft.value.clear();
        draft.context.clear();
        draft.context.extend_from_slice(context);
        let (shape, shapes) = (&mut self.spec.shape, &mut self.shapes);
        let (number, sequence) = (task.number, task.sequence);
        if self.spec.write_all_fields || shape.fields == 1 {
            shape.write(number, sequence, shapes, &mut draft.value);
        } else {
            let field = shapes.below(u64::from(shape.fields)) as u32;
            shape.rewrite(value, field, (number, sequence), shapes, &mut draft.value);
        }
        index
    }

    fn after_get(
        &mut self,
        task: Task,
        (values, context): (&[&[u8]], &[u8]),
        times: &Times,
        recorder: &mut Recorder,
    ) -> After {
        let newest = self.check(&task, values, recorder);
        let Some(newest) = newest else {
            return self.fail(task, "NotFound", Outcome::Refused, times, recorder);
        };
        if task.kind != Kind::Update {
            recorder.request(Kind::Read, Ok(()), times.sent, times);
        }
        if task.kind == Kind::Read {
            recorder.operation(times);
            return After::Over;
        }
        let draft = Some(self.draft(&task, newest, context));
        After::Next(Task {
            stage: Stage::Put,
            draft,
            ..task
        })
    }

    fn after_put(&mut self, task: Task, times: &Times, recorder: &mut Recorder) -> After {
        self.settle(&task, Outcome::Acked);
        match task.kind {
            Kind::ReadModifyWrite => {
                recorder.request(Kind::Update, Ok(()), times.sent, times);
                recorder.request(task.kind, Ok(()), times.began, times);
            }
            kind => recorder.request(kind, Ok(()), times.began, times),
        }
        recorder.operation(times);
        After::Over
    }

    fn fail(
        &mut self,
        task: Task,
        why: &str,
        outcome: Outcome,
        times: &Times,
        recorder: &mut Recorder,
    ) -> After {
        match (task.kind, task.stage) {
            (Kind::ReadModifyWrite, Stage::Get) => {
                recorder.request(Kind::Read, Err(why), times.sent, times);
            }
            (Kind::ReadModifyWrite, Stage::Put) => {
                recorder.request(Kind::Update, Err(why), times.sent, times);
            }
            (Kind::Read | Kind::Update | Kind::Insert, _) => {}
        }
        recorder.request(task.kind, Err(why), times.began, times);
        if task.kind != Kind::Read {
            self.settle(&task, outcome);
        }
        After::Over
    }

    /// An operation that writes is over.
    fn settle(&mut self, task: &Task, outcome: Outcome) {
        self.free.extend(task.draft);
        self.shared.floors.end(task.number, task.sequence, outcome);
        let runs = matches!(self.work, Work::Run(_));
        if task.kind == Kind::Insert && runs {
            self.shared.inserts.end(task.number);
        }
        if self.shared.log.is_none() || outcome == Outcome::Refused {
            return;
        }
        let put = Put {
            number: task.number,
            from: task.sequence,
            until: match outcome {
                Outcome::Acked => Some(Sequence(self.shared.sequences.load(SeqCst))),
                Outcome::Unknown | Outcome::Refused => None,
            },
            bytes: task.bytes,
            checksum: task.checksum,
        };
        acked::push_line(&mut self.lines, put);
    }
}

impl Plan for Traffic {
    fn choose(&mut self, counts: bool, wanted: &dyn Fn(u64) -> bool) -> Choice {
        match &mut self.work {
            Work::Load => {
                let nth = self.shared.loaded.fetch_add(1, SeqCst);
                if nth >= self.spec.records.mine {
                    return Choice::Done;
                }
                let number = self.spec.records.first + nth;
                return Choice::Begin(self.begin(Kind::Insert, number));
            }
            Work::Run(Some(0)) => return Choice::Done,
            Work::Run(Some(left)) if counts => *left -= 1,
            Work::Run(_) => {}
        }
        let kind = self.spec.mix.draw(&mut self.draws);
        let number = match kind {
            Kind::Insert => self.shared.inserts.take(),
            Kind::Read | Kind::Update | Kind::ReadModifyWrite => self.draw(wanted),
        };
        Choice::Begin(self.begin(kind, number))
    }

    fn ask(&mut self, task: &mut Task) -> Ask<'_> {
        self.spec.keys.write(task.number, &mut self.key);
        if task.stage == Stage::Get {
            return Ask::Get { key: &self.key };
        }
        let (value, context) = match task.draft.map(|draft| &self.drafts[draft as usize]) {
            Some(draft) => (&draft.value, Some(&draft.context[..])),
            None => {
                self.value.clear();
                let (shape, shapes) = (&mut self.spec.shape, &mut self.shapes);
                shape.write(task.number, task.sequence, shapes, &mut self.value);
                (&self.value, None)
            }
        };
        if self.shared.log.is_some() {
            task.bytes = value.len();
            task.checksum = xxh3_64(value);
        }
        let operation = [self.operations.next(), self.operations.next()];
        Ask::Put {
            key: &self.key,
            value,
            context,
            operation: u128::from(operation[0]) << 64 | u128::from(operation[1]),
        }
    }

    fn ended(
        &mut self,
        task: Task,
        ending: Ending<'_>,
        times: &Times,
        recorder: &mut Recorder,
    ) -> After {
        let (why, outcome) = match (ending, task.stage) {
            (Ending::Answered(Answer::Done { values, context }), Stage::Get) => {
                return self.after_get(task, (values, context), times, recorder);
            }
            (Ending::Answered(Answer::Done { .. }), Stage::Put) => {
                return self.after_put(task, times, recorder);
            }
            (Ending::Answered(Answer::Refused(why)) | Ending::NotSent(why), _) => {
                (why, Outcome::Refused)
            }
            // A get changes nothing, whatever became of it.
            (Ending::Answered(Answer::Unknown(why)) | Ending::Lost(why), Stage::Get) => {
                (why, Outcome::Refused)
            }
            (Ending::Answered(Answer::Unknown(why)) | Ending::Lost(why), Stage::Put) => {
                (why, Outcome::Unknown)
            }
        };
        self.fail(task, why, outcome, times, recorder)
    }

    fn turn(&mut self) -> io::Result<()> {
        match &self.shared.log {
            Some(log) => log.append(&mut self.lines),
            None => Ok(()),
        }
    }
}
