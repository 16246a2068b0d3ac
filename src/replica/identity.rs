//! Who this node is, as its data directory says: cluster, node, ring size, shards, formats, and the cluster's secret.
//!
//! Formed once, on an empty directory; everything else is refused by name. `node.toml` is the last file written, so a
//! directory without it was never in use; the directory of the logs is made before, so that one without it has lost
//! them. A node that is of a ring with others keeps that ring in a file beside it.

use crate::base::checksum::crc32c;
use crate::causal::context::{ContextKey, ContextKeys};
use crate::engine::LOG_DIRECTORY;
use crate::ring::codec as ring_codec;
use crate::ring::member::NodeId;
use crate::ring::owners::Ring;
use crate::ring::register::Register;
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, DiskCause, DiskError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The format of the data directory as a whole. Format 2 has an agreed ring; a node alone writes format 1.
pub const DIRECTORY_FORMAT: u32 = 2;
const FORMAT_ALONE: u32 = 1;
pub const NODE_FILE: &str = "node.toml";
pub const SECRET_FILE: &str = "secret";
/// crc32c of the rest, u32 little-endian; then the ring as `ring::codec` has it.
const RING_FILE: &str = "ring";
/// crc32c of the rest, u32 little-endian; then what this node has promised of the next ring (`ring::register`).
const REGISTER_FILE: &str = "register";
/// The id of a node that has no ring yet, 32 hex digits: it is the same one after a crash.
const CANDIDATE_FILE: &str = "candidate";

/// What a node knows of itself before it opens its log.
#[derive(Clone)]
pub struct Identity {
    pub cluster: u128,
    pub node: u128,
    pub virtual_nodes: u32,
    pub shards: u16,
    pub keys: ContextKeys,
    /// The directory was empty, and was formed just now.
    pub formed: bool,
    /// The ring that it is of with others; `None`: it is alone.
    pub agreed_ring: Option<Arc<Ring>>,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{NODE_FILE} is not readable: {why}; restore it from a copy of the data directory")]
    Malformed { why: String },
    #[error(
        "the data directory has format {found} and this program knows up to {DIRECTORY_FORMAT}; start the version that wrote it, or pass another --data DIR"
    )]
    NewerFormat { found: u32 },
    #[error(
        "{SECRET_FILE} is missing or not 16 bytes; restore it from a copy of the data directory"
    )]
    Secret,
    #[error(
        "the data directory holds {name} but no {NODE_FILE}: it is not one of Armilla's, or it is damaged; pass another --data DIR"
    )]
    Foreign { name: String },
    #[error(
        "the data directory was made for {found} shard(s), this start has {wanted}; pass --cores with {found} core(s)"
    )]
    Shards { found: u16, wanted: u16 },
    #[error(
        "{RING_FILE} is missing or damaged: {why}; restore it from a copy of the data directory"
    )]
    Ring { why: String },
    #[error(
        "{LOG_DIRECTORY}/ is missing beside {NODE_FILE}: what this node had promised to keep is gone, and it would answer as if it had never been; restore the whole data directory from a copy, or pass another --data DIR"
    )]
    Stores,
    #[error("{REGISTER_FILE} is damaged: {why}; restore it from a copy of the data directory")]
    Register { why: String },
    #[error(
        "the data directory is of a node that was started alone, and cannot be taken into a ring of others yet; start it without --join, or pass another --data DIR"
    )]
    Alone,
}

/// `node.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    format: u32,
    cluster: String,
    node: String,
    virtual_nodes: u32,
    shards: u16,
    #[serde(default, skip_serializing_if = "is_false")]
    agreed_ring: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Only the format, so that a newer file is refused for being newer, not for its unknown fields.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl Identity {
    /// Reads who this node is, or forms a new single-node cluster in an empty directory.
    pub async fn open(
        runtime: &Runtime,
        disk: &Disk,
        virtual_nodes: u32,
        shards: u16,
    ) -> Result<Identity, IdentityError> {
        match Identity::read(disk, shards).await? {
            Some(identity) => Ok(identity),
            None => form(runtime, disk, virtual_nodes, shards).await,
        }
    }

    /// Reads who this node is; `None`: the directory was never in use.
    pub async fn read(disk: &Disk, shards: u16) -> Result<Option<Identity>, IdentityError> {
        let bytes = match read_file(disk, NODE_FILE).await? {
            Some(bytes) => bytes,
            None => return refuse_foreign(disk).await.map(|()| None),
        };
        // A kill may have left names that no sync has made durable: what is read here is acted on.
        disk.sync_dir("").await?;
        if !disk
            .list("")
            .await?
            .iter()
            .any(|name| name == LOG_DIRECTORY)
        {
            return Err(IdentityError::Stores);
        }
        let identity = read(disk, &bytes).await?;
        if identity.shards != shards {
            let found = identity.shards;
            return Err(IdentityError::Shards {
                found,
                wanted: shards,
            });
        }
        Ok(Some(identity))
    }

    /// The id under which a node without a ring asks for one: drawn once a directory, and durable before it is told.
    pub async fn candidate(runtime: &Runtime, disk: &Disk) -> Result<NodeId, IdentityError> {
        if let Some(bytes) = read_file(disk, CANDIDATE_FILE).await? {
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if let Ok(id) = u128::from_str_radix(text, 16) {
                return Ok(NodeId(id));
            }
        }
        let node = NodeId(wide(runtime));
        disk.replace_small(CANDIDATE_FILE, node.to_string().as_bytes())
            .await?;
        Ok(node)
    }

    /// Makes this the directory of a member of a ring; on return that is durable.
    pub async fn enter(
        disk: &Disk,
        node: NodeId,
        ring: Ring,
        secret: [u8; 16],
    ) -> Result<Identity, IdentityError> {
        let own = ring.index_of(node).expect("a node enters its own ring");
        let facts = NodeFacts {
            cluster: ring.value().cluster,
            node: node.0,
            virtual_nodes: ring.virtual_nodes(),
            shards: ring.member(own).shards,
            agreed_ring: true,
        };
        disk.replace_small(SECRET_FILE, &secret).await?;
        disk.replace_small(RING_FILE, &ring_bytes(&ring)).await?;
        disk.create_dir(LOG_DIRECTORY).await?;
        disk.replace_small(NODE_FILE, facts.text().as_bytes())
            .await?;
        // It has served; where it stays, it is read no more.
        let _ = disk.remove(CANDIDATE_FILE).await;
        Ok(facts.identity(secret, true, Some(Arc::new(ring))))
    }
}

/// What `node.toml` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub cluster: u128,
    pub node: u128,
    pub virtual_nodes: u32,
    pub shards: u16,
    pub agreed_ring: bool,
}

impl NodeFacts {
    pub fn parse(bytes: &[u8]) -> Result<NodeFacts, IdentityError> {
        let malformed = |why: &dyn std::fmt::Display| IdentityError::Malformed {
            why: why.to_string(),
        };
        let text = std::str::from_utf8(bytes).map_err(|e| malformed(&e))?;
        let format = toml::from_str::<FormatOnly>(text)
            .map_err(|e| malformed(&e))?
            .format;
        if format > DIRECTORY_FORMAT {
            return Err(IdentityError::NewerFormat { found: format });
        }
        let file: NodeFile = toml::from_str(text).map_err(|e| malformed(&e))?;
        let id = |text: &str| u128::from_str_radix(text, 16).map_err(|e| malformed(&e));
        if !file.virtual_nodes.is_power_of_two() || file.shards == 0 {
            return Err(malformed(
                &"virtual_nodes is not a power of two, or shards is zero",
            ));
        }
        Ok(NodeFacts {
            cluster: id(&file.cluster)?,
            node: id(&file.node)?,
            virtual_nodes: file.virtual_nodes,
            shards: file.shards,
            agreed_ring: file.agreed_ring,
        })
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let file = NodeFile {
            format: match self.agreed_ring {
                true => DIRECTORY_FORMAT,
                false => FORMAT_ALONE,
            },
            cluster: format!("{:032x}", self.cluster),
            node: format!("{:032x}", self.node),
            virtual_nodes: self.virtual_nodes,
            shards: self.shards,
            agreed_ring: self.agreed_ring,
        };
        toml::to_string(&file).expect("plain numbers and strings are TOML")
    }

    fn identity(self, secret: [u8; 16], formed: bool, agreed_ring: Option<Arc<Ring>>) -> Identity {
        Identity {
            cluster: self.cluster,
            node: self.node,
            virtual_nodes: self.virtual_nodes,
            shards: self.shards,
            keys: ContextKeys {
                current: ContextKey(secret),
                previous: None,
            },
            formed,
            agreed_ring,
        }
    }
}

/// Makes this the ring of a node that is formed; on return that is durable.
pub async fn keep_ring(disk: &Disk, identity: &Identity, ring: &Ring) -> Result<(), DiskError> {
    disk.replace_small(RING_FILE, &ring_bytes(ring)).await?;
    if identity.agreed_ring.is_none() {
        let facts = NodeFacts {
            cluster: identity.cluster,
            node: identity.node,
            virtual_nodes: identity.virtual_nodes,
            shards: identity.shards,
            agreed_ring: true,
        };
        disk.replace_small(NODE_FILE, facts.text().as_bytes())
            .await?;
    }
    Ok(())
}

/// The register of the agreement on the next ring; `None`: it was never asked.
pub async fn read_register(disk: &Disk) -> Result<Option<Register>, IdentityError> {
    let damaged = |why: &str| IdentityError::Register { why: why.into() };
    let Some(bytes) = read_file(disk, REGISTER_FILE).await? else {
        return Ok(None);
    };
    let (sum, bytes) = bytes
        .split_first_chunk()
        .ok_or_else(|| damaged("it is too short"))?;
    if crc32c(bytes) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum differs"));
    }
    let register = Register::decode(bytes);
    register
        .map(Some)
        .ok_or_else(|| damaged("it is not a register"))
}

/// On return it is durable.
pub async fn keep_register(disk: &Disk, register: &Register) -> Result<(), DiskError> {
    let bytes = checked(register.encode());
    disk.replace_small(REGISTER_FILE, &bytes).await
}

/// With the checksum in front.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c(&bytes).to_le_bytes();
    bytes.splice(0..0, sum);
    bytes
}

fn ring_bytes(ring: &Ring) -> Vec<u8> {
    let mut bytes = Vec::new();
    ring_codec::encode(ring.value(), &mut bytes);
    checked(bytes)
}

async fn read_file(disk: &Disk, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
    match disk.read_small(name).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DiskError {
            cause: DiskCause::NotFound,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read(disk: &Disk, bytes: &[u8]) -> Result<Identity, IdentityError> {
    let facts = NodeFacts::parse(bytes)?;
    let secret = disk
        .read_small(SECRET_FILE)
        .await
        .map_err(|e| match e.cause {
            DiskCause::NotFound => IdentityError::Secret,
            _ => e.into(),
        })?;
    let secret: [u8; 16] = secret.try_into().map_err(|_| IdentityError::Secret)?;
    let ring = match facts.agreed_ring {
        true => Some(Arc::new(read_ring(disk, &facts).await?)),
        false => None,
    };
    Ok(facts.identity(secret, false, ring))
}

async fn read_ring(disk: &Disk, facts: &NodeFacts) -> Result<Ring, IdentityError> {
    let damaged = |why: &str| IdentityError::Ring { why: why.into() };
    let bytes = read_file(disk, RING_FILE).await?;
    let bytes = bytes.ok_or_else(|| damaged("there is no such file"))?;
    let (sum, bytes) = bytes
        .split_first_chunk()
        .ok_or_else(|| damaged("it is too short"))?;
    if crc32c(bytes) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum differs"));
    }
    let ring = ring_codec::decode(bytes).map_err(|why| damaged(&why.to_string()))?;
    let own = ring.index_of(NodeId(facts.node));
    let fits = ring.value().cluster == facts.cluster
        && ring.virtual_nodes() == facts.virtual_nodes
        && own.is_some_and(|own| ring.member(own).shards == facts.shards);
    fits.then_some(ring)
        .ok_or_else(|| damaged("it is not the ring of this node"))
}

fn wide(runtime: &Runtime) -> u128 {
    (u128::from(runtime.random_u64()) << 64) | u128::from(runtime.random_u64())
}

/// What a formation that a crash cut short may have left; anything else is somebody else's.
async fn refuse_foreign(disk: &Disk) -> Result<(), IdentityError> {
    let ours = [
        SECRET_FILE,
        NODE_FILE,
        RING_FILE,
        REGISTER_FILE,
        CANDIDATE_FILE,
    ];
    let leftover = |name: &str| name == "LOCK" || ours.iter().any(|ours| name.starts_with(ours));
    let names = disk.list("").await?;
    // Made just before the crash that kept node.toml from being written.
    let empty = names.iter().any(|name| name == LOG_DIRECTORY)
        && disk.list(LOG_DIRECTORY).await?.is_empty();
    let leftover = |name: &str| leftover(name) || empty && name == LOG_DIRECTORY;
    match names.into_iter().find(|name| !leftover(name)) {
        Some(name) => Err(IdentityError::Foreign { name }),
        None => Ok(()),
    }
}

async fn form(
    runtime: &Runtime,
    disk: &Disk,
    virtual_nodes: u32,
    shards: u16,
) -> Result<Identity, IdentityError> {
    assert!(virtual_nodes.is_power_of_two());
    assert!(shards >= 1);
    let (cluster, node, secret) = (wide(runtime), wide(runtime), wide(runtime).to_le_bytes());
    let facts = NodeFacts {
        cluster,
        node,
        virtual_nodes,
        shards,
        agreed_ring: false,
    };
    disk.replace_small(SECRET_FILE, &secret).await?;
    disk.create_dir(LOG_DIRECTORY).await?;
    disk.replace_small(NODE_FILE, facts.text().as_bytes())
        .await?;
    Ok(facts.identity(secret, true, None))
}
