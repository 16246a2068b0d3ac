//! The codec: what a get and a put of 1 KiB cost between bytes and messages, with buffers that have grown.

use armilla::wire::codec::{
    Builder, RequestLimits, decode_reply, decode_request, encode_reply_into, encode_request,
};
use armilla::wire::message::{Op, PutMode, Receipt, Reply, Request, SiblingView, Status};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

const VALUE: [u8; 1024] = [7; 1024];

fn requests(c: &mut Criterion) {
    let get = Request {
        op: Op::Get,
        key: b"user6284781860667377211",
        ..Request::default()
    };
    let put = Request {
        op: Op::Put,
        mode: PutMode::Overwrite,
        value: &VALUE,
        ..get.clone()
    };
    for (name, request) in [("get", get), ("put 1 KiB", put)] {
        let mut builder = Builder::new();
        c.bench_function(&format!("request encode, {name}"), |b| {
            b.iter(|| black_box(encode_request(&mut builder, black_box(&request))).len())
        });
        let frame = encode_request(&mut builder, &request).to_vec();
        c.bench_function(&format!("request decode, {name}"), |b| {
            b.iter(|| decode_request(black_box(&frame), RequestLimits::default()).is_ok())
        });
    }
}

fn replies(c: &mut Criterion) {
    let siblings = [SiblingView {
        value: &VALUE,
        lost: false,
        written: Default::default(),
        expires: Default::default(),
        value_hash: 1,
        dot: Default::default(),
        operation: Default::default(),
    }];
    let put = Reply {
        id: 1,
        status: Some(Status::Ok),
        receipt: Some(Receipt::default()),
        ..Reply::default()
    };
    let get = Reply {
        siblings: &siblings,
        context: &[1; 40],
        ..put.clone()
    };
    for (name, reply) in [("get 1 KiB", get), ("put", put)] {
        let (mut builder, mut out) = (Builder::new(), Vec::new());
        let mut encode = || {
            out.clear();
            encode_reply_into(&mut out, &mut builder, black_box(&reply));
        };
        c.bench_function(&format!("reply encode, {name}"), |b| b.iter(&mut encode));
        encode();
        c.bench_function(&format!("reply decode, {name}"), |b| {
            b.iter(|| decode_reply(black_box(&out)).is_ok())
        });
    }
}

criterion_group!(codec, requests, replies);
criterion_main!(codec);
