//! A runtime in the foreground: it serves the control socket, heeds signals, and ends with its program.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use semper::control::{Bound, Refusal, Server};
use semper::runtime::{ConsoleFds, DomainId, End, ExitStatus, Moved, Options, Runtime, RuntimeError, TerminalOf};
use semper_domains::kernel::KernelError;
use semper_journal::Retention;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

use super::failure::code;
use super::served::Stoppable;
use super::{Failure, terminal};
use crate::cli::RuntimeFlags;

/// How long answers that are under way may keep the process from ending.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The flags as the runtime takes them.
pub fn options(flags: &RuntimeFlags) -> Options {
    let default = Options::default();
    Options {
        interval: flags.checkpoint_interval.map_or(default.interval, |interval| interval.0),
        memory: flags.memory,
        output: flags.output(),
        output_gap: flags.output_gap,
        retention: Retention {
            max_bytes: flags.journal_size.unwrap_or(default.retention.max_bytes),
            max_age: flags.journal_age.or(default.retention.max_age),
            ..default.retention
        },
        ..default
    }
}

/// The console of this command, for a program.
pub fn own_console() -> io::Result<ConsoleFds> {
    let copy = |descriptor: &dyn AsFd| -> io::Result<OwnedFd> { descriptor.as_fd().try_clone_to_owned() };
    Ok(ConsoleFds { input: copy(&io::stdin())?, output: copy(&io::stdout())?, error: copy(&io::stderr())? })
}

/// The console of this command, but with standard output added to a file.
pub fn console_into(path: &Path) -> io::Result<ConsoleFds> {
    let output = File::options().create(true).append(false).write(true).truncate(false).open(path)?;
    rustix::fs::seek(&output, rustix::fs::SeekFrom::End(0))?;
    Ok(ConsoleFds { output: output.into(), ..own_console()? })
}

/// Says what was not as it should be when the store was opened.
pub fn tell(runtime: &Runtime) {
    for note in runtime.notes() {
        eprintln!("semper: {note}");
    }
}

/// Begins this command anew, in this process: the store's newest generation is damaged, and nothing has come of this life yet. What is
/// noted in the store sees to it that the next life takes an older generation. Returns only if it cannot be done.
pub fn start_again(end: &End) -> Failure {
    eprintln!("semper: {}", end.what);
    terminal::restore();
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "semper".into());
    let error = Command::new("/proc/self/exe").arg0(name).args(args).exec();
    Failure::io(format_args!("{} The command cannot be started again", end.advice), &error)
}

/// Makes the control socket, before anything else is done in the store. Where it cannot be made, what went on there is stopped again.
pub fn bind(runtime: &Runtime, store: &Path) -> Result<Bound, RuntimeError> {
    Server::bind(store).map_err(|source| {
        let _ = runtime.stop();
        KernelError::File { path: store.join("control"), source }.into()
    })
}

/// Serves until everything has ended; the exit code is that of the program `own`, or that of the last to end.
pub fn serve(runtime: Arc<Runtime>, socket: Bound, store: &Path, own: Option<DomainId>) -> Result<ExitCode, Failure> {
    let stoppable = Arc::new(Stoppable::new(runtime));
    heed_signals(Arc::clone(&stoppable)).map_err(|error| Failure::io("signals cannot be heeded", &error))?;
    let server = Server::start(socket, Arc::clone(&stoppable) as Arc<_>)
        .map_err(|error| Failure::io("the control socket cannot be served", &error))?;
    let last = stoppable.runtime().wait(None);
    let own = own.and_then(|own| stoppable.runtime().wait(Some(own)));
    let result = match stoppable.stopped() {
        Some((code, Ok(()))) => {
            if own.is_none() {
                match Moved::of(store) {
                    Ok(Some(Moved { to, .. })) => eprintln!("semper: the world has moved to {to}"),
                    _ => eprintln!("semper: stopped; go on with: semper resume {}", store.display()),
                }
            }
            Ok(own.map_or(code, exit_code))
        }
        Some((_, Err(Refusal { code, message }))) => Err(Failure::new(code, message)),
        None => match (own.or(last), stoppable.runtime().ending()) {
            (_, Some(end)) => Err(RuntimeError::Damaged(end).into()),
            (Some(status), None) => {
                stoppable.stop_with(code::STOPPED).map(|()| exit_code(status)).map_err(into_failure)
            }
            (None, None) => Err(Failure::new(code::FAILED, "the runtime ended by itself, which is a bug")),
        },
    };
    server.finish(LAST_ANSWERS);
    result.map(ExitCode::from)
}

fn into_failure(refusal: Refusal) -> Failure {
    Failure::new(refusal.code, refusal.message)
}

/// The exit code that tells how a program ended, as shells tell it.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => code::SIGNAL.saturating_add(signal),
    }
}

/// Heeds signals. What is typed at the terminal is for the programs there, if they have a wish about it; else, and if another
/// process sent it, SIGINT stops the runtime. Ctrl-\ (SIGQUIT), SIGTERM and SIGHUP always do.
fn heed_signals(stoppable: Arc<Stoppable>) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for origin in signals.forever() {
            let runtime = stoppable.runtime();
            let for_programs = |signal| {
                terminal::device().is_some_and(|of| runtime.signal_from_terminal(TerminalOf::Device(of), signal))
            };
            let number = u8::try_from(origin.signal).unwrap_or_default();
            match origin.signal {
                SIGWINCH => {
                    for_programs(number);
                }
                SIGTSTP => {
                    terminal::restore();
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                }
                SIGCONT => runtime.apply_terminal_modes(),
                SIGINT if terminal::is_typed(&origin) && for_programs(number) => {}
                _ => {
                    // The outcome is told by the foreground thread, whose wait ends with the stop.
                    let _ = stoppable.stop_with(code::SIGNAL + number);
                }
            }
        }
    })?;
    Ok(())
}
