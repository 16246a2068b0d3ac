//! Encodings: what is written is read again, nothing else is, and no bytes panic.

use super::properties::vector;
use crate::base::golden::{self, hex, unhex};
use crate::base::limits::{CONTEXT_BYTES_MAX, VECTOR_ENTRIES_JOINED_MAX};
use crate::base::units::UnixMillis;
use crate::causal::context::{ContextKey, ContextKeys, Refused};
use crate::causal::dot::{Actor, Dot, Incarnation};
use crate::causal::object::{Kind, Object, OperationId, Sibling};
use crate::causal::object_codec;
use crate::causal::sibling_codec;
use crate::causal::value_hash::value_hash;
use crate::causal::version_vector::VersionVector;
use proptest::prelude::*;

fn encoded(vector: &VersionVector) -> Vec<u8> {
    let mut out = Vec::new();
    vector.encode(&mut out);
    out
}

fn dot(incarnation: u64, birth: u32, counter: u64) -> Dot {
    let incarnation = Incarnation(incarnation);
    let actor = Actor { incarnation, birth };
    Dot { actor, counter }
}

fn hex_u64(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("hex digits")
}

fn hex_u128(text: &str) -> u128 {
    u128::from_str_radix(text, 16).expect("hex digits")
}

#[derive(serde::Deserialize)]
struct GoldenDot {
    incarnation: String,
    birth: u32,
    counter: String,
}

impl GoldenDot {
    fn dot(&self) -> Dot {
        let counter = self.counter.parse().expect("a number");
        dot(hex_u64(&self.incarnation), self.birth, counter)
    }
}

#[test]
fn golden_vectors_of_vectors() {
    #[derive(serde::Deserialize)]
    struct Golden {
        entries: Vec<GoldenDot>,
        encoding_hex: String,
    }
    let text = include_str!("../../../schema/vectors/version_vector.json");
    for golden in golden::read::<Golden>(text) {
        let mut vector = VersionVector::default();
        golden
            .entries
            .iter()
            .for_each(|entry| vector.add(entry.dot()));
        assert_eq!(hex(&encoded(&vector)), golden.encoding_hex);
        let bytes = unhex(&golden.encoding_hex);
        assert_eq!(VersionVector::decode(&mut &bytes[..]), Some(vector));
    }
}

#[test]
fn golden_objects() {
    #[derive(serde::Deserialize)]
    struct GoldenSibling {
        #[serde(flatten)]
        dot: GoldenDot,
        operation: String,
        kind: String,
        value_hash: String,
        /// What travels of it.
        value: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Golden {
        vector: Vec<GoldenDot>,
        siblings: Vec<GoldenSibling>,
        encoding_hex: String,
    }
    let text = include_str!("../../../schema/vectors/object.json");
    for golden in golden::read::<Golden>(text) {
        let mut vector = VersionVector::default();
        golden.vector.iter().for_each(|dot| vector.add(dot.dot()));
        let siblings = golden.siblings.iter().map(|sibling| Sibling {
            dot: sibling.dot.dot(),
            operation: OperationId(hex_u128(&sibling.operation)),
            kind: match sibling.kind.as_str() {
                "value" => Kind::Value,
                "tombstone" => Kind::Tombstone,
                other => panic!("no kind {other}"),
            },
            written: UnixMillis(0),
            expires: UnixMillis(0),
            value_hash: hex_u64(&sibling.value_hash),
            value: sibling.value.as_deref().map(str::as_bytes),
        });
        let object = Object::checked(vector, siblings.collect()).expect("a sound object");
        let mut bytes = Vec::new();
        object_codec::encode(&object, |value| *value, &mut bytes);
        assert_eq!(hex(&bytes), golden.encoding_hex);
        assert_eq!(object_codec::decode(&bytes), Some(object));
    }
}

#[test]
fn objects_that_are_cut_or_spoilt_are_none_or_others() {
    let mut object = Object {
        vector: VersionVector::default(),
        siblings: Vec::new(),
    };
    for counter in 1..4 {
        let dot = dot(counter, 0, counter);
        let value: &[u8] = &[7; 3][..counter as usize - 1];
        object.vector.add(dot);
        object.siblings.push(Sibling {
            dot,
            operation: OperationId(counter.into()),
            kind: Kind::Value,
            written: UnixMillis(5),
            expires: UnixMillis(0),
            value_hash: value_hash(b"b", b"k", dot, OperationId(counter.into()), value),
            value: (counter > 1).then_some(value),
        });
    }
    let mut bytes = Vec::new();
    object_codec::encode(&object, |value| *value, &mut bytes);
    let whole = object_codec::decode(&bytes).expect("what was written");
    assert!(object_codec::is_intact(b"b", b"k", &whole));
    assert!(!object_codec::is_intact(b"b", b"other", &whole));
    for cut in 0..bytes.len() {
        assert_eq!(object_codec::decode(&bytes[..cut]), None, "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1 << bit;
            if let Some(read) = object_codec::decode(&spoilt) {
                assert_ne!(read, object);
                let mut again = Vec::new();
                object_codec::encode(&read, |value| *value, &mut again);
                assert_eq!(again, spoilt, "one form");
            }
        }
    }
}

#[test]
fn golden_siblings() {
    #[derive(serde::Deserialize)]
    struct Golden {
        #[serde(flatten)]
        dot: GoldenDot,
        operation: String,
        kind: String,
        written: u64,
        expires: u64,
        value_hash: String,
        encoding_hex: String,
    }
    let text = include_str!("../../../schema/vectors/sibling.json");
    for golden in golden::read::<Golden>(text) {
        let sibling = Sibling {
            dot: golden.dot.dot(),
            operation: OperationId(hex_u128(&golden.operation)),
            kind: match golden.kind.as_str() {
                "value" => Kind::Value,
                "tombstone" => Kind::Tombstone,
                "value_lost" => Kind::ValueLost,
                other => panic!("no kind {other}"),
            },
            written: UnixMillis(golden.written),
            expires: UnixMillis(golden.expires),
            value_hash: hex_u64(&golden.value_hash),
            value: (),
        };
        let mut out = Vec::new();
        sibling_codec::encode(&sibling, &mut out);
        assert_eq!(hex(&out), golden.encoding_hex);
        assert_eq!(sibling_codec::decode(&mut &out[..]), Some(sibling));
    }
}

#[test]
fn golden_contexts() {
    #[derive(serde::Deserialize)]
    struct Golden {
        secret_hex: String,
        cluster: String,
        bucket_hex: String,
        key_hex: String,
        vector_encoding_hex: String,
        token_hex: String,
    }
    let text = include_str!("../../../schema/vectors/context.json");
    for golden in golden::read::<Golden>(text) {
        let secret = unhex(&golden.secret_hex);
        let keys = ContextKeys {
            current: ContextKey(secret.try_into().expect("16 bytes")),
            previous: None,
        };
        let (bucket, key) = (unhex(&golden.bucket_hex), unhex(&golden.key_hex));
        let cluster = hex_u128(&golden.cluster);
        let bytes = unhex(&golden.vector_encoding_hex);
        let vector = VersionVector::decode(&mut &bytes[..]).expect("a vector");
        let mut token = Vec::new();
        keys.seal(cluster, &bucket, &key, &vector, &mut token);
        assert_eq!(hex(&token), golden.token_hex);
        assert_eq!(keys.open(cluster, &bucket, &key, &token), Ok(vector));
    }
}

const KEYS: ContextKeys = ContextKeys {
    current: ContextKey([1; 16]),
    previous: Some(ContextKey([2; 16])),
};

fn sealed(keys: &ContextKeys, vector: &VersionVector) -> Vec<u8> {
    let mut token = Vec::new();
    keys.seal(9, b"bucket", b"key", vector, &mut token);
    token
}

fn two_entries() -> VersionVector {
    let mut vector = VersionVector::default();
    vector.add(dot(3, 1, 4));
    vector.add(dot(5, 9, 2));
    vector
}

#[test]
fn a_token_opens_only_where_it_was_given_out() {
    let token = sealed(&KEYS, &two_entries());
    assert_eq!(KEYS.open(9, b"bucket", b"key", &token), Ok(two_entries()));
    for (cluster, bucket, key) in [
        (8, &b"bucket"[..], &b"key"[..]),
        (9, b"bucke", b"key"),
        (9, b"bucket", b"ke"),
        (9, b"bucketk", b"ey"),
    ] {
        assert_eq!(
            KEYS.open(cluster, bucket, key, &token),
            Err(Refused::Foreign)
        );
    }
    for at in 1..token.len() {
        let mut changed = token.clone();
        changed[at] ^= 1;
        assert_eq!(
            KEYS.open(9, b"bucket", b"key", &changed),
            Err(Refused::Foreign)
        );
    }
    let mut other_format = token.clone();
    other_format[0] = 2;
    assert_eq!(
        KEYS.open(9, b"bucket", b"key", &other_format),
        Err(Refused::Malformed)
    );
    for length in 1..token.len() {
        assert!(KEYS.open(9, b"bucket", b"key", &token[..length]).is_err());
    }
    let endless = vec![1; CONTEXT_BYTES_MAX + 1];
    assert_eq!(
        KEYS.open(9, b"bucket", b"key", &endless),
        Err(Refused::Malformed)
    );
}

#[test]
fn keys_change_under_load() {
    let older = ContextKeys {
        current: ContextKey([2; 16]),
        previous: Some(ContextKey([3; 16])),
    };
    let oldest = ContextKeys {
        current: ContextKey([3; 16]),
        previous: None,
    };
    let open = |token: &[u8]| KEYS.open(9, b"bucket", b"key", token);
    assert_eq!(open(&sealed(&older, &two_entries())), Ok(two_entries()));
    assert_eq!(
        open(&sealed(&oldest, &two_entries())),
        Err(Refused::Foreign)
    );
}

#[test]
fn the_empty_vector_is_the_empty_token_alone() {
    let nothing = VersionVector::default();
    assert_eq!(sealed(&KEYS, &nothing), b"");
    assert_eq!(KEYS.open(9, b"bucket", b"key", b""), Ok(nothing));
}

#[test]
fn secrets_do_not_show() {
    assert!(!format!("{KEYS:?}").contains('1'));
}

#[test]
fn the_largest_vector_fits_and_no_larger_one() {
    let mut vector = VersionVector::default();
    for index in 0..VECTOR_ENTRIES_JOINED_MAX as u64 {
        vector.add(dot(u64::MAX - index, u32::MAX, u64::MAX));
    }
    assert!(vector.fits());
    let bytes = encoded(&vector);
    assert_eq!(VersionVector::decode(&mut &bytes[..]), Some(vector.clone()));
    assert!(sealed(&KEYS, &vector).len() <= CONTEXT_BYTES_MAX);
    vector.add(dot(1, 0, 1));
    assert!(!vector.fits());
    // What it would be, written by hand: its count, then its entries.
    let mut larger = vec![0x81, 0x10];
    larger.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    larger.extend(&bytes[2..]);
    assert_eq!(VersionVector::decode(&mut &larger[..]), None);
}

#[test]
fn vectors_of_another_form_are_refused() {
    let entry = |incarnation: u8, birth: &[u8], counter: &[u8]| {
        [&[incarnation, 0, 0, 0, 0, 0, 0, 0], birth, counter].concat()
    };
    let decode = |entries: &[Vec<u8>]| {
        let bytes = [vec![entries.len() as u8], entries.concat()].concat();
        VersionVector::decode(&mut &bytes[..])
    };
    let one = entry(1, &[0], &[1]);
    assert!(decode(&[one.clone(), entry(2, &[0], &[1])]).is_some());
    assert!(
        decode(&[entry(2, &[0], &[1]), one.clone()]).is_none(),
        "order"
    );
    assert!(decode(&[one.clone(), one.clone()]).is_none(), "twice");
    assert!(decode(&[entry(1, &[0], &[0])]).is_none(), "counter 0");
    assert!(decode(&[entry(1, &[0], &[0x81, 0])]).is_none(), "long form");
    let birth = [0x80, 0x80, 0x80, 0x80, 0x10];
    assert!(
        decode(&[entry(1, &birth, &[1])]).is_none(),
        "birth beyond 32 bits"
    );
    let mut short = &one[..];
    assert!(VersionVector::decode(&mut short).is_none());
}

prop_compose! {
    fn any_sibling()(
        incarnation: u64, birth: u32, counter in 1..=u64::MAX, operation: u128,
        kind in prop::sample::select(vec![Kind::Value, Kind::Tombstone, Kind::ValueLost]),
        written: u64, expires: u64, value_hash: u64,
    ) -> Sibling<()> {
        Sibling {
            dot: dot(incarnation, birth, counter),
            operation: OperationId(operation),
            kind,
            written: UnixMillis(written),
            expires: UnixMillis(expires),
            value_hash,
            value: (),
        }
    }
}

/// Bytes that are nearly right, for random ones seldom come far.
fn nearly(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    let changes = prop::collection::vec((0..length.max(1), any::<u8>()), 0..3);
    (changes, 0..=length).prop_map(move |(changes, cut)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        if cut % 3 == 0 {
            bytes.truncate(cut);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn vectors_come_back_and_leave_the_rest(vector in vector(), tail: u8) {
        let mut bytes = encoded(&vector);
        bytes.push(tail);
        let mut rest = &bytes[..];
        prop_assert_eq!(VersionVector::decode(&mut rest), Some(vector));
        prop_assert_eq!(rest, &[tail]);
    }

    #[test]
    fn a_vector_that_is_read_is_what_would_be_written(
        bytes in vector().prop_flat_map(|vector| nearly(encoded(&vector))),
    ) {
        let mut rest = &bytes[..];
        match VersionVector::decode(&mut rest) {
            Some(vector) => {
                prop_assert_eq!(&encoded(&vector)[..], &bytes[..bytes.len() - rest.len()]);
            }
            None => prop_assert_eq!(rest, &bytes[..]),
        }
    }

    #[test]
    fn siblings_come_back(sibling in any_sibling()) {
        let mut bytes = Vec::new();
        sibling_codec::encode(&sibling, &mut bytes);
        let mut rest = &bytes[..];
        prop_assert_eq!(sibling_codec::decode(&mut rest), Some(sibling));
        prop_assert!(rest.is_empty());
        for length in 0..bytes.len() {
            prop_assert_eq!(sibling_codec::decode(&mut &bytes[..length]), None);
        }
    }

    #[test]
    fn a_sibling_that_is_read_is_what_would_be_written(
        bytes in any_sibling().prop_flat_map(|sibling| {
            let mut bytes = Vec::new();
            sibling_codec::encode(&sibling, &mut bytes);
            nearly(bytes)
        }),
    ) {
        let mut rest = &bytes[..];
        match sibling_codec::decode(&mut rest) {
            Some(sibling) => {
                let mut again = Vec::new();
                sibling_codec::encode(&sibling, &mut again);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
            }
            None => prop_assert_eq!(rest, &bytes[..]),
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = VersionVector::decode(&mut &bytes[..]);
        let _ = sibling_codec::decode(&mut &bytes[..]);
        let token = [&[1][..], &bytes].concat();
        prop_assert!(KEYS.open(9, b"bucket", b"key", &token).is_err());
    }

    #[test]
    fn tokens_come_back(vector in vector()) {
        let token = sealed(&KEYS, &vector);
        prop_assert_eq!(KEYS.open(9, b"bucket", b"key", &token), Ok(vector));
    }
}
