//! How many votes a request needs: what it asks for, or the majority of the replicas there are.

/// The replicas of a key that exist, and the votes that a read and a write need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    pub replicas: u8,
    pub read: u8,
    pub write: u8,
}

/// The request asks for more votes than there are replicas: it can never succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} votes asked for, but the key has {replicas} replica(s): ask for at most {replicas}"
)]
pub struct Impossible {
    pub asked: u8,
    pub replicas: u8,
}

impl Quorum {
    /// `copies` is N of the bucket, `members` the nodes there are; 0 asks for the default.
    pub fn of(copies: u8, members: usize, read: u8, write: u8) -> Result<Quorum, Impossible> {
        assert!(copies >= 1);
        assert!(members >= 1);
        let replicas = copies.min(u8::try_from(members).unwrap_or(u8::MAX));
        let majority = replicas / 2 + 1;
        let choose = |asked: u8| match asked {
            0 => Ok(majority),
            asked if asked > replicas => Err(Impossible { asked, replicas }),
            asked => Ok(asked),
        };
        Ok(Quorum {
            replicas,
            read: choose(read)?,
            write: choose(write)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_majority_of_the_replicas_there_are() {
        let cases = [
            (3, 1, 1, 1),
            (3, 2, 2, 2),
            (3, 3, 3, 2),
            (3, 30, 3, 2),
            (5, 4, 4, 3),
        ];
        for (copies, members, replicas, votes) in cases {
            let quorum = Quorum::of(copies, members, 0, 0).unwrap();
            assert_eq!(
                quorum,
                Quorum {
                    replicas,
                    read: votes,
                    write: votes
                }
            );
        }
    }

    #[test]
    fn an_explicit_count_above_the_replicas_is_refused() {
        assert_eq!(
            Quorum::of(3, 1, 2, 0),
            Err(Impossible {
                asked: 2,
                replicas: 1
            })
        );
        assert_eq!(
            Quorum::of(3, 2, 0, 3),
            Err(Impossible {
                asked: 3,
                replicas: 2
            })
        );
        assert_eq!(
            Quorum::of(3, 3, 3, 1).unwrap(),
            Quorum {
                replicas: 3,
                read: 3,
                write: 1
            }
        );
    }
}
