//! A prefix of an object store as a destination: S3 and what speaks its protocol, Google Cloud Storage, Azure.

use crate::destination::{Destination, Entry, Lock, NewFile};
use crate::error::Error;
use crate::upload::Upload;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpError;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, RetryConfig};
use std::future::Future;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How much is read at once; one such piece is fetched ahead.
const READ_LEN: u64 = 8 << 20;

/// Files that are looked at at the same time: a request takes some ten milliseconds, whatever its size.
const WIDTH: usize = 16;

/// How long a request is tried again that the network or the server failed, some 10 s in all.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 },
    max_retries: 7,
    retry_timeout: Duration::from_secs(60),
};

/// Objects whose names begin with one prefix. An object is there when it is complete. There is no lock.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    runtime: Arc<Runtime>,
}

impl Bucket {
    /// The bucket of a URL, with credentials and endpoint from the environment, as `object_store` knows them.
    ///
    /// # Errors
    /// [`Error::BadPlace`].
    pub fn at(url: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::BadPlace { place: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("it is no URL".to_owned()))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad("it names no bucket".to_owned()));
        }
        // Somebody else may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = format!("{scheme}://{bucket}");
        let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
            "s3" => AmazonS3Builder::from_env().with_url(root).with_retry(RETRY).build().map(|it| Arc::new(it) as _),
            "gs" => GoogleCloudStorageBuilder::from_env()
                .with_url(root)
                .with_retry(RETRY)
                .build()
                .map(|it| Arc::new(it) as _),
            "az" => {
                MicrosoftAzureBuilder::from_env().with_url(root).with_retry(RETRY).build().map(|it| Arc::new(it) as _)
            }
            other => return Err(bad(format!("{other}:// is not known; write s3://, gs://, az:// or a directory"))),
        };
        Self::new(store.map_err(|error| bad(error.to_string()))?, prefix, url)
    }

    /// The objects of `store` whose names begin with `prefix`; messages call it `shown`.
    ///
    /// # Errors
    /// [`Error::BadPlace`] if no name can begin so; what the host says.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, shown: &str) -> Result<Self, Error> {
        let prefix = Path::parse(prefix.trim_end_matches('/'));
        let prefix = prefix.map_err(|why| Error::BadPlace { place: shown.to_owned(), why: why.to_string() })?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("start a thread for requests", e))?;
        let shown = shown.trim_end_matches('/').to_owned();
        Ok(Self { store, prefix, shown, runtime: Arc::new(runtime) })
    }

    fn object(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn failed(&self, what: &str, name: &str) -> impl Fn(object_store::Error) -> Error {
        let what = format!("{what} {}", self.shown(name));
        move |error| Error::io(what.clone(), host(error))
    }

    fn wait<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
        self.runtime.block_on(request)
    }
}

/// What an object store says, as the host would: access denied, not found, no answer ([`ErrorKind::NotConnected`]), or else.
pub fn host(error: object_store::Error) -> io::Error {
    use object_store::Error as E;
    let text = error.to_string();
    let status = || text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
    let (kind, told) = match &error {
        E::NotFound { .. } => (ErrorKind::NotFound, "it is not there"),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => (ErrorKind::PermissionDenied, DENIED),
        error if no_answer(error) => (ErrorKind::NotConnected, "no answer from the object store"),
        _ => match status() {
            Some(404) => (ErrorKind::NotFound, "there is no such bucket"),
            Some(401 | 403) => (ErrorKind::PermissionDenied, DENIED),
            Some(500..) => (ErrorKind::NotConnected, "the object store failed"),
            _ => (ErrorKind::Other, "the object store refused"),
        },
    };
    io::Error::new(kind, format!("{told} ({text})"))
}

const DENIED: &str = "access is denied; see to the credentials in the environment";

/// Whether what failed is the way to the server.
fn no_answer(error: &object_store::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<HttpError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Destination for Bucket {
    fn shown(&self, name: &str) -> String {
        if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown) }
    }

    /// A bucket is made by its owner.
    fn make(&self) -> Result<(), Error> {
        Ok(())
    }

    fn identity(&self) -> Result<Option<(u64, u64)>, Error> {
        Ok(None)
    }

    fn lock(&self) -> Result<Lock, Error> {
        Ok(Lock::new(None))
    }

    fn list(&self) -> Result<Vec<Entry>, Error> {
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let found = self.wait(self.store.list_with_delimiter(prefix)).map_err(self.failed("list", ""))?;
        let entry = |object: object_store::ObjectMeta| {
            Some(Entry { name: object.location.filename()?.to_owned(), bytes: object.size })
        };
        let mut found: Vec<Entry> = found.objects.into_iter().filter_map(entry).collect();
        found.sort();
        Ok(found)
    }

    fn bytes(&self, name: &str) -> Result<u64, Error> {
        Ok(self.wait(self.store.head(&self.object(name))).map_err(self.failed("look at", name))?.size)
    }

    fn piece(&self, name: &str, from: u64, len: usize) -> Result<Vec<u8>, Error> {
        let (store, object) = (Arc::clone(&self.store), self.object(name));
        let piece = self.runtime.block_on(range(store, object, from..from + len as u64));
        piece.map_err(|e| Error::io(format!("read {}", self.shown(name)), e))
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let bytes = self.bytes(name)?;
        let mut ahead = Ahead {
            bucket: self.clone(),
            object: self.object(name),
            next: 0,
            bytes,
            coming: None,
            piece: vec![],
            at: 0,
        };
        ahead.ask();
        Ok(Box::new(ahead))
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>, Error> {
        let (store, runtime) = (Arc::clone(&self.store), Arc::clone(&self.runtime));
        Ok(Box::new(Upload::new(store, runtime, self.object(name), self.shown(name))))
    }

    /// By reading and writing it: what a server copies by itself is limited in size.
    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let mut copy = self.create(to)?;
        io::copy(&mut self.read(from)?, &mut copy).map_err(|e| Error::io(format!("rename {}", self.shown(from)), e))?;
        copy.publish()?;
        self.remove(from)
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.wait(self.store.delete(&self.object(name))).map_err(self.failed("remove", name))
    }

    fn width(&self) -> usize {
        WIDTH
    }
}

/// So many bytes of an object, and no fewer.
async fn range(store: Arc<dyn ObjectStore>, object: Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    if range.is_empty() {
        return Ok(Vec::new());
    }
    let piece = store.get_range(&object, range.clone()).await.map_err(host)?;
    if piece.len() as u64 != range.end - range.start {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the object is shorter than it was"));
    }
    Ok(piece.into())
}

/// Reads an object in order, by ranges, so that one that fails is asked for again alone.
struct Ahead {
    bucket: Bucket,
    object: Path,
    /// Where what was not asked for begins.
    next: u64,
    bytes: u64,
    coming: Option<JoinHandle<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Ahead {
    fn ask(&mut self) {
        let (from, until) = (self.next, self.bytes.min(self.next + READ_LEN));
        if from == until {
            return;
        }
        let (store, object) = (Arc::clone(&self.bucket.store), self.object.clone());
        self.coming = Some(self.bucket.runtime.spawn(range(store, object, from..until)));
        self.next = until;
    }
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let Some(coming) = self.coming.take() else { return Ok(0) };
            self.piece = self.bucket.runtime.block_on(coming).map_err(io::Error::other)??;
            self.at = 0;
            self.ask();
        }
        let len = into.len().min(self.piece.len() - self.at);
        into[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
