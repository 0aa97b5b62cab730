//! A person at a terminal: a shell, its line editing, its keys, its window; a kill in the middle.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::harness::{Background, Libc, Session, c_program, rust_program, tool};
use crate::packages::BUSYBOX;

const PATIENCE: Duration = Duration::from_secs(60);
const PROMPT: &str = "/ $ ";

/// A terminal, what was shown on it, and the keyboard.
struct Screen {
    keyboard: File,
    line: OwnedFd,
    found: Termios,
    shown: Arc<Mutex<String>>,
    seen: usize,
}

impl Screen {
    fn new() -> Screen {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut master = File::from(pty.master);
        let (keyboard, shown) = (master.try_clone().unwrap(), Arc::new(Mutex::new(String::new())));
        let screen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = master.read(&mut bytes) {
                screen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        let found = tcgetattr(&pty.slave).unwrap();
        Screen { keyboard, line: pty.slave, found, shown, seen: 0 }
    }

    /// Starts a command in a session of its own, with this as its terminal.
    fn start(&self, command: &mut Command) -> Background {
        let end = || Stdio::from(self.line.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: only system calls between fork and exec; descriptor 0 is the terminal by then.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(BorrowedFd::borrow_raw(0))?)
            });
        }
        Background(command.spawn().unwrap())
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` is shown; gives all that was shown since the last wait, up to the end of it.
    fn wait(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if let Some(at) = shown[self.seen..].find(text) {
                let from = self.seen;
                self.seen += at + text.len();
                return shown[from..self.seen].to_owned();
            }
            assert!(Instant::now() < deadline, "waited in vain for {text:?}; shown: {shown:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn local(&self) -> LocalModes {
        tcgetattr(&self.line).unwrap().local_modes
    }

    /// Waits until the terminal gives characters as they are typed.
    fn wait_raw(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.local().intersects(LocalModes::ICANON | LocalModes::ECHO) {
            assert!(Instant::now() < deadline, "the terminal does not follow the program's modes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn put_back(&self) {
        tcsetattr(&self.line, rustix::termios::OptionalActions::Now, &self.found).unwrap();
    }

    fn assert_as_found(&self) {
        let now = tcgetattr(&self.line).unwrap();
        let modes = |of: &Termios| (of.input_modes, of.output_modes, of.local_modes);
        assert_eq!(modes(&now), modes(&self.found), "the terminal is not what it was before");
    }
}

#[test]
fn a_shell_at_a_terminal_is_as_one_expects_also_after_a_kill() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let (session, mut screen) = (Session::new(), Screen::new());
    let mut runtime = screen.start(&mut session.run(&[], &busybox, &["sh"]));
    screen.wait(PROMPT);
    screen.wait_raw();
    screen.keys("echo ab$((1+1))\r");
    let shown = screen.wait("ab2\r\n");
    assert_eq!(shown.matches("echo ab$((1+1))").count(), 1, "typed text is shown twice: {shown:?}");
    screen.wait(PROMPT);
    screen.keys("echo xy\x7fz\r");
    screen.wait("\nxz\r\n");
    // An interrupt drops the line, and ends a loop; both leave the shell there.
    screen.wait(PROMPT);
    screen.keys("echo dropped\x03");
    screen.wait(PROMPT);
    screen.keys("while :; do :; done\r");
    screen.wait("done");
    std::thread::sleep(Duration::from_millis(200));
    screen.keys("\x03");
    screen.wait(PROMPT);
    screen.keys("kept=value\r");
    screen.wait(PROMPT);
    session.output(&mut session.on_store("checkpoint"));

    runtime.0.kill().unwrap();
    runtime.wait();
    screen.put_back();
    let mut runtime = screen.start(&mut session.on_store("resume"));
    screen.wait_raw();
    screen.keys("echo again $kept\r");
    let shown = screen.wait("\nagain value\r\n");
    assert_eq!(shown.matches("echo again $kept").count(), 1, "typed text is shown twice: {shown:?}");
    screen.keys("exit 7\r");
    assert_eq!(runtime.wait().code(), Some(7));
    screen.assert_as_found();
}

#[test]
fn ctrl_c_stops_the_runtime_cleanly_where_the_program_has_no_wish_about_it() {
    let (session, mut screen) = (Session::new(), Screen::new());
    let mut runtime = screen.start(&mut session.run(&[], &rust_program("numeric"), &["1000000000"]));
    session.wait_until("it works", |status| status["domains"][0]["cpu_ms"].as_u64() > Some(50));
    screen.keys("\x03");
    assert_eq!(runtime.wait().code(), Some(130));
    screen.assert_as_found();
    assert_eq!(session.status()["domains"][0]["state"], "stopped");
}

#[test]
fn every_way_out_of_a_shell_leaves_the_terminal_as_it_was() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    for (way, code) in [("\x1c", 131), ("TERM", 143), ("INT", 130), ("stop", 124)] {
        let (session, mut screen) = (Session::new(), Screen::new());
        let mut runtime = screen.start(&mut session.run(&[], &busybox, &["sh"]));
        screen.wait(PROMPT);
        screen.wait_raw();
        match way {
            "TERM" => runtime.signal(Signal::SIGTERM),
            "INT" => runtime.signal(Signal::SIGINT),
            "stop" => assert!(session.output(&mut session.on_store("stop")).status.success()),
            keys => screen.keys(keys),
        }
        assert_eq!(runtime.wait().code(), Some(code), "{way}");
        screen.assert_as_found();
        assert_eq!(session.status()["domains"][0]["state"], "stopped");
    }
}

#[test]
fn a_shell_added_to_a_running_store_has_its_own_terminal() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let session = Session::new();
    let mut runtime = session.background(&mut session.run(&[], &rust_program("numeric"), &["1000000000"]));
    session.wait_until("it runs", |_| true);
    let mut screen = Screen::new();
    let mut shell = screen.start(&mut session.run(&[], &busybox, &["sh"]));
    screen.wait(PROMPT);
    screen.wait_raw();
    screen.keys("while :; do :; done\r");
    screen.wait("done");
    std::thread::sleep(Duration::from_millis(200));
    screen.keys("\x03");
    screen.wait(PROMPT);
    screen.keys("\x1c");
    assert_eq!(shell.wait().code(), Some(131));
    screen.wait("the program goes on");
    screen.assert_as_found();
    // What is typed now is for others.
    screen.keys("unheard\n");
    std::thread::sleep(Duration::from_millis(700));
    let mut line = [0; 8];
    assert_eq!(nix::unistd::read(screen.line.as_fd(), &mut line), Ok(8));
    assert_eq!(&line, b"unheard\n");
    assert!(runtime.0.try_wait().unwrap().is_none());

    let mut screen = Screen::new();
    let mut shell = screen.start(&mut session.run(&[], &busybox, &["sh"]));
    screen.wait(PROMPT);
    screen.wait_raw();
    screen.keys("exit 5\r");
    assert_eq!(shell.wait().code(), Some(5));
    screen.assert_as_found();
    runtime.0.kill().unwrap();
}

#[test]
fn a_change_of_the_window_and_the_end_of_input_reach_the_program() {
    let Some(program) = c_program("window", Libc::Musl) else { return };
    let (session, mut screen) = (Session::new(), Screen::new());
    let resize = |screen: &Screen, rows, columns| {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen.line, size).unwrap();
    };
    resize(&screen, 30, 100);
    let mut runtime = screen.start(&mut session.run(&[], &program, &[]));
    screen.wait("30 rows, 100 columns\r\n");
    resize(&screen, 50, 132);
    screen.wait("50 rows, 132 columns\r\n");
    screen.keys("\x04");
    assert_eq!(runtime.wait().code(), Some(4));
}
