//! The three streams, as a program sees them and as the kernel does.

use super::machine::{BUFFER, BUFFER_BYTES, Machine};
use crate::linux::files::console::HELD_LIMIT;
use crate::linux::{ConsoleKind, Errno, Outcome, Stream};
use std::sync::atomic::Ordering::SeqCst;

const TERMINAL: ConsoleKind = ConsoleKind::Terminal { rows: 24, columns: 80 };

#[test]
fn output_lies_at_its_absolute_position_until_it_is_released() {
    let mut m = Machine::new();
    assert_eq!(m.write(1, &[b'a'; 5000]), Ok(5000));
    assert_eq!(m.write(1, b"end"), Ok(3));
    m.restart();
    let [out, err] = m.program.outputs();
    assert_eq!((out.written, out.released, err.written), (5003, 0, 0));
    m.program.note_released(Stream::Out, 4999);
    m.program.note_released(Stream::Out, 10);
    m.program.note_released(Stream::Out, 1 << 40);
    assert_eq!(m.program.outputs()[0].released, 5003);
    assert_eq!(m.write(1, b"more"), Ok(4));
    let mut bytes = [0; 7];
    let segment = crate::linux::Segments::open(&*m.segments, out.segment).unwrap();
    segment.read_at(5000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"endmore");
}

#[test]
fn a_program_waits_when_too_much_is_held_and_nothing_was_taken() {
    let mut m = Machine::new();
    m.poke(BUFFER, &[b'x'; 1 << 20]);
    let mut written = 0;
    while written <= HELD_LIMIT {
        written += m.call(1, &[1, BUFFER, BUFFER_BYTES]).unwrap();
    }
    let wait = m.wait(1, &[1, BUFFER, 1]);
    assert!(wait.output_room && !wait.input);
    assert_eq!(m.program.outputs()[0].written, written);
    assert_eq!(m.write(2, b"errors have room of their own"), Ok(29));
    m.wait(1, &[1, BUFFER, 1]);
    m.program.note_released(Stream::Out, written);
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.program.outputs()[0].written, written + 1);
}

#[test]
fn input_is_waited_for_and_its_position_is_state() {
    let mut m = Machine::new();
    let wait = m.wait(0, &[0, BUFFER, 10]);
    assert!(wait.input);
    m.console.input.lock().unwrap().extend(b"line\nmore");
    assert_eq!(m.again(), Outcome::Resume);
    assert_eq!(m.result(), Ok(9));
    assert_eq!(m.program.input_position(), 9);
    m.restart();
    m.console.input.lock().unwrap().extend(b"!");
    assert_eq!(m.read(0, 10).unwrap(), b"!");
    // F_SETFL O_NONBLOCK.
    assert_eq!(m.call(72, &[0, 4, 0o4000]), Ok(0));
    assert_eq!(m.read(0, 10), Err(Errno::EAGAIN));
    m.console.ended.store(true, SeqCst);
    assert_eq!(m.read(0, 10).unwrap(), b"");
    assert_eq!(m.call(8, &[0, 0, 1]), Err(Errno::ESPIPE));
}

#[test]
fn input_from_a_file_has_a_position_that_can_be_moved() {
    let mut m =
        Machine::with_console([ConsoleKind::File { size: 10 }, ConsoleKind::File { size: 0 }, ConsoleKind::Null]);
    m.console.input.lock().unwrap().extend(b"0123456789");
    assert_eq!(m.read(0, 4).unwrap(), b"0123");
    assert_eq!(m.call(8, &[0, (-2_i64).cast_unsigned(), 2]), Ok(8));
    assert_eq!(m.read(0, 4).unwrap(), b"89");
    assert_eq!(m.call(17, &[0, BUFFER, 2, 5]), Ok(2));
    assert_eq!(m.peek(BUFFER, 2), b"56");
    assert_eq!(m.program.input_position(), 10);
    m.write(1, b"abc").unwrap();
    assert_eq!(m.call(8, &[1, 0, 1]), Ok(3));
    assert_eq!(m.call(8, &[1, 0, 0]), Err(Errno::ESPIPE));
    m.call(5, &[1, BUFFER]).unwrap();
    assert_eq!(m.peek_u64(BUFFER + 48), 3);
    assert_eq!(m.peek(BUFFER + 24, 4), 0o100_644_u32.to_le_bytes());
}

#[test]
fn a_terminal_is_one_and_a_pipe_is_none() {
    let mut m = Machine::with_console([TERMINAL, TERMINAL, ConsoleKind::Pipe]);
    assert_eq!(m.call(16, &[1, 0x5401, BUFFER]), Ok(0));
    assert_eq!(m.call(16, &[2, 0x5401, BUFFER]), Err(Errno::ENOTTY));
    assert_eq!(m.call(16, &[1, 0x5413, BUFFER]), Ok(0));
    assert_eq!(m.peek(BUFFER, 4), [24, 0, 80, 0]);
    m.poke(BUFFER, &[1; 36]);
    assert_eq!(m.call(16, &[0, 0x5402, BUFFER]), Ok(0));
    m.restart();
    m.poke(BUFFER, &[0; 36]);
    assert_eq!(m.call(16, &[1, 0x5401, BUFFER]), Ok(0));
    assert_eq!(m.peek(BUFFER, 36), [1; 36]);
    m.call(5, &[0, BUFFER]).unwrap();
    assert_eq!(m.peek(BUFFER + 24, 4), 0o020_620_u32.to_le_bytes());
    m.call(5, &[2, BUFFER]).unwrap();
    assert_eq!(m.peek(BUFFER + 24, 4), 0o010_600_u32.to_le_bytes());
    let tty = m.open("/dev/tty", 0o2).unwrap();
    assert_eq!(m.write(tty, b"hi"), Ok(2));
    assert_eq!(m.program.outputs()[0].written, 2);
    let again = m.open("/dev/stdout", 0o1).unwrap();
    assert_eq!(m.write(again, b"ho"), Ok(2));
    assert_eq!(m.program.outputs()[0].written, 4);
}

#[test]
fn errors_that_go_where_output_goes_keep_its_order() {
    let mut m = Machine::new();
    m.write(2, b"apart").unwrap();
    m.console.joined.store(true, SeqCst);
    for (fd, text) in [(1, "one "), (2, "two "), (1, "three ")] {
        m.write(fd, text.as_bytes()).unwrap();
    }
    let [out, err] = m.program.outputs();
    assert_eq!((out.written, err.written), (14, 5));
    let mut bytes = [0; 14];
    crate::linux::Segments::open(&*m.segments, out.segment).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"one two three ");
}

#[test]
fn output_without_a_reader_is_an_error_and_a_signal() {
    let mut m = Machine::new();
    m.write(1, b"read").unwrap();
    m.console.broken.store(true, SeqCst);
    assert_eq!(m.write(2, b"errors are read"), Ok(15));
    // SIGPIPE ignored: the error alone. (rt_sigaction)
    m.poke(BUFFER, &[[1, 0, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8], [0; 8]].concat());
    assert_eq!(m.call(13, &[13, BUFFER, 0, 8]), Ok(0));
    assert_eq!(m.write(1, b"not read"), Err(Errno::EPIPE));
    assert_eq!(m.program.outputs()[0].written, 4);
    // poll: POLLOUT | POLLERR.
    m.poke(BUFFER, &[1, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(m.call(7, &[BUFFER, 1, 0]), Ok(1));
    assert_eq!(m.peek(BUFFER + 6, 2), [12, 0]);
    m.poke(BUFFER, &[0; 32]);
    assert_eq!(m.call(13, &[13, BUFFER, 0, 8]), Ok(0));
    let outcome = m.step(1, &[1, BUFFER, 1]);
    assert_eq!(outcome, Outcome::Ended(crate::linux::ExitStatus::Signal(13)));
}
