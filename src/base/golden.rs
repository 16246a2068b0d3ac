//! Reads the golden vectors under schema/vectors: what a client in another language tests itself
//! against.

use serde::de::DeserializeOwned;

#[derive(serde::Deserialize)]
struct File<T> {
    about: Vec<String>,
    vectors: Vec<T>,
}

/// The vectors of a file; there are at least three, and it says what they are.
pub fn read<T: DeserializeOwned>(text: &str) -> Vec<T> {
    let file: File<T> = serde_json::from_str(text).expect("a file of golden vectors");
    assert!(!file.about.is_empty() && file.vectors.len() >= 3);
    file.vectors
}

pub fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
