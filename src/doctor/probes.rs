//! The single looks of the doctor. Each tries the thing itself where that can be done, rather than asking for a version.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{Resource, getrlimit};

use super::Finding;

/// The kernel that has every interface that Semper uses (`PAGEMAP_SCAN`), and the one that has enough of them.
const KERNEL_FULL: (u32, u32) = (6, 7);
const KERNEL_LEAST: (u32, u32) = (5, 19);
/// What one domain and its files may need, times a few hundred domains.
const ENOUGH_DESCRIPTORS: u64 = 4096;
/// Less than this and the staging of a checkpoint alone would be most of the memory.
const ENOUGH_MEMORY: u64 = 512 << 20;
const ENOUGH_SPACE: u64 = 1 << 30;

pub(super) fn processor() -> Finding {
    const WHAT: &str = "processor";
    if cfg!(target_arch = "x86_64") {
        Finding::good(WHAT, "x86-64, as the programs that Semper runs must be")
    } else {
        Finding::missing(WHAT, "not x86-64", "run Semper on an x86-64 machine")
    }
}

pub(super) fn kernel() -> Finding {
    const WHAT: &str = "kernel";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    match kernel_version(&release) {
        Some(version) if version >= KERNEL_FULL => Finding::good(WHAT, format!("Linux {release}")),
        Some(version) if version >= KERNEL_LEAST => Finding::lesser(
            WHAT,
            format!("Linux {release} tracks written pages the slow way"),
            "Linux 6.7 or newer makes checkpoints cheaper",
        ),
        Some(_) => Finding::missing(WHAT, format!("Linux {release} is too old"), "use Linux 5.19 or newer, best 6.7"),
        None => Finding::missing(WHAT, format!("`{release}` is no Linux version"), "use Linux 5.19 or newer, best 6.7"),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn seccomp() -> Finding {
    const WHAT: &str = "seccomp";
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "trap") {
        Finding::good(WHAT, "system calls of programs can be trapped")
    } else {
        Finding::missing(
            WHAT,
            "system calls of programs cannot be trapped",
            "use a kernel with CONFIG_SECCOMP_FILTER, and a container that shows /proc/sys",
        )
    }
}

pub(super) fn no_new_privs() -> Finding {
    const WHAT: &str = "no-new-privileges";
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if status.lines().any(|line| line.starts_with("NoNewPrivs:")) {
        Finding::good(WHAT, "programs can be confined without root")
    } else {
        Finding::missing(WHAT, "programs cannot be confined without root", "mount /proc, and use Linux 4.10 or newer")
    }
}

pub(super) fn fsgsbase() -> Finding {
    const WHAT: &str = "fsgsbase";
    const HWCAP2_FSGSBASE: usize = 1 << 1;
    if rustix::param::linux_hwcap().1 & HWCAP2_FSGSBASE != 0 {
        Finding::good(WHAT, "thread pointers are saved by one instruction")
    } else {
        Finding::lesser(
            WHAT,
            "thread pointers are saved by a system call",
            "use a processor and kernel with FSGSBASE (Linux 5.9), not disabled by nofsgsbase",
        )
    }
}

pub(super) fn cpuid() -> Finding {
    const WHAT: &str = "cpuid";
    if semper_domains::processor::can_fault() {
        Finding::good(WHAT, "programs with --cpu cannot ask the processor itself, whatever code they make")
    } else {
        Finding::lesser(
            WHAT,
            "programs with --cpu are kept from asking the processor by replacing the instruction in code that comes from files; \
             code that they make at run time is told all",
            "use a processor with CPUID faulting (Intel, from 2012 on), and a hypervisor that offers it",
        )
    }
}

pub(super) fn memfd() -> Finding {
    const WHAT: &str = "memfd";
    match rustix::fs::memfd_create("semper-doctor", rustix::fs::MemfdFlags::CLOEXEC) {
        Ok(_) => Finding::good(WHAT, "memory can be shared between the runtime and its domains"),
        Err(error) => Finding::missing(
            WHAT,
            format!("memory cannot be shared with domains: {error}"),
            "allow memfd_create, which a container's profile may forbid",
        ),
    }
}

pub(super) fn io_uring() -> Finding {
    const WHAT: &str = "io_uring";
    match io_uring::IoUring::new(4) {
        Ok(_) => Finding::good(WHAT, "a store on a block device has many pages written at once"),
        Err(error) => Finding::lesser(
            WHAT,
            format!("pages go to a block device by plain system calls: {error}"),
            "set the sysctl kernel.io_uring_disabled to 0, and allow io_uring in the container's profile",
        ),
    }
}

pub(super) fn direct_io(directory: &Path) -> Finding {
    const WHAT: &str = "direct I/O";
    #[repr(align(4096))]
    struct Block([u8; 4096]);
    let shown = directory.display();
    let plain = match tempfile::NamedTempFile::new_in(directory) {
        Ok(file) => file,
        Err(error) => {
            return Finding::missing(
                WHAT,
                format!("no file can be made in {shown}: {error}"),
                "name a directory that you may write to: semper doctor DIRECTORY",
            );
        }
    };
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open fits its argument");
    let written = fs::OpenOptions::new()
        .write(true)
        .custom_flags(direct)
        .open(plain.path())
        .and_then(|mut file| file.write_all(&Box::new(Block([0; 4096])).0));
    match written {
        Ok(()) => Finding::good(
            WHAT,
            format!(
                "{shown} takes it; used for stores on block devices (files are written through the page cache, which measured faster)"
            ),
        ),
        Err(error) => Finding::lesser(
            WHAT,
            format!("{shown} does not take it: {error}"),
            "keep stores on a disk file system such as ext4 or xfs",
        ),
    }
}

pub(super) fn free_space(directory: &Path) -> Finding {
    const WHAT: &str = "disk space";
    let shown = directory.display();
    match rustix::fs::statvfs(directory) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let found = format!("{} free in {shown}", mebibytes(free));
            if free >= ENOUGH_SPACE {
                Finding::good(WHAT, found)
            } else {
                Finding::lesser(WHAT, found, "stores grow with what the programs write: name a larger disk")
            }
        }
        Err(error) => Finding::missing(WHAT, format!("{shown}: {error}"), "name a directory that is there"),
    }
}

pub(super) fn descriptors() -> Finding {
    const WHAT: &str = "file descriptors";
    let limit = getrlimit(Resource::Nofile);
    match limit.maximum {
        Some(most) if most < ENOUGH_DESCRIPTORS => Finding::lesser(
            WHAT,
            format!("at most {most}, enough for some dozens of programs"),
            format!("raise the hard limit to {ENOUGH_DESCRIPTORS}: ulimit -Hn, or limits.conf"),
        ),
        Some(most) => Finding::good(WHAT, format!("up to {most}")),
        None => Finding::good(WHAT, "no limit"),
    }
}

pub(super) fn memory() -> Finding {
    const WHAT: &str = "memory";
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(available)) => {
            let found = format!("{} available of {}", mebibytes(available), mebibytes(total));
            if available >= ENOUGH_MEMORY {
                Finding::good(WHAT, found)
            } else {
                Finding::lesser(WHAT, found, "limit what pages may take: --memory 128M")
            }
        }
        _ => Finding::lesser(WHAT, "unknown, as /proc/meminfo does not say", "mount /proc"),
    }
}

pub(super) fn cores() -> Finding {
    const WHAT: &str = "cores";
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Finding::lesser(WHAT, "one: programs and checkpoints share it", "a second core shortens pauses"),
        more => Finding::good(WHAT, format!("{more}: checkpoints are written beside the programs")),
    }
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        small if small < 10 << 10 => format!("{small} MiB"),
        large => format!("{} GiB", large >> 10),
    }
}

/// What the pager needs of the kernel.
pub(super) fn memory_tracking() -> impl Iterator<Item = Finding> {
    semper_pager::probe().into_iter().map(|feature| match (feature.available, feature.required) {
        (true, _) => Finding::good(feature.name, feature.note),
        (false, false) => Finding::lesser(feature.name, "not there", feature.note),
        (false, true) => Finding::missing(feature.name, "not there", feature.note),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read_whatever_follows_them() {
        assert_eq!(kernel_version("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(kernel_version("5.19-rc1"), Some((5, 19)));
        assert_eq!(kernel_version("what"), None);
    }
}
