//! Who this node is, as its data directory says: cluster, node, ring size, shards, formats, and the cluster's secret.
//!
//! Formed once, on an empty directory; everything else is refused by name. `node.toml` is the last file written, so a
//! directory without it was never in use.

use crate::causal::context::{ContextKey, ContextKeys};
use crate::runtime::Runtime;
use crate::runtime::disk::{Disk, DiskCause, DiskError};
use serde::{Deserialize, Serialize};

/// The format of the data directory as a whole.
pub const DIRECTORY_FORMAT: u32 = 1;
const NODE_FILE: &str = "node.toml";
const SECRET_FILE: &str = "secret";

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
        match disk.read_small(NODE_FILE).await {
            Ok(bytes) => {
                let identity = read(disk, &bytes).await?;
                if identity.shards != shards {
                    let found = identity.shards;
                    return Err(IdentityError::Shards {
                        found,
                        wanted: shards,
                    });
                }
                Ok(identity)
            }
            Err(DiskError {
                cause: DiskCause::NotFound,
                ..
            }) => form(runtime, disk, virtual_nodes, shards).await,
            Err(error) => Err(error.into()),
        }
    }
}

/// What `node.toml` says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub cluster: u128,
    pub node: u128,
    pub virtual_nodes: u32,
    pub shards: u16,
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
        })
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let file = NodeFile {
            format: DIRECTORY_FORMAT,
            cluster: format!("{:032x}", self.cluster),
            node: format!("{:032x}", self.node),
            virtual_nodes: self.virtual_nodes,
            shards: self.shards,
        };
        toml::to_string(&file).expect("plain numbers and strings are TOML")
    }

    fn identity(self, secret: [u8; 16], formed: bool) -> Identity {
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
        }
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
    Ok(facts.identity(secret, false))
}

async fn form(
    runtime: &Runtime,
    disk: &Disk,
    virtual_nodes: u32,
    shards: u16,
) -> Result<Identity, IdentityError> {
    assert!(virtual_nodes.is_power_of_two());
    assert!(shards >= 1);
    // What a formation that a crash cut short may have left; anything else is somebody else's.
    let leftover =
        |name: &str| name == "LOCK" || name.starts_with(SECRET_FILE) || name.starts_with(NODE_FILE);
    if let Some(name) = disk
        .list("")
        .await?
        .into_iter()
        .find(|name| !leftover(name))
    {
        return Err(IdentityError::Foreign { name });
    }
    let wide = || (u128::from(runtime.random_u64()) << 64) | u128::from(runtime.random_u64());
    let (cluster, node, secret) = (wide(), wide(), wide().to_le_bytes());
    let facts = NodeFacts {
        cluster,
        node,
        virtual_nodes,
        shards,
    };
    disk.replace_small(SECRET_FILE, &secret).await?;
    disk.replace_small(NODE_FILE, facts.text().as_bytes())
        .await?;
    Ok(facts.identity(secret, true))
}
