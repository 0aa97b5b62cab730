use std::io::{Read, Write};
use std::os::fd::AsFd;

use super::super::{Connection, ControlError, DebugReply, DebugRequest};
use super::wire::{MAX_FRAME_BYTES, VERSION};
use super::*;

/// A stand-in for the runtime: domain 7 ends at once, a program named "bad" is refused.
struct Stub;

impl Served for Stub {
    fn hand_over(&self) -> Result<(u64, Box<dyn Handed>), Refusal> {
        Err(Refusal { code: 1, message: "a stub does not move".to_owned() })
    }
    fn hold(&self, generation: Option<u64>) -> Result<(u64, Box<dyn Send>), Refusal> {
        Ok((generation.unwrap_or(7), Box::new(())))
    }
    fn tag(&self, _name: &str, generation: Option<u64>) -> Result<u64, Refusal> {
        Ok(generation.unwrap_or(7))
    }
    fn untag(&self, _name: &str) -> Result<u64, Refusal> {
        Ok(7)
    }
    fn grow(&self, _size_bytes: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn shrink(&self, size_bytes: u64) -> Result<(), Refusal> {
        if size_bytes < 9 { Err(Refusal { code: 122, message: "too small".to_owned() }) } else { Ok(()) }
    }
    fn add_mirror(&self, _dir: &[u8], _rate: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn remove_mirror(&self, _dir: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
    fn mend(&self, blocks: &[Rotten]) -> Vec<u32> {
        (0..).zip(blocks).filter(|(_, block)| block.page.is_none()).map(|(at, _)| at).collect()
    }
    fn mend_journal(&self) -> Result<u64, Refusal> {
        Ok(3)
    }
    fn cover_journal(&self, _before: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn trim_journal(&self, _wish: &Wish) -> Result<Option<Gone>, Refusal> {
        Ok(None)
    }
    fn status(&self) -> Result<String, Refusal> {
        Ok("{}".to_owned())
    }
    fn checkpoint(&self) -> Result<u64, Refusal> {
        Ok(42)
    }
    fn stop(&self) -> Result<(), Refusal> {
        Ok(())
    }
    fn run(&self, program: Program, console: [OwnedFd; 3]) -> Result<u64, Refusal> {
        if program.path == b"/bad" {
            return Err(Refusal { code: 126, message: "not a program".to_owned() });
        }
        let [_, output, _] = console;
        std::fs::File::from(output).write_all(b"hello").unwrap();
        Ok(7)
    }
    fn wait(&self, domain: u64) -> Ending {
        if domain == 7 { Ending::Exited(3) } else { Ending::Stopped }
    }
    fn signal(&self, domain: u64, signal: u8) -> bool {
        (domain, signal) == (7, 2)
    }
    fn detach(&self, _: u64) {}
    fn list(&self, depth: u32) -> Result<String, Refusal> {
        Ok(depth.to_string())
    }
    fn inspect(&self, object: &str) -> Result<String, Refusal> {
        Ok(object.to_owned())
    }
    fn operate(&self, domain: &str, act: Act) -> Result<(), Refusal> {
        match (domain, act) {
            ("5.1", Act::Kill) => Ok(()),
            _ => Err(Refusal { code: 127, message: "none".to_owned() }),
        }
    }
    fn debug(&self, _: &str, _: bool) -> Result<Box<dyn Debugged>, Refusal> {
        Ok(Box::new(Echo))
    }
}

/// A domain that is debugged: its memory is its addresses.
struct Echo;

impl Debugged for Echo {
    fn serve(&mut self, request: DebugRequest) -> DebugReply {
        match request {
            DebugRequest::Read { address, .. } => DebugReply::Bytes(address.to_le_bytes().to_vec()),
            _ => DebugReply::Failed("no".to_owned()),
        }
    }
}

fn start() -> (tempfile::TempDir, Server) {
    let store = tempfile::tempdir().unwrap();
    let server = Server::start(Server::bind(store.path()).unwrap(), Arc::new(Stub)).unwrap();
    (store, server)
}

fn program(path: &str) -> Request {
    Request::Run(Program {
        name: None,
        path: path.into(),
        args: vec![],
        env: vec![],
        files: vec![],
        native: None,
        keys: vec![],
        listens: vec![],
        connects: vec![],
        record: false,
        cpu: Some("x86-64-v2".into()),
    })
}

#[test]
fn requests_are_answered() {
    let (store, server) = start();
    let ask = |request| Connection::open(store.path()).unwrap().ask(&request).unwrap();
    assert_eq!(ask(Request::Status), Reply::Status { json: "{}".to_owned() });
    assert_eq!(ask(Request::Checkpoint), Reply::Committed { generation: 42 });
    assert_eq!(ask(Request::Wait { domain: 8 }), Reply::Ended(Ending::Stopped));
    assert_eq!(ask(Request::Signal { domain: 7, signal: 2 }), Reply::Signal { taken: true });
    assert_eq!(ask(Request::Signal { domain: 7, signal: 28 }), Reply::Signal { taken: false });
    assert_eq!(ask(Request::Detach { domain: 7 }), Reply::Detached);
    assert_eq!(ask(Request::List { depth: 3 }), Reply::Document { json: "3".to_owned() });
    assert_eq!(ask(Request::Inspect { object: "5.1".to_owned() }), Reply::Document { json: "5.1".to_owned() });
    assert_eq!(ask(Request::Operate { domain: "5.1".to_owned(), act: Act::Kill }), Reply::Done);
    assert_eq!(ask(Request::Stop), Reply::Stopped);
    server.finish(Duration::from_secs(5));
    assert_eq!(server.shared.load().connections, 0);
}

#[test]
fn a_debugger_has_its_connection_until_it_hangs_up() {
    let (store, server) = start();
    let connection = Connection::open(store.path()).unwrap();
    let mut debugger = connection.debug("5.1", true).unwrap();
    for address in [7u64, 9] {
        let bytes = debugger.ask(&DebugRequest::Read { address, len: 8 }).unwrap();
        assert_eq!(bytes, DebugReply::Bytes(address.to_le_bytes().to_vec()));
    }
    assert_eq!(debugger.ask(&DebugRequest::Interrupt).unwrap(), DebugReply::Failed("no".to_owned()));
    assert_eq!(server.shared.load().waiters, 1);
    drop(debugger);
    server.finish(Duration::from_secs(5));
    assert_eq!(server.shared.load().waiters, 0);
}

#[test]
fn a_program_gets_the_console_of_the_command() {
    let (store, _server) = start();
    let connection = Connection::open(store.path()).unwrap();
    let (mut read, write) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    connection.send(&program("/good"), &[&null as &dyn AsFd, &write, &null]).unwrap();
    drop(write);
    assert_eq!(connection.receive().unwrap(), Reply::Started { domain: 7 });
    assert_eq!(connection.receive().unwrap(), Reply::Ended(Ending::Exited(3)));
    let mut said = String::new();
    read.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
}

#[test]
fn a_refusal_carries_its_sentence_and_exit_code() {
    let (store, _server) = start();
    let null = std::fs::File::open("/dev/null").unwrap();
    let connection = Connection::open(store.path()).unwrap();
    connection.send(&program("/bad"), &[&null as &dyn AsFd, &null, &null]).unwrap();
    let Err(ControlError::Refused(refusal)) = connection.receive() else { panic!("not refused") };
    assert_eq!((refusal.code, refusal.message.as_str()), (126, "not a program"));

    let connection = Connection::open(store.path()).unwrap();
    let Err(ControlError::Refused(refusal)) = connection.ask(&program("/good")) else { panic!("not refused") };
    assert_eq!(refusal.message, "a program needs three descriptors as its console");
}

/// A frame that says what it likes of its version and length.
fn frame(version: u16, length: u32, body: &[u8]) -> Vec<u8> {
    [b"SMPR", &version.to_le_bytes()[..], &[0; 2], &length.to_le_bytes(), body].concat()
}

#[test]
fn garbage_is_refused_and_the_server_stays_up() {
    let (store, _server) = start();
    let answer = |bytes: &[u8]| {
        let mut stream = socket::connect(store.path()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        wire::receive::<Reply>(&stream)
    };
    let no_frame = "what came over the control socket is not a message of Semper";
    let mut not_zero = frame(VERSION, 0, &[]);
    not_zero[6] = 1;
    let refused = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), no_frame),
        (not_zero, no_frame),
        (frame(VERSION - 1, 0, &[]), "the other side speaks version"),
        (frame(VERSION + 1, 0, &[]), "the other side speaks version"),
        (frame(VERSION, MAX_FRAME_BYTES + 1, &[]), "is longer than the limit of"),
        (frame(VERSION, u32::MAX, &[7; 100]), "is longer than the limit of"),
        (frame(VERSION, 0, &[]), "is not valid"),
        (frame(VERSION, 64, &[0xff; 64]), "is not valid"),
        (frame(VERSION, 64, &[0; 64]), "is not valid"),
    ];
    for (bytes, why) in refused {
        match answer(&bytes) {
            Ok((Reply::Refused(Refusal { code: BAD_REQUEST, message }), _)) if message.contains(why) => {}
            other => panic!("{bytes:?} was not refused with `{why}`, but answered by {other:?}"),
        }
    }
    // What is not complete is dropped without a word.
    for bytes in [vec![], b"SMPR".to_vec(), frame(VERSION, 64, &[0; 63]), frame(VERSION, MAX_FRAME_BYTES, &[])] {
        match answer(&bytes) {
            Err(WireError::HungUp) => {}
            other => panic!("{bytes:?} was answered by {other:?}"),
        }
    }
    assert_eq!(
        Connection::open(store.path()).unwrap().ask(&Request::Checkpoint).unwrap(),
        Reply::Committed { generation: 42 }
    );
}

#[test]
fn a_flipped_bit_in_a_request_never_harms() {
    let (store, _server) = start();
    let request = Request::Run(Program {
        name: Some("a name long enough to lie out of line".to_owned()),
        path: b"/bad".to_vec(),
        args: vec![b"x".to_vec(), b"a much longer argument".to_vec()],
        env: vec![(b"K".to_vec(), b"V".to_vec())],
        files: vec![(b"/host".to_vec(), "/guest".to_owned())],
        native: None,
        keys: vec![],
        listens: vec![],
        connects: vec![],
        record: true,
        cpu: None,
    });
    let body = rkyv::to_bytes::<rkyv::rancor::Error>(&request).unwrap();
    let length = u32::try_from(body.len()).unwrap();
    let (mut invalid, mut read, mut other) = (0, 0, 0);
    for bit in 0..body.len() * 8 {
        let mut bytes = frame(VERSION, length, &body);
        bytes[12 + bit / 8] ^= 1 << (bit % 8);
        let mut stream = socket::connect(store.path()).unwrap();
        stream.write_all(&bytes).unwrap();
        match wire::receive::<Reply>(&stream).unwrap().0 {
            Reply::Refused(Refusal { message, .. }) if message.contains("is not valid") => invalid += 1,
            // A letter of a name, say: a good request, without the console that it needs.
            Reply::Refused(Refusal { message, .. }) if message.contains("needs three descriptors") => read += 1,
            _ => other += 1,
        }
    }
    // Lengths, offsets, and letters that are no UTF-8 are found out; another kind of request comes of a few bits of one byte.
    assert!(invalid > 100 && read > 100 && other < 8, "{invalid} invalid, {read} read, {other} others");
    Connection::open(store.path()).unwrap().ask(&Request::Status).unwrap();
}

#[test]
fn a_dead_runtimes_socket_is_replaced_and_no_runtime_is_said_plainly() {
    let store = tempfile::tempdir().unwrap();
    assert!(matches!(Connection::open(store.path()), Err(ControlError::NotRunning)));
    drop(socket::bind(store.path()).unwrap());
    assert!(matches!(Connection::open(store.path()), Err(ControlError::NotRunning)));
    let _server = Server::start(Server::bind(store.path()).unwrap(), Arc::new(Stub)).unwrap();
    Connection::open(store.path()).unwrap().ask(&Request::Status).unwrap();
}

#[test]
fn a_store_may_lie_deeper_than_a_socket_address_is_long() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&store).unwrap();
    let _server = Server::start(Server::bind(&store).unwrap(), Arc::new(Stub)).unwrap();
    Connection::open(&store).unwrap().ask(&Request::Status).unwrap();
}
