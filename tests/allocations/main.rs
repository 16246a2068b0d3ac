//! The answer to a get is encoded, sent off and decoded without one allocation, once its buffers have grown.

use armilla::wire::codec::{
    Builder, RequestLimits, decode_reply, decode_request, encode_reply_into, encode_request,
};
use armilla::wire::message::{Op, Receipt, Reply, Request, SiblingView, Status};

#[test]
fn a_get_costs_no_allocation() {
    let value = [7; 1024];
    let sibling = [SiblingView {
        value: &value,
        lost: false,
        written: Default::default(),
        expires: Default::default(),
        value_hash: 1,
        dot: Default::default(),
        operation: Default::default(),
    }];
    let request = Request {
        op: Op::Get,
        key: b"user:42",
        ..Request::default()
    };
    let reply = Reply {
        id: 1,
        status: Some(Status::Ok),
        siblings: &sibling,
        context: &[1; 40],
        receipt: Some(Receipt::default()),
        ..Reply::default()
    };
    let (mut asks, mut answers, mut out) = (Builder::new(), Builder::new(), Vec::new());
    let mut turn = || {
        let frame = encode_request(&mut asks, &request);
        assert!(decode_request(frame, RequestLimits::default()).is_ok());
        out.clear();
        encode_reply_into(&mut out, &mut answers, &reply);
        let read = decode_reply(&out)
            .ok()
            .and_then(|reply| reply.siblings.iter().next());
        assert_eq!(read.map(|sibling| sibling.value.len()), Some(1024));
    };
    let grown = allocation_counter::measure(&mut turn);
    assert!(
        grown.count_total > 0,
        "the first turn grows the buffers: the counter counts"
    );
    let steady = allocation_counter::measure(|| (0..100).for_each(|_| turn()));
    assert_eq!(steady.count_total, 0);
}
