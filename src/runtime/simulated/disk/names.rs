//! The names of one machine's disk: what is there, what is durable, and the changes in between.
//! Pure.
//!
//! A change is durable once every directory it touches was synced. At a power cut each other change
//! is kept or lost on its own, but keeping one keeps the earlier ones that share a name with it: a
//! journal never loses both names of a file.

use crate::base::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

#[derive(Clone, Debug)]
enum Edit {
    Link {
        name: String,
        node: Node,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
        node: Node,
    },
}

impl Edit {
    fn names(&self) -> impl Iterator<Item = &String> {
        let (first, second) = match self {
            Edit::Link { name, .. } | Edit::Unlink { name } => (name, None),
            Edit::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    fn apply(self, names: &mut BTreeMap<String, Node>) {
        match self {
            Edit::Link { name, node } => {
                names.insert(name, node);
            }
            Edit::Unlink { name } => {
                names.remove(&name);
            }
            Edit::Rename { from, to, node } => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Change {
    sequence: u64,
    edit: Edit,
    /// The directories that were not synced since.
    dirs: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
    sequence: u64,
}

/// The directory a name stands in; "" is the top.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        if name.is_empty() {
            return Some(Node::Dir);
        }
        self.current.get(name).copied()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&String, u64)> {
        self.current.iter().filter_map(|(name, node)| match node {
            Node::File(inode) => Some((name, *inode)),
            Node::Dir => None,
        })
    }

    /// Makes a directory and its parents that were there before the world began.
    pub(super) fn found(&mut self, dir: &str) {
        let ends = dir.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([dir.len()]) {
            if end > 0 && !self.current.contains_key(&dir[..end]) {
                self.current.insert(dir[..end].to_string(), Node::Dir);
                self.durable.insert(dir[..end].to_string(), Node::Dir);
            }
        }
    }

    fn change(&mut self, edit: Edit) {
        let mut dirs: Vec<String> = edit.names().map(|name| parent(name).to_string()).collect();
        dirs.dedup();
        edit.clone().apply(&mut self.current);
        self.sequence += 1;
        self.pending.push(Change {
            sequence: self.sequence,
            edit,
            dirs,
        });
    }

    pub(super) fn link(&mut self, name: &str, node: Node) {
        assert!(!self.current.contains_key(name));
        let name = name.to_string();
        self.change(Edit::Link { name, node });
    }

    pub(super) fn unlink(&mut self, name: &str) {
        assert!(self.current.contains_key(name));
        let name = name.to_string();
        self.change(Edit::Unlink { name });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let node = self.current[from];
        self.change(Edit::Rename {
            from: from.to_string(),
            to: to.to_string(),
            node,
        });
    }

    /// The names in a directory, without those in directories below it.
    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let prefix = match dir {
            "" => String::new(),
            dir => format!("{dir}/"),
        };
        self.current
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix))
            .map(|(name, _)| &name[prefix.len()..])
            .filter(|name| !name.contains('/'))
            .map(str::to_string)
            .collect()
    }

    /// Names all changes so far, for a sync that begins now.
    pub(super) fn fence(&self) -> u64 {
        self.sequence
    }

    /// A sync of `dir`: its changes up to `fence` are durable, if no other directory is missing.
    pub(super) fn sync(&mut self, dir: &str, fence: u64) {
        for change in &mut self.pending {
            if change.sequence <= fence {
                change.dirs.retain(|waiting| waiting != dir);
            }
        }
        self.settle(|change| change.dirs.is_empty());
    }

    /// Applies to the durable names the changes that `chosen` names, and the earlier ones they
    /// build on.
    fn settle(&mut self, mut chosen: impl FnMut(&Change) -> bool) {
        let mut touched: BTreeSet<&String> = BTreeSet::new();
        let mut keep = vec![false; self.pending.len()];
        for (index, change) in self.pending.iter().enumerate().rev() {
            let related = change.edit.names().any(|name| touched.contains(name));
            keep[index] = chosen(change) || related;
            if keep[index] {
                touched.extend(change.edit.names());
            }
        }
        let mut keep = keep.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let settled = keep.next().is_some_and(|kept| kept);
            if settled {
                change.edit.clone().apply(durable);
            }
            !settled
        });
    }

    /// The power goes: what a cut leaves of the changes is all there is, and names in lost
    /// directories go with them.
    pub(super) fn cut_power(&mut self, rng: &mut Rng) {
        self.settle(|_| rng.chance(0.5));
        self.pending.clear();
        let mut dirs = BTreeSet::from([String::new()]);
        self.durable.retain(|name, node| {
            let kept = dirs.contains(parent(name));
            if kept && *node == Node::Dir {
                dirs.insert(name.clone());
            }
            kept
        });
        self.current = self.durable.clone();
    }

    /// The names as an image of the disk taken at this moment would hold them.
    pub(super) fn durable_only(&self) -> Names {
        Names {
            current: self.durable.clone(),
            durable: self.durable.clone(),
            pending: Vec::new(),
            sequence: self.sequence,
        }
    }

    /// Every file that some name, durable or pending, can still reach.
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let pending = self.pending.iter().filter_map(|change| match &change.edit {
            Edit::Link { node, .. } | Edit::Rename { node, .. } => Some(node),
            Edit::Unlink { .. } => None,
        });
        let maps = self.current.values().chain(self.durable.values());
        maps.chain(pending)
            .filter_map(|node| match node {
                Node::File(inode) => Some(*inode),
                Node::Dir => None,
            })
            .collect()
    }
}
