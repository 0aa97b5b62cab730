//! What this kernel offers to the pager; for `semper doctor`.

use crate::sys::uffd::feature;
use crate::sys::{pagemap, uffd};

/// One thing the pager wants from the kernel.
#[derive(Clone, Debug)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is there.
    pub available: bool,
    /// Whether nothing works without it; else it is done in a slower or poorer way.
    pub required: bool,
    /// What it is for; if it is missing, why and what to do.
    pub note: String,
}

struct Wanted {
    name: &'static str,
    bit: u64,
    required: bool,
    use_: &'static str,
    since: &'static str,
}

const WANTED: [Wanted; 6] = [
    Wanted {
        name: "write-protected shared memory",
        bit: feature::WP_SHMEM,
        required: true,
        use_: "dirty tracking",
        since: "5.19",
    },
    Wanted {
        name: "minor faults on shared memory",
        bit: feature::MINOR_SHMEM,
        required: true,
        use_: "eviction under a memory limit",
        since: "5.14",
    },
    Wanted {
        name: "missing faults on shared memory",
        bit: feature::MISSING_SHMEM,
        required: true,
        use_: "bringing pages from the store",
        since: "4.11",
    },
    Wanted {
        name: "asynchronous write-protection",
        bit: feature::WP_ASYNC,
        required: false,
        use_: "dirty tracking without a handler; without it each first write costs 10 us and more",
        since: "6.7",
    },
    Wanted {
        name: "protection of unpopulated pages",
        bit: feature::WP_UNPOPULATED,
        required: false,
        use_: "asynchronous dirty tracking",
        since: "6.4",
    },
    Wanted {
        name: "page poisoning",
        bit: feature::POISON,
        required: false,
        use_: "SIGBUS for a page that the store cannot give",
        since: "6.6",
    },
];

/// Looks what there is.
#[must_use]
pub fn probe() -> Vec<Feature> {
    let mut found = Vec::new();
    let features = uffd::available_features();
    found.push(Feature {
        name: "userfaultfd",
        available: features.is_ok(),
        required: true,
        note: match features {
            Ok(_) => "page faults are served in user space, without privilege".into(),
            Err(errno) => format!(
                "userfaultfd(UFFD_USER_MODE_ONLY) says {}: it needs Linux 5.11 with CONFIG_USERFAULTFD, and in a container a \
                 seccomp policy that allows the call",
                errno.desc()
            ),
        },
    });
    for wanted in WANTED {
        let available = features.is_ok_and(|features| features & wanted.bit != 0);
        let note =
            if available { wanted.use_.into() } else { format!("{}; needs Linux {}", wanted.use_, wanted.since) };
        found.push(Feature { name: wanted.name, available, required: wanted.required, note });
    }
    let scan = pagemap::supported();
    found.push(Feature {
        name: "PAGEMAP_SCAN",
        available: scan.is_ok(),
        required: false,
        note: match scan {
            Ok(()) => "dirty pages are collected and re-protected in one step".into(),
            Err(errno) => {
                format!(
                    "/proc/self/pagemap says {}: asynchronous dirty tracking needs Linux 6.7 and /proc mounted",
                    errno.desc()
                )
            }
        },
    });
    found
}
