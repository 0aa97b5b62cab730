//! Why a command failed: a sentence, and the exit code that scripts can tell it by.

use std::fmt;
use std::io;
use std::path::Path;

use semper::control::{ControlError, Refusal};
use semper::runtime::RuntimeError;
use semper_domains::kernel::KernelError;

/// Exit codes; `cli.rs` and the README list them.
pub mod code {
    /// check, doctor, demo or journal found something wrong.
    pub const FOUND: u8 = 1;
    /// The command line cannot be carried out as it stands.
    pub const USAGE: u8 = 2;
    /// The store is in use by another runtime.
    pub const IN_USE: u8 = 120;
    /// No store, or not one that can be read, or no place where one may be made.
    pub const NO_STORE: u8 = 121;
    /// The store, the disk or the memory limit is too small.
    pub const TOO_SMALL: u8 = 122;
    /// No runtime runs on the store, or an object store does not answer.
    pub const NOT_RUNNING: u8 = 123;
    /// `semper stop` came before the program's end.
    pub const STOPPED: u8 = 124;
    /// Semper itself failed.
    pub const FAILED: u8 = 125;
    /// The program cannot be run.
    pub const NOT_RUNNABLE: u8 = 126;
    /// The program, domain or object was not found.
    pub const NOT_FOUND: u8 = 127;
    /// Added to the number of a signal that ended something.
    pub const SIGNAL: u8 = 128;
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What happened, where, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with a sentence of its own.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// An operating system error that happened while `what`.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::StorageFull => code::TOO_SMALL,
            io::ErrorKind::NotConnected => code::NOT_RUNNING,
            _ => code::FAILED,
        };
        Failure::new(code, format!("{what}: {error}"))
    }

    /// A failure of the exchange with the runtime of `store`.
    pub fn control(store: &Path, error: ControlError) -> Failure {
        let shown = store.display();
        match error {
            ControlError::NotRunning if !store.is_dir() => {
                Failure::new(code::NO_STORE, format!("there is no store {shown}; semper run makes one"))
            }
            ControlError::NotRunning if !semper_store::Store::lies_in(store) => RuntimeError::no_store(store).into(),
            ControlError::NotRunning => Failure::new(
                code::NOT_RUNNING,
                format!("no runtime is running on {shown}; start one: semper resume {shown}"),
            ),
            ControlError::Unreachable(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let message = format!("{shown} is not a directory, so it is no store; name a store or a new directory");
                Failure::new(code::NO_STORE, message)
            }
            ControlError::Unreachable(error) if may_not(&error) => {
                Failure::new(code::NO_STORE, format!("{shown}: {error}; {OWN_PLACE}"))
            }
            ControlError::Ended => Failure::new(
                code::NOT_RUNNING,
                format!(
                    "the runtime of {shown} ended before it answered; what has become of it: semper status {shown}"
                ),
            ),
            ControlError::Refused(refusal) => Failure::new(refusal.code, refusal.message),
            other => Failure::new(code::FAILED, format!("{shown}: {other}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        let code = match &error {
            RuntimeError::Kernel(KernelError::File { source, .. }) if may_not(source) => {
                return Failure::new(code::NO_STORE, format!("{error}; {OWN_PLACE}"));
            }
            RuntimeError::NoStore(_) | RuntimeError::NotAStore { .. } | RuntimeError::Moved { .. } => code::NO_STORE,
            RuntimeError::NoProgram(_) | RuntimeError::NoObject { .. } => code::NOT_FOUND,
            RuntimeError::NotRunnable { .. } | RuntimeError::Kernel(KernelError::Program(_)) => code::NOT_RUNNABLE,
            RuntimeError::MemoryTooSmall { .. }
            | RuntimeError::TooFullToHold { .. }
            | RuntimeError::TooSmall { .. } => code::TOO_SMALL,
            RuntimeError::Refused(_) | RuntimeError::Kernel(KernelError::Refused(_) | KernelError::Port { .. }) => {
                code::USAGE
            }
            RuntimeError::Damaged(_) => code::NO_STORE,
            RuntimeError::Store(error) => return store_failure(error),
            RuntimeError::Journal(error) => journal_code(error),
            RuntimeError::Checkpoint(semper_checkpoint::CheckpointError::Full { .. }) => code::TOO_SMALL,
            _ => code::FAILED,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<semper_store::Error> for Failure {
    fn from(error: semper_store::Error) -> Failure {
        store_failure(&error)
    }
}

/// What to do where the system forbids a store.
const OWN_PLACE: &str = "name a directory that you may write to, or have its owner let you (chown, chmod u+rwx)";

/// Whether the system forbids it to this user, or to all.
fn may_not(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn store_failure(error: &semper_store::Error) -> Failure {
    let advice = match error {
        semper_store::Error::Io { source, .. } if may_not(source) => format!("; {OWN_PLACE}"),
        _ => String::new(),
    };
    Failure::new(store_code(error), format!("{error}{advice}"))
}

/// The exit code for what is wrong with a journal.
pub fn journal_code(error: &semper_journal::Error) -> u8 {
    use semper_journal::Error;
    match error {
        Error::Missing { .. }
        | Error::None
        | Error::Foreign { .. }
        | Error::Version { .. }
        | Error::BadState(_)
        | Error::Damaged(_)
        | Error::Lost(_) => code::NO_STORE,
        Error::Full(_) => code::TOO_SMALL,
        Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => code::TOO_SMALL,
        Error::BadArgument(_) | Error::TooLong { .. } => code::USAGE,
        _ => code::FAILED,
    }
}

fn store_code(error: &semper_store::Error) -> u8 {
    use semper_store::Error;
    match error {
        Error::InUse { .. } => code::IN_USE,
        Error::Missing { .. }
        | Error::NotEmpty { .. }
        | Error::Occupied { .. }
        | Error::NotAStore { .. }
        | Error::Version { .. }
        | Error::Truncated { .. }
        | Error::Parted { .. }
        | Error::NotWhole { .. }
        | Error::Lender { .. }
        | Error::Corrupt(_) => code::NO_STORE,
        Error::BadSize { bytes, .. } if *bytes < semper_store::MIN_SIZE_BYTES => code::TOO_SMALL,
        Error::BadSize { .. }
        | Error::BadMirror { .. }
        | Error::BadTag { .. }
        | Error::TooManyHeld { .. }
        | Error::StillHeld { .. } => code::USAGE,
        Error::NoSuchGeneration { .. } => code::NOT_FOUND,
        Error::Full { .. } | Error::DoesNotFit { .. } => code::TOO_SMALL,
        Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => code::TOO_SMALL,
        Error::Io { source, .. } if may_not(source) => code::NO_STORE,
        _ => code::FAILED,
    }
}

impl From<semper_backup::Error> for Failure {
    fn from(error: semper_backup::Error) -> Failure {
        use semper_backup::Error;
        let code = match &error {
            Error::Store(error) => return store_failure(error),
            Error::Journal(error) | Error::JournalCopy(error) => journal_code(error),
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => code::TOO_SMALL,
            Error::Io { source, .. } if may_not(source) || source.kind() == io::ErrorKind::NotFound => code::NO_STORE,
            // An object store that does not answer.
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotConnected => code::NOT_RUNNING,
            Error::Io { .. } | Error::Stopped => code::FAILED,
            Error::NotABackup { .. }
            | Error::Version { .. }
            | Error::Cut { .. }
            | Error::Damaged { .. }
            | Error::OtherStore { .. } => code::NO_STORE,
            Error::MissingBase { .. } | Error::MissingRecords { .. } | Error::NoSuchBackup { .. } => code::NOT_FOUND,
            Error::Busy(_) => code::IN_USE,
            Error::Exists(_)
            | Error::BadPlace { .. }
            | Error::NoIdentity { .. }
            | Error::WrongIdentity { .. }
            | Error::BadKey { .. } => code::USAGE,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal { code: failure.code, message: failure.message }
    }
}
