//! etcd, a cluster of one, asked by gRPC over 64 connections as its own benchmark does (`benchmark put --conns 64 --clients 64`).

use crate::Outcome;
use crate::logs::{Client, Log};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long it may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of its own, and what its clients run in.
pub struct Etcd {
    server: Child,
    url: String,
    runtime: Runtime,
}

fn free_url() -> Outcome<String> {
    Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}

impl Etcd {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Log>> {
        let (url, peers) = (free_url()?, free_url()?);
        let server = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers, "--initial-cluster", &format!("default={peers}")])
            .args(["--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("etcd (Debian's etcd-server): {error}"))?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let etcd = Box::new(Self { server, url, runtime });
        let until = Instant::now() + PATIENCE;
        while let Err(error) = etcd.client(0).and_then(|mut client| client.append(0, b"first")) {
            if Instant::now() > until {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

struct Connected<'a> {
    client: etcd_client::KvClient,
    number: u32,
    runtime: &'a Runtime,
}

impl Log for Etcd {
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>> {
        let client = self.runtime.block_on(etcd_client::Client::connect([&self.url], None))?.kv_client();
        Ok(Box::new(Connected { client, number, runtime: &self.runtime }))
    }
}

impl Client for Connected<'_> {
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()> {
        let key = format!("{}/{number}", self.number);
        self.runtime.block_on(self.client.put(key, bytes, None))?;
        Ok(())
    }
}
