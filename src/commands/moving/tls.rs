//! The way between two machines: TLS 1.3, by which both ends show that they have the same token.
//!
//! The token is 32 random bytes. A key pair for each end is derived from it, and each end knows so which public key the other has to have: no certificate, no
//! name and no authority is asked, and the token itself is never sent.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned,
};

use super::wire::Wire;
use crate::commands::Failure;
use crate::commands::failure::code;

/// How long the other end may be silent: it may have gigabytes to flush.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long somebody who connects may take to show the token.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What stands before the 32 bytes of a private key of Ed25519 in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What both ends have.
pub struct Token([u8; 32]);

impl Token {
    /// Reads it from a file, a line of 64 hexadecimal digits.
    pub fn read(path: &Path) -> Result<Token, Failure> {
        let bad = |why: &str| Failure::new(code::USAGE, format!("{} is no file with a token: {why}", path.display()));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(128).read_to_string(&mut text));
        read.map_err(|error| bad(&error.to_string()))?;
        let text = text.trim();
        let mut token = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad("it should be a line of 64 hexadecimal digits"));
        }
        for (byte, at) in token.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| bad(&error.to_string()))?;
        }
        Ok(Token(token))
    }

    /// Reads it, or makes the file with a new one, which only its owner can read.
    pub fn read_or_make(path: &Path) -> Result<Token, Failure> {
        let failed = |error: io::Error| Failure::io(format_args!("make a token in {}", path.display()), &error);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Token::read(path),
            Err(error) => Err(failed(error)),
            Ok(mut file) => {
                let mut token = [0; 32];
                File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut token)).map_err(failed)?;
                let text: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
                file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
                eprintln!("semper: a new token is in {}: bring it to the other machine", path.display());
                Ok(Token(token))
            }
        }
    }

    /// The key pair of an end.
    fn key(&self, end: &str) -> Result<(Arc<CertifiedKey>, SubjectPublicKeyInfoDer<'static>), Error> {
        let seed = blake3::derive_key(end, &self.0);
        let key = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from([&PKCS8[..], &seed].concat()))?;
        let public = key.public_key().ok_or(Error::General("the key has no public half".to_owned()))?.into_owned();
        let shown = CertificateDer::from(public.as_ref().to_vec());
        Ok((Arc::new(CertifiedKey::new(vec![shown], key)), public))
    }

    fn keys(&self) -> Result<Keys, Error> {
        let provider = ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let sender = self.key("semper 2026 move: the end that a world leaves")?;
        let receiver = self.key("semper 2026 move: the end that a world comes to")?;
        Ok(Keys { provider: Arc::new(provider), algorithms, sender, receiver })
    }
}

struct Keys {
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
    sender: (Arc<CertifiedKey>, SubjectPublicKeyInfoDer<'static>),
    receiver: (Arc<CertifiedKey>, SubjectPublicKeyInfoDer<'static>),
}

/// Knows the public key that the other end has to have.
#[derive(Debug)]
struct Pinned {
    key: SubjectPublicKeyInfoDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn is(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        // Public keys are no secret: they need not be compared in constant time.
        if shown.as_ref() == self.key.as_ref() {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn signed(&self, message: &[u8], signature: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &self.key, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.is(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.is(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A connection to the end that has the same token.
struct Tls<C, S>(BufReader<StreamOwned<C, TcpStream>>)
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<S>>,
    S: rustls::SideData;

impl<C, S> Wire for Tls<C, S>
where
    C: std::ops::DerefMut<Target = rustls::ConnectionCommon<S>> + Send,
    S: rustls::SideData,
{
    fn input(&mut self) -> &mut (dyn Read + Send) {
        &mut self.0
    }

    fn output(&mut self) -> &mut dyn Write {
        self.0.get_mut()
    }
}

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

fn tls(error: &Error) -> Failure {
    Failure::new(code::FAILED, format!("no way between the ends: {error}"))
}

fn patient(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))
}

/// Connects to who listens at `address`, `HOST:PORT`.
pub fn connect(address: &str, token: &Token) -> Result<Box<dyn Wire>, Failure> {
    let failed = |error: io::Error| Failure::io(format_args!("reach {address}"), &error);
    let mut last = io::Error::other("it has no address");
    for socket in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&socket, HANDSHAKE) {
            Ok(socket) => return greet(socket, token).map_err(|error| no_token(address, &error)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn no_token(address: &str, error: &io::Error) -> Failure {
    Failure::new(code::FAILED, format!("{address} does not show that it has the same token: {error}"))
}

fn greet(socket: TcpStream, token: &Token) -> io::Result<Box<dyn Wire>> {
    patient(&socket, HANDSHAKE)?;
    let Keys { provider, algorithms, sender, receiver } = token.keys().map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
    let config = config
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { key: receiver.1, algorithms }))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(sender.0)));
    // No name is asked for; one has to be said.
    let name = ServerName::try_from("semper").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    shake_hands(&mut stream.conn, &mut stream.sock)?;
    patient(&stream.sock, PATIENCE)?;
    Ok(Box::new(Tls(BufReader::with_capacity(BUFFER, stream))))
}

/// However slowly the other end speaks, it has to come to an end in time.
fn shake_hands<S: rustls::SideData>(tls: &mut rustls::ConnectionCommon<S>, socket: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + HANDSHAKE;
    while tls.is_handshaking() || tls.wants_write() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if tls.wants_write() {
            tls.write_tls(socket)?;
            continue;
        }
        if tls.read_tls(socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = tls.process_new_packets() {
            // The other end is told why.
            let _ = tls.write_tls(socket);
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

/// Who listens for a world.
pub struct Listener {
    socket: TcpListener,
    config: Arc<ServerConfig>,
}

impl Listener {
    /// At `address`, `ADDR:PORT`; port 0 takes a free one. Says where.
    pub fn bind(address: &str, token: &Token) -> Result<Listener, Failure> {
        let failed = |error: io::Error| Failure::io(format_args!("listen at {address}"), &error);
        let socket = TcpListener::bind(address).map_err(failed)?;
        let Keys { provider, algorithms, sender, receiver } = token.keys().map_err(|error| tls(&error))?;
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let config = config
            .map_err(|error| tls(&error))?
            .with_client_cert_verifier(Arc::new(Pinned { key: sender.1, algorithms }))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(receiver.0)));
        eprintln!("semper: waiting for a world at {}", socket.local_addr().map_err(failed)?);
        Ok(Listener { socket, config: Arc::new(config) })
    }

    /// The next who shows that it has the token. Others are told of and hung up on.
    pub fn accept(&self) -> Result<Box<dyn Wire>, Failure> {
        loop {
            let (socket, from) = match self.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "nobody can be listened to");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            match self.welcome(socket) {
                Ok(wire) => return Ok(wire),
                Err(error) => eprintln!("semper: {from} does not show that it has the token: {error}"),
            }
        }
    }

    fn welcome(&self, socket: TcpStream) -> io::Result<Box<dyn Wire>> {
        patient(&socket, HANDSHAKE)?;
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        shake_hands(&mut stream.conn, &mut stream.sock)?;
        patient(&stream.sock, PATIENCE)?;
        Ok(Box::new(Tls(BufReader::with_capacity(BUFFER, stream))))
    }
}
