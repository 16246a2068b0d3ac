//! A list of keys as it travels between nodes: each as length of the bucket name u8, the name, length of the key u16
//! little-endian, the key.

use crate::base::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};

/// Appends one key.
pub fn encode(bucket: &[u8], key: &[u8], out: &mut Vec<u8>) {
    assert!(bucket.len() <= BUCKET_BYTES_MAX && key.len() <= KEY_BYTES_MAX);
    out.push(bucket.len() as u8);
    out.extend_from_slice(bucket);
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key);
}

/// The bucket and the key of each; `None` for anything that is no list of keys.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut keys = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (bucket, rest) = rest.split_at_checked(length.into())?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (key, rest) = rest.split_at_checked(length)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return None;
        }
        keys.push((bucket, key));
        bytes = rest;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_cut_ones_are_none() {
        let keys: [(&[u8], &[u8]); 3] = [(b"", b"a"), (b"bucket", b"key"), (b"", &[7; 300])];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for (bucket, key) in keys {
            encode(bucket, key, &mut bytes);
            ends.push(bytes.len());
        }
        assert_eq!(decode(&bytes), Some(keys.to_vec()));
        for cut in 0..bytes.len() {
            let whole = ends.contains(&cut);
            assert_eq!(decode(&bytes[..cut]).is_some(), whole, "cut at {cut}");
        }
        assert_eq!(decode(&[0, 0, 0]), None, "no key is empty");
    }
}
