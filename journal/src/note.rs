//! What the journal itself writes into it. Notes are of variable shape, so they are rkyv archives, validated before use; what
//! programs write is bytes and stays so.

use rkyv::{Archive, Deserialize, Serialize, rancor};

/// A note of the journal's.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Note {
    /// The world began, or was restarted: what programs append from here on, they append in this life.
    Began {
        /// Lives before it.
        restarts: u64,
        /// What no other life has.
        life: [u64; 2],
        /// The generation from which it goes on.
        generation: u64,
    },
    /// Records were given up by an operator.
    GivenUp {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
        /// Why they could not be read.
        reason: String,
    },
    /// Records were trimmed.
    Trimmed {
        /// The first that is still there.
        first: u64,
        /// By what: an operator's words, or the retention.
        by: String,
    },
    /// The world goes back to an older generation: inputs that were recorded before do not follow by themselves.
    Rewound {
        /// The number of the first generation that is of the other way.
        generation: u64,
    },
}

impl Note {
    /// As the payload of a record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Only memory can be missing.
        rkyv::to_bytes::<rancor::Error>(self).map(|bytes| bytes.to_vec()).unwrap_or_default()
    }

    /// From the payload of a record; none if it holds no note.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, rancor::Error>(&aligned).ok()
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Began { restarts: 0, generation, .. } => write!(f, "the world began, at generation {generation}"),
            Self::Began { restarts, generation, .. } => write!(f, "restart {restarts}, from generation {generation}"),
            Self::Rewound { generation } => {
                write!(f, "the world goes back; as generation {generation} it goes another way")
            }
            Self::GivenUp { from, to, reason } => write!(f, "records {from} to {to} were given up: {reason}"),
            Self::Trimmed { first, by } => write!(f, "records before {first} were trimmed: {by}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn notes_come_back_and_nonsense_is_none() {
        let all = [
            Note::Began { restarts: 1, life: [2, 3], generation: 4 },
            Note::Rewound { generation: 8 },
            Note::GivenUp { from: 1, to: 2, reason: "rot".into() },
            Note::Trimmed { first: 9, by: "an operator".into() },
        ];
        for note in all {
            let mut bytes = note.to_bytes();
            assert_eq!(Note::from_bytes(&bytes), Some(note));
            for at in 0..bytes.len() {
                bytes[at] ^= 0xff;
                // Another note or none, and no panic.
                let _ = Note::from_bytes(&bytes);
                bytes[at] ^= 0xff;
            }
            assert_eq!(Note::from_bytes(&bytes[1..]), None);
        }
        assert_eq!(Note::from_bytes(&[]), None);
    }
}
