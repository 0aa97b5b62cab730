//! A server on loopback that speaks as much of the protocol of S3 as backups use: objects with ranges, lists in pages, uploads in parts. It believes
//! whoever names its access key, and does not check signatures.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub const BUCKET: &str = "backups";
const KEY: &str = "semper";

/// Names on one page of a list: few, so that every list has several.
const PAGE: usize = 2;

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    /// Uploads that were neither completed nor aborted.
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    completed: u32,
    begun: u32,
}

/// A server that is there as long as this lives.
pub struct S3 {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    down: Arc<AtomicBool>,
    /// Parts that are taken before it vanishes.
    parts_left: Arc<AtomicU32>,
}

impl S3 {
    pub fn start() -> S3 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let s3 = S3 {
            address: listener.local_addr().unwrap(),
            kept: Arc::default(),
            down: Arc::default(),
            parts_left: Arc::new(AtomicU32::new(u32::MAX)),
        };
        let (kept, down, parts) = (Arc::clone(&s3.kept), Arc::clone(&s3.down), Arc::clone(&s3.parts_left));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server =
                    Server { kept: Arc::clone(&kept), down: Arc::clone(&down), parts_left: Arc::clone(&parts) };
                std::thread::spawn(move || server.serve(&stream));
            }
        });
        s3
    }

    /// Tells a command where it is, and who may come in.
    pub fn env(&self, command: &mut Command) {
        self.env_as(KEY, command);
    }

    pub fn env_as(&self, key: &str, command: &mut Command) {
        command.env("AWS_ENDPOINT", format!("http://{}", self.address)).env("AWS_ALLOW_HTTP", "true");
        command.env("AWS_REGION", "us-east-1").env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", "secret");
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.kept().objects.keys().cloned().collect()
    }

    pub fn object(&self, name: &str) -> Vec<u8> {
        self.kept().objects[name].clone()
    }

    pub fn put(&self, name: &str, content: Vec<u8>) {
        self.kept().objects.insert(name.to_owned(), content);
    }

    /// Uploads in parts that were completed.
    pub fn completed(&self) -> u32 {
        self.kept().completed
    }

    /// From now on nobody gets an answer, nor who is connected.
    pub fn vanish(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    /// The same, in the middle of an upload: when it has taken so many parts more.
    pub fn vanish_after_parts(&self, parts: u32) {
        self.parts_left.store(parts, Ordering::SeqCst);
    }

    pub fn come_back(&self) {
        self.parts_left.store(u32::MAX, Ordering::SeqCst);
        self.down.store(false, Ordering::SeqCst);
    }

    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::SeqCst)
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    range: Option<(usize, usize)>,
    key: String,
    body: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

fn answer(status: &'static str, headers: &str, body: impl Into<Vec<u8>>) -> Response {
    Response { status, headers: headers.to_owned(), body: body.into() }
}

fn error(status: &'static str, code: &str) -> Response {
    answer(status, "", format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
}

const DATE: &str = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: \"e\"\r\n";

struct Server {
    kept: Arc<Mutex<Kept>>,
    down: Arc<AtomicBool>,
    parts_left: Arc<AtomicU32>,
}

impl Server {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader) {
            let down = || self.down.load(Ordering::SeqCst);
            if down() {
                return;
            }
            let head = request.method == "HEAD";
            let Response { status, headers, body } = self.answer(request);
            // It may have vanished by this request.
            if down() {
                return;
            }
            let length = body.len();
            let told = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
            let mut stream = stream;
            let sent =
                stream.write_all(told.as_bytes()).and_then(|()| stream.write_all(if head { &[] } else { &body }));
            if sent.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Response {
        if request.key != KEY {
            return error("403 Forbidden", "InvalidAccessKeyId");
        }
        let path = request.path.trim_start_matches('/').to_owned();
        let (bucket, name) = path.split_once('/').unwrap_or((&path, ""));
        if bucket != BUCKET {
            return error("404 Not Found", "NoSuchBucket");
        }
        let mut kept = self.kept.lock().unwrap();
        let upload = request.query.get("uploadId").cloned();
        match (request.method.as_str(), upload) {
            ("GET", _) if name.is_empty() => list(&kept, &request.query),
            ("POST", _) if request.query.contains_key("delete") => {
                let text = String::from_utf8(request.body).unwrap();
                let mut told = String::new();
                for (key, _) in text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>")) {
                    kept.objects.remove(key);
                    told += &format!("<Deleted><Key>{key}</Key></Deleted>");
                }
                answer("200 OK", "", format!("<DeleteResult>{told}</DeleteResult>"))
            }
            ("POST", _) if request.query.contains_key("uploads") => {
                kept.begun += 1;
                let id = kept.begun.to_string();
                kept.uploads.insert(id.clone(), BTreeMap::new());
                let told = format!("<UploadId>{id}</UploadId>");
                answer("200 OK", "", format!("<InitiateMultipartUploadResult>{told}</InitiateMultipartUploadResult>"))
            }
            ("PUT", Some(id)) => {
                if self.parts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
                {
                    self.down.store(true, Ordering::SeqCst);
                    return error("500 Gone", "Vanished");
                }
                let part = request.query["partNumber"].parse().unwrap();
                match kept.uploads.get_mut(&id) {
                    Some(parts) => parts.insert(part, request.body),
                    None => return error("404 Not Found", "NoSuchUpload"),
                };
                answer("200 OK", "ETag: \"part\"\r\n", "")
            }
            ("POST", Some(id)) => match kept.uploads.remove(&id) {
                None => error("404 Not Found", "NoSuchUpload"),
                Some(parts) => {
                    let whole: Vec<u8> = parts.into_values().flatten().collect();
                    kept.objects.insert(name.to_owned(), whole);
                    kept.completed += 1;
                    let told = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
                    answer("200 OK", "", told)
                }
            },
            ("DELETE", Some(id)) => {
                kept.uploads.remove(&id);
                answer("204 No Content", "", "")
            }
            ("PUT", None) => {
                kept.objects.insert(name.to_owned(), request.body);
                answer("200 OK", "ETag: \"e\"\r\n", "")
            }
            ("DELETE", None) => {
                kept.objects.remove(name);
                answer("204 No Content", "", "")
            }
            ("GET" | "HEAD", _) => match kept.objects.get(name) {
                None => error("404 Not Found", "NoSuchKey"),
                Some(object) => match request.range {
                    None => answer("200 OK", DATE, object.clone()),
                    Some((from, until)) if from < object.len() => {
                        let until = (until + 1).min(object.len());
                        let range = format!("Content-Range: bytes {from}-{}/{}\r\n{DATE}", until - 1, object.len());
                        answer("206 Partial Content", &range, &object[from..until])
                    }
                    Some(_) => error("416 Range Not Satisfiable", "InvalidRange"),
                },
            },
            _ => error("405 Method Not Allowed", "MethodNotAllowed"),
        }
    }
}

/// The names that begin with a prefix, without those that have a further `/`, a page of them.
fn list(kept: &Kept, query: &BTreeMap<String, String>) -> Response {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map_or("", String::as_str);
    let flat = |name: &&String| name.starts_with(prefix) && !name[prefix.len()..].contains('/');
    let rest: Vec<&String> = kept.objects.keys().filter(flat).filter(|name| name.as_str() > after).collect();
    let mut told = String::new();
    for name in rest.iter().take(PAGE) {
        let (date, size) = ("2026-01-01T00:00:00.000Z", kept.objects[*name].len());
        told += &format!(
            "<Contents><Key>{name}</Key><LastModified>{date}</LastModified><ETag>e</ETag><Size>{size}</Size></Contents>"
        );
    }
    if rest.len() > PAGE {
        told += &format!("<NextContinuationToken>{}</NextContinuationToken>", rest[PAGE - 1]);
    }
    answer("200 OK", "", format!("<ListBucketResult>{told}</ListBucketResult>"))
}

/// The next request of a connection; none at its end.
fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut range, mut key) = (0, None, String::new());
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => {
                let (from, until) = value.strip_prefix("bytes=")?.split_once('-')?;
                range = Some((from.parse().ok()?, until.parse().unwrap_or(usize::MAX - 1)));
            }
            "authorization" => key = value.split_once("Credential=")?.1.split_once('/')?.0.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    let query = query.split('&').map(pair).collect();
    Some(Request { method, path: decoded(path), query, range, key, body })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
