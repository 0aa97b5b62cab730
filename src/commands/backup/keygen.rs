//! `semper backup keygen`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use semper_backup::Identities;

use crate::cli::Keygen;
use crate::commands::failure::code;
use crate::commands::{Failure, say};

pub fn run(keygen: &Keygen) -> Result<ExitCode, Failure> {
    let path = &keygen.file;
    let (secret, recipient) = Identities::generate();
    write(path, &secret).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let told =
                format!("{} is there already, and may be what opens other backups; name a new file", path.display());
            Failure::new(code::USAGE, told)
        }
        _ => Failure::io(format_args!("create {}", path.display()), &error),
    })?;
    say(recipient);
    Ok(ExitCode::SUCCESS)
}

/// A file that only its owner can read, durably.
fn write(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()
}
