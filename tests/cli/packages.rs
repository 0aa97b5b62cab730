//! Programs that others built: packages of the distribution, static or not, which `.ci/run` installs.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Case, Rng, Session, needs, seed, sigkill, tool};
use crate::killing::assert_unkillable;
use crate::network::{OFTEN, connect, free_port, listen};

pub const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

/// Fills an array again and again, with strings that grow and are dropped, and says now and then how far it is.
pub fn awk(rounds: u32) -> String {
    let head = format!("BEGIN {{ for (i = 1; i <= {rounds}; i++) {{");
    let body = r#" a[i % 5000] = a[(i * 7) % 5000] substr(i, 1, 3);
        if (length(a[i % 5000]) > 60) a[i % 5000] = ""; s += length(a[i % 5000]);
        if (i % 10000 == 0) print i, s } }"#;
    head + body
}

#[test]
fn busybox_awk_survives() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    assert_unkillable(&Case::new(busybox, &["awk", &awk(400_000)]), 10);
}

#[test]
fn busybox_sort_and_sums_survive() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let text: String =
        (0..60_000u64).map(|number| format!("{:x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for args in [&["sort", "text"][..], &["sha256sum", "text"], &["gzip", "-c", "text"], &["wc", "text"]] {
        let mut case = Case::new(&busybox, args);
        case.files = vec![("text".into(), text.clone().into_bytes())];
        assert_unkillable(&case, 4);
    }
}

/// An interpreter of the distribution's, with associative arrays, patterns, files that it writes itself, and input read line by line.
#[test]
fn a_script_of_bash_survives() {
    let Some(bash) = tool("bash-static", &["/bin/bash-static", "/usr/bin/bash-static"]) else { return };
    let script = r#"declare -A count; n=0; sum=0
        while read -r word rest; do
            count[$word]=$(( ${count[$word]:-0} + 1 )); n=$((n + 1)); sum=$(( (sum * 31 + ${#rest} * n) % 1000003 ))
            if (( n % 500 == 0 )); then printf '%d lines, %d words, sum %d
' $n ${#count[@]} $sum; fi
        done
        for ((i = 0; i < 8000; i++)); do
            s="${s:-}${i: -1}"; [[ $s =~ (12[0-9]) ]] && n=$((n + BASH_REMATCH[1])); s=${s: -40}
        done
        printf '%s
' "${!count[@]}" > words; mapfile -t lines < words
        echo "${#lines[@]} words, $n"; exit 11"#;
    let input: String = (1..8000u32)
        .map(|i| {
            format!(
                "w{} line {i} of the text
",
                i * 7919 % 997
            )
        })
        .collect();
    let case = Case { input: Some(input.into_bytes()), ..Case::new(bash, &["-c", script]) };
    assert_eq!(case.native().code, 11);
    assert_unkillable(&case, 10);
}

/// Commands that read files and standard input and need no other process.
const COMMANDS: &[&[&str]] = &[
    &["sort", "-k3,3nr", "-u", "text"],
    &["sort", "-o", "sorted", "text"],
    &["uniq", "-c"],
    &["grep", "-n", "77", "text"],
    &["grep", "-E", "^[0-9]+ line 1[0-9]$", "text"],
    &["sed", "-n", "5,10p;s/line/row/p", "text"],
    &["sed", "-i", "s/line/row/", "text"],
    &["awk", "{s+=$1} END {print s, NR, s % 7}", "text"],
    &["awk", "{print > \"o\"} END {close(\"o\"); while ((getline l < \"o\") > 0) n += length(l); print n}", "text"],
    &["md5sum", "text"],
    &["sha512sum", "text"],
    &["gzip", "-c", "text"],
    &["bzip2", "-c", "text"],
    &["tar", "cf", "archive", "text"],
    &["find", ".", "-name", "text"],
    &["ls", "-1", "text"],
    &["wc"],
    &["od", "-c"],
    &["hexdump", "-C"],
    &["seq", "-w", "8", "12"],
    &["expr", "3", "+", "4", "*", "5"],
    &["dc", "-e", "100 k 2 v p"],
    &["bc", "-l", "sums"],
    &["dd", "if=text", "bs=100", "count=3"],
    &["cut", "-d ", "-f1,3", "text"],
    &["tr", "a-z", "A-Z"],
    &["diff", "text", "text"],
    &["cp", "text", "copy"],
    &["mv", "text", "moved"],
    &["rm", "text"],
    &["stat", "-c", "%s %F %n", "text"],
    &["base64", "text"],
    &["cal", "2", "2024"],
    &["sh", "-c", "read a; read b; echo \"$a-$b\"; f() { return 3; }; f; echo $? $((0x10 * 3)); exit 9"],
    &["sh", "-c", "kill -TERM $$"],
];

#[test]
fn commands_of_busybox_do_what_they_do_natively() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let text: String = (1..2000u32).map(|number| format!("{} line {number}\n", number * 7919 % 10007)).collect();
    for args in COMMANDS {
        let mut case = Case::new(&busybox, args);
        case.files = vec![
            ("text".into(), text.clone().into_bytes()),
            ("sums".into(), b"scale=30; 4*a(1); 2^300\nquit\n".to_vec()),
        ];
        case.input = Some(b"b\na\na\nc\n".to_vec());
        assert_eq!(case.undisturbed(), case.native(), "{args:?}");
    }
}

/// A client of beanstalkd, a queue of jobs in memory, with a ledger of its own.
struct Queue {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
    next: u64,
    /// Jobs that the server said it has.
    there: HashMap<u64, String>,
    /// Jobs that it said are gone.
    gone: HashSet<u64>,
}

impl Queue {
    /// The first line of an answer, and the body that it announces; none: the connection broke.
    fn ask(&mut self, request: &str) -> Option<(Vec<String>, String)> {
        let stream = self.stream.get_or_insert_with(|| BufReader::new(connect(self.port)));
        let answer = stream.get_mut().write_all(request.as_bytes()).ok().and_then(|()| {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|_| line.ends_with("\r\n"))?;
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let mut body = vec![0; if words[0] == "RESERVED" { words[2].parse::<usize>().unwrap() + 2 } else { 0 }];
            stream.read_exact(&mut body).ok()?;
            body.truncate(body.len().saturating_sub(2));
            Some((words, String::from_utf8(body).unwrap()))
        });
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }

    fn put(&mut self) {
        let body = format!("job {} {}", self.next, "x".repeat(usize::try_from(self.next % 500).unwrap()));
        self.next += 1;
        let Some((words, _)) = self.ask(&format!("put 0 0 60 {}\r\n{body}\r\n", body.len())) else { return };
        assert_eq!(words[0], "INSERTED");
        let id = words[1].parse().unwrap();
        assert!(self.there.insert(id, body).is_none() && !self.gone.contains(&id), "job {id} was there already");
    }

    /// Takes the next job and has it deleted; whether there may be more.
    fn take(&mut self) -> bool {
        let Some((words, body)) = self.ask("reserve-with-timeout 0\r\n") else { return true };
        if words[0] == "TIMED_OUT" {
            return false;
        }
        let id = words[1].parse().unwrap();
        assert!(!self.gone.contains(&id), "job {id} comes again");
        let known = self.there.remove(&id);
        assert!(known.as_ref().is_none_or(|known| *known == body), "job {id} is {body:?}, not {known:?}");
        // Without an answer it may be gone or not.
        if let Some((words, _)) = self.ask(&format!("delete {id}\r\n")) {
            assert_eq!(words, ["DELETED"]);
            self.gone.insert(id);
        }
        true
    }
}

/// Nothing in it saves anything: without `-b` its jobs are in memory only.
#[test]
fn a_queue_of_debian_keeps_its_jobs_over_kills() {
    if !needs::programs(&["beanstalkd"]) {
        return;
    }
    let (session, port) = (Session::new(), free_port());
    let at = listen(port, 11300);
    let flags = [OFTEN, &["--listen", &at]].concat();
    let mut runtime = session.background(&mut session.run(&flags, Path::new("beanstalkd"), &[]));
    let mut queue = Queue { port, stream: None, next: 0, there: HashMap::new(), gone: HashSet::new() };
    let mut random = Rng::with_seed(seed());
    for _ in 0..6 {
        // At least so much, and so long, before each kill: a busy machine does little in that time.
        let (until, enough) = (Instant::now() + Duration::from_millis(random.u64(60..250)), queue.next + 8);
        while Instant::now() < until || queue.next < enough {
            if random.u8(0..3) == 0 { _ = queue.take() } else { queue.put() }
        }
        assert!(sigkill(&mut runtime.0));
        while queue.stream.is_some() {
            queue.put();
        }
        runtime = session.background(session.on_store("resume").args(OFTEN));
    }
    assert!(!queue.there.is_empty(), "nothing is left to look for");
    while queue.take() {}
    assert!(queue.there.is_empty(), "jobs are lost: {:?}", queue.there.keys());
    assert!(session.output(&mut session.on_store("stop")).status.success());
    session.assert_sound();
}

/// A program of many libraries, and its modules as files: an event loop, a server and its clients at a Unix socket.
#[test]
fn python_of_debian_survives() {
    let Some(case) = python_case() else { return };
    assert_unkillable(&case, 5);
}

/// The same, kept from all that came after the first processors with SSE 4.2.
#[test]
fn python_of_debian_survives_without_what_other_processors_lack() {
    let Some(mut case) = python_case() else { return };
    case.run_flags.extend(["--cpu".into(), "baseline".into()]);
    assert_unkillable(&case, 3);
}

fn python_case() -> Option<Case> {
    let python = Path::new("/usr/bin/python3");
    // A link to the version that there is.
    let modules = std::fs::read_link(python).map(|version| Path::new("/usr/lib").join(version));
    let Some(modules) = modules.ok().filter(|modules| modules.is_dir()) else {
        needs::missing("python3 of Debian");
        return None;
    };
    let script = r#"
import asyncio, hashlib, json, zlib
h = hashlib.sha256()
async def serve(reader, writer):
    while line := await reader.readline():
        h.update(line)
        writer.write(b"%08x %s\n" % (zlib.crc32(line), h.hexdigest().encode()))
        await writer.drain()
    writer.close()
async def main():
    async with await asyncio.start_unix_server(serve, "place"):
        for n in range(60):
            reader, writer = await asyncio.open_unix_connection("place")
            for i in range(40):
                writer.write(json.dumps([n, i]).encode() + b"\n")
                answer = await reader.readline()
            print(n, answer.decode().strip(), flush=True)
            writer.close()
            await asyncio.sleep(0.002)
asyncio.run(main())
"#;
    let mut case = Case::new(python, &["-c", script]);
    case.run_flags = vec!["--file".into(), modules.to_str().unwrap().into()];
    Some(case)
}
