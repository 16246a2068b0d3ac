//! What flatc makes of `schema/*.fbs`. Never edited: `tools/codegen/generate` writes it, and
//! `schema/schema.lock` tells if it is stale.

#[allow(warnings, unsafe_code, clippy::all)]
#[rustfmt::skip]
mod wire_generated;

#[allow(warnings, unsafe_code, clippy::all)]
#[rustfmt::skip]
mod peer_generated;

pub use peer_generated::armilla::peer;
pub use wire_generated::armilla::wire::*;

#[cfg(test)]
mod tests {
    const LOCK: &str = include_str!("../../../schema/schema.lock");
    const FILES: [(&str, &[u8]); 4] = [
        (
            "schema/peer.fbs",
            include_bytes!("../../../schema/peer.fbs"),
        ),
        (
            "schema/wire.fbs",
            include_bytes!("../../../schema/wire.fbs"),
        ),
        (
            "src/wire/generated/peer_generated.rs",
            include_bytes!("peer_generated.rs"),
        ),
        (
            "src/wire/generated/wire_generated.rs",
            include_bytes!("wire_generated.rs"),
        ),
    ];

    #[test]
    fn generated_code_is_of_this_schema() {
        let locked: Vec<&str> = LOCK.lines().filter(|line| !line.starts_with('#')).collect();
        let present: Vec<String> = FILES
            .iter()
            .map(|(path, bytes)| format!("{:08x}  {path}", crc32c::crc32c(bytes)))
            .collect();
        assert_eq!(
            locked, present,
            "schema and generated code differ from schema/schema.lock: run tools/codegen/generate"
        );
    }
}
