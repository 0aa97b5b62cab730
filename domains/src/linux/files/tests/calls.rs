//! What the calls on files answer.

use super::machine::{BUFFER, Machine};
use crate::linux::Errno;

const O_RDWR_CREAT: u64 = 0o102;
const O_APPEND: u64 = 0o2000;
const O_PATH: u64 = 0o10_000_000;
const O_NOFOLLOW: u64 = 0o400_000;

#[test]
fn a_file_keeps_what_was_written_also_after_a_restart() {
    let mut m = Machine::new();
    let fd = m.open("/tmp/a", O_RDWR_CREAT).unwrap();
    assert_eq!(m.write(fd, b"hello world"), Ok(11));
    assert_eq!(m.call(8, &[fd, 6, 0]), Ok(6));
    m.restart();
    assert_eq!(m.read(fd, 100).unwrap(), b"world");
    assert_eq!(m.read(fd, 100).unwrap(), b"");
    assert_eq!(m.call(17, &[fd, BUFFER, 5, 0]), Ok(5));
    assert_eq!(m.peek(BUFFER, 5), b"hello");
    assert_eq!(m.stat("/tmp/a"), Ok((0o100_644, 11, 1)));
}

#[test]
fn holes_and_what_is_cut_off_are_zeros() {
    let mut m = Machine::new();
    let fd = m.open("/a", O_RDWR_CREAT).unwrap();
    assert_eq!(m.write(fd, &[7; 10_000]), Ok(10_000));
    assert_eq!(m.call(77, &[fd, 5]), Ok(0));
    assert_eq!(m.call(77, &[fd, 9_000]), Ok(0));
    let mut expected = vec![7; 5];
    expected.resize(9_000, 0);
    assert_eq!(m.get("/a").unwrap(), expected);
    // Punch a hole into fresh content: KEEP_SIZE | PUNCH_HOLE.
    assert_eq!(m.call(8, &[fd, 0, 0]), Ok(0));
    assert_eq!(m.write(fd, &[9; 12_288]), Ok(12_288));
    assert_eq!(m.call(285, &[fd, 3, 100, 9_000]), Ok(0));
    let mut expected = vec![9; 12_288];
    expected[100..9_100].fill(0);
    assert_eq!(m.get("/a").unwrap(), expected);
}

#[test]
fn a_removed_file_lives_until_its_last_descriptor_is_closed() {
    let mut m = Machine::new();
    let before = m.segments.alive().len();
    let fd = m.open("/tmp/a", O_RDWR_CREAT).unwrap();
    m.write(fd, b"secret").unwrap();
    let other = m.call(32, &[fd]).unwrap();
    assert_eq!(m.at(87, "/tmp/a", &[]), Ok(0));
    assert_eq!(m.open("/tmp/a", 0), Err(Errno::ENOENT));
    m.close(fd);
    m.restart();
    m.call(8, &[other, 0, 0]).unwrap();
    assert_eq!(m.read(other, 10).unwrap(), b"secret");
    assert_eq!(m.segments.alive().len(), before + 1);
    m.close(other);
    assert_eq!(m.segments.alive().len(), before);
}

#[test]
fn duplicates_share_their_offset_and_appending_goes_to_the_end() {
    let mut m = Machine::new();
    let a = m.open("/a", O_RDWR_CREAT).unwrap();
    let b = m.call(33, &[a, 9]).unwrap();
    m.write(a, b"one").unwrap();
    m.write(b, b"two").unwrap();
    let c = m.open("/a", O_RDWR_CREAT | O_APPEND).unwrap();
    m.write(c, b"three").unwrap();
    assert_eq!(m.get("/a").unwrap(), b"onetwothree");
    // F_DUPFD from 20, F_GETFD, F_GETFL.
    assert_eq!(m.call(72, &[a, 1030, 20]), Ok(20));
    assert_eq!(m.call(72, &[20, 1, 0]), Ok(1));
    assert_eq!(m.call(72, &[c, 3, 0]), Ok(0o102_002));
}

#[test]
fn a_full_store_refuses_before_anything_is_changed() {
    let mut m = Machine::new();
    m.put("/a", b"kept");
    let fd = m.open("/a", 0o2).unwrap();
    m.segments.room.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(m.write(fd, &[1; 5000]), Err(Errno::ENOSPC));
    assert_eq!(m.get("/a").unwrap(), b"kept");
}

#[test]
fn names_are_linked_moved_and_removed_as_linux_does() {
    let mut m = Machine::new();
    assert_eq!(m.at(83, "/d", &[0o755]), Ok(0));
    assert_eq!(m.at(83, "/d/e/", &[0o755]), Ok(0));
    assert_eq!(m.at(83, "/d", &[0o755]), Err(Errno::EEXIST));
    assert_eq!(m.at(83, "/x/y", &[0o755]), Err(Errno::ENOENT));
    m.put("/d/f", b"1");
    assert_eq!(m.two(86, "/d/f", "/d/g"), Ok(0));
    assert_eq!(m.stat("/d/g").unwrap().2, 2);
    assert_eq!(m.two(86, "/d", "/h"), Err(Errno::EPERM));
    assert_eq!(m.two(82, "/d", "/d/e/z"), Err(Errno::EINVAL));
    assert_eq!(m.two(82, "/d/e", "/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(m.two(82, "/d/f", "/d/e"), Err(Errno::EISDIR));
    assert_eq!(m.two(82, "/d/e", "/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(m.two(82, "/d/f", "/d/g"), Ok(0), "two names of one file: nothing happens");
    assert_eq!(m.two(82, "/d", "/n"), Ok(0));
    assert_eq!(m.list("/n"), ["e", "f", "g"]);
    assert_eq!(m.at(84, "/n", &[]), Err(Errno::ENOTEMPTY));
    assert_eq!(m.at(87, "/n", &[]), Err(Errno::EISDIR));
    assert_eq!(m.at(84, "/n/f", &[]), Err(Errno::ENOTDIR));
    assert_eq!(m.at(84, "/n/.", &[]), Err(Errno::EINVAL));
    assert_eq!(m.at(84, "/proc", &[]), Err(Errno::EBUSY));
    assert_eq!(m.at(84, "/", &[]), Err(Errno::EBUSY));
    assert_eq!(m.at(87, "/n/f/", &[]), Err(Errno::ENOTDIR));
    assert_eq!(m.at(84, "/n/e/", &[]), Ok(0));
    // RENAME_NOREPLACE.
    let paths = [m.text("/n/f"), m.text("/n/g")];
    let cwd = (-100_i64).cast_unsigned();
    assert_eq!(m.call(316, &[cwd, paths[0], cwd, paths[1], 1]), Err(Errno::EEXIST));
}

#[test]
fn the_current_directory_moves_and_may_be_removed() {
    let mut m = Machine::new();
    m.at(83, "/d", &[0o755]).unwrap();
    m.at(83, "/d/e", &[0o755]).unwrap();
    assert_eq!(m.at(80, "d/./e/../e", &[]), Ok(0));
    assert_eq!(m.call(79, &[BUFFER, 100]), Ok(5));
    assert_eq!(m.peek(BUFFER, 5), b"/d/e\0");
    assert_eq!(m.call(79, &[BUFFER, 4]), Err(Errno::ERANGE));
    assert_eq!(m.two(82, "/d", "/x"), Ok(0));
    assert_eq!(m.call(79, &[BUFFER, 100]), Ok(5));
    assert_eq!(m.at(84, "/x/e", &[]), Ok(0));
    m.restart();
    assert_eq!(m.call(79, &[BUFFER, 100]), Err(Errno::ENOENT));
    assert_eq!(m.open("new", O_RDWR_CREAT), Err(Errno::ENOENT));
    assert_eq!(m.at(80, "..", &[]), Ok(0));
    assert_eq!(m.call(79, &[BUFFER, 100]), Ok(3));
}

#[test]
fn symbolic_links_are_followed_where_they_should_be() {
    let mut m = Machine::new();
    m.at(83, "/d", &[0o755]).unwrap();
    m.put("/d/f", b"content");
    let long = format!("/d/{}f", "./".repeat(500));
    for (target, name) in
        [("d", "/l"), ("/loop", "/loop"), ("l/f", "/f"), (long.as_str(), "/long"), ("/new", "/dangling")]
    {
        assert_eq!(m.two(88, target, name), Ok(0));
    }
    assert_eq!(m.get("/l/f").unwrap(), b"content");
    assert_eq!(m.get("/f").unwrap(), b"content");
    assert_eq!(m.get("/long").unwrap(), b"content");
    assert_eq!(m.open("/loop", 0), Err(Errno::ELOOP));
    assert_eq!(m.open("/l", O_NOFOLLOW), Err(Errno::ELOOP));
    assert!(m.open("/l", O_NOFOLLOW | O_PATH).is_ok());
    assert_eq!(m.at(89, "/f", &[BUFFER, 100]), Ok(3));
    assert_eq!(m.at(89, "/d/f", &[BUFFER, 100]), Err(Errno::EINVAL));
    // O_CREAT makes what a dangling link means, O_EXCL does not.
    assert_eq!(m.open("/dangling", O_RDWR_CREAT | 0o200), Err(Errno::EEXIST));
    assert!(m.open("/dangling", O_RDWR_CREAT).is_ok());
    assert_eq!(m.stat("/new").unwrap().1, 0);
    assert_eq!(m.at(87, "/l", &[]), Ok(0));
    assert_eq!(m.get("/d/f").unwrap(), b"content");
}

#[test]
fn paths_that_make_no_sense_are_refused() {
    let mut m = Machine::new();
    m.put("/f", b"");
    assert_eq!(m.open("", 0), Err(Errno::ENOENT));
    assert_eq!(m.open("/f/x", 0), Err(Errno::ENOTDIR));
    assert_eq!(m.open("/f/", 0), Err(Errno::ENOTDIR));
    assert_eq!(m.open("/new/", O_RDWR_CREAT), Err(Errno::EISDIR));
    assert_eq!(m.open("/tmp", 0o1), Err(Errno::EISDIR));
    assert_eq!(m.open(&"x".repeat(256), O_RDWR_CREAT), Err(Errno::ENAMETOOLONG));
    assert_eq!(m.open(&"/x".repeat(2048), 0), Err(Errno::ENAMETOOLONG));
    assert!(m.open("/../../f", 0).is_ok());
    assert!(m.open(&"y".repeat(255), O_RDWR_CREAT).is_ok());
    assert_eq!(m.call(2, &[8, 0, 0]), Err(Errno::EFAULT));
    // O_TMPFILE.
    assert_eq!(m.open("/tmp", 0o20_200_002), Err(Errno::EOPNOTSUPP));
}

#[test]
fn listing_goes_on_rightly_while_names_come_and_go() {
    let mut m = Machine::new();
    m.at(83, "/d", &[0o755]).unwrap();
    for i in 0..20 {
        m.put(&format!("/d/{i:02}"), b"");
    }
    let fd = m.open("/d", 0o200_000).unwrap();
    let count = m.call(217, &[fd, BUFFER, 200]).unwrap();
    let mut seen = m.entries(count);
    // What was seen is removed, what was not is partly removed, and something new comes.
    m.at(87, "/d/00", &[]).unwrap();
    m.at(87, "/d/15", &[]).unwrap();
    m.put("/d/new", b"");
    loop {
        let count = m.call(217, &[fd, BUFFER, 100]).unwrap();
        if count == 0 {
            break;
        }
        seen.extend(m.entries(count));
    }
    let mut expected: Vec<String> = [".", ".."].map(String::from).to_vec();
    expected.extend((0..20).filter(|&i| i != 15).map(|i| format!("{i:02}")));
    expected.push("new".into());
    assert_eq!(seen, expected);
    assert_eq!(m.call(217, &[fd, BUFFER, 10]), Ok(0));
    m.call(8, &[fd, 0, 0]).unwrap();
    assert_eq!(m.call(217, &[fd, BUFFER, 10]), Err(Errno::EINVAL));
}

#[test]
fn modes_bind_the_owner() {
    let mut m = Machine::new();
    m.put("/f", b"x");
    assert_eq!(m.at(90, "/f", &[0o444]), Ok(0));
    assert_eq!(m.open("/f", 0o2), Err(Errno::EACCES));
    assert_eq!(m.at(21, "/f", &[2]), Err(Errno::EACCES));
    assert_eq!(m.at(21, "/f", &[4]), Ok(0));
    assert_eq!(m.at(21, "/f", &[1]), Err(Errno::EACCES));
    assert_eq!(m.call(95, &[0o077]), Ok(0o022));
    m.put("/g", b"");
    assert_eq!(m.stat("/g").unwrap().0, 0o100_600);
}

#[test]
fn devices_do_what_they_are_for() {
    let mut m = Machine::new();
    let null = m.open("/dev/null", 0o2).unwrap();
    assert_eq!(m.write(null, b"gone"), Ok(4));
    assert_eq!(m.read(null, 10).unwrap(), b"");
    let zero = m.open("/dev/zero", 0).unwrap();
    assert_eq!(m.read(zero, 3).unwrap(), [0; 3]);
    let full = m.open("/dev/full", 0o1).unwrap();
    assert_eq!(m.write(full, b"x"), Err(Errno::ENOSPC));
    let random = m.open("/dev/urandom", 0).unwrap();
    assert_eq!(m.read(random, 2).unwrap(), [0x5a; 2]);
    assert_eq!(m.open("/dev/tty", 0o2), Err(Errno::ENXIO));
}

#[test]
fn proc_tells_the_truth() {
    let mut m = Machine::new();
    let maps = String::from_utf8(m.get("/proc/self/maps").unwrap()).unwrap();
    let lines: Vec<&str> = maps.lines().collect();
    assert!(
        lines[0].starts_with("00400000-00401000 r-xp 00000000 00:1d ") && lines[0].ends_with("/bin/test"),
        "{maps}"
    );
    assert_eq!(lines[0].find("/bin/test"), Some(73));
    assert!(lines.iter().any(|line| line.contains("rw-p") && line.ends_with("[stack]")), "{maps}");
    assert_eq!(m.get("/proc/self/cmdline").unwrap(), b"test\0one two\0");
    assert_eq!(m.get("/proc/1000/environ").unwrap(), b"HOME=/\0");
    assert_eq!(m.at(89, "/proc/self/exe", &[BUFFER, 100]), Ok(9));
    assert_eq!(m.peek(BUFFER, 9), b"/bin/test");
    assert_eq!(&m.get("/proc/self/exe").unwrap()[..4], b"\x7fELF");
    assert_eq!(&m.get("/proc/self/auxv").unwrap().len() % 16, 0);
    assert!(m.get("/proc/self/status").unwrap().starts_with(b"Name:\ttest\n"));
    let stat = String::from_utf8(m.get("/proc/self/stat").unwrap()).unwrap();
    assert_eq!(stat.split_whitespace().count(), 52);
    let fd = m.open("/tmp", 0).unwrap();
    assert_eq!(m.list("/proc/self/fd"), ["0", "1", "2", "3", "4"]);
    assert_eq!(m.at(89, &format!("/proc/self/fd/{fd}"), &[BUFFER, 100]), Ok(4));
    assert_eq!(m.open("/proc/self/nothing", O_RDWR_CREAT), Err(Errno::EACCES));
    for file in ["meminfo", "cpuinfo", "uptime", "stat", "loadavg", "version", "self/comm", "self/statm"] {
        assert!(!m.get(&format!("/proc/{file}")).unwrap().is_empty(), "{file}");
    }
    // The image stays open to the program even when its name is gone.
    assert_eq!(m.at(87, "/bin/test", &[]), Ok(0));
    m.restart();
    assert_eq!(&m.get("/proc/self/exe").unwrap()[..4], b"\x7fELF");
}

#[test]
fn bytes_move_from_file_to_file() {
    let mut m = Machine::new();
    m.put("/a", &[3; 600_000]);
    let (from, to) = (m.open("/a", 0).unwrap(), m.open("/b", O_RDWR_CREAT).unwrap());
    assert_eq!(m.call(40, &[to, from, 0, 1 << 40]), Ok(600_000));
    assert_eq!(m.get("/b").unwrap(), vec![3; 600_000]);
    m.poke(BUFFER, &10_u64.to_le_bytes());
    assert_eq!(m.call(326, &[from, BUFFER, to, 0, 5, 0]), Ok(5));
    assert_eq!(m.peek_u64(BUFFER), 15);
    assert_eq!(m.stat("/b").unwrap().1, 600_005);
}

#[test]
fn a_pipe_carries_bytes_in_order_and_says_when_an_end_is_gone() {
    let mut m = Machine::new();
    assert_eq!(m.call(293, &[BUFFER, 0o4000]), Ok(0));
    let (read, write) = (m.peek_u64(BUFFER) & 0xffff_ffff, m.peek_u64(BUFFER) >> 32);
    for round in 0..40_u8 {
        assert_eq!(m.write(write, &[round; 3000]), Ok(3000));
        assert_eq!(m.read(read, 5000).unwrap(), [round; 3000]);
    }
    assert_eq!(m.read(read, 1), Err(Errno::EAGAIN));
    m.poke(BUFFER, &[1; 70_000]);
    assert_eq!(m.call(1, &[write, BUFFER, 70_000]), Ok(65_536));
    assert_eq!(m.write(write, b"x"), Err(Errno::EAGAIN));
    m.restart();
    assert_eq!(m.read(read, 100_000).unwrap().len(), 65_536);
    m.close(write);
    assert_eq!(m.read(read, 1).unwrap(), b"");
    assert_eq!(m.call(8, &[read, 0, 0]), Err(Errno::ESPIPE));
}
