//! Context tokens: whoever signs what, only what a live key signed for this very key is opened.

use crate::causal::context::{ContextKey, ContextKeys, Refused};
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::version_vector::VersionVector;

const CLUSTER: u128 = 0x1234_5678_9abc_def0;
const BUCKET: &[u8] = b"bucket";
const KEY: &[u8] = b"key";

fn keys(current: u8, previous: Option<u8>) -> ContextKeys {
    ContextKeys {
        current: ContextKey([current; 16]),
        previous: previous.map(|secret| ContextKey([secret; 16])),
    }
}

/// Two bytes (who signs; which bit of the token is flipped at the end), then the token up to its MAC, or all of it.
pub fn run(data: &[u8]) {
    let Some((&[signer, spoilt], body)) = data.split_first_chunk() else {
        return;
    };
    let live = keys(1, Some(2));
    let open = |token: &[u8]| live.open(CLUSTER, BUCKET, KEY, token);
    let secret = match signer % 4 {
        0 => None,
        secret => Some(ContextKey([secret; 16])),
    };
    let mut token = body.to_vec();
    if let Some(secret) = &secret {
        token.extend_from_slice(&secret.mac(CLUSTER, BUCKET, KEY, body));
    }
    let opened = open(&token);
    let Ok(vector) = opened else {
        return;
    };
    if token.is_empty() {
        return assert!(vector.is_empty());
    }
    assert!(signer % 4 != 3, "a key that is not live signed it");
    let sealed_by = |secret: u8| {
        let mut sealed = Vec::new();
        keys(secret, None).seal(CLUSTER, BUCKET, KEY, &vector, &mut sealed);
        sealed
    };
    assert!(!vector.is_empty() && vector.fits());
    assert!(
        token == sealed_by(1) || token == sealed_by(2),
        "another form of a token"
    );
    for (cluster, bucket, key) in [
        (1, BUCKET, KEY),
        (CLUSTER, KEY, KEY),
        (CLUSTER, b"bucketk", b"ey"),
    ] {
        assert_eq!(
            live.open(cluster, bucket, key, &token),
            Err(Refused::Foreign)
        );
    }
    let bit = usize::from(spoilt) * token.len() / 32;
    token[bit / 8] ^= 1 << (bit % 8);
    assert!(open(&token).is_err(), "a spoilt token is opened");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut vector = VersionVector::default();
    let mut seeds = vec![vec![0, 0], vec![1, 0]];
    for (incarnation, birth, counter) in
        [(1, 0, 1), (u64::MAX, u32::MAX, u64::MAX), (7, 300, 1 << 40)]
    {
        let incarnation = Incarnation(incarnation);
        let actor = Actor { incarnation, birth };
        vector.add(Dot { actor, counter });
        for signer in [0, 1, 2, 3] {
            let mut seed = vec![signer, 40];
            let secret = signer.max(1);
            keys(secret, None).seal(CLUSTER, BUCKET, KEY, &vector, &mut seed);
            if signer != 0 {
                seed.truncate(seed.len() - 16);
            }
            seeds.push(seed);
        }
    }
    seeds
}
