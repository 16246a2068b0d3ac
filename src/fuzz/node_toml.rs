//! `node.toml`: text that people may have touched.

use crate::replica::identity::NodeFacts;

pub fn run(data: &[u8]) {
    match NodeFacts::parse(data) {
        Ok(facts) => {
            assert!(facts.virtual_nodes.is_power_of_two() && facts.shards > 0);
            let again = NodeFacts::parse(facts.text().as_bytes());
            assert_eq!(again.expect("what we write is read"), facts);
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let facts = |cluster, node, virtual_nodes, shards, agreed_ring| NodeFacts {
        cluster,
        node,
        virtual_nodes,
        shards,
        agreed_ring,
    };
    let all = [
        facts(0, u128::MAX, 1024, 1, false),
        facts(u128::MAX / 3, 5, 1 << 31, u16::MAX, true),
    ];
    let mut seeds: Vec<Vec<u8>> = all.map(|facts| facts.text().into_bytes()).to_vec();
    seeds.push(b"format = 3\nnew = [1]\n".to_vec());
    seeds
}
