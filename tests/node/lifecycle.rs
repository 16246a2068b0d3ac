//! Stopping: gracefully on the first signal, safely in every way.

use crate::harness::{Node, Scratch, alone, code, text};
use std::time::Duration;

#[test]
fn sigterm_ends_it_with_success_and_keeps_everything() {
    let _alone = alone();
    let scratch = Scratch::new("sigterm");
    for round in 0..3 {
        let mut node = Node::start(&scratch.data());
        if round > 0 {
            let got = node.run(&["get", "round"]);
            assert_eq!(text(&got.stdout), format!("{}", round - 1));
        }
        assert_eq!(code(&node.run(&["put", "round", &round.to_string()])), 0);
        node.signal(if round == 1 { "-INT" } else { "-TERM" });
        assert_eq!(
            node.wait(Duration::from_secs(10)).code(),
            Some(0),
            "{}",
            node.log()
        );
    }
}
