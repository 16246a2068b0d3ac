//! The log: encoding a record of 1 KiB, and a commit group of 16 of them up to the bytes that are written.

mod common;

use armilla::base::limits::SEGMENT_BYTES_MIN;
use armilla::engine::NewValue;
use armilla::engine::bench::{Link, LogId, LogWriter, NewRecord, Segment, arc};
use common::{keys, object};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const VALUE: [u8; 1024] = [7; 1024];
const RECORDS: u64 = 16;

fn record(c: &mut Criterion) {
    let (keys, object) = (keys(1), object(NewValue::Put(&VALUE)));
    let record = NewRecord::new(keys[0].as_ref(), &object);
    let mut out = vec![0; record.bytes()];
    c.bench_function("log record, 1 KiB", |b| {
        b.iter(|| NewRecord::new(keys[0].as_ref(), &object).encode(1, 0, &mut out))
    });
}

fn group(c: &mut Criterion) {
    let (keys, object) = (keys(RECORDS), object(NewValue::Put(&VALUE)));
    let log = LogId {
        identity: 1,
        shard: 0,
    };
    let (mut writer, mut segment) = (LogWriter::new(log, Link::default(), 1, 1), 0);
    let mut group = c.benchmark_group("log group");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("16 records of 1 KiB", |b| {
        b.iter(|| {
            if writer.segments_ready() == 0 {
                segment += 1;
                let bytes = SEGMENT_BYTES_MIN as u64;
                writer.add_segment(Segment {
                    number: segment,
                    bytes,
                });
            }
            for key in &keys {
                let record = NewRecord::new(key.as_ref(), &object);
                let reserved = writer.reserve(record.bytes(), arc(key.position), 0);
                let reserved = reserved.expect("a segment is ready");
                let out = writer.reserved_bytes(reserved);
                record.encode(reserved.segment, reserved.offset_words, out);
            }
            let job = writer.take_job().expect("it holds records");
            writer.on_durable(job.number, job.buffer);
        })
    });
}

criterion_group!(log, record, group);
criterion_main!(log);
